"""The index in a folder, or in memory: SQLite is the truth, and searches scan packed arrays derived from it."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.errors import DataError, UsageError
from amodal.index.base import Entry, Index
from amodal.index.batch import Batch
from amodal.index.hits import Hits
from amodal.index.lock import WriterLock
from amodal.index.snapshot import Snapshot, load, remove_others, save
from amodal.index.spec import IndexSpec
from amodal.index.store import Catalogue, SnapshotRecord
from amodal.index.view import View, positions
from amodal.index.where import Where

__all__ = ["FlatIndex"]

_FEW_WRITES = 16_384  # fewer are never folded into a snapshot by themselves
_FOLD_SHARE = 16  # writes are folded once they are this part of the snapshot
_FILTERS = 8  # filters whose rows are remembered


class FlatIndex(Index):
    """Exact search over codes or embeddings kept in one folder; one writer and any number of readers.

    The folder holds ``catalogue.sqlite``, which is everything that matters; ``ids-*.npy`` and ``codes-*.npy``, which
    are derived from it and may be deleted at any time; and ``writer.lock``. Once a write returns it survives a killed
    process. A reader sees each write as a whole, from the first search after it.

    Searches read the derived arrays and, beside them, the writes since they were made. A filter is answered by SQL
    once, then remembered as a row mask until the arrays are made anew.

    Args:
        folder: The folder, or None to keep everything in memory.
        create: Specification of an index that does not exist yet.
        readonly: Refuse to write; needs no writer lock.

    Raises:
        UsageError: If there is no index and none is to be created, or another writer has it open.
        DataError: If the folder holds other things, or the catalogue is damaged.
    """

    def __init__(self, folder: Path | None, *, create: IndexSpec | None = None, readonly: bool = False) -> None:
        self._folder = folder
        self.readonly = readonly
        self._closed = False
        self._mutex = threading.RLock()
        if folder is not None:
            _prepare(folder, create=create is not None and not readonly)
        elif create is None or readonly:
            raise UsageError("an index in memory begins empty: open it with create=IndexSpec(...) and not readonly.")
        self._resources = ExitStack()
        try:
            if folder is not None and not readonly:
                self._resources.callback(WriterLock(folder).release)
            path = folder / "catalogue.sqlite" if folder is not None else None
            self._catalogue = Catalogue(path, create=create, readonly=readonly)
            self._resources.callback(self._catalogue.close)
            self.spec = self._catalogue.spec
            self._seen = -1  # version of the catalogue at the last refresh; -1 when it must be read again
            self._record = SnapshotRecord()
            self._view = View.of(Snapshot.empty(self.spec))
            self._masks: dict[Where, NDArray[np.bool_]] = {}
            self._recent_masks: dict[Where, NDArray[np.bool_]] = {}
            self._begin()
        except BaseException:
            self._resources.close()
            raise

    @property
    def exact(self) -> bool:
        """Always True."""
        return True

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def flush(self) -> None:
        """Fold recent writes into a new snapshot. They are durable already; this makes the next opening fast."""
        self._check_writable()
        with self._mutex:
            with self._catalogue.transaction():
                view = self._refreshed()
            if len(view.ids):
                self._adopt(view.folded())

    def close(self) -> None:
        """Close the catalogue and let others write."""
        with self._mutex:
            if not self._closed:
                self._closed = True
                self._resources.close()

    def _write(self, batch: Batch, *, replace: bool) -> None:
        if len(batch.ids):
            with self._mutex:
                self._catalogue.write(batch, replace=replace)
                self._wrote(len(batch.ids))

    def _delete(self, ids: NDArray[np.int64]) -> int:
        with self._mutex:
            removed = self._catalogue.delete(ids)
            self._wrote(removed)
        return removed

    def _search(self, queries: NDArray[Any], k: int, where: Where | None, radius: float) -> Hits:
        with self._mutex, self._catalogue.transaction():
            view = self._refreshed()
            kept, live = view.kept, view.live
            if where is not None:
                old = self._mask(self._masks, view.snapshot.ids, where)
                kept = old if kept is None else old & kept
                live = live & self._mask(self._recent_masks, view.ids, where, view.ids)
        found = [(view.snapshot.ids, *self._scanned(view.snapshot, queries, k, radius, kept))]
        if len(view.ids):
            from amodal.index.scan import nearest

            found.append((view.ids, *nearest(view.vectors, queries, k, radius, live)))
        return _merged(found, k)

    def _scanned(
        self, snapshot: Snapshot, queries: NDArray[Any], k: int, radius: float, keep: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """The rows of the snapshot that ``amodal.index.scan.nearest`` names."""
        from amodal.index.scan import nearest

        return nearest(snapshot.vectors, queries, k, radius, keep)

    def _get(self, ids: NDArray[np.int64]) -> list[Entry]:
        with self._mutex, self._catalogue.transaction():
            return self._catalogue.get(ids)

    def _ids(self, where: Where | None) -> NDArray[np.int64]:
        with self._mutex, self._catalogue.transaction():
            return self._catalogue.ids(where)

    def _count(self, where: Where | None) -> int:
        with self._mutex, self._catalogue.transaction():
            return self._catalogue.count(where)

    def _begin(self) -> None:
        """The first view; a writer replaces a snapshot that is missing or damaged."""
        self._rebuilt = False
        with self._catalogue.transaction():
            view = self._refreshed()
        self._unfolded = len(view.ids)
        if self._rebuilt and not self.readonly:
            self._adopt(view.snapshot)

    def _refreshed(self) -> View:
        """The latest view. Called inside a transaction, whose state it is then true to."""
        version = self._catalogue.version()
        if version != self._seen:
            record = self._catalogue.snapshot()
            if record != self._record:
                self._view, self._record = View.of(self._restored(record)), record
                self._masks.clear()
            self._view = self._view.after(self._catalogue.changes(self._view.generation))
            self._recent_masks.clear()
            self._seen = version
        return self._view

    def _restored(self, record: SnapshotRecord) -> Snapshot:
        """The snapshot that the catalogue names, or one made from all its rows."""
        loaded = load(self._folder, record) if self._folder else None
        self._rebuilt = loaded is None
        return loaded or Snapshot(self._catalogue.generation(), *self._catalogue.vectors())

    def _adopt(self, snapshot: Snapshot) -> None:
        """Make a snapshot the one that the log continues."""
        record = SnapshotRecord(snapshot.generation)
        if self._folder:
            try:
                record = save(self._folder, snapshot)
            except OSError as error:
                raise DataError(
                    f"{self._folder}: {error}. Every acknowledged write is safe in the catalogue."
                ) from error
            snapshot = load(self._folder, record) or snapshot
        self._catalogue.continue_from(record)
        if self._folder:
            remove_others(self._folder, snapshot.generation)
        self._view, self._record, self._unfolded = View.of(snapshot), record, 0
        self._masks.clear()
        self._recent_masks.clear()

    def _wrote(self, count: int) -> None:
        """After a write: the view is old, and if much was written since the snapshot, so is that."""
        self._seen = -1
        self._unfolded += count
        if self._unfolded > max(_FEW_WRITES, len(self._view.snapshot.ids) // _FOLD_SHARE):
            with suppress(DataError):  # the write itself is safe; a snapshot only saves time
                self.flush()

    def _mask(
        self,
        masks: dict[Where, NDArray[np.bool_]],
        ids: NDArray[np.int64],
        where: Where,
        among: NDArray[np.int64] | None = None,
    ) -> NDArray[np.bool_]:
        """Which of the ids a filter holds for; remembered in ``masks``."""
        if where not in masks:
            if len(masks) >= _FILTERS:
                masks.pop(next(iter(masks)))
            masks[where] = np.zeros(len(ids), np.bool_)
            masks[where][positions(ids, self._catalogue.ids(where, among))] = True
        return masks[where]


def _merged(found: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], k: int) -> Hits:
    """One answer from scans, each given as the ids of its rows, ascending, and what ``nearest`` returned."""
    if len(found) == 1:  # is in order already
        ((of_row, rows, distances),) = found
        return Hits.padded(of_row.take(rows, mode="clip"), distances, (rows >= 0).sum(axis=1), k)
    ids = np.concatenate([of_row.take(rows, mode="clip") for of_row, rows, _ in found], axis=1)
    distances = np.concatenate([away for _, _, away in found], axis=1)
    real = np.concatenate([rows >= 0 for _, rows, _ in found], axis=1)
    order = np.lexsort((ids, distances, ~real), axis=-1)[:, :k]
    query = np.arange(len(ids))[:, None]
    return Hits.padded(ids[query, order], distances[query, order], np.minimum(real.sum(axis=1), k), k)


def _prepare(folder: Path, *, create: bool) -> None:
    """Make the folder if it is to be made; refuse one that is no index."""
    if (folder / "catalogue.sqlite").exists():
        return
    if not create:
        raise UsageError(f"{folder} holds no index. To make one, open it for writing with create=IndexSpec(...).")
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - {"writer.lock"}):
        raise UsageError(f"{folder} exists and is no index; an index needs a new or empty folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {folder}: {error}.") from error
