"""What an approximate index finds of what an exact one does, on its own codes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amodal.errors import DataError
from amodal.index.base import Index

__all__ = ["Recall", "recall"]


@dataclass(frozen=True)
class Recall:
    """How an approximate search compares with the exact one.

    Attributes:
        recall: Share of the entries found that are not farther than the true k-th is.
        worst: The smallest share of a single query.
        queries: Number of queries.
        k: Entries asked for.
        ms: Median milliseconds of a query, approximate.
        exact_ms: The same, exact.
    """

    recall: float
    worst: float
    queries: int
    k: int
    ms: float
    exact_ms: float


def recall(index: Index, exact: Index, *, k: int = 100, queries: int = 200, seed: int = 0) -> Recall:
    """Measure an index on a sample of its own entries.

    Each sampled entry asks for the k nearest others. Queries of another modality can lie farther from the entries than
    entries from each other, and then less is found.

    Args:
        index: The index to measure.
        exact: One of the same entries that searches exactly.
        k: Entries to ask for.
        queries: Size of the sample; all entries if there are fewer.
        seed: Of the sample.

    Returns:
        Recall and times.

    Raises:
        DataError: If the index holds fewer than two entries.
    """
    ids = exact.ids()
    if len(ids) < 2:
        raise DataError("recall needs an index of at least two entries.")
    asked = np.random.default_rng(seed).permutation(ids)[:queries]
    vectors = {entry.id: entry.vector for entry in exact.get(asked) if entry is not None}
    shares, times = [], []
    for number in asked.tolist():
        true, slow = _others(exact, number, vectors[number], k)
        found, fast = _others(index, number, vectors[number], k)
        shares.append(float((found <= true.max()).sum() / len(true)))
        times.append((fast, slow))
    fast, slow = np.median(times, axis=0).tolist()
    return Recall(float(np.mean(shares)), min(shares), len(asked), k, 1000 * fast, 1000 * slow)


def _others(index: Index, number: int, vector: NDArray[np.generic], k: int) -> tuple[NDArray[np.generic], float]:
    """Distances of the k entries nearest to an entry, itself left out, and the seconds that it took."""
    begin = time.perf_counter()
    ids, distances = index.search(vector[None], k + 1)[0]
    took = time.perf_counter() - begin
    return distances[ids != number][:k], took
