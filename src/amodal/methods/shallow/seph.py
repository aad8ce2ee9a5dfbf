"""SePH: codes whose Hamming distances match how many classes items share, predicted by kernel logistic regression."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from amodal.codes import BinaryCodes
from amodal.data.splits import hold_out
from amodal.errors import MethodError
from amodal.methods.card import Card
from amodal.methods.features import CHOICES, Kernel, item_means
from amodal.methods.shallow.cca_itq import CCAITQ
from amodal.methods.shallow.inputs import FILLS, above_zero, kernel_rows, labelled, one_of, participants
from amodal.methods.shallow.kernel_hash import KernelHash
from amodal.methods.shallow.logistic import logistic_path
from amodal.methods.shallow.solvers import signs

if TYPE_CHECKING:
    from amodal.data import Dataset
    from amodal.training.settings import Training

__all__ = ["Divergence", "SePH"]

Array = NDArray[np.float64]

STARTS = ("normal", "cca_itq")
SOLVERS = ("lbfgs", "tsne")
# Standard deviation of the codes to start from
START = 0.5
# The authors' steps
RATE, MOMENTUM, LEAST_GAIN = 500.0, 0.5, 0.01
# Entries of a block of rows against all others: small enough to stay in the cache of a processor
BLOCK = 2**19
# Kernel directions with a smaller share of the largest eigenvalue are left out: below the precision of float32
RANK = 1e-6


class SePH(KernelHash):
    """Semantics-preserving hashing: embed codes as t-SNE embeds points, then learn to predict each bit.

    Relaxed codes H of the labelled items follow from labels L alone,

        P_ij = cos(L_i, L_j), scaled to sum 1;   N_ij = 1 / (1 + |h_i - h_j|^2 / 4);   Q = N / sum N;   all for i != j
        min  sum P log(P / Q) + alpha / (n r) | |H| - 1 |^2

    and codes are their signs b. Then, for each modality by itself and each bit k, on the items that have it,

        min  sum_i log(1 + exp(-b_ik t_ik)) + penalty w^T K w,   t_ik = <w, k(x_i)> + a

    where k are centred Gaussian kernel features (of the mean of an item's observations) and K is the kernel among the
    anchors. A new item gets the code sgn(t). Pairs are never used. P, Q and N exist in blocks of rows only.

    Args:
        bits: Length of the codes.
        anchors: Anchors of the kernel; 0 for linear features, whose weights are priced by |w|^2.
        anchor_choice: Anchors are "random" rows or "kmeans" centres.
        width: The kernel is exp(-|x - a|^2 / (width s)), s the mean of |x - a|^2; above 0.
        alpha: Weight of the distance of H from -1 and +1, 0 or more.
        penalty: Price on w, above 0.
        solver: "lbfgs"; or "tsne", the authors': gradient steps with momentum and gains, the best codes kept.
        iterations: Of the solver.
        start: Codes to start from: "normal", or "cca_itq", which needs pairs.
        rows: Most items to learn from; of more, a sample in the same mix of classes and patterns. The time that codes
            take grows with its square.
        fill: What is done about an absent modality: "mask" (the item is left out of that modality's predictors),
            "drop", "zero" or "mean".
        seed: Of the sample, the anchors and the codes to start from.

    Attributes: as ``KernelHash``; ``maps_`` are w and ``offsets_`` a of all bits. Training items not learned from,
        because they have no labels or are not in the sample, have predicted codes in ``training_codes_``.

    Paper: Lin et al., Semantics-preserving hashing for cross-view retrieval, CVPR 2015.
    Reference code: the authors' copy in BMC-SDNU/Cross-Modal-Hashing-Retrieval, and kding1225/RoPH (no licence; read,
    not used).
    """

    card = Card(
        slug="seph",
        name="SePH",
        summary="Codes whose distances match the classes that items share, predicted by kernel logistic regression.",
        paper="Lin et al., Semantics-Preserving Hashing for Cross-View Retrieval, CVPR 2015",
        url="https://doi.org/10.1109/CVPR.2015.7299011",
        family="shallow",
        returns="codes",
        needs_labels=True,
        needs_pairs="no",
        native="any",
        fills=FILLS,
        checked="Gradient against finite differences; mAP on Wikipedia .02 to .06 above a reference run (benchmarks).",
        departures=(
            "Of more items than the argument rows, a sample is learned from, with a warning; the others get predicted "
            "codes. On Flickr8k 4,000 of its 5,996 items lose .002 mAP, 2,000 lose .019 (dev, hard, 64 bit, one seed).",
            "Database items get the code of the one modality that is searched. The papers' convention, the sign of the "
            "sum of the logits of all modalities, uses the query's own modality too; it is fused_codes().",
            "Predictors have an offset without a price, so that a constant bit is predicted to be constant.",
            "Anchors are random rows and the kernel is exp(-d^2 / (2 mean d^2)); the authors' k-means centres and "
            "exp(-d^2 / mean d^2) are the preset authors.",
            "penalty is fixed; RoPH chooses it on the first bit by cross-validation.",
        ),
        reference_code="the authors' copy in BMC-SDNU/Cross-Modal-Hashing-Retrieval, and kding1225/RoPH; no licence; "
        "read, never copied",
    )
    search_space: ClassVar = {
        "bits": (16, 32, 64, 128),
        "anchors": (500, 1000),
        "anchor_choice": CHOICES,
        "width": (1.0, 2.0, 4.0),
        "alpha": (0.001, 0.01, 0.1),
        "penalty": (0.001, 0.01, 0.1, 1.0),
        "fill": FILLS,
    }
    presets: ClassVar = {
        "authors": {"anchor_choice": "kmeans", "width": 1.0, "solver": "tsne"},
        "roph": {"start": "cca_itq"},
    }

    def __init__(
        self,
        *,
        bits: int = 64,
        anchors: int = 500,
        anchor_choice: str = "random",
        width: float = 2.0,
        alpha: float = 0.01,
        penalty: float = 0.01,
        solver: str = "lbfgs",
        iterations: int = 100,
        start: str = "normal",
        rows: int = 10_000,
        fill: str = "mask",
        seed: int = 0,
    ) -> None:
        self.bits, self.anchors, self.anchor_choice, self.width = bits, anchors, anchor_choice, width
        self.alpha, self.penalty, self.solver, self.iterations = alpha, penalty, solver, iterations
        self.start, self.rows, self.fill, self.seed = start, rows, fill, seed

    def fused_codes(self, data: Dataset) -> BinaryCodes:
        """Codes of items from all modalities that each has: signs of the sum of the logits.

        Equal to comparing the product of the probabilities of +1 with that of -1. As a database this is not cross-modal
        retrieval: an item is then found by its own observation of the query's modality.

        Args:
            data: Items with at least one modality each, in the modalities learned from.
        """
        self.require_fitted()
        return BinaryCodes.from_outputs(self._summed_outputs(data))

    def _learn(self, data: Dataset, validation: Dataset | None, training: Training | None) -> None:
        one_of(self.fill, FILLS, what="fill of seph")
        one_of(self.anchor_choice, CHOICES, what="anchor_choice of seph")
        one_of(self.solver, SOLVERS, what="solver of seph")
        one_of(self.start, STARTS, what="start of seph")
        above_zero("seph", bits=self.bits, width=self.width, penalty=self.penalty)
        above_zero("seph", iterations=self.iterations, rows=self.rows)
        random = np.random.default_rng(self.seed)
        items = self._sample(data, participants(data, self.fill))
        part = data.take(items)
        B = signs(self._embed(part, random))
        self.kernels_, rows = kernel_rows(
            part, fill=self.fill, anchors=self.anchors, random=random, choice=self.anchor_choice, width=self.width
        )
        self.maps_, self.offsets_ = {}, {}
        for name, (which, x) in rows.items():
            self.maps_[name], self.offsets_[name] = predictors(self.kernels_[name], x, B[which], self.penalty)
        self._keep_codes(data, items, B)

    def _sample(self, data: Dataset, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """The labelled ones of these items, or at most ``rows`` of them in the same mix."""
        items = items[labelled(data.take(items))[0]]
        if len(items) <= self.rows:
            return items
        warnings.warn(
            f"seph learns codes on {self.rows} of {len(items)} labelled items; the others get predicted codes. "
            "Raise rows to learn on more: time grows with its square.",
            stacklevel=5,
        )
        part = data.take(items)
        _, sample = hold_out(part, self.rows / len(items), seed=self.seed)
        return items[np.isin(part.ids, sample.ids)]

    def _embed(self, part: Dataset, random: np.random.Generator) -> Array:
        """Relaxed codes H, shape (n, r)."""
        vectors, index = np.unique(labelled(part)[1], axis=0, return_inverse=True)
        H = START * random.standard_normal((len(part), self.bits))
        if self.start == "cca_itq":
            H = correlated(part, self.bits, self.seed)
        # items with the same labels side by side: a block then has few distinct ones
        order = np.argsort(index, kind="stable")
        solve = lbfgs if self.solver == "lbfgs" else tsne
        H[order] = solve(Divergence(vectors, index[order], self.alpha), H[order], self.iterations)
        return H


class Divergence:
    """How far codes are from the labels: the loss and its gradient, computed in blocks of rows.

        J = sum P log(P / Q) + alpha / (n r) | |H| - 1 |^2
        gradient_i = sum_j (P_ij - Q_ij) N_ij (h_i - h_j) + 2 alpha / (n r) sgn(h_i) (|h_i| - 1)

    P, Q and N as in ``SePH``. The sum of N is known only at the end, so P N and N^2 are summed apart; each pair is met
    once.

    Args:
        vectors: Distinct label vectors, shape (U, c).
        index: Which of them each item has, shape (n,).
        alpha: Weight of the second term.

    Raises:
        MethodError: If no two items have a class in common.
    """

    def __init__(self, vectors: Array, index: NDArray[np.int64], alpha: float) -> None:
        self._unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self._index, self._alpha = index, alpha
        self._starts = range(0, len(index), max(1, BLOCK // len(index)))
        total, entropy = 0.0, 0.0
        for start in self._starts:
            P = self._cosines(start, self._unit)
            total += _twice(P)
            entropy += _twice(P * np.log(P, out=np.zeros_like(P), where=P > 0))
        if not total:
            raise MethodError("seph learns from items that have a class in common, and no two have.")
        # sum P log P of P / total
        self._total, self._entropy = total, entropy / total - np.log(total)

    def __call__(self, H: NDArray[np.floating]) -> tuple[float, NDArray[np.floating]]:
        """J and its gradient, shape (n, r), computed in the precision of H (n, r)."""
        n, r = H.shape
        # the last column counts, so that row sums come with the products
        ends = np.hstack([H, np.ones((n, 1), H.dtype)])
        squares = (H**2).sum(axis=1) / 4
        attract, repel = np.zeros_like(ends), np.zeros_like(ends)
        logs, total, unit = 0.0, 0.0, self._unit.astype(H.dtype)
        for start in self._starts:
            here, stop = slice(start, start + self._starts.step), start + self._starts.step
            far = H[here] @ H[start:].T
            far *= -0.5
            far += squares[here, None] + 1
            far += squares[start:]
            P, N = self._cosines(start, unit), 1 / far
            np.fill_diagonal(N, 0)
            total += _twice(N)
            logs += _twice(P * np.log(far))
            P *= N
            N *= N
            for sums, block in ((attract, P), (repel, N)):
                sums[here] += block @ ends[start:]
                sums[stop:] += block[:, len(block) :].T @ ends[here]
        pull = attract / H.dtype.type(self._total) - repel / H.dtype.type(total)
        off, weight = np.abs(H) - 1, self._alpha / (n * r)
        value = self._entropy + logs / self._total + np.log(total) + weight * float((off**2).sum(dtype=np.float64))
        return value, pull[:, -1:] * H - pull[:, :-1] + H.dtype.type(2 * weight) * np.where(H >= 0, off, -off)

    def _cosines(self, start: int, unit: NDArray[np.floating]) -> NDArray[np.floating]:
        """Cosines of the labels of one block of items with those of that block and all later ones; 0 with itself.

        ``unit`` are the distinct label vectors at length 1.
        """
        vectors, back = np.unique(self._index[start : start + self._starts.step], return_inverse=True)
        cosines: NDArray[np.floating] = (unit[vectors] @ unit.T).take(self._index[start:], axis=1)[back]
        np.fill_diagonal(cosines, 0)
        return cosines


def _twice(block: NDArray[np.floating]) -> float:
    """Sum over a block of rows against itself and later rows, the latter counted twice, as their mirror images are."""
    return 2 * float(block.sum(dtype=np.float64)) - float(block[:, : len(block)].sum(dtype=np.float64))


def correlated(part: Dataset, bits: int, seed: int) -> Array:
    """Codes to start from: rotated canonical directions, summed over the modalities that an item has."""
    found = CCAITQ(bits=bits, seed=seed).fit(part)
    H = np.zeros((len(part), bits))
    for name in part.names:
        which, x = item_means(part[name])
        H[which] += found.kernels_[name](x) @ found.maps_[name]
    return np.asarray(H * (START / H.std()))


def lbfgs(loss: Divergence, H: Array, iterations: int) -> Array:
    """Codes after some steps of L-BFGS; evaluated in float32."""

    def flat(h: Array) -> tuple[float, Array]:
        value, gradient = loss(h.reshape(H.shape).astype(np.float32))
        return value, gradient.ravel().astype(np.float64)

    options = {"maxiter": iterations, "ftol": 0.0, "gtol": 0.0}
    return np.asarray(minimize(flat, H.ravel(), jac=True, method="L-BFGS-B", options=options).x).reshape(H.shape)


def tsne(loss: Divergence, H: Array, iterations: int) -> Array:
    """The best codes met on gradient steps with momentum, gains by the delta-bar-delta rule, centred after each."""
    speed, gains, best, least = np.zeros_like(H), np.ones_like(H), H, np.inf
    for _ in range(iterations):
        value, gradient = loss(H.astype(np.float32))
        if value < least:
            best, least = H, value
        gains = np.maximum(np.where(np.sign(gradient) != np.sign(speed), gains + 0.2, gains * 0.8), LEAST_GAIN)
        speed = MOMENTUM * speed - RATE * gains * gradient
        H = H + speed
        H -= H.mean(axis=0)
    return best


def predictors(kernel: Kernel, x: Array, B: Array, penalty: float) -> tuple[Array, Array]:
    """Kernel logistic regression of all bits of one modality.

    w^T K w = |K^(1/2) w|^2, so this is logistic regression with a plain price on the weights of K^(-1/2) k(x).

    Args:
        kernel: Its anchors are those of w.
        x: Kernel features, shape (n, a).
        B: Bits, -1 or +1, shape (n, r).
        penalty: Price on w^T K w.

    Returns:
        w (a, r) and offsets (r,).
    """
    root = np.eye(x.shape[1])
    if len(kernel.anchors):
        values, vectors = np.linalg.eigh(kernel(kernel.anchors) + kernel.mean)
        keep = values > RANK * values[-1]
        root = vectors[:, keep] / np.sqrt(values[keep])
    z, bits = (x @ root).astype(np.float32), (B > 0).astype(np.float32)
    w, a = next(logistic_path(z, bits, [1 / (2 * penalty)], single=False))
    return root @ w, a
