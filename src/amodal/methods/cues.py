"""Cues that go with a class in the training data only: what they do to features is erased, and rows are weighed.

An environment shifts features: x = a_(class) + d_(environment) + rest. What lies along the shifts tells classes only as
long as environments go with classes, so it is erased; and of what erasure leaves the rows that break the rule teach
more, those that keep it less. Environments are an attribute of the training items, or guessed. Both cost something
where a cue tells little beside the content: with environments that are given, held-out rows decide for each modality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from amodal.data import Dataset
from amodal.errors import UsageError, nearest

__all__ = [
    "Erasure",
    "balance",
    "environment_shifts",
    "guessed_environments",
    "mean_by_item",
    "named_environments",
    "resistance_costs",
]

#: Rows that shifts are measured on, and that environments are guessed of, at a time.
MOST = 4096
#: Strengths of ridge regression to choose from by leave-one-out error, relative to the mean square of all rows.
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
#: Parts of the rows, each held out once to see whether resistance costs, and how many standard errors it must cost.
FOLDS, DOUBT = 3, 2.0
#: No row teaches more than this many times the mean, so that none decides by itself.
HEAVIEST = 20.0
#: A guess counts if it agrees with more than this share of labels, and features tell this share of the rest of it.
AGREES, CERTAIN = 0.5, 0.4

Array = NDArray[np.float64]


class Erasure(nn.Module):
    """x without its part along a few directions; all of x until it was fitted.

    Args:
        dim: Width of the features.
        most: Largest number of directions.

    Attributes:
        directions: Orthonormal rows, then rows of zeros, shape (most, dim).
    """

    directions: Tensor

    def __init__(self, dim: int, most: int) -> None:
        super().__init__()
        self.register_buffer("directions", torch.zeros(most, dim))

    def fit(
        self, data: Dataset, modality: str, scale: Callable[[Tensor], Tensor], environment: str | None, seed: int
    ) -> Array:
        """Measure the shifts of one modality.

        Args:
            data: Training items with labels.
            modality: Its name.
            scale: What features go through first, to shape (m, dim).
            environment: Attribute that names the environment of an item ("" if unknown), or None to guess.
            seed: Of the rows that are looked at.

        Returns:
            How much each of its observations should teach: ``balance``, shape (m,).

        Raises:
            UsageError: If the data have no such attribute.
        """
        assert data.labels is not None  # noqa: S101 - checked by fit
        table, labels = data[modality], data.labels
        rows = np.flatnonzero((labels.known & (labels.per_row > 0))[table.item])
        rows = np.random.default_rng(seed).permutation(rows)
        blocks = [np.sort(some) for some in np.array_split(rows, -(-len(rows) // MOST))] if len(rows) else []

        def learned_from(block: NDArray[np.int64]) -> tuple[Array, Array]:
            with torch.no_grad():
                x = scale(torch.from_numpy(table.read(block))).double().numpy()
            return x, labels.dense(table.item[block]).astype(np.float64)

        if environment is None:
            groups = _guesses(blocks, learned_from, len(table), len(labels.names))
        else:
            groups = named_environments(data, environment)[table.item]
        self.directions.zero_()
        weights = balance(labels.matrix[table.item].multiply(labels.known[table.item, None]).tocsr(), groups)
        if groups.nnz and blocks:
            x, y = learned_from(blocks[0])
            some, most = groups[blocks[0]].toarray(), len(self.directions)
            # rows that do not look like their class cannot tell whether to resist looks: guesses are taken as they are
            if environment is not None and resistance_costs(x, y, some, weights[blocks[0]], most):
                return np.ones(len(table))
            kept = _axes_of(environment_shifts(x, y, some), most)
            self.directions[: len(kept)] = torch.from_numpy(kept).float()
        return weights

    def forward(self, x: Tensor) -> Tensor:
        """Shape of ``x``."""
        return x - (x @ self.directions.T) @ self.directions


def balance(y: sparse.csr_matrix, groups: sparse.csr_matrix) -> Array:
    """Weights under which classes do not go with environments: mean of P(k) P(e) / P(k, e) over a row's own classes k.

    Args:
        y: Labels, multi-hot, shape (n, c).
        groups: Environments e, one-hot or empty where unknown, shape (n, K).

    Returns:
        Shape (n,), mean 1 but for those cut to ``HEAVIEST``; rows without class or environment weigh 1.

    Example:
        >>> y, groups = np.eye(2)[[0, 0, 0, 1, 1, 1]], np.eye(2)[[0, 0, 1, 0, 1, 1]]
        >>> balance(sparse.csr_matrix(y), sparse.csr_matrix(groups)).tolist()
        [0.75, 0.75, 1.5, 1.5, 0.75, 0.75]
    """
    told = np.flatnonzero((np.diff(y.indptr) > 0) & (np.diff(groups.indptr) > 0))
    y, groups, weights = y[told].astype(np.float64), groups[told].astype(np.float64), np.ones(y.shape[0])
    if len(told):
        together = (y.T @ groups).tocoo()
        by_class, by_group = (np.asarray(some.sum(axis=0)).ravel() for some in (y, groups))
        expected = by_class[together.row] * by_group[together.col]
        ratio = sparse.csr_matrix((expected / together.data, (together.row, together.col)), together.shape)
        each = np.asarray((y @ ratio).multiply(groups).sum(axis=1)).ravel() / np.asarray(y.sum(axis=1)).ravel()
        weights[told] = np.minimum(each / each.mean(), HEAVIEST)
    return weights


def mean_by_item(data: Dataset, each: Mapping[str, Array]) -> Tensor:
    """Weights of the items, mean 1, from those of their observations in every modality; shape (n,), float."""
    if not each:
        return torch.ones(len(data))
    items = np.concatenate([data[name].item for name in each])
    total = np.bincount(items, np.concatenate(list(each.values())), len(data))
    counts = np.bincount(items, minlength=len(data))
    weights = np.divide(total, counts, out=np.ones(len(data)), where=counts > 0)
    return torch.from_numpy(weights / weights.mean()).float()


def environment_shifts(x: Array, y: Array, groups: Array) -> Array:
    """Shifts d of the least squares fit x = y a + groups d, with a square penalty of one row's weight on d.

    Args:
        x: Features, shape (n, d).
        y: Labels, multi-hot, shape (n, c).
        groups: Environments, one-hot or zeros where unknown, shape (n, K).

    Returns:
        Shape (K, d).
    """
    both = np.hstack([y, groups])
    penalty = np.diag(np.r_[np.full(y.shape[1], 1e-3), np.ones(groups.shape[1])])
    shifts: Array = np.linalg.solve(both.T @ both + penalty, both.T @ x)[y.shape[1] :]
    return shifts


def resistance_costs(x: Array, y: Array, groups: Array, weights: Array, most: int) -> bool:
    """Whether held-out rows say clearly that erasing the shifts and weighing rows would do harm.

    The error of ridge regression on rows that neither it nor the shifts were learned from, sum_i w_i |y_i - f(x_i)|^2
    with the weights of ``balance`` whether f learned with them or not, is what to expect once classes and environments
    are apart. Resistance costs if its error is higher than that of doing nothing by more than DOUBT standard errors.
    Each has the strength that it would choose itself: doing nothing, the one with the least error without weights.

    Args:
        x: Features, shape (n, d).
        y: Labels, multi-hot, shape (n, c).
        groups: Environments, one-hot or zeros where unknown, shape (n, K).
        weights: w, shape (n,).
        most: Largest number of directions to erase.
    """
    if len(x) < FOLDS:
        return False
    fold, ones = np.arange(len(x)) % FOLDS, np.ones(len(x))
    errors = np.zeros((2, len(STRENGTHS), len(x)))
    for k in range(FOLDS):
        held, rest = fold == k, fold != k
        axes = _axes_of(environment_shifts(x[rest], y[rest], groups[rest]), most)
        for which, (z, w) in enumerate(((x, ones), (x - (x @ axes.T) @ axes, weights))):
            for strength, found in enumerate(_ridge(z[rest], y[rest], w[rest], z[held])):
                errors[which, strength, held] = ((found - y[held]) ** 2).sum(axis=1)
    plain, resisting = (some[(some @ own).argmin()] for some, own in zip(errors, (ones, weights), strict=True))
    lost = weights * (resisting - plain)
    return bool(lost.mean() > DOUBT * lost.std() / np.sqrt(len(lost)))


def _axes_of(shifts: Array, most: int) -> Array:
    """Orthonormal directions in which the shifts differ, the longest first, shape (at most ``most``, d)."""
    _, lengths, axes = np.linalg.svd(shifts - shifts.mean(axis=0), full_matrices=False)
    kept: Array = axes[lengths > 1e-6 * max(lengths[0], 1e-12)][: min(most, len(shifts) - 1)]
    return kept


def _ridge(x: Array, y: Array, weights: Array, other: Array) -> Iterator[Array]:
    """What weighted ridge regression says of other rows, at each of ``STRENGTHS``; shape (m, c)."""
    middle, mean = (np.average(value, axis=0, weights=weights) for value in (x, y))
    root = np.sqrt(weights)[:, None]
    z, target, new = root * (x - middle), root * (y - mean), other - middle
    wide = z.shape[1] > len(z)
    values, axes = np.linalg.eigh(z @ z.T if wide else z.T @ z)
    left, right = (new @ (z.T @ axes), axes.T @ target) if wide else (new @ axes, axes.T @ (z.T @ target))
    for strength in STRENGTHS:
        yield left @ (right / (values.clip(0) + strength * values.sum() / len(z) + 1e-12)[:, None]) + mean


def guessed_environments(x: Array, y: Array) -> Array | None:
    """Which class each item looks like, if what makes it look so stands out within the classes; else None.

    An item looks like the class that ridge regression on all others gives it. Where a cue decides that, the looks of
    items that do *not* look like their class are as certain as those of the others, and features tell them within
    each class; where content decides, such items lie between the classes, and features tell little.

    Args:
        x: Features, shape (n, d).
        y: Labels, multi-hot, shape (n, c); with several in a row nothing is guessed.

    Returns:
        One-hot, shape (n, c), or None.
    """
    if (y.sum(axis=1) != 1).any() or len(y) < 3:
        return None
    seen = _left_out(x - x.mean(axis=0), y - y.mean(axis=0)) + y.mean(axis=0)
    looks = np.eye(y.shape[1])[seen.argmax(axis=1)]
    within = [v - y @ (y.T @ v / np.maximum(y.sum(axis=0), 1)[:, None]) for v in (x, looks)]
    spread = float((within[1] ** 2).sum())
    if (looks * y).sum() <= AGREES * len(y) or spread == 0:
        return None
    told = 1 - float(((_left_out(*within) - within[1]) ** 2).sum()) / spread
    return looks if told > CERTAIN else None


def _left_out(x: Array, y: Array) -> Array:
    """Predictions of each row by ridge regression on the others, at the strength with the least error, (n, c)."""
    wide = x.shape[1] > len(x)
    values, axes = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    keep = values > 1e-9 * values[-1]
    values, axes = values[keep], axes[:, keep]
    scores = axes if wide else x @ axes / np.sqrt(values)
    found: tuple[float, Array] | None = None
    for strength in STRENGTHS:
        shrunk = scores * (values / (values + strength * values.sum() / len(x)))
        own = (shrunk * scores).sum(axis=1, keepdims=True)
        predicted = (shrunk @ (scores.T @ y) - own * y) / np.maximum(1 - own, 1e-6)
        error = float(((predicted - y) ** 2).sum())
        if found is None or error < found[0]:
            found = error, predicted
    assert found is not None  # noqa: S101 - there are strengths
    return found[1]


def _guesses(
    blocks: list[NDArray[np.int64]],
    learned_from: Callable[[NDArray[np.int64]], tuple[Array, Array]],
    count: int,
    classes: int,
) -> sparse.csr_matrix:
    """Guessed environments of all rows, shape (count, classes); empty where there is nothing to guess."""
    rows, looks = [], []
    for block in blocks:
        found = guessed_environments(*learned_from(block))
        if found is None:
            break
        rows.append(block)
        looks.append(found.argmax(axis=1))
    if len(rows) < len(blocks) or not blocks:
        return sparse.csr_matrix((count, classes))
    at, look = np.concatenate(rows), np.concatenate(looks)
    return sparse.csr_matrix((np.ones(len(at)), (at, look)), (count, classes))


def named_environments(data: Dataset, environment: str) -> sparse.csr_matrix:
    """Environments as an attribute names them, one-hot or empty where unknown, shape (n, K).

    Args:
        data: The items.
        environment: Attribute that names the environment of an item, "" if unknown.

    Raises:
        UsageError: If the data have no such attribute.
    """
    if environment not in data.attributes:
        raise UsageError(nearest(environment, data.attributes, what="attribute of the data"))
    names = data.attributes[environment]
    rows = np.flatnonzero(names != "")
    found, number = np.unique(names[rows], return_inverse=True)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, number)), (len(names), max(len(found), 1)))
