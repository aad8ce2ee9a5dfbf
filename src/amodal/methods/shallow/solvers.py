"""Closed forms that several shallow methods share: ridge, orthogonal matrices, iterative quantisation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

__all__ = ["frame", "itq", "procrustes", "ridge", "signs"]

Array = NDArray[np.float64]


def signs(x: Array) -> Array:
    """+1 where x >= 0, else -1; never 0, unlike ``numpy.sign``."""
    return np.where(x >= 0, 1.0, -1.0)


def ridge(x: Array, y: Array, penalty: float) -> Array:
    """Linear map with the least squared error and a price on its size.

    W = argmin |y - x W|^2 + penalty |W|^2 = (x^T x + penalty I)^-1 x^T y = x^T (x x^T + penalty I)^-1 y; the first form
    is used when d <= n, the second when d > n, so that never more than min(n, d)^2 numbers are factored.

    Args:
        x: Inputs, shape (n, d).
        y: Targets, shape (n, r).
        penalty: Above 0.

    Returns:
        W, shape (d, r).
    """
    n, d = x.shape
    if d <= n:
        return _solve(x.T @ x, x.T @ y, penalty)
    return np.asarray(x.T @ _solve(x @ x.T, y, penalty))


def _solve(gram: Array, y: Array, penalty: float) -> Array:
    """(gram + penalty I)^-1 y by Cholesky."""
    gram[np.diag_indices_from(gram)] += penalty
    return np.asarray(cho_solve(cho_factor(gram, overwrite_a=True, check_finite=False), y))


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
