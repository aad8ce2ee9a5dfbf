"""An inverted file over packed codes: a search looks only into the cells whose centres are nearest to the query.

Cells are found by k-means with majorities: a code belongs to the nearest centre, a centre is the majority of its codes,
bit by bit. What is in the chosen cells is scanned by the exact scan, so order, filters and radius mean the same; what
lies in other cells is missed. It pays from some ten million codes on that have clusters, as learned codes do.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from amodal.index.scan import nearest, nearest_in_parts

__all__ = ["Cells"]

_PER_CELL = 64  # codes that the centres are learned from, for each
_ROUNDS = 10
_BLOCK = 65_536


@dataclass(frozen=True)
class Cells:
    """Codes, each beside those with the same nearest centre.

    Attributes:
        centres: Packed codes, uint8, shape (c, bytes).
        cell: Cell of each row, uint32, shape (n,).
        rows: Rows by cell, ascending within each, int64, shape (n,).
        starts: Where in ``rows`` each cell begins, and where the last ends, int64, shape (c + 1,).
        vectors: The codes in the order of ``rows``, uint8, shape (n, bytes).
    """

    centres: NDArray[np.uint8]
    cell: NDArray[np.uint32]
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    vectors: NDArray[np.uint8]

    @classmethod
    def of(cls, vectors: NDArray[Any], centres: int | NDArray[np.uint8]) -> Self:
        """Codes, uint8, shape (n, bytes), in as many cells, whose centres are learned, or in those of given centres."""
        known = _learned(vectors, centres) if isinstance(centres, int) else centres
        return cls.assigned(vectors, known, _assigned(vectors, known))

    @classmethod
    def assigned(cls, vectors: NDArray[Any], centres: NDArray[np.uint8], cell: NDArray[np.uint32]) -> Self:
        """Cells of codes of which it is known where each belongs."""
        starts = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=len(centres)))])
        rows = np.argsort(cell, kind="stable")
        return cls(centres, cell, rows, starts, vectors[rows])

    def nearest(
        self, queries: NDArray[Any], k: int, radius: float, keep: NDArray[np.bool_] | None, probes: int
    ) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """As ``amodal.index.scan.nearest``, among the rows of the ``probes`` cells nearest to each query.

        Where fewer than k are found there, all rows are scanned: nothing that a filter or a radius asks for is lost.
        """
        chosen, _ = nearest(self.centres, queries, probes)
        rows, distances = nearest_in_parts(
            self.vectors, self.rows, [(self.starts[c], self.starts[c + 1]) for c in chosen], queries, k, radius, keep
        )
        short = np.flatnonzero((rows < 0).any(axis=1))
        if len(short):
            whole = (np.array([0]), np.array([len(self.rows)]))
            rows[short], distances[short] = nearest_in_parts(
                self.vectors, self.rows, [whole] * len(short), queries[short], k, radius, keep
            )
        return rows, distances

    def save(self, path: Path) -> None:
        """Write them, under another name first; the file carries checksums of its own."""
        temporary = path.with_name(path.name + ".tmp")
        with temporary.open("wb") as file:
            np.savez(file, centres=self.centres, cell=self.cell)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path, vectors: NDArray[Any]) -> Self | None:
        """Those of a file, or None if it is missing or damaged."""
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                centres, cell = arrays["centres"], arrays["cell"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return cls.assigned(vectors, centres, cell) if len(cell) == len(vectors) else None


def _learned(vectors: NDArray[Any], count: int) -> NDArray[np.uint8]:
    """Centres of a sample, by k-means with majorities."""
    random = np.random.default_rng(0)
    size = min(len(vectors), count * _PER_CELL)
    sample = vectors[np.sort(random.choice(len(vectors), size, replace=False))]
    centres = sample[random.choice(size, count, replace=False)]
    for _ in range(_ROUNDS):
        cell = _assigned(sample, centres)
        order = np.argsort(cell, kind="stable")
        starts = np.searchsorted(cell[order], np.arange(count + 1))
        for c in np.flatnonzero(np.diff(starts)):
            bits = np.unpackbits(sample[order[starts[c] : starts[c + 1]]], axis=1)
            centres[c] = np.packbits(bits.mean(axis=0) > 0.5)
    return centres


def _assigned(vectors: NDArray[Any], centres: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The nearest centre of each row."""
    cell = np.empty(len(vectors), np.uint32)
    for start in range(0, len(vectors), _BLOCK):
        block = np.ascontiguousarray(vectors[start : start + _BLOCK])
        cell[start : start + _BLOCK] = nearest(centres, block, 1)[0][:, 0]
    return cell
