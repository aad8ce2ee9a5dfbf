"""Where the fragments of indexed items live: one SQLite database beside the index."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amodal.errors import DataError

__all__ = ["FragmentStore"]

STORED = np.dtype("<f2")  #: 25 regions of width 256 take 12.8 KB
TABLE = (
    "CREATE TABLE IF NOT EXISTS fragments "
    "(item TEXT, modality TEXT, number INTEGER, length INTEGER, data BLOB, PRIMARY KEY (item, modality, number))"
)


class FragmentStore:
    """Fragments by item, modality and number of the observation, as float16; a write is there as a whole or not at all.

    Args:
        path: The database, made if need be; None for one in memory.
        readonly: Refuse to write.

    Raises:
        DataError: If it cannot be opened, or is damaged.
    """

    def __init__(self, path: Path | None, *, readonly: bool = False) -> None:
        self._where, self._lock = str(path or "fragments in memory"), threading.Lock()
        address = f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rwc'}" if path else ":memory:"
        with self._sentences():
            self._db = sqlite3.connect(address, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
            if not readonly:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute(TABLE)
            self._db.execute("SELECT count(*) FROM fragments")

    def put(self, items: Sequence[str], modality: str, numbers: Sequence[int], fragments: NDArray[np.floating]) -> None:
        """Keep fragments, in the place of those of the same observations.

        Args:
            items: The item of each row.
            modality: Of all of them.
            numbers: Which of the item's observations each row is.
            fragments: Shape (m, length, width); zeros at the end of a row are padding and take no room.
        """
        lengths = (fragments != 0).any(axis=-1).sum(axis=1).tolist()
        rows = [
            (item, modality, number, length, np.ascontiguousarray(one[:length], STORED).tobytes())
            for item, number, length, one in zip(items, numbers, lengths, fragments, strict=True)
        ]
        with self._lock, self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO fragments VALUES (?, ?, ?, ?, ?)", rows)

    def get(self, items: Sequence[str], modality: str, width: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The fragments of some items in one modality.

        Args:
            items: Distinct ids; those that have none are passed over.
            modality: Whose.
            width: Of a fragment.

        Returns:
            Position in ``items`` of each observation, ascending, shape (m,); its fragments, shape (m, length, width).
        """
        marks = ", ".join("?" * len(items))
        query = (
            f"SELECT item, length, data FROM fragments WHERE modality = ? AND item IN ({marks}) ORDER BY item, number"  # noqa: S608 - marks only
        )
        with self._lock, self._sentences():
            rows = self._db.execute(query, (modality, *items)).fetchall()
        place = {item: k for k, item in enumerate(items)}
        rows.sort(key=lambda row: place[row[0]])
        fragments = np.zeros((len(rows), max((row[1] for row in rows), default=0), width), np.float32)
        for k, (_, length, data) in enumerate(rows):
            fragments[k, :length] = np.frombuffer(data, STORED).reshape(length, width)
        return np.array([place[row[0]] for row in rows], dtype=np.int64), fragments

    def delete(self, items: Sequence[str]) -> None:
        """Forget all fragments of some items; those that have none are passed over."""
        with self._lock, self._transaction():
            self._db.executemany("DELETE FROM fragments WHERE item = ?", [(item,) for item in items])

    def __len__(self) -> int:
        with self._lock, self._sentences():
            return int(self._db.execute("SELECT count(*) FROM fragments").fetchone()[0])

    def copy_to(self, path: Path) -> None:
        """Write everything to a new database."""
        with self._lock, self._sentences():
            target = sqlite3.connect(path)
            try:
                self._db.backup(target)
            finally:
                target.close()

    def close(self) -> None:
        """Release the database."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._sentences():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise DataError(f"{self._where}: {error}. Restore it, or fit again with rerank.") from error
