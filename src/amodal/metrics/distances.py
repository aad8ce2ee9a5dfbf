"""Rankings of packed binary codes: histograms over Hamming distances, counted and never sorted."""

from __future__ import annotations

import numpy as np

from amodal.codes import BinaryCodes
from amodal.metrics.levels import Histograms, from_order
from amodal.metrics.relevance import Relevance

__all__ = ["HammingRanking"]

_CACHED_PAIRS = 1 << 19  # grades of some queries for a stretch of the database: 0.5 MiB stay in a core's own cache
_CACHED_BYTES = 1 << 20  # codes of that stretch
_STRETCH = 131_070  # items that count_narrow takes at once
_CELLS = 1 << 16  # histogram cells of a block, so that the temporaries of the measures stay in cache too
_ORDERED_PAIRS = 1 << 20


class HammingRanking:
    """A database of binary codes, ranked by Hamming distance for blocks of queries.

    Args:
        queries: Codes of the queries.
        database: Codes of the database, of the same length.
        relevance: The rule, made for these queries and this database.

    Attributes:
        block: How many queries to count at once.
        ordered_block: How many queries to put in order at once.
        relevance: The rule.
    """

    def __init__(self, queries: BinaryCodes, database: BinaryCodes, relevance: Relevance) -> None:
        self._queries = np.ascontiguousarray(queries.packed)
        self._planes = np.ascontiguousarray(database.packed.T)
        self.relevance = relevance
        self._levels = queries.bits + 1
        self._grade_type = np.uint8 if relevance.slots <= 256 else np.uint16
        self.block = max(1, _CELLS // (self._levels * relevance.slots))
        self.ordered_block = max(1, _ORDERED_PAIRS // len(database))

    def count(self, rows: slice) -> Histograms:
        """Histograms over distances, ties left open."""
        from amodal.metrics import kernels

        relevance, items = self.relevance, self._planes.shape[1]
        narrow = relevance.slots * self._levels <= 256
        kernel = kernels.count_narrow if narrow else kernels.count_wide
        stretch = min(items, _STRETCH, max(1, _CACHED_BYTES // len(self._planes)))
        step = max(1, _CACHED_PAIRS // stretch)
        scratch = np.empty(step * stretch, self._grade_type)
        keys = np.empty(stretch + stretch % 2, np.uint8 if narrow else np.uint32)
        counts = np.zeros((rows.stop - rows.start, relevance.slots * self._levels), np.int64)
        for start in range(rows.start, rows.stop, step):
            some = slice(start, min(start + step, rows.stop))
            target = counts[some.start - rows.start : some.stop - rows.start]
            for first in range(0, items, stretch):
                grades = relevance.grades(some, slice(first, min(first + stretch, items)), scratch)
                kernel(self._queries[some], self._planes, first, grades, self._levels, keys, target)
        table = counts.reshape(len(counts), relevance.slots, self._levels)[:, : len(relevance.values)]
        return Histograms(table, relevance.values, relevance.relevant_from, relevance.exact)

    def order(self, rows: slice) -> Histograms:
        """Histograms of the order (distance, database position): every item is a level."""
        from amodal.metrics import kernels

        items = self._planes.shape[1]
        shape = rows.stop - rows.start, items
        grades = self.relevance.grades(rows, slice(0, items), np.empty(shape[0] * items, self._grade_type))
        ranked = np.empty_like(grades)
        keys = np.empty(items, np.uint32)
        kernels.rank_stable(self._queries[rows], self._planes, grades, self._levels, keys, ranked)
        return from_order(ranked, np.ones(shape, np.bool_), self.relevance)
