"""Average precision in closed form: over the whole ranking or its first k places, ties in every order at once."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from amodal.errors import UsageError, nearest
from amodal.metrics.combinatorics import draws, harmonic, places, row_sums
from amodal.metrics.levels import Histograms

__all__ = ["Divisor", "Ties", "ap", "ap_at", "chance_ap"]

_Floats = NDArray[np.float64]
Ties = Literal["average", "optimistic", "pessimistic"]
Divisor = Literal["min", "relevant", "hits", "first"]


def ap(histograms: Histograms, ties: Ties = "average") -> _Floats:
    """Average precision over the whole ranking.

    With n items on a level, r of them relevant, a items and q relevant ones before it, c = (r - 1) / (n - 1) and the
    harmonic numbers H:

        average      level = r/n * [ (q + 1 - c*(a + 1)) * (H(a + n) - H(a)) + c*n ]
        optimistic   level = sum over t = 1..r of (q + t) / (a + t)            relevant items first in their level
        pessimistic  level = sum over t = 1..r of (q + t) / (a + n - r + t)    relevant items last
        AP = sum of the levels / R

    ``average`` is the expected AP when tied items are in random order.

    Args:
        histograms: Level histograms.
        ties: Which order of tied items.

    Returns:
        One value per query in [0, 1], float64; 0 where nothing is relevant.

    Raises:
        UsageError: If ``ties`` is none of the three.
    """
    n, r, a, q = histograms.items, histograms.relevant, histograms.items_before, histograms.relevant_before
    if ties == "average":
        levels = _level(n, r, a, q, n)
    elif ties == "optimistic":
        levels = _consecutive(r, a, q)
    elif ties == "pessimistic":
        levels = _consecutive(r, a + n - r, q)
    else:
        raise UsageError(nearest(ties, ("average", "optimistic", "pessimistic"), what="tie rule"))
    return row_sums(levels) / np.maximum(histograms.positives, 1)


def ap_at(histograms: Histograms, k: int, divisor: Divisor = "min") -> _Floats:
    """Average precision at k, which is four different quantities; tied items in random order.

    With S the expected sum of the precisions at the relevant items among the first k places:

        min       S / min(R, k)
        relevant  S / R
        hits      expectation of that sum divided by the number of relevant items among the first k; 0 without any
        first     mean precision at the first min(R, k) relevant items wherever they rank: not a cut-off

    Args:
        histograms: Level histograms.
        k: Cut-off, 1 to the size of the database.
        divisor: Which quantity.

    Returns:
        One value per query in [0, 1], float64; 0 where nothing is relevant.

    Raises:
        UsageError: If k is out of range or the divisor unknown.
    """
    inside = histograms.within(k)
    if divisor == "hits":
        return _ap_per_hit(histograms, inside)
    if divisor == "first":
        return _ap_first(histograms, np.minimum(histograms.positives, k))
    if divisor not in ("min", "relevant"):
        raise UsageError(nearest(divisor, ("min", "relevant", "hits", "first"), what="divisor"))
    n, r, a, q = histograms.items, histograms.relevant, histograms.items_before, histograms.relevant_before
    most = k if divisor == "min" else int(histograms.database.max())
    return row_sums(_level(n, r, a, q, inside)) / np.clip(histograms.positives, 1, most)


def chance_ap(database: Any, positives: Any) -> _Floats:
    """Expected average precision of a random ranking: c + (1 - c) * H(N) / N with c = (R - 1) / (N - 1).

    Args:
        database: N, items in the ranking, integers.
        positives: R, relevant items among them, integers; broadcasts with N.

    Returns:
        The chance floor, float64; 0 where R is 0.

    Example:
        >>> round(float(chance_ap(6, 3)), 3)
        0.645
    """
    n, r = np.asarray(database), np.asarray(positives)
    c = (r - 1) / np.maximum(n - 1, 1)
    return np.asarray(np.where(r > 0, c + (1 - c) * harmonic(int(n.max(initial=1)))[n] / np.maximum(n, 1), 0.0))


def _level(n: Any, r: Any, a: Any, q: Any, t: Any) -> _Floats:
    """Expected sum of the precisions at the relevant items among the first t places of a level."""
    table = harmonic(int(np.max(a + t)))
    c = (r - 1) / np.maximum(n - 1, 1)
    return np.asarray(r / np.maximum(n, 1) * ((q + 1 - c * (a + 1)) * (table[a + t] - table[a]) + c * t))


def _consecutive(r: Any, a: Any, q: Any) -> _Floats:
    """Sum of the precisions at r relevant items in a row: (q + t) / (a + t) = 1 + (q - a) / (a + t), summed."""
    table = harmonic(int(np.max(a + r)))
    return np.asarray(r + (q - a) * (table[a + r] - table[a]))


def _ap_per_hit(histograms: Histograms, inside: NDArray[np.int64]) -> _Floats:
    """Divides inside the expectation: given x hits in the level that rank k cuts, everything else is fixed."""
    n, r, a, q = histograms.items, histograms.relevant, histograms.items_before, histograms.relevant_before
    whole = inside == n
    sums = row_sums(np.where(whole, _level(n, r, a, q, n), 0))
    values = sums / np.maximum(np.where(whole, r, 0).sum(axis=1), 1)
    for i, d in np.argwhere((inside > 0) & ~whole & (r > 0)):
        t = inside[i, d]
        x, probability = draws(n[i, d], r[i, d], t)
        hits = np.maximum(q[i, d] + x, 1)
        values[i] = (probability * (sums[i] + _level(t, x, a[i, d], q[i, d], t)) / hits).sum()
    return np.asarray(values)


def _ap_first(histograms: Histograms, wanted: NDArray[np.int64]) -> _Floats:
    """Given the place p of the last wanted item in its level, the p - 1 items before it are a level of their own."""
    n, r, a, q = histograms.items, histograms.relevant, histograms.items_before, histograms.relevant_before
    m = wanted[:, None]
    sums = row_sums(np.where(q + r <= m, _level(n, r, a, q, n), 0))
    for i, d in np.argwhere((q < m) & (m < q + r)):
        last = wanted[i] - q[i, d]
        p, probability = places(n[i, d], r[i, d], last)
        before = _level(p - 1, last - 1, a[i, d], q[i, d], p - 1)
        sums[i] += (probability * (before + wanted[i] / (a[i, d] + p))).sum()
    return sums / np.maximum(wanted, 1)
