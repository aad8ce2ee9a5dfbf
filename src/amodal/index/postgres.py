"""The index in a table of PostgreSQL, with the extension pgvector.

The table is the whole index: a row per entry, and the specification as its comment, so that dropping the table or
restoring it from a backup leaves nothing behind and nothing out. A search reads every row that the filter leaves, which
the server may share among its workers; so it is exact, and in the order (distance, id) by itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.json import Jsonb

from amodal.errors import DataError, UsageError
from amodal.index.base import Entry, Index
from amodal.index.batch import Batch
from amodal.index.hits import Hits
from amodal.index.postgres_session import Address, Session, Vector, unpacked
from amodal.index.postgres_sql import COLUMN_TYPES, to_postgres
from amodal.index.spec import IndexSpec, Value
from amodal.index.where import Where

__all__ = ["PostgresIndex"]

_FORMAT = 1
_ROWS = 10_000  # per statement; the server takes no message beyond 1 GB
_OURS = 0x616D6F64  # "amod": the first half of the names of our advisory locks


class PostgresIndex(Index):
    """Exact search over codes (``bit(n)``) or embeddings (``vector(n)``) in one table.

    Any number of processes may write: each write is one transaction, and writes to one table wait for each other. Once
    a write returns it survives a killed process, and a killed server as far as the server's settings promise. All
    queries of one search see the same state. After the server was away, the next call connects again.

    Args:
        url: ``postgresql://user@host:5432/database?table=photos``. The table may be ``schema.table``; further
            parameters of PostgreSQL's client library may follow, for instance ``&sslmode=require``.
        create: Specification of an index that does not exist yet.
        readonly: Refuse to write.

    Raises:
        UsageError: If the address is incomplete, there is no index and none is to be created, or the table is another.
        IndexUnavailable: If the server cannot be reached, or refuses user or password.
        DataError: If the table cannot be made, for instance because pgvector is not installed.
    """

    def __init__(self, url: str, *, create: IndexSpec | None = None, readonly: bool = False) -> None:
        address = Address.parsed(url)
        self.readonly = readonly
        self._place, self._table = address.place, address.table
        self._session = Session(address, readonly=readonly)
        try:
            self.spec = self._described() or self._created(None if readonly else create)
        except BaseException:
            self.close()
            raise
        binary = self.spec.kind == "binary"
        self._type = f"bit({self.spec.bits})" if binary else f"vector({self.spec.dim})"
        # In this form no approximate index that somebody may have made on the column can answer it.
        self._distance = f"(vector {'<~>' if binary else '<=>'} %b::{self._type})::{'int' if binary else 'real'}"
        self._columns = "".join(f', "{name}"' for name in self.spec.attributes)
        self._session.learn(self.spec)

    @property
    def exact(self) -> bool:
        """Always True."""
        return True

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._session.closed

    def flush(self) -> None:
        """Nothing is left to do: what was written is durable."""
        self._check_writable()

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _described(self) -> IndexSpec | None:
        """The specification in the comment of the table; None if there is no table."""
        query = "SELECT oid, obj_description(oid, 'pg_class') FROM (SELECT to_regclass(%s)::oid AS oid) AS found"
        with self._session.transaction() as connection:
            oid, comment = self._one(connection, query, [self._table])
        if oid is None:
            return None
        try:
            found = json.loads(comment)["amodal"]
            version, text = found["format"], found["spec"]
        except (TypeError, ValueError, KeyError):
            raise UsageError(f"{self._place}: the table exists and is no index; choose another name.") from None
        if version > _FORMAT:
            raise DataError(
                f"{self._place} was written by a newer amodal (format {version}); update amodal to read it."
            )
        return IndexSpec.from_json(text)

    def _created(self, spec: IndexSpec | None) -> IndexSpec:
        """Make the table, unless another process was first."""
        if spec is None:
            raise UsageError(
                f"{self._place} holds no index. To make one, open it for writing with create=IndexSpec(...)."
            )
        size = f"bit({spec.bits})" if spec.kind == "binary" else f"vector({spec.dim})"
        columns = "".join(f', "{name}" {COLUMN_TYPES[kind]}' for name, kind in spec.attributes.items())
        comment = sql.Literal(json.dumps({"amodal": {"format": _FORMAT, "spec": spec.to_json()}}))
        with self._session.transaction(write=True) as connection:
            # one after the other: the extension is everybody's
            connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", [_OURS])
            if not self._one(connection, "SELECT to_regclass(%s) IS NOT NULL", [self._table])[0]:
                self._require_pgvector(connection)
                run = connection.execute
                run(f"CREATE TABLE {self._table} (id bigint PRIMARY KEY, key text{columns}, vector {size} NOT NULL)")
                for name in spec.lookups:
                    run(f'CREATE INDEX ON {self._table} ("{name}")')
                run(sql.SQL("COMMENT ON TABLE " + self._table + " IS {}").format(comment))
        return self._described() or spec

    def _require_pgvector(self, connection: psycopg.Connection[Any]) -> None:
        if self._one(connection, "SELECT count(*) FROM pg_extension WHERE extname = 'vector'")[0]:
            return
        try:
            connection.execute("CREATE EXTENSION vector")
        except psycopg.Error as error:
            reason = error.diag.message_primary
            raise DataError(
                f"{self._place}: the database needs the extension pgvector, and it cannot be added: {reason}. Let an "
                "administrator install the package pgvector on the server and run there: CREATE EXTENSION vector"
            ) from error

    def _write(self, batch: Batch, *, replace: bool) -> None:
        kinds = [COLUMN_TYPES[kind].split(" COLLATE")[0] for kind in self.spec.attributes.values()]
        arrays = ", ".join(f"%s::{kind}[]" for kind in ["bigint", "text", *kinds]) + f", %b::{self._type}[]"
        assign = ", ".join(f'"{name}" = excluded."{name}"' for name in [*self.spec.attributes, "vector"])
        insert = (
            f"INSERT INTO {self._table} (id, key{self._columns}, vector) SELECT * FROM unnest({arrays}) "  # noqa: S608
            f"ON CONFLICT (id) DO UPDATE SET {assign}"
        )
        with self._session.transaction(write=True) as connection:
            self._queue(connection)
            for start in range(0, len(batch.ids), _ROWS):
                piece = batch.piece(start, start + _ROWS)
                piece.check_against(self._known(connection, piece.ids), replace=replace)
                vectors = [Vector.of(self.spec, row) for row in piece.vectors]
                keys: list[str | None] = [*piece.keys] if piece.keys else [None] * len(piece.ids)
                columns = [_stored(self.spec.attributes[name], values) for name, values in piece.columns.items()]
                connection.execute(insert, [piece.ids.tolist(), keys, *columns, vectors])

    def _known(self, connection: psycopg.Connection[Any], ids: NDArray[np.int64]) -> dict[int, str | None]:
        """The keys of those ids that exist."""
        query = f"SELECT id, key FROM {self._table} WHERE id = ANY(%s::bigint[])"  # noqa: S608
        return dict(connection.execute(query, [ids.tolist()]))

    def _delete(self, ids: NDArray[np.int64]) -> int:
        query = f"DELETE FROM {self._table} WHERE id = ANY(%s::bigint[])"  # noqa: S608
        with self._session.transaction(write=True) as connection:
            self._queue(connection)
            return connection.execute(query, [ids.tolist()]).rowcount

    def _search(self, queries: NDArray[Any], k: int, where: Where | None, radius: float) -> Hits:
        condition, values = to_postgres(where, self.spec.attributes)
        near = f"SELECT id, {self._distance} AS distance FROM {self._table} WHERE {condition}"  # noqa: S608
        query = f"SELECT id, distance FROM ({near}) AS near WHERE distance <= %s ORDER BY distance, id LIMIT %s"  # noqa: S608
        reach = min(radius, 32_768)  # beyond every distance, and an integer of the server
        reach = math.floor(reach) if self.spec.kind == "binary" else float(np.float32(reach))
        rows = []
        with self._session.transaction() as connection:
            for vector in queries:
                bound = [Vector.of(self.spec, vector), *values, reach, k]
                found = connection.execute(query, bound, binary=True).fetchall()
                rows.append(([number for number, _ in found], [away for _, away in found]))
        return Hits.of_rows(rows, k, self.spec)

    def _get(self, ids: NDArray[np.int64]) -> list[Entry]:
        query = f"SELECT id, key, vector{self._columns} FROM {self._table} WHERE id = ANY(%s::bigint[])"  # noqa: S608
        with self._session.transaction() as connection:
            rows = connection.execute(query, [ids.tolist()], binary=True).fetchall()
        names = list(self.spec.attributes)
        return [
            Entry(
                number,
                key,
                {name: tuple(one) if isinstance(one, list) else one for name, one in zip(names, values, strict=True)},
                unpacked(self.spec, vector),
            )
            for number, key, vector, *values in rows
        ]

    def _ids(self, where: Where | None) -> NDArray[np.int64]:
        condition, values = to_postgres(where, self.spec.attributes)
        query = f"SELECT id FROM {self._table} WHERE {condition} ORDER BY id"  # noqa: S608
        with self._session.transaction() as connection, connection.cursor("ids", binary=True) as cursor:
            cursor.itersize = _ROWS  # as many at a time are in memory as Python objects
            cursor.execute(query, values)
            return np.fromiter((number for (number,) in cursor), np.int64)

    def _count(self, where: Where | None) -> int:
        condition, values = to_postgres(where, self.spec.attributes)
        with self._session.transaction() as connection:
            return int(self._one(connection, f"SELECT count(*) FROM {self._table} WHERE {condition}", values)[0])  # noqa: S608

    def _queue(self, connection: psycopg.Connection[Any]) -> None:
        """Wait until nobody else writes to the table, and let others wait until this transaction ends."""
        connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_OURS, self._table])

    @staticmethod
    def _one(connection: psycopg.Connection[Any], query: str, values: Sequence[Any] = ()) -> Any:
        return connection.execute(query, values).fetchone()


def _stored(kind: str, values: list[Value]) -> list[Any]:
    """A column as the client takes it."""
    return values if kind != "texts" else [None if value is None else Jsonb(value) for value in values]
