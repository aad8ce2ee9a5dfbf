"""What a ranking is, up to ties: how many items of each grade lie on each level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.errors import UsageError
from amodal.metrics.relevance import Relevance

__all__ = ["Histograms", "from_order", "stack"]


@dataclass(frozen=True, eq=False)
class Histograms:
    """Level histograms of some queries; every measure is a function of them.

    A level is one Hamming distance, or one set of exactly equal scores. Levels are in the order of the ranking, nearest
    first; an empty level says nothing. Histograms of database shards are added, which is exact.

    Attributes:
        counts: Items of each grade on each level, int64, shape (q, grades, levels).
        values: Graded value s of each grade, float64, shape (grades,), ascending from 0.
        relevant_from: The first grade that counts as relevant.
        exact: Whether grades tell s; False where they only tell relevant from not relevant.
        radial: Whether level d is the Hamming distance d.
    """

    counts: NDArray[np.int64]
    values: NDArray[np.float64]
    relevant_from: int = 1
    exact: bool = True
    radial: bool = True

    def __len__(self) -> int:
        return len(self.counts)

    def __add__(self, other: Histograms) -> Histograms:
        """The histograms over both databases.

        Raises:
            UsageError: If levels are no distances, or the two differ in queries, levels or relevance rule.
        """
        if not (self.radial and other.radial):
            raise UsageError(
                "only histograms over Hamming distances can be added, since equal scores of two shards need not be the "
                "same level. Split the queries instead of the database."
            )
        short, long = sorted((self, other), key=lambda part: len(part.values))
        grades = len(short.values)
        if not (
            short.counts.shape[::2] == long.counts.shape[::2]
            and (short.relevant_from, short.exact) == (long.relevant_from, long.exact)
            and np.array_equal(short.values, long.values[:grades])
        ):
            raise UsageError(
                "histograms can be added for the same queries, code length and relevance rule; got "
                f"{self.counts.shape} and {other.counts.shape} (queries, grades, levels)."
            )
        counts = long.counts.copy()
        counts[:, :grades] += short.counts
        return replace(long, counts=counts)

    @cached_property
    def items(self) -> NDArray[np.int64]:
        """n: items on each level, shape (q, levels)."""
        return np.asarray(self.counts.sum(axis=1))

    @cached_property
    def relevant(self) -> NDArray[np.int64]:
        """r: relevant items on each level, shape (q, levels)."""
        return np.asarray(self.counts[:, self.relevant_from :].sum(axis=1))

    @cached_property
    def items_before(self) -> NDArray[np.int64]:
        """a: items on nearer levels, shape (q, levels)."""
        return np.cumsum(self.items, axis=1) - self.items

    @cached_property
    def relevant_before(self) -> NDArray[np.int64]:
        """q: relevant items on nearer levels, shape (q, levels)."""
        return np.cumsum(self.relevant, axis=1) - self.relevant

    @cached_property
    def database(self) -> NDArray[np.int64]:
        """N: items in each query's ranking, shape (q,)."""
        return np.asarray(self.items.sum(axis=1))

    @cached_property
    def positives(self) -> NDArray[np.int64]:
        """R: relevant items in each query's ranking, shape (q,)."""
        return np.asarray(self.relevant.sum(axis=1))

    def within(self, k: int) -> NDArray[np.int64]:
        """T: places of each level inside the first k, shape (q, levels).

        Raises:
            UsageError: If k is not between 1 and the size of the database.
        """
        size = int(self.database.max(initial=0))
        if not 1 <= k <= size:
            raise UsageError(f"database has {size} items, k={k}; k must be between 1 and {size}.")
        return np.clip(k - self.items_before, 0, self.items)


def stack(parts: Sequence[Histograms]) -> Histograms:
    """Histograms of successive blocks of queries as one; shorter level tables are filled up with empty levels.

    Args:
        parts: At least one block; all over one database and relevance rule.

    Returns:
        The queries of all blocks, in order.
    """
    levels = max(part.counts.shape[2] for part in parts)
    counts = [np.pad(part.counts, ((0, 0), (0, 0), (0, levels - part.counts.shape[2]))) for part in parts]
    return replace(parts[0], counts=np.concatenate(counts))


def from_order(grades: NDArray[Any], fresh: NDArray[np.bool_], relevance: Relevance) -> Histograms:
    """Histograms of rankings that are already in order.

    Args:
        grades: Grades in the order of the ranking, shape (q, n).
        fresh: Whether a new level begins here, shape (q, n).
        relevance: The rule that gave the grades.

    Returns:
        The histograms, with successive levels that hold no graded item merged, which changes no measure.
    """
    from amodal.metrics import kernels

    levels = 2 * int(np.count_nonzero(grades, axis=1).max()) + 1
    counts = np.zeros((len(grades), relevance.slots, levels), np.int64)
    graded = len(relevance.values)
    kernels.run_levels(grades, fresh, graded, counts)
    return Histograms(counts[:, :graded], relevance.values, relevance.relevant_from, relevance.exact, radial=False)
