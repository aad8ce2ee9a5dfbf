"""Closed forms that several shallow methods share: ridge, orthogonal matrices, iterative quantisation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

__all__ = ["Ridge", "frame", "itq", "procrustes", "signs"]

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


def procrustes(x: Array) -> Array:
    """The matrix with orthonormal columns or rows that is nearest to x: P Q^T with P S Q^T = svd(x).

    It maximises tr(R^T x), hence minimises |b - v R| when x = v^T b.
    """
    left, _, right = np.linalg.svd(x, full_matrices=False)
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
