"""What must survive a killed process besides the index: imports, and answers to writes that may be repeated."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal.errors import DataError, UsageError
from amodal.index.lock import WriterLock
from amodal.service.keys import now
from amodal.service.messages import Job

__all__ = ["Ledger", "Progress", "Repeat"]

REMEMBERED = 24 * 3600.0  #: seconds that an answer is kept for a repeated request
LISTED = 100
_SCHEMA = """
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
  caller TEXT, key TEXT, digest BLOB NOT NULL, begun REAL NOT NULL, answer TEXT, PRIMARY KEY (caller, key));
CREATE TABLE IF NOT EXISTS jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT UNIQUE NOT NULL, state TEXT NOT NULL, lines INTEGER NOT NULL,
  done INTEGER NOT NULL DEFAULT 0, written INTEGER NOT NULL DEFAULT 0, deleted INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0, errors TEXT NOT NULL DEFAULT '[]', created TEXT NOT NULL, finished TEXT,
  offset INTEGER NOT NULL DEFAULT 0);
"""
_JOB = "job, state, lines, done, written, deleted, failed, errors, created, finished"


@dataclass(frozen=True)
class Progress:
    """How far an import is: bytes and lines that are dealt with, and what became of them."""

    offset: int = 0
    done: int = 0
    written: int = 0
    deleted: int = 0
    failed: int = 0
    errors: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Repeat:
    """An earlier request with the same idempotency key: another body, an answer, or (None) it was cut off."""

    same: bool
    answer: str | None


class Ledger:
    """The service's own SQLite file; one process has it, and any thread may ask.

    Args:
        folder: The service's folder; made if need be.

    Raises:
        UsageError: If another service uses the folder.
        DataError: If it cannot be written, or the file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._mutex = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._lock = WriterLock(folder)
        except UsageError:
            raise UsageError(f"another service uses {folder}. Give this one a folder of its own: --state.") from None
        except OSError as error:
            raise DataError(f"{folder} cannot be written ({error}).") from error
        try:
            self._db = sqlite3.connect(folder / "service.sqlite", isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            self._lock.release()
            raise DataError(f"{folder / 'service.sqlite'}: {error}.") from error

    def close(self) -> None:
        """Let another service use the folder."""
        with self._mutex:
            self._db.close()
            self._lock.release()

    def secret(self, name: str) -> bytes:
        """256 random bits, the same whenever asked by the same name."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", [name, secrets.token_bytes(32)])
            found: bytes = db.execute("SELECT value FROM secrets WHERE name = ?", [name]).fetchone()[0]
        return found

    def repeat(self, caller: str, key: str, digest: bytes) -> Repeat | None:
        """What became of an earlier request with this idempotency key; None if there was none."""
        with self._transaction() as db:
            db.execute("DELETE FROM answers WHERE begun < ?", [time.time() - REMEMBERED])
            row = db.execute(
                "SELECT digest, answer FROM answers WHERE caller = ? AND key = ?", [caller, key]
            ).fetchone()
        return None if row is None else Repeat(row[0] == digest, row[1])

    def begin(self, caller: str, key: str, digest: bytes) -> None:
        """Note a request that is about to write."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, NULL)", [caller, key, digest, time.time()])

    def forget(self, caller: str, key: str) -> None:
        """A request that was begun has written nothing after all."""
        with self._transaction() as db:
            db.execute("DELETE FROM answers WHERE caller = ? AND key = ?", [caller, key])

    def end(self, caller: str, key: str, answer: str) -> None:
        """Note the answer to a request that was begun."""
        with self._transaction() as db:
            db.execute("UPDATE answers SET answer = ? WHERE caller = ? AND key = ?", [answer, caller, key])

    def new_job(self, job: str, lines: int, repeatable: tuple[str, str, bytes] | None = None) -> None:
        """Accept an import whose lines are on disk.

        Args:
            job: Its id.
            lines: How many there are.
            repeatable: Caller, idempotency key and digest of the request; a later one is answered with this import.
        """
        with self._transaction() as db:
            db.execute("INSERT INTO jobs (job, state, lines, created) VALUES (?, 'waiting', ?, ?)", [job, lines, now()])
            if repeatable is not None:
                db.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", [*repeatable, time.time(), job])

    def job(self, job: str) -> Job | None:
        """An import, or None."""
        with self._mutex:
            row = self._db.execute(f"SELECT {_JOB} FROM jobs WHERE job = ?", [job]).fetchone()  # noqa: S608
        return None if row is None else _job(row)

    def jobs(self) -> list[Job]:
        """The latest imports, the newest first."""
        query = f"SELECT {_JOB} FROM jobs ORDER BY number DESC LIMIT {LISTED}"  # noqa: S608
        with self._mutex:
            return [_job(row) for row in self._db.execute(query)]

    def next_job(self) -> tuple[Job, int] | None:
        """The oldest import that is not finished, and the byte at which it goes on."""
        query = f"SELECT {_JOB}, offset FROM jobs WHERE state IN ('waiting', 'running') ORDER BY number LIMIT 1"  # noqa: S608
        with self._mutex:
            row = self._db.execute(query).fetchone()
        return None if row is None else (_job(row[:-1]), row[-1])

    def unfinished(self) -> int:
        """Lines of imports that wait to be written."""
        with self._mutex:
            query = "SELECT coalesce(sum(lines - done), 0) FROM jobs WHERE state IN ('waiting', 'running')"
            return int(self._db.execute(query).fetchone()[0])

    def advance(self, job: str, step: Progress, *, finished: bool) -> None:
        """Note that a part of an import is dealt with; one that was cancelled meanwhile stays so."""
        with self._transaction() as db:
            (errors,) = db.execute("SELECT errors FROM jobs WHERE job = ?", [job]).fetchone()
            told = [*json.loads(errors), *step.errors][:LISTED]
            db.execute(
                "UPDATE jobs SET offset = ?, done = done + ?, written = written + ?, deleted = deleted + ?, "
                "failed = failed + ?, errors = ? WHERE job = ?",
                [step.offset, step.done, step.written, step.deleted, step.failed, json.dumps(told), job],
            )
            state, when = ("done", now()) if finished else ("running", None)
            db.execute(
                "UPDATE jobs SET state = ?, finished = ? WHERE job = ? AND state != 'cancelled'", [state, when, job]
            )

    def cancel(self, job: str) -> Job | None:
        """Stop an import that is not finished; None if there is no such import."""
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = 'cancelled', finished = ? WHERE job = ? AND state IN ('waiting', 'running')",
                [now(), job],
            )
        return self.job(job)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mutex:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def _job(row: Sequence[Any]) -> Job:
    values = dict(zip(_JOB.split(", "), row, strict=True))
    return Job(**{**values, "errors": json.loads(values["errors"])})
