"""The durable truth of a file index: one SQLite database.

``entries`` holds every entry. ``changes`` is a log of the latest writes with their vectors, from which every process
keeps its view in memory up to date; it is cut whenever a snapshot has taken the writes over. ``meta`` holds the
specification and names the snapshot that the log continues.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.database import Database
from amodal.errors import DataError, UsageError
from amodal.index.base import Entry
from amodal.index.batch import Batch
from amodal.index.spec import IndexSpec, Scalar, Value
from amodal.index.sql import to_sql
from amodal.index.where import Where

__all__ = ["Catalogue", "Change", "SnapshotRecord"]

_FORMAT = 1
_COLUMN_TYPES = {"str": "TEXT", "int": "INTEGER", "float": "REAL", "bool": "INTEGER", "texts": "TEXT"}
_READ: Mapping[str, Callable[[Any], Value]] = {"bool": bool, "texts": lambda text: tuple(json.loads(text))}
_BLOB_BYTES = 2**24  # a logged write is cut into pieces of this size; SQLite refuses values of 1 GB
_FETCH = 65_536
_THESE = "id IN (SELECT value FROM json_each(?))"  # one bound value, however many ids


@dataclass(frozen=True)
class Change:
    """A logged write: ``vectors`` of the ids written, or None if they were deleted."""

    generation: int
    ids: NDArray[np.int64]
    vectors: NDArray[Any] | None


@dataclass(frozen=True)
class SnapshotRecord:
    """Which snapshot the log continues: its generation, and CRC-32 of its two files. Generation 0 is the empty one."""

    generation: int = 0
    ids_crc: int = 0
    codes_crc: int = 0


class _ConflictError(Exception):
    """Rolls a write back."""


class Catalogue:
    """Entries, log and specification in SQLite, one transaction per batch.

    Args:
        path: The database file, or None for a database in memory.
        create: Specification of a database that does not exist yet; an existing one keeps its own.
        readonly: Refuse to write.

    Attributes:
        spec: The specification.
        transaction: As ``Database.transaction``, for reads that must see one state.

    Raises:
        UsageError: If there is no index and none is to be made.
        DataError: If the file is no catalogue, is damaged, or was written by a newer version.
    """

    def __init__(self, path: Path | None, *, create: IndexSpec | None, readonly: bool) -> None:
        self._db = Database(path, readonly=readonly)
        self.transaction = self._db.transaction
        try:
            with self._db.sentences():
                if not self._db.one("SELECT count(*) FROM sqlite_schema"):
                    self._create(create)
                self.spec = self._read_spec()
        except BaseException:
            self._db.close()
            raise
        self._columns = "".join(f', "{name}"' for name in self.spec.attributes)

    def _create(self, spec: IndexSpec | None) -> None:
        if spec is None:
            raise UsageError(
                f"{self._db.place} holds no index. To make one, open it for writing with create=IndexSpec(...)."
            )
        columns = "".join(f', "{name}" {_COLUMN_TYPES[kind]}' for name, kind in spec.attributes.items())
        with self.transaction(write=True):
            self._db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
            self._db.execute(f"CREATE TABLE entries (id INTEGER PRIMARY KEY, key TEXT{columns}, vector BLOB NOT NULL)")
            self._db.execute(
                "CREATE TABLE changes (generation INTEGER PRIMARY KEY AUTOINCREMENT, ids BLOB NOT NULL, vectors BLOB)"
            )
            for name in spec.lookups:
                self._db.execute(f'CREATE INDEX "entries_{name}" ON entries ("{name}")')
            self._set_meta("spec", spec.to_json())
            self._set_meta("snapshot", json.dumps(asdict(SnapshotRecord())))
            self._db.execute(f"PRAGMA user_version = {_FORMAT}")

    def _read_spec(self) -> IndexSpec:
        version = self._db.one("PRAGMA user_version")
        if version > _FORMAT:
            raise DataError(
                f"{self._db.place} was written by a newer amodal (format {version}); update amodal to read it."
            )
        return IndexSpec.from_json(self._db.one("SELECT value FROM meta WHERE name = 'spec'"))

    def write(self, batch: Batch, *, replace: bool) -> None:
        """Write the batch in one transaction.

        Raises:
            DataError: If an id exists (without ``replace``), or belongs to another key.
        """
        blobs = batch.vectors.view(f"V{self.spec.row_bytes}").ravel().tolist()
        columns = [_stored(self.spec.attributes[name], values) for name, values in batch.columns.items()]
        rows = zip(batch.ids.tolist(), batch.keys or repeat(None), *columns, blobs, strict=False)
        marks = ", ".join("?" * (3 + len(batch.columns)))
        insert = f"INSERT INTO entries (id, key{self._columns}, vector) VALUES ({marks}) "  # noqa: S608
        assign = ", ".join(f'"{name}" = excluded."{name}"' for name in [*batch.columns, "vector"])
        conflict = f"DO UPDATE SET {assign} WHERE key IS excluded.key" if replace else "DO NOTHING"
        try:
            with self.transaction(write=True):
                if self._db.executemany(insert + "ON CONFLICT (id) " + conflict, rows) < len(batch.ids):
                    raise _ConflictError
                step = max(1, _BLOB_BYTES // self.spec.row_bytes)
                for start in range(0, len(batch.ids), step):
                    piece = slice(start, start + step)
                    self._log(batch.ids[piece], batch.vectors[piece].tobytes())
        except _ConflictError:  # what was there before is known again
            known = self._db.execute(f"SELECT id, key FROM entries WHERE {_THESE}", [_json(batch.ids)])  # noqa: S608
            batch.check_against(dict(known), replace=replace)
            raise

    def delete(self, ids: NDArray[np.int64]) -> int:
        """Remove the entries of these ids that exist, in one transaction; return how many."""
        with self.transaction(write=True):
            existing = self._ids(f"WHERE {_THESE}", [_json(ids)])
            if len(existing):
                self._db.execute(f"DELETE FROM entries WHERE {_THESE}", [_json(existing)])  # noqa: S608
                self._log(existing, None)
        return len(existing)

    def version(self) -> int:
        """A number that changes when another connection has written."""
        return int(self._db.one("PRAGMA data_version"))

    def snapshot(self) -> SnapshotRecord:
        """The snapshot that the log continues."""
        return SnapshotRecord(**json.loads(self._db.one("SELECT value FROM meta WHERE name = 'snapshot'")))

    def continue_from(self, snapshot: SnapshotRecord) -> None:
        """Name a snapshot and cut the log: what it has taken over is dropped."""
        with self.transaction(write=True):
            self._set_meta("snapshot", json.dumps(asdict(snapshot)))
            self._db.execute("DELETE FROM changes WHERE generation <= ?", [snapshot.generation])

    def changes(self, after: int) -> list[Change]:
        """The logged writes after a generation, oldest first."""
        rows = self._db.execute("SELECT * FROM changes WHERE generation > ? ORDER BY generation", [after])
        return [
            Change(generation, np.frombuffer(ids, np.int64), None if vectors is None else self._vectors([vectors]))
            for generation, ids, vectors in rows
        ]

    def generation(self) -> int:
        """The generation of the latest write."""
        return int(self._db.one("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'changes'"))

    def vectors(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Ids and vectors of all entries, ascending by id."""
        ids = self._ids("ORDER BY id", [])
        rows = self._db.execute("SELECT vector FROM entries ORDER BY id")
        out = np.empty((len(ids), self.spec.width), self.spec.dtype)
        for start in range(0, len(ids), _FETCH):
            block = self._vectors([vector for (vector,) in rows.fetchmany(_FETCH)])
            out[start : start + len(block)] = block
        return ids, out

    def get(self, ids: NDArray[np.int64]) -> list[Entry]:
        """The entries of those ids that exist."""
        query = f"SELECT id, key, vector{self._columns} FROM entries WHERE {_THESE}"  # noqa: S608
        rows = self._db.execute(query, [_json(ids)]).fetchall()
        names, vectors = list(self.spec.attributes), self._vectors([vector for _, _, vector, *_ in rows])
        entries = [
            Entry(number, key, dict(zip(names, values, strict=True)), row)
            for (number, key, _, *values), row in zip(rows, vectors, strict=True)
        ]
        for name, kind in self.spec.attributes.items():
            if kind in _READ:
                for entry in entries:
                    if (value := entry.attributes[name]) is not None:
                        entry.attributes[name] = _READ[kind](value)
        return entries

    def ids(self, where: Where | None, among: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The ids, ascending, for which ``where`` holds; only among the given ones if there are such."""
        condition, values = to_sql(where)
        if among is None:
            return self._ids(f"WHERE {condition} ORDER BY id", values)
        return self._ids(f"WHERE {_THESE} AND {condition} ORDER BY id", [_json(among), *values])

    def count(self, where: Where | None) -> int:
        """The number of entries for which ``where`` holds."""
        condition, values = to_sql(where)
        return int(self._db.one(f"SELECT count(*) FROM entries WHERE {condition}", values))  # noqa: S608

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _ids(self, condition: str, values: Sequence[Scalar]) -> NDArray[np.int64]:
        rows = self._db.execute(f"SELECT id FROM entries {condition}", values)  # noqa: S608
        return np.fromiter((number for (number,) in rows), np.int64)

    def _vectors(self, blobs: list[bytes]) -> NDArray[Any]:
        return np.frombuffer(b"".join(blobs), self.spec.dtype).reshape(-1, self.spec.width)

    def _set_meta(self, name: str, value: str) -> None:
        self._db.execute("REPLACE INTO meta VALUES (?, ?)", [name, value])

    def _log(self, ids: NDArray[np.int64], vectors: bytes | None) -> None:
        self._db.execute("INSERT INTO changes (ids, vectors) VALUES (?, ?)", [ids.tobytes(), vectors])


def _json(ids: NDArray[np.int64]) -> str:
    return json.dumps(ids.tolist())


def _stored(kind: str, values: list[Value]) -> list[Any]:
    """A column as SQLite takes it: several texts are a JSON array."""
    return values if kind != "texts" else [None if value is None else json.dumps(value) for value in values]
