"""SCRATCH: one latent factor of features and labels, rotated to binary codes, and a regression to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from amodal.errors import UsageError
from amodal.methods.card import Card
from amodal.methods.shallow.inputs import FILLS, Rows, above_zero, kernel_rows, labelled, one_of, participants
from amodal.methods.shallow.kernel_hash import KernelHash
from amodal.methods.shallow.solvers import Patterns, Ridge, frame, procrustes, signs

if TYPE_CHECKING:
    from amodal.data import Dataset
    from amodal.training.settings import Training

__all__ = ["SCRATCH"]

Array = NDArray[np.float64]


class SCRATCH(KernelHash):
    """Collective factorisation: kernel features X_m and labels L share one latent V, which is rotated to codes B.

        min  sum_m (1/M) |D_m (X_m - V U_m)|^2 + alpha |L - V G|^2 + |B - V R|^2 + mu sum_m |D_m (V - X_m W_m)|^2
             + gamma (|V|^2 + |G|^2 + sum_m |U_m|^2 + sum_m |W_m|^2)  [+ tie (|V - L K|^2) + gamma |K|^2]

    over B in {-1, +1}, R^T R = I and the rest real; rows are items (of one with several observations of a modality,
    their mean), D_m says which have modality m, and the term of L holds for labelled items only. Every unknown is
    solved in closed form with the others fixed, so the sum never rises. V is solved once for each pattern of what an
    item has, never per item. A new item gets the code sgn(x W_m R).

    Args:
        bits: Length of the codes.
        anchors: Anchors of the kernel; 0 for linear features.
        alpha: Weight of the labels, above 0.
        mu: Weight of the regressions that encode new items, above 0.
        gamma: Price on the size of everything real, above 0.
        iterations: Rounds.
        tie: Weight of an additional term that ties V to a linear image of the labels; 0 leaves it out. Experimental: it
            fixes the bits - c latent directions that labels leave free.
        fill: What is done about an absent modality: "mask" (its terms are left out), "zero", "mean", "drop", or "auto":
            "zero" with more bits than classes, else "mask". Labels pin at most c latent directions; without pairs
            nothing aligns the others, and masked codes longer than that collapse.
        seed: Of the anchors and of V, W, R to start from.

    Attributes: as ``KernelHash``; ``maps_`` are W_m R, ``training_codes_`` is B.

    Paper: Li et al., SCRATCH, ACM Multimedia 2018; Chen et al., IEEE TCSVT 2020.
    Reference code: SDU-MIMA/SCRATCH (no licence; read, not used).
    """

    card = Card(
        slug="scratch",
        name="SCRATCH",
        summary="Features and labels share one latent factor, rotated to binary codes; each modality regresses to it.",
        paper="Li et al., SCRATCH: A Scalable Discrete Matrix Factorization Hashing for Cross-Modal Retrieval, "
        "ACM Multimedia 2018",
        url="https://doi.org/10.1145/3240508.3240547",
        family="shallow",
        returns="codes",
        needs_labels=True,
        needs_pairs="helpful",
        native="any",
        fills=("auto", *FILLS),
        checked="The objective never rises; mAP on Wikipedia within .01 of reference runs (benchmarks).",
        departures=(
            "Absent modalities: the paper has none. They are left out, or filled in kernel space; see fill.",
            "Labels may be absent too, and tie is ours.",
        ),
        reference_code="SDU-MIMA/SCRATCH, no licence; read, never copied",
    )
    search_space: ClassVar = {
        "bits": (16, 32, 64, 128),
        "anchors": (0, 500, 1000),
        "alpha": (50.0, 500.0, 5000.0),
        "mu": (100.0, 1000.0, 10000.0),
        "gamma": (0.5, 5.0, 50.0),
        "tie": (0.0, 1.0, 100.0),
        "fill": ("auto", *FILLS),
    }

    def __init__(
        self,
        *,
        bits: int = 64,
        anchors: int = 500,
        alpha: float = 500.0,
        mu: float = 1000.0,
        gamma: float = 5.0,
        iterations: int = 20,
        tie: float = 0.0,
        fill: str = "auto",
        seed: int = 0,
    ) -> None:
        self.bits, self.anchors, self.alpha, self.mu, self.gamma = bits, anchors, alpha, mu, gamma
        self.iterations, self.tie, self.fill, self.seed = iterations, tie, fill, seed

    def _learn(self, data: Dataset, validation: Dataset | None, training: Training | None) -> None:
        one_of(self.fill, ("auto", *FILLS), what="fill of scratch")
        above_zero("scratch", bits=self.bits, iterations=self.iterations)
        above_zero("scratch", alpha=self.alpha, mu=self.mu, gamma=self.gamma)
        if self.tie < 0:
            raise UsageError(f"tie of scratch must be 0 or more; got {self.tie!r}.")
        random = np.random.default_rng(self.seed)
        fill = self.fill if self.fill != "auto" else "zero" if self.bits > len(self.classes_) else "mask"
        items = participants(data, fill)
        part = data.take(items)
        self.kernels_, rows = kernel_rows(part, fill=fill, anchors=self.anchors, random=random)
        solution = Factorisation(self, len(part), rows, labelled(part), random)
        for _ in range(self.iterations):
            solution.improve()
        self.maps_ = {name: W @ solution.R for name, W in solution.W.items()}
        self._keep_codes(data, items, solution.B)


class Factorisation:
    """The unknowns of SCRATCH and the round that improves them.

    Args:
        method: Weights and length of the codes.
        n: Number of items.
        rows: Items and kernel features by modality.
        taught: Labelled items and their labels.
        random: Source of V, W, R to start from.

    Attributes:
        V: Latent factor, shape (n, r).
        R: Rotation, shape (r, r).
        B: Codes, -1 or +1, shape (n, r).
        U: By modality, shape (r, a).
        W: By modality, shape (a, r).
        G: Shape (r, c).
        K: Shape (c, r); zeros without ``tie``.
        patterns: The terms that items are in: one for each modality, the last for labels.
    """

    B: Array
    U: dict[str, Array]
    G: Array

    def __init__(
        self,
        method: SCRATCH,
        n: int,
        rows: dict[str, Rows],
        taught: Rows,
        random: np.random.Generator,
    ) -> None:
        self._method, self._rows, self._taught = method, rows, taught
        self._ridges = {name: Ridge(x, method.gamma / method.mu) for name, (_, x) in rows.items()}
        self.V = random.standard_normal((n, method.bits))
        self.W = {name: random.standard_normal((x.shape[1], method.bits)) for name, (_, x) in rows.items()}
        self.R = frame(method.bits, method.bits, random)
        self.K = np.zeros((taught[1].shape[1], method.bits))
        flags = np.zeros((n, len(rows) + 1), dtype=bool)
        for column, which in enumerate([which for which, _ in rows.values()] + [taught[0]]):
            flags[which, column] = True
        self.patterns = Patterns(flags)

    def improve(self) -> None:
        """One round: B, U, G, W, K, V, R in turn."""
        weights, (taught, L) = self._method, self._taught
        self.B = signs(self.V @ self.R)
        self.U = {
            name: Ridge(self.V[which], weights.gamma * len(self._rows)).solve(x)
            for name, (which, x) in self._rows.items()
        }
        self.G = Ridge(self.V[taught], weights.gamma / weights.alpha).solve(L)
        self.W = {name: self._ridges[name].solve(self.V[which]) for name, (which, _) in self._rows.items()}
        if weights.tie:
            self.K = Ridge(L, weights.gamma / weights.tie).solve(self.V[taught])
        self.V = self.latent()
        self.R = procrustes(self.V.T @ self.B)

    def latent(self) -> Array:
        """The best V for the other unknowns, solved once per pattern of terms."""
        weights, (taught, L), share = self._method, self._taught, 1 / len(self._rows)
        identity = np.eye(weights.bits)
        target = self.B @ self.R.T
        grams = []
        for name, (which, x) in self._rows.items():
            target[which] += x @ (share * self.U[name].T + weights.mu * self.W[name])
            grams.append(share * self.U[name] @ self.U[name].T + weights.mu * identity)
        target[taught] += L @ (weights.alpha * self.G.T + weights.tie * self.K)
        grams.append(weights.alpha * self.G @ self.G.T + weights.tie * identity)
        return self.patterns.solve((1 + weights.gamma) * identity, grams, target)
