"""A connection to PostgreSQL that is made when it is needed, made again when it broke, and fails in sentences."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo

from amodal.errors import DataError, IndexUnavailable, UsageError
from amodal.index.spec import IndexSpec

__all__ = ["Address", "Session", "Vector", "unpacked"]

_TIMEOUT = 10  # seconds to connect, unless the address says otherwise
_LOST = ("08", "57P")  # what the server says when it goes away; the client library says nothing of that kind
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?")


@dataclass(frozen=True)
class Address:
    """Where a table is.

    Attributes:
        conninfo: What libpq connects to; may hold a password.
        table: Quoted name of the table.
        place: For messages, without password.
    """

    conninfo: str
    table: str
    place: str

    @classmethod
    def parsed(cls, url: str) -> Self:
        """The address in a URL ``postgresql://user@host:5432/database?table=photos``.

        Raises:
            UsageError: If it names no table, or one whose name needs more than letters, digits and ``_``.
        """
        head, _, query = url.partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        table = options.pop("table", "")
        scheme, _, rest = head.partition("://")
        user, at, host = rest.rpartition("@")
        place = f"{scheme}://{user.partition(':')[0]}{at}{host}?table={table}"
        if not _TABLE.fullmatch(table):
            raise UsageError(
                f"{place}: the address must name a table, for instance {scheme}://{user.partition(':')[0]}{at}{host}"
                "?table=photos; a name has letters, digits and _, and may stand behind a schema and a dot."
            )
        options.setdefault("connect_timeout", str(_TIMEOUT))
        quoted = ".".join(f'"{part}"' for part in table.split("."))
        return cls(f"{head}?{urlencode(options)}", quoted, place)


class Session:
    """As many connections as there are transactions at one time, kept for the next ones.

    Args:
        address: Where to connect.
        readonly: Let the server refuse to write.
    """

    def __init__(self, address: Address, *, readonly: bool) -> None:
        self._address = address
        self._readonly = readonly
        self._mutex = threading.Lock()
        self._idle: list[psycopg.Connection[Any]] = []
        self._spec: IndexSpec | None = None
        self.closed = False

    def learn(self, spec: IndexSpec) -> None:
        """From now on, take ``Vector`` of this specification as a value."""
        self._spec = spec
        with self.transaction() as connection:
            _teach(connection, spec)

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[psycopg.Connection[Any]]:
        """Everything inside sees one state of the database, or is written as a whole or not at all.

        Raises:
            IndexUnavailable: If the server cannot be reached.
            DataError: If the server refuses what is asked.
        """
        with self._sentences():
            connection = self._taken() or self._made()
            try:
                # a write must see what others wrote while it waited for them
                level = psycopg.IsolationLevel.READ_COMMITTED if write else psycopg.IsolationLevel.REPEATABLE_READ
                if connection.isolation_level != level:
                    connection.isolation_level = level
                with connection.transaction():
                    yield connection
            finally:
                self._put_back(connection)

    def close(self) -> None:
        """Close the connections for good; one that is in use when its transaction ends."""
        with self._mutex:
            self.closed = True
            self._forget_idle()

    def _taken(self) -> psycopg.Connection[Any] | None:
        """A connection that nobody uses, or None."""
        with self._mutex:
            while self._idle:
                if not (connection := self._idle.pop()).closed:
                    return connection
        return None

    def _made(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self._address.conninfo, autocommit=True)
        connection.read_only = self._readonly
        if self._spec is not None:
            _teach(connection, self._spec)
        return connection

    def _put_back(self, connection: psycopg.Connection[Any]) -> None:
        """Keep a connection for the next transaction; if it was lost, the idle ones are lost as well."""
        with self._mutex:
            if connection.closed:
                self._forget_idle()
            elif self.closed:
                connection.close()
            else:
                self._idle.append(connection)

    def _forget_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        place = self._address.place
        try:
            yield
        except psycopg.ProgrammingError as error:
            if error.sqlstate is None:  # libpq could not read the address; its message may quote the password
                raise UsageError(
                    f"{place}: this is no address that PostgreSQL's client library can read. Write it like "
                    "postgresql://user@host:5432/database?table=photos, special characters as %XX."
                ) from None
            raise DataError(f"{place}: {_reason(error)}. This call wrote nothing.") from error
        except psycopg.OperationalError as error:
            if error.sqlstate is None or error.sqlstate.startswith(_LOST):
                raise IndexUnavailable(
                    f"{place}: the server cannot be reached, or has gone away: {_reason(error)}. Check that it runs "
                    "and that host, user and password are right. If this call was writing, repeat it as an upsert."
                ) from error
            raise DataError(f"{place}: {_reason(error)}. This call wrote nothing.") from error
        except psycopg.Error as error:
            raise DataError(f"{place}: {_reason(error)}. This call wrote nothing.") from error


@dataclass(frozen=True)
class Vector:
    """A code or embedding in PostgreSQL's binary form."""

    data: bytes

    @classmethod
    def of(cls, spec: IndexSpec, row: NDArray[Any]) -> Self:
        """A row as the index stores it, shape (width,)."""
        if spec.bits is not None:
            return cls(spec.bits.to_bytes(4, "big") + row.tobytes())
        return cls(len(row).to_bytes(2, "big") + b"\0\0" + row.astype(">f4").tobytes())


class _VectorDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Vector) -> bytes:
        return obj.data


def _teach(connection: psycopg.Connection[Any], spec: IndexSpec) -> None:
    """Let a connection send vectors, alone and in lists."""
    info = TypeInfo.fetch(connection, "bit" if spec.kind == "binary" else "vector")
    if info is None:
        raise DataError("the extension pgvector is gone from this database. Run there: CREATE EXTENSION vector")
    info.register(connection)
    connection.adapters.register_dumper(Vector, type("VectorDumper", (_VectorDumper,), {"oid": info.oid}))


def unpacked(spec: IndexSpec, data: bytes) -> NDArray[Any]:
    """The row, shape (width,), that the server sent in its binary form."""
    if spec.kind == "binary":
        return np.frombuffer(data, np.uint8, offset=4).copy()
    return np.frombuffer(data, ">f4", offset=4).astype(np.float32)


def _reason(error: psycopg.Error) -> str:
    """The server's first sentence, without its full stop."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    return " ".join(text.split()).removesuffix(".")
