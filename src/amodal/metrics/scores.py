"""Rankings by real-valued scores: each query's row is sorted, and a level is a set of exactly equal scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.codes import Embeddings
from amodal.errors import DataError
from amodal.metrics.levels import Histograms, from_order
from amodal.metrics.relevance import Relevance

__all__ = ["ScoreRanking", "cosine", "given"]

_SORTED_PAIRS = 1 << 21  # 16 MiB of scores per block
_STRETCH = 4096  # database vectors turned to float64 at once
_GRID = 1.5 * 2.0**26

Scores = Callable[[slice], NDArray[np.float64]]


class ScoreRanking:
    """A database ranked by descending score for blocks of queries.

    Args:
        scores: Gives the scores of a block of queries, shape (block, n).
        relevance: The rule, made for these queries and this database.

    Attributes:
        block: How many queries to sort at once.
        ordered_block: The same.
        relevance: The rule.
    """

    def __init__(self, scores: Scores, relevance: Relevance) -> None:
        self._scores = scores
        self.relevance = relevance
        self._grade_type = np.uint8 if relevance.slots <= 256 else np.uint16
        self.block = self.ordered_block = max(1, _SORTED_PAIRS // max(1, relevance.shape[1]))

    def count(self, rows: slice) -> Histograms:
        """Histograms over sets of equal scores, ties left open."""
        return self._sorted(rows, stable=False)

    def order(self, rows: slice) -> Histograms:
        """Histograms of the order (score, database position): every item is a level."""
        return self._sorted(rows, stable=True)

    def _sorted(self, rows: slice, *, stable: bool) -> Histograms:
        distances = -self._scores(rows)
        order = np.argsort(distances, axis=1, kind="stable" if stable else None)
        grades = self.relevance.grades(rows, slice(0, distances.shape[1]), np.empty(distances.size, self._grade_type))
        fresh = np.ones(distances.shape, np.bool_)
        if not stable:
            ranked = np.take_along_axis(distances, order, axis=1)
            fresh[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
        return from_order(np.take_along_axis(grades, order, axis=1), fresh, self.relevance)


def cosine(queries: Embeddings, database: Embeddings) -> Scores:
    """Cosines of blocks of queries with the whole database, each pair's the same in every block and on every machine.

    Coordinates are rounded to multiples of 2^-26, finer than float32 resolves near 1. Products of two such numbers are
    multiples of 2^-52, and sums of them stay below 2 for vectors of unit length; so every float64 partial sum is exact
    and the order of summation, which differs between blocks and machines, cannot matter.

    Args:
        queries: Unit vectors, shape (q, d).
        database: Unit vectors, shape (n, d).

    Returns:
        A function from a block of queries to float64 scores, shape (block, n).
    """

    def scores(rows: slice) -> NDArray[np.float64]:
        block = _on_grid(queries.vectors[rows])
        out = np.empty((len(block), len(database)))
        for start in range(0, len(database), _STRETCH):
            stretch = slice(start, start + _STRETCH)
            out[:, stretch] = block @ _on_grid(database.vectors[stretch]).T
        return out

    return scores


def given(matrix: NDArray[Any]) -> Scores:
    """Blocks of a ready score matrix.

    Args:
        matrix: Higher is more similar, shape (q, n).

    Returns:
        A function from a block of queries to float64 scores, which raises DataError where one is NaN or infinite.
    """

    def scores(rows: slice) -> NDArray[np.float64]:
        block = np.asarray(matrix[rows], dtype=np.float64)
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            raise DataError(f"score row {rows.start + int(np.flatnonzero(bad)[0])} holds NaN or infinity.")
        return block

    return scores


def _on_grid(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    values = vectors.astype(np.float64)
    values += _GRID  # a float64 near 2^26 has steps of 2^-26, so this rounds
    values -= _GRID
    return values
