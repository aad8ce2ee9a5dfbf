"""Where the first and the last correct item stand: pair recall, CMC, ranks, inverse negative penalty."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amodal.errors import UsageError, nearest
from amodal.metrics.combinatorics import hit_probability, places
from amodal.metrics.levels import Histograms

__all__ = ["chance_hit", "first_rank", "hit_at", "inp", "median_rank", "rsum"]

_Floats = NDArray[np.float64]


def hit_at(histograms: Histograms, k: int) -> _Floats:
    """Probability that a correct item is among the first k: R@K of pair retrieval, CMC@k of re-identification.

    In the first level with a correct item, T of its n places are inside the first k and r of its items are correct:

        P(hit) = 1 - C(n - r, T) / C(n, T)

    Args:
        histograms: Level histograms.
        k: Cut-off, 1 to the size of the database.

    Returns:
        One value per query in [0, 1], float64; 0 where nothing is correct. Times 100 it is the R@K of papers.

    Raises:
        UsageError: If k is out of range.
    """
    inside, level = histograms.within(k), _first_level(histograms)
    n, r, t = (np.take_along_axis(x, level, axis=1)[:, 0] for x in (histograms.items, histograms.relevant, inside))
    return hit_probability(n, r, t)


def first_rank(histograms: Histograms) -> _Floats:
    """Expected rank of the first correct item, 1-based: a + (n + 1) / (r + 1) in the first level that has one.

    Args:
        histograms: Level histograms.

    Returns:
        One rank per query, float64; 0 where nothing is correct.
    """
    level = _first_level(histograms)
    tables = histograms.items, histograms.relevant, histograms.items_before
    n, r, a = (np.take_along_axis(x, level, axis=1)[:, 0] for x in tables)
    return np.where(r > 0, a + (n + 1) / (r + 1), 0.0)


def inp(histograms: Histograms) -> _Floats:
    """Inverse negative penalty: R / (rank of the last correct item), in expectation over tied orders.

    Args:
        histograms: Level histograms.

    Returns:
        One value per query in [0, 1], float64; 0 where nothing is correct. The mean is mINP.
    """
    n, r, a = histograms.items, histograms.relevant, histograms.items_before
    values = np.zeros(len(histograms))
    last = r.shape[1] - 1 - np.argmax(r[:, ::-1] > 0, axis=1)
    for i in np.flatnonzero(histograms.positives):
        d = last[i]
        place, probability = places(n[i, d], r[i, d], r[i, d])
        values[i] = histograms.positives[i] * (probability / (a[i, d] + place)).sum()
    return values


def median_rank(ranks: ArrayLike, *, medr_style: Literal["median", "floor"] = "median") -> float:
    """Median of 1-based ranks.

    Args:
        ranks: Ranks of the queries that have a correct item, 1-based, shape (q,).
        medr_style: ``median`` is the ordinary one; ``floor`` is floor(median of 0-based ranks) + 1, as the matching
            literature prints it.

    Returns:
        The median.

    Raises:
        UsageError: If there is no rank or the style is unknown.

    Example:
        >>> median_rank([1, 2]), median_rank([1, 2], medr_style="floor")
        (1.5, 1.0)
    """
    if medr_style not in ("median", "floor"):
        raise UsageError(nearest(medr_style, ("median", "floor"), what="median style"))
    values = np.asarray(ranks, dtype=np.float64)
    if values.size == 0:
        raise UsageError("there is no rank to take the median of.")
    median = float(np.median(values))
    return median if medr_style == "median" else float(np.floor(median - 1) + 1)


def rsum(hits: Iterable[float]) -> float:
    """Sum of R@1, R@5 and R@10 of both directions, in percent: at most 600.

    Args:
        hits: The six mean hit probabilities, each in [0, 1].

    Returns:
        The sum in percent.

    Raises:
        UsageError: If there are not six values in [0, 1].
    """
    values = [float(hit) for hit in hits]
    if len(values) != 6 or not all(0 <= value <= 1 for value in values):
        raise UsageError(f"rsum needs R@1, R@5 and R@10 of two directions, each between 0 and 1; got {values}.")
    return 100 * sum(values)


def chance_hit(database: ArrayLike, positives: ArrayLike, k: int) -> _Floats:
    """Chance floor of R@K and CMC@k: 1 - C(N - R, k) / C(N, k).

    Args:
        database: N, items in the ranking, integers.
        positives: R, correct items among them, integers; broadcasts with N.
        k: Cut-off.

    Returns:
        The probability that a random ranking hits, float64.
    """
    return hit_probability(np.asarray(database), np.asarray(positives), np.asarray(k))


def _first_level(histograms: Histograms) -> NDArray[np.int64]:
    return np.asarray(np.argmax(histograms.relevant > 0, axis=1)[:, None])
