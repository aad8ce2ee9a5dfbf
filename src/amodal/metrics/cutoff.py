"""Measures of the first k places: precision, recall, NDCG with three gains."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from amodal.errors import UsageError, nearest
from amodal.metrics.combinatorics import discounts, row_sums
from amodal.metrics.levels import Histograms

__all__ = ["Gain", "ndcg_at", "precision_at", "recall_at"]

_Floats = NDArray[np.float64]
Gain = Literal["binary", "count", "exp"]


def precision_at(histograms: Histograms, k: int) -> _Floats:
    """Expected share of relevant items among the first k: (1/k) * sum over levels of T * r / n.

    Args:
        histograms: Level histograms.
        k: Cut-off, 1 to the size of the database. The divisor is always k.

    Returns:
        One value per query in [0, 1], float64.

    Raises:
        UsageError: If k is out of range.
    """
    return _expected_hits(histograms, k) / k


def recall_at(histograms: Histograms, k: int) -> _Floats:
    """Expected share of the relevant items found among the first k: (1/R) * sum over levels of T * r / n.

    Args:
        histograms: Level histograms.
        k: Cut-off, 1 to the size of the database.

    Returns:
        One value per query in [0, 1], float64; 0 where nothing is relevant.

    Raises:
        UsageError: If k is out of range.
    """
    return _expected_hits(histograms, k) / np.maximum(histograms.positives, 1)


def ndcg_at(histograms: Histograms, k: int, gain: Gain = "binary") -> _Floats:
    """Normalised discounted cumulative gain at k.

        DCG@k = sum over levels of (g / n) * (D(a + T) - D(a)),   D(p) = sum over i = 1..p of 1 / log2(i + 1)

    g is the sum of the gains on a level. The ideal ranking takes the highest gains of the whole database.

    Args:
        histograms: Level histograms; with grades that tell s (``Relevance.graded``) for gains other than ``binary``.
        k: Cut-off, 1 to the size of the database.
        gain: ``binary`` is 1 for a relevant item, ``count`` is s, ``exp`` is 2^s - 1.

    Returns:
        One value per query in [0, 1], float64; 0 where nothing has a gain.

    Raises:
        UsageError: If k is out of range, the gain unknown, or the histograms do not tell s.
    """
    inside, table = histograms.within(k), discounts(k)
    gains = _gains(histograms, gain)
    first = np.minimum(histograms.items_before, k)
    per_item = (gains[:, None] * histograms.counts).sum(axis=1) / np.maximum(histograms.items, 1)
    dcg = row_sums(per_item * (table[first + inside] - table[first]))

    best_first = np.argsort(-gains, kind="stable")
    last = np.minimum(np.cumsum(histograms.counts.sum(axis=2)[:, best_first], axis=1), k)
    ideal = row_sums(np.diff(table[last], axis=1, prepend=0) * gains[best_first])
    return np.asarray(np.divide(dcg, ideal, out=np.zeros_like(dcg), where=ideal > 0))


def _expected_hits(histograms: Histograms, k: int) -> _Floats:
    share = histograms.relevant / np.maximum(histograms.items, 1)
    return row_sums(histograms.within(k) * share)


def _gains(histograms: Histograms, gain: Gain) -> _Floats:
    if gain == "binary":
        return (np.arange(len(histograms.values)) >= histograms.relevant_from).astype(np.float64)
    if gain not in ("count", "exp"):
        raise UsageError(nearest(gain, ("binary", "count", "exp"), what="gain"))
    if not histograms.exact:
        raise UsageError(
            f'gain "{gain}" needs to know how many labels are shared, and these histograms only tell whether one is. '
            "Build them with relevance.graded()."
        )
    return histograms.values if gain == "count" else 2.0**histograms.values - 1
