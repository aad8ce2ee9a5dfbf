"""What a search answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amodal.errors import ShapeError
from amodal.index.spec import IndexSpec

__all__ = ["Hits"]


@dataclass(frozen=True, eq=False)
class Hits:
    """The nearest entries of each query, nearest first, equal distances by ascending id.

    Attributes:
        ids: int64, shape (q, k); -1 where fewer than k entries were found.
        distances: Hamming distances, int32, or cosine distances 1 - cos, float32; shape (q, k); smaller is nearer. The
            largest int32, or infinity, where fewer than k entries were found.
        found: Number of entries found per query, int64, shape (q,).

    Raises:
        ShapeError: If shapes do not fit, rows are not in the order (distance, id), or padding is wrong.

    Example:
        >>> hits = Hits.padded(np.array([[7, 3]]), np.array([[2, 5]], np.int32), np.array([2]), k=10)
        >>> hits[0]
        (array([7, 3]), array([2, 5], dtype=int32))
    """

    ids: NDArray[np.int64]
    distances: NDArray[Any]
    found: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.ids.shape != self.distances.shape or self.found.shape != self.ids.shape[:1] or self.ids.ndim != 2:
            raise ShapeError(f"hits: {self.ids.shape}, {self.distances.shape} and {self.found.shape} do not fit.")
        real = np.arange(self.ids.shape[1]) < self.found[:, None]  # (q, k)
        if not np.array_equal(self.ids >= 0, real) or (self.distances[~real] != _farthest(self.distances)).any():
            raise ShapeError("hits: found, ids and padding contradict each other.")
        near, far = self.distances[:, :-1], self.distances[:, 1:]
        ordered = (near < far) | ((near == far) & (self.ids[:, :-1] < self.ids[:, 1:]))
        if not ordered[real[:, 1:]].all():
            raise ShapeError("hits: rows are not sorted by distance, then id.")

    @classmethod
    def padded(cls, ids: NDArray[np.int64], distances: NDArray[Any], found: NDArray[np.int64], k: int) -> Hits:
        """Hits of width k from sorted arrays of at most that width, of which only the first ``found`` count."""
        real = np.arange(ids.shape[1]) < found[:, None]
        all_ids = np.full((len(ids), k), -1)
        all_distances = np.full((len(ids), k), _farthest(distances))
        all_ids[:, : ids.shape[1]][real] = ids[real]
        all_distances[:, : ids.shape[1]][real] = distances[real]
        return cls(all_ids, all_distances, found)

    @classmethod
    def of_rows(cls, rows: Sequence[tuple[ArrayLike, ArrayLike]], k: int, spec: IndexSpec) -> Hits:
        """Hits of width k from each query's own ids and distances, sorted and at most k."""
        found = np.array([np.size(ids) for ids, _ in rows], np.int64)
        ids = np.full((len(rows), int(found.max(initial=0))), -1, np.int64)
        distances = np.zeros(ids.shape, np.int32 if spec.kind == "binary" else np.float32)
        for q, (own_ids, own_distances) in enumerate(rows):
            ids[q, : found[q]], distances[q, : found[q]] = own_ids, own_distances
        return cls.padded(ids, distances, found, k)

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, query: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        found = self.found[query]
        return self.ids[query, :found], self.distances[query, :found]


def _farthest(distances: NDArray[Any]) -> Any:
    """The padding distance: no real one is as large."""
    return distances.dtype.type(np.inf if distances.dtype.kind == "f" else np.iinfo(distances.dtype).max)
