"""Where the fragments of indexed items live: one SQLite database beside the index."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from amodal.database import Database

__all__ = ["FragmentStore", "Kept"]

STORED = np.dtype("<f2")  #: 25 regions of width 256 take 12.8 KB
THESE = "item IN (SELECT value FROM json_each(?))"  # one bound value, however many items
ADVICE = "Restore it, or fit again with rerank."
TABLE = (
    "CREATE TABLE IF NOT EXISTS fragments "
    "(item TEXT, modality TEXT, number INTEGER, length INTEGER, data BLOB, PRIMARY KEY (item, modality, number))"
)


class Kept(NamedTuple):
    """Fragments of some observations, as they are stored.

    Attributes:
        items: The item of each row.
        modality: Of all of them.
        numbers: Which of the item's observations each row is.
        fragments: Shape (m, length, width); zeros at the end of a row are padding and take no room.
    """

    items: Sequence[str]
    modality: str
    numbers: Sequence[int]
    fragments: NDArray[np.floating]


class FragmentStore:
    """Fragments by item, modality and number of the observation, as float16; a write is there as a whole or not at all.

    Args:
        path: The database, made if need be; None for one in memory.
        readonly: Refuse to write.

    Attributes:
        path: The database; None for one in memory.

    Raises:
        DataError: If it cannot be opened, or is damaged.
    """

    def __init__(self, path: Path | None, *, readonly: bool = False) -> None:
        self.path, self._lock = path, threading.Lock()
        self._db = Database(path, readonly=readonly, place=None if path else "fragments in memory", advice=ADVICE)
        with self._db.sentences():
            if not readonly:
                self._db.execute(TABLE)
            self._db.execute("SELECT count(*) FROM fragments")

    def put(self, kept: Kept) -> None:
        """Keep fragments, in the place of those of the same observations."""
        items, modality, numbers, fragments = kept
        lengths = (fragments != 0).any(axis=-1).sum(axis=1).tolist()
        rows = [
            (item, modality, number, length, np.ascontiguousarray(one[:length], STORED).tobytes())
            for item, number, length, one in zip(items, numbers, lengths, fragments, strict=True)
        ]
        with self._lock, self._db.transaction(write=True):
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
        query = f"SELECT item, length, data FROM fragments WHERE {THESE} AND modality = ? ORDER BY item, number"  # noqa: S608
        with self._lock, self._db.sentences():
            rows = self._db.execute(query, [json.dumps(items), modality]).fetchall()
        place = {item: k for k, item in enumerate(items)}
        rows.sort(key=lambda row: place[row[0]])
        fragments = np.zeros((len(rows), max((row[1] for row in rows), default=0), width), np.float32)
        for k, (_, length, data) in enumerate(rows):
            fragments[k, :length] = np.frombuffer(data, STORED).reshape(length, width)
        return np.array([place[row[0]] for row in rows], dtype=np.int64), fragments

    def delete(self, items: Sequence[str]) -> None:
        """Forget all fragments of some items; those that have none are passed over."""
        with self._lock, self._db.transaction(write=True):
            self._db.execute(f"DELETE FROM fragments WHERE {THESE}", [json.dumps(items)])  # noqa: S608

    def count(self, items: Sequence[str]) -> int:
        """The number of observations of some items that there are fragments of."""
        with self._lock, self._db.sentences():
            return int(self._db.one(f"SELECT count(*) FROM fragments WHERE {THESE}", [json.dumps(items)]))  # noqa: S608

    def __len__(self) -> int:
        with self._lock, self._db.sentences():
            return int(self._db.one("SELECT count(*) FROM fragments"))

    def copy_to(self, path: Path) -> None:
        """Write everything to a new database."""
        with self._lock:
            self._db.copy_to(path)

    def close(self) -> None:
        """Release the database."""
        self._db.close()
