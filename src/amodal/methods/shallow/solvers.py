"""Closed forms that several shallow methods share: ridge, gaps, orthogonal matrices, iterative quantisation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, svd

__all__ = ["Patterns", "Ridge", "frame", "itq", "procrustes", "signs"]

Array = NDArray[np.float64]


def signs(x: Array) -> Array:
    """+1 where x >= 0, else -1; never 0, unlike ``numpy.sign``."""
    return np.where(x >= 0, 1.0, -1.0)


class Ridge:
    """Linear maps with the least squared error and a price on their size; factored once, solved for many targets.

    W = argmin |y - x W|^2 + penalty |W|^2 = (x^T x + penalty I)^-1 x^T y = x^T (x x^T + penalty I)^-1 y; the first form
    is used when d <= n, the second when d > n, so that never more than min(n, d)^2 numbers are factored.

    Args:
        x: Inputs, shape (n, d).
        penalty: Above 0.
    """

    def __init__(self, x: Array, penalty: float) -> None:
        self._x, self._primal = x, x.shape[1] <= x.shape[0]
        gram = x.T @ x if self._primal else x @ x.T
        gram[np.diag_indices_from(gram)] += penalty
        self._factor = cho_factor(gram, overwrite_a=True, check_finite=False)

    def solve(self, y: Array) -> Array:
        """W, shape (d, r), for targets of shape (n, r)."""
        if self._primal:
            return np.asarray(cho_solve(self._factor, self._x.T @ y))
        return np.asarray(self._x.T @ cho_solve(self._factor, y))


class Patterns:
    """Least squares for many rows that differ in which terms they are in; factored once for each set of terms.

    Args:
        flags: Which of k terms each row is in, bool, shape (n, k).

    Attributes:
        sets: The different rows of ``flags``.
    """

    def __init__(self, flags: NDArray[np.bool_]) -> None:
        self.sets, self._set = np.unique(flags, axis=0, return_inverse=True)

    def solve(self, base: Array, grams: Sequence[Array], target: Array) -> Array:
        """The v_i with v_i (base + sum of the grams of the terms that i is in) = target_i.

        Args:
            base: What every row is in, positive definite, shape (r, r).
            grams: One symmetric matrix for each term, shape (r, r).
            target: Shape (n, r).

        Returns:
            Shape (n, r).
        """
        v = np.empty_like(target)
        for number, terms in enumerate(self.sets):
            rows = self._set == number
            gram = base + sum(gram for gram, there in zip(grams, terms, strict=True) if there)
            v[rows] = np.linalg.solve(gram, target[rows].T).T
        return v


def procrustes(x: Array) -> Array:
    """The matrix with orthonormal columns or rows that is nearest to x: P Q^T with P S Q^T = svd(x).

    It maximises tr(R^T x), hence minimises |b - v R| when x = v^T b.
    """
    try:
        left, _, right = np.linalg.svd(x, full_matrices=False)
    except np.linalg.LinAlgError:  # the fast algorithm gives up now and then; this one is slower
        left, _, right = svd(x, full_matrices=False, lapack_driver="gesvd")
    return np.asarray(left @ right)


def frame(rows: int, columns: int, random: np.random.Generator) -> Array:
    """A random matrix, shape (rows, columns), with orthonormal rows or columns, whichever are fewer."""
    tall, _ = np.linalg.qr(random.standard_normal((max(rows, columns), min(rows, columns))))
    return np.asarray(tall if rows >= columns else tall.T)


def itq(v: Array, random: np.random.Generator, *, steps: int = 50) -> Array:
    """Rotation after which taking signs loses least: min |B - v R|^2 over R^T R = I and B = sgn(v R).

    B and R are solved in turn; the error never rises.

    Args:
        v: Centred rows to be made binary, shape (n, r).
        random: Source of the rotation to start from.
        steps: Rounds.

    Returns:
        R, shape (r, r).

    Paper: Gong and Lazebnik, Iterative quantization, CVPR 2011, section 2.2.
    """
    rotation = frame(v.shape[1], v.shape[1], random)
    for _ in range(steps):
        rotation = procrustes(v.T @ signs(v @ rotation))
    return rotation
