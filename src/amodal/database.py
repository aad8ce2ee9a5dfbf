"""A SQLite database with which what is acknowledged is durable, and whose failures are sentences."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amodal.errors import DataError

__all__ = ["Database"]


class Database:
    """A connection: write-ahead log, fsync at every commit, no transaction that was not asked for.

    Args:
        path: The file, made if need be; None for a database in memory.
        readonly: Refuse to write.
        place: What messages call it; the path by default.
        advice: How messages end: what is true of the call that failed, or what to do.

    Attributes:
        place: What messages call it.

    Raises:
        DataError: If it cannot be opened, or is no database.

    Example:
        >>> numbers = Database(None)
        >>> with numbers.transaction(write=True):
        ...     _ = numbers.execute("CREATE TABLE numbers (n INTEGER)")
        ...     _ = numbers.execute("INSERT INTO numbers VALUES (?)", [7])
        >>> numbers.one("SELECT n FROM numbers")
        7
    """

    def __init__(
        self,
        path: Path | None,
        *,
        readonly: bool = False,
        place: str | None = None,
        advice: str = "This call wrote nothing.",
    ) -> None:
        self.place, self._advice = place or str(path or "memory:"), advice
        address = f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rwc'}" if path else ":memory:"
        with self.sentences():
            self._db = sqlite3.connect(address, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
            try:
                if not readonly:
                    self._db.execute("PRAGMA journal_mode=WAL")
                    self._db.execute("PRAGMA synchronous=FULL")
            except BaseException:
                self._db.close()
                raise

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[None]:
        """Everything inside sees one state of the database and is written as a whole or not at all.

        Args:
            write: Wait here, and not at the first write, for others to end theirs.

        Raises:
            DataError: If SQLite cannot do what is asked.
        """
        with self.sentences():
            self._db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def sentences(self) -> Iterator[None]:
        """What fails inside, outside a transaction, is told as a ``DataError``.

        Raises:
            DataError: If SQLite cannot do what is asked.
        """
        try:
            yield
        except sqlite3.Error as error:
            raise DataError(f"{self.place}: {error}. {self._advice}") from error

    def execute(self, query: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a statement; inside ``transaction`` or ``sentences``."""
        return self._db.execute(query, values)

    def executemany(self, query: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run a statement for each row; inside ``transaction`` or ``sentences``. Returns how many rows it changed."""
        return self._db.executemany(query, rows).rowcount

    def one(self, query: str, values: Sequence[Any] = ()) -> Any:
        """The first value of the first row; inside ``transaction`` or ``sentences``."""
        return self._db.execute(query, values).fetchone()[0]

    def copy_to(self, path: Path) -> None:
        """Write everything to another file.

        Raises:
            DataError: If it cannot be written.
        """
        with self.sentences():
            target = sqlite3.connect(path)
            try:
                self._db.backup(target)
            finally:
                target.close()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()
