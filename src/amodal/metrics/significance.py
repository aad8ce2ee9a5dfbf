"""Is a difference more than luck? Paired randomisation tests, exact where that is possible, and Holm's correction."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amodal.errors import DataError, UsageError

__all__ = ["holm", "randomisation_test", "sign_flip_test"]

_EXACT = 20  # 2^20 sign patterns: a million sums


def sign_flip_test(differences: ArrayLike) -> float:
    """Exact two-sided sign-flip test: the share of sign patterns whose sum is at least as far from 0 as the observed.

    For s seeds it cannot go below 2 / 2^s: .25 for 3 seeds, .031 for 6.

    Args:
        differences: One difference per seed, at most 20, shape (s,).

    Returns:
        p.

    Raises:
        DataError: If there is no difference, one is not finite, or there are more than 20.

    Example:
        >>> sign_flip_test([0.02, 0.01, 0.03])
        0.25
    """
    values = _finite(differences)
    if len(values) > _EXACT:
        raise DataError(
            f"the exact test takes at most {_EXACT} differences, got {len(values)}; use randomisation_test."
        )
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(_as_far(sums, values)))


def randomisation_test(differences: ArrayLike, *, flips: int = 10_000, seed: int = 0) -> float:
    """Two-sided paired randomisation test on per-query differences: p = (1 + extreme) / (1 + flips).

    It speaks about these two trained models, not about the methods that made them.

    Args:
        differences: One difference per query, shape (q,).
        flips: Number of random sign patterns.
        seed: Of the generator.

    Returns:
        p.

    Raises:
        DataError: If there is no difference or one is not finite.
        UsageError: If flips is below 1.
    """
    values = _finite(differences)
    if flips < 1:
        raise UsageError(f"flips must be at least 1; got {flips}.")
    generator = np.random.default_rng(seed)
    extreme = 0
    stretch = max(1, (1 << 20) // len(values))
    for start in range(0, flips, stretch):
        signs = generator.integers(0, 2, (min(stretch, flips - start), len(values)), dtype=np.int8) * 2 - 1
        extreme += int(np.count_nonzero(_as_far(signs @ values, values)))
    return (1 + extreme) / (1 + flips)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's correction for several comparisons.

    Args:
        p_values: One per comparison, each in [0, 1], shape (m,).

    Returns:
        Corrected values in the same order, at most 1.

    Raises:
        DataError: If a value is outside [0, 1].

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2)
        array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError(f"p values must be between 0 and 1; got {p}.")
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(raised, 1)
    return corrected


def _finite(differences: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise DataError("a test needs at least one difference, all of them finite, in one vector.")
    return values


def _as_far(sums: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    rounding = 1e-12 * np.abs(values).sum()  # sums of one pattern differ by rounding when added in another order
    return np.asarray(np.abs(sums) >= np.abs(values.sum()) - rounding)
