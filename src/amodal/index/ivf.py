"""The index in a folder with an inverted file over it: faster than the exact scan for ten million codes or more."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from amodal.errors import UsageError
from amodal.index.flat import FlatIndex
from amodal.index.snapshot import Snapshot
from amodal.index.spec import IndexSpec

if TYPE_CHECKING:
    from amodal.index.cells import Cells

__all__ = ["IvfIndex"]

_LEAST = 4  # codes per cell below which all are scanned


class IvfIndex(FlatIndex):
    """A ``FlatIndex`` of codes whose searches look into some cells only; see ``amodal.index.cells``.

    It is the same folder, and may be opened either way. The cells are learned at the first search and kept in a file
    beside the snapshot, from which they are derived as it is from the catalogue; recent writes are scanned exactly. As
    many entries are found as by an exact search, but not always the nearest: ``amodal index recall`` measures that.

    Args:
        folder: As for ``FlatIndex``.
        cells: How many; a search reads about ``probes / cells`` of the codes.
        probes: How many cells a search looks into.
        create: As for ``FlatIndex``.
        readonly: As for ``FlatIndex``.

    Raises:
        UsageError: As for ``FlatIndex``; if the numbers are not possible, or the index holds embeddings.
    """

    def __init__(
        self, folder: Path, *, cells: int, probes: int, create: IndexSpec | None = None, readonly: bool = False
    ) -> None:
        if not 1 <= probes <= cells:
            raise UsageError(f"ivf={cells} and probes={probes}: probes must be from 1 to the number of cells.")
        super().__init__(folder, create=create, readonly=readonly)
        if self.spec.kind != "binary":
            self.close()
            raise UsageError(f"{folder} holds embeddings; an inverted file (?ivf=) is for codes.")
        self._number, self._probes, self._home = cells, probes, folder
        self._cells: Cells | None = None
        self._generation = -1  # of the snapshot that the cells are of

    @property
    def exact(self) -> bool:
        """Always False."""
        return False

    def _scanned(
        self, snapshot: Snapshot, queries: NDArray[Any], k: int, radius: float, keep: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[Any]]:
        if len(snapshot.ids) < _LEAST * self._number:
            return super()._scanned(snapshot, queries, k, radius, keep)
        return self._cells_of(snapshot).nearest(queries, k, radius, keep, self._probes)

    def _cells_of(self, snapshot: Snapshot) -> Cells:
        """The cells of a snapshot: those in memory, or of the file, or made anew with the centres of the last ones."""
        from amodal.index.cells import Cells

        with self._mutex:
            if self._cells is None or self._generation != snapshot.generation:
                path = self._home / f"cells-{self._number}-{snapshot.generation}.npz"
                loaded = Cells.load(path, snapshot.vectors)
                known = self._number if self._cells is None else self._cells.centres
                self._cells = loaded or Cells.of(snapshot.vectors, known)
                self._generation = snapshot.generation
                if loaded is None and not self.readonly:
                    with suppress(OSError):  # it only saves time
                        self._cells.save(path)
                        for old in self._home.glob(f"cells-{self._number}-*.npz"):
                            if old != path:
                                old.unlink(missing_ok=True)
            return self._cells
