"""JIMFH: one latent factor shared by all modalities and one of each alone, both turned into bits; no labels."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from amodal.errors import UsageError, nearest
from amodal.methods.card import Card
from amodal.methods.shallow.inputs import FILLS, Rows, above_zero, kernel_rows, one_of, participants
from amodal.methods.shallow.kernel_hash import KernelHash
from amodal.methods.shallow.solvers import Patterns, Ridge, signs

if TYPE_CHECKING:
    from amodal.data import Dataset
    from amodal.training.settings import Training

__all__ = ["JIMFH"]

Array = NDArray[np.float64]


class JIMFH(KernelHash):
    """Joint and individual factorisation: a quarter of the bits is common to all modalities, the rest is particular.

        min  sum_m (1/M) |D_m (X_m - Y U_m)|^2 + (1/M) |X_m - Y_m P_m|^2 + beta sum_m |Y_a - Y_m R_m|^2
             + gamma (|Y|^2 + sum_m |U_m|^2 + |Y_m|^2 + |P_m|^2 + |R_m|^2)

    X_m are centred features (of an item with several observations, their mean), Y (n, r/4) is common, Y_m (n_m, 3r/4)
    belongs to the items that have modality m, which D_m picks. The third term ties each Y_m to that of one modality a,
    the reference, over the items that have both. Every unknown is solved in closed form with the others fixed, so the
    sum never rises. Then

        Z = [Y, Y_a],  z its mean;   W_m = argmin |D_m (Z - X_m W_m)|^2 + gamma |W_m|^2;   training codes sgn(Z - z)

    where an item without the reference has the mean of the Y_m R_m that it has in the place of Y_a. A new item gets
    the code sgn(x W_m - z), x centred as in training.

    Args:
        bits: Length of the codes, a multiple of 4.
        anchors: Anchors of a Gaussian kernel put in front; 0 for features as they are.
        beta: Weight of the tie, 0 or more; at 0 the particular factors have nothing to do with each other.
        gamma: Price on the size of everything, above 0.
        iterations: Rounds at most.
        tolerance: The rounds end when the objective falls by less.
        reference: The modality a; the last one if None.
        fill: What is done about an absent modality: "mask" (its terms are left out), "drop", "zero" or "mean".
        center_queries: False encodes features as they come, without centring them, as the released code does.
        seed: Of the anchors and of the factors to start from.

    Attributes: as ``KernelHash``; ``maps_`` are W_m, ``offsets_`` -z, and objectives_ the sum after each round.

    Paper: Wang et al., Joint and individual matrix factorization hashing, Pattern Recognition 107, 2020.
    Reference code: Wangdi-Xidian/JIMFH (no licence; read, not used).
    """

    card = Card(
        slug="jimfh",
        name="JIMFH",
        summary="Two factorisations, one common to all modalities and one of each alone, turned into bits; no labels.",
        paper="Wang et al., Joint and individual matrix factorization hashing for large-scale cross-modal retrieval, "
        "Pattern Recognition 107, 2020",
        url="https://doi.org/10.1016/j.patcog.2020.107479",
        family="shallow",
        returns="codes",
        needs_labels=False,
        needs_pairs="helpful",
        native="any",
        fills=FILLS,
        checked="The objective never rises; mAP on Wikipedia within .01 of reference runs (benchmarks).",
        departures=(
            "Queries are centred with the training mean; the released code leaves them uncentred (preset released).",
            "The rounds end by the squared objective; the released code compares norms that are not squared.",
            "Absent modalities are left out of their terms, and the tie holds over pairs: the paper has neither.",
            "With more than two modalities each is tied to the reference: the paper has two.",
        ),
        reference_code="Wangdi-Xidian/JIMFH, no licence; read, never copied",
    )
    search_space: ClassVar = {
        "bits": (16, 32, 64, 128),
        "anchors": (0, 500, 1000),
        "beta": (1e-4, 1e-3, 1e-2, 1e-1),
        "gamma": (1e-5, 1e-4, 1e-3, 1e-2),
        "fill": FILLS,
    }
    presets: ClassVar = {"released": {"center_queries": False}}

    objectives_: Array

    def __init__(
        self,
        *,
        bits: int = 64,
        anchors: int = 0,
        beta: float = 1e-3,
        gamma: float = 1e-4,
        iterations: int = 100,
        tolerance: float = 1e-3,
        reference: str | None = None,
        fill: str = "mask",
        center_queries: bool = True,
        seed: int = 0,
    ) -> None:
        self.bits, self.anchors, self.beta, self.gamma = bits, anchors, beta, gamma
        self.iterations, self.tolerance, self.reference = iterations, tolerance, reference
        self.fill, self.center_queries, self.seed = fill, center_queries, seed

    def _learn(self, data: Dataset, validation: Dataset | None, training: Training | None) -> None:
        one_of(self.fill, FILLS, what="fill of jimfh")
        above_zero("jimfh", bits=self.bits, gamma=self.gamma, iterations=self.iterations)
        if self.bits % 4:
            raise UsageError(f"bits of jimfh must be a multiple of 4, a quarter of them is common; got {self.bits}.")
        if self.beta < 0 or self.tolerance < 0:
            raise UsageError("beta and tolerance of jimfh must be 0 or more.")
        if self.reference is not None and self.reference not in data.names:
            raise UsageError(nearest(self.reference, data.names, what="modality (reference of jimfh)"))
        random = np.random.default_rng(self.seed)
        items = participants(data, self.fill)
        part = data.take(items)
        self.kernels_, rows = kernel_rows(part, fill=self.fill, anchors=self.anchors, random=random)
        factors = Factors(self, len(part), rows, random)
        objectives: list[float] = []
        for _ in range(self.iterations):
            objectives.append(factors.improve())
            if any(before - after < self.tolerance for before, after in pairwise(objectives[-2:])):
                break
        self.objectives_ = np.array(objectives)
        Z = factors.codes()
        z = Z.mean(axis=0)
        self.maps_ = {name: Ridge(x, self.gamma).solve(Z[which]) for name, (which, x) in rows.items()}
        self.offsets_ = dict.fromkeys(rows, -z)
        if not self.center_queries:
            self.offsets_ = {name: self.kernels_[name].mean @ W - z for name, W in self.maps_.items()}
        self._keep_codes(data, items, signs(Z - z))


class Factors:
    """The unknowns of JIMFH and the round that improves them.

    Args:
        method: Weights and length of the codes.
        n: Number of items.
        rows: Items and features by modality.
        random: Source of the factors to start from.

    Attributes:
        a: The reference.
        Y: Common factor, shape (n, r/4).
        own: Y_m by modality, shape (n_m, 3r/4).
        U: By modality, shape (r/4, d).
        P: By modality, shape (3r/4, d).
        R: By modality other than the reference, shape (3r/4, 3r/4).
    """

    U: dict[str, Array]
    P: dict[str, Array]
    R: dict[str, Array]

    def __init__(self, method: JIMFH, n: int, rows: dict[str, Rows], random: np.random.Generator) -> None:
        self._method, self._rows = method, rows
        self._share, self._common = 1 / len(rows), method.bits // 4
        self.a = list(rows)[-1] if method.reference is None else method.reference
        self.Y = random.random((n, self._common))
        self.own = {name: random.random((len(x), method.bits - self._common)) for name, (_, x) in rows.items()}
        self._squares = {name: float((x**2).sum()) for name, (_, x) in rows.items()}
        # rows of modality m and of the reference that belong to one item
        self._pairs = {
            name: np.intersect1d(which, rows[self.a][0], assume_unique=True, return_indices=True)[1:]
            for name, (which, _) in rows.items()
            if name != self.a
        }
        self._patterns = Patterns(_flags(n, [which for which, _ in rows.values()]))
        self._tied = {name: Patterns(_flags(len(self.own[name]), [i])) for name, (i, _) in self._pairs.items()}
        self._tied[self.a] = Patterns(_flags(len(self.own[self.a]), [j for _, j in self._pairs.values()]))

    def improve(self) -> float:
        """One round: R, U, P, Y and the Y_m in turn, the reference last.

        Returns:
            The objective afterwards.
        """
        rows, share, gamma = self._rows, self._share, self._method.gamma
        self.R = {name: self._tie(name) for name in self._pairs}
        self.U = {name: Ridge(self.Y[which], gamma / share).solve(x) for name, (which, x) in rows.items()}
        self.P = {name: Ridge(self.own[name], gamma / share).solve(x) for name, (_, x) in rows.items()}
        target = np.zeros_like(self.Y)
        for name, (which, x) in rows.items():
            target[which] += share * x @ self.U[name].T
        grams = [share * U @ U.T for U in self.U.values()]
        self.Y = self._patterns.solve(gamma * np.eye(self._common), grams, target)
        for name in [*self._pairs, self.a]:
            self.own[name] = self._particular(name)
        return self._objective()

    def codes(self) -> Array:
        """Z = [Y, Y_a], shape (n, r); Y_a of items without the reference is the mean of what their others say."""
        said, count = np.zeros((len(self.Y), self._method.bits - self._common)), np.zeros((len(self.Y), 1))
        for name in self._pairs:
            which = self._rows[name][0]
            said[which] += self.own[name] @ self.R[name]
            count[which] += 1
        said /= np.maximum(count, 1)
        said[self._rows[self.a][0]] = self.own[self.a]
        return np.hstack([self.Y, said])

    def _tie(self, name: str) -> Array:
        """R_m; zeros where nothing is tied."""
        (i, j), beta = self._pairs[name], self._method.beta
        if not beta or not len(i):
            return np.zeros((self._method.bits - self._common,) * 2)
        return Ridge(self.own[name][i], self._method.gamma / beta).solve(self.own[self.a][j])

    def _particular(self, name: str) -> Array:
        """The best Y_m for the other unknowns, by whether a row is tied."""
        P, beta = self.P[name], self._method.beta
        identity = np.eye(len(P))
        target = self._share * self._rows[name][1] @ P.T
        if name == self.a:
            for other, (i, j) in self._pairs.items():
                target[j] += beta * self.own[other][i] @ self.R[other]
            grams = [beta * identity] * len(self._pairs)
        else:
            i, j = self._pairs[name]
            target[i] += beta * self.own[self.a][j] @ self.R[name].T
            grams = [beta * self.R[name] @ self.R[name].T]
        return self._tied[name].solve(self._share * P @ P.T + self._method.gamma * identity, grams, target)

    def _objective(self) -> float:
        """The sum that is minimised, by inner products: the residuals are as large as the data."""
        total = 0.0
        for name, (which, x) in self._rows.items():
            for v, u in ((self.Y[which], self.U[name]), (self.own[name], self.P[name])):
                fit = self._squares[name] - 2 * float(((v.T @ x) * u).sum()) + float(((v.T @ v) * (u @ u.T)).sum())
                total += self._share * fit
        for name, (i, j) in self._pairs.items():
            total += self._method.beta * float(((self.own[self.a][j] - self.own[name][i] @ self.R[name]) ** 2).sum())
        unknowns = [self.Y, *self.own.values(), *self.U.values(), *self.P.values(), *self.R.values()]
        return total + self._method.gamma * sum(float((unknown**2).sum()) for unknown in unknowns)


def _flags(n: int, columns: list[NDArray[np.int64]]) -> NDArray[np.bool_]:
    """One column for each list of rows, True at those rows."""
    flags = np.zeros((n, len(columns)), dtype=bool)
    for column, rows in enumerate(columns):
        flags[rows, column] = True
    return flags
