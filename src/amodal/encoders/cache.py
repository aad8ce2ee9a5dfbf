"""Features that were computed once, kept by content and encoder."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
import weakref
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from amodal.encoders.base import Features
from amodal.errors import DataError

__all__ = ["CacheStats", "FeatureCache", "default_folder"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS features (encoder TEXT, content BLOB, vector BLOB, UNIQUE (encoder, content));
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, changed INTEGER, content BLOB) WITHOUT ROWID;
"""
_SETTLED_NS = 2_000_000_000
"""Files changed in the last two seconds are hashed again: another change could leave size and time the same."""


def default_folder() -> Path:
    """Where features are kept: ``$AMODAL_CACHE``, else ``$XDG_CACHE_HOME/amodal``, else ``~/.cache/amodal``."""
    if own := os.environ.get("AMODAL_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "amodal"


@dataclass(frozen=True)
class CacheStats:
    """What a cache holds.

    Attributes:
        rows: Number of pieces of content whose features are kept.
        encoders: Number of encoders, versions counted apart.
        bytes: Size on disk.
        path: The file.
    """

    rows: int
    encoders: int
    bytes: int
    path: Path


class FeatureCache:
    """Features in one SQLite file, found by what was encoded and by the encoder's fingerprint.

    Every ``put`` is one transaction: after a kill -9 all earlier ones are there and no half one is. Several processes
    may read and write at once; an object belongs to the thread that first used it, which is when the file is opened.

    Args:
        folder: Where ``features.sqlite`` lies; ``default_folder()`` by default. Made if it is missing.

    Raises:
        DataError: When first used, if the file cannot be opened or is no such cache.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.path = (default_folder() if folder is None else Path(folder)) / "features.sqlite"

    @cached_property
    def _db(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                f'the feature cache "{self.path}" cannot be opened ({error}). Delete that file, or name another folder '
                "in AMODAL_CACHE."
            ) from error
        weakref.finalize(self, db.close)
        return db

    def content_of_text(self, text: str) -> bytes:
        """The key of a text: the SHA-256 of its UTF-8 bytes."""
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

    def content_of_file(self, path: Path | str) -> bytes:
        """The key of a file: the SHA-256 of its bytes; known by path, size and time of change after the first time.

        Raises:
            DataError: If the file cannot be read.
        """
        file = Path(path).absolute()
        try:
            found = file.stat()
            known = self._db.execute(
                "SELECT content FROM files WHERE path = ? AND size = ? AND changed = ?",
                (os.fspath(file), found.st_size, found.st_mtime_ns),
            ).fetchone()
            if known is not None:
                return bytes(known[0])
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").digest()
        except OSError as error:
            raise DataError(
                f'file "{path}" cannot be read ({error.strerror}). Check the path, or leave the row out: --skip-bad.'
            ) from error
        if time.time_ns() - found.st_mtime_ns > _SETTLED_NS:
            self._db.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                (os.fspath(file), found.st_size, found.st_mtime_ns, content),
            )
        return content

    def get(self, encoder: str, content: bytes, shape: tuple[int, ...] = (-1,)) -> Features | None:
        """The features of some content, float32, or None if they were never computed.

        Args:
            encoder: Fingerprint of the encoder.
            content: Key of the content.
            shape: (length, d) if the encoder gives parts; else they are a vector.
        """
        row = self._db.execute(
            "SELECT vector FROM features WHERE encoder = ? AND content = ?", (encoder, content)
        ).fetchone()
        if row is None:
            return None
        if len(shape) == 1:
            return np.frombuffer(row[0], dtype="<f4").astype(np.float32)
        found = np.frombuffer(row[0], dtype="<f2").reshape(-1, shape[1])
        return np.pad(found.astype(np.float32), ((0, shape[0] - len(found)), (0, 0)))

    def put(self, encoder: str, rows: Iterable[tuple[bytes, Features]]) -> None:
        """Keep the features of some content, all of them or, if interrupted, none.

        Parts are kept in half precision and without the zeros behind the last.

        Args:
            encoder: Fingerprint of the encoder.
            rows: Keys of content and their features.
        """
        values = [(encoder, content, _bytes(features)) for content, features in rows]
        with closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                cursor.executemany("INSERT OR IGNORE INTO features VALUES (?, ?, ?)", values)
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    def stats(self) -> CacheStats:
        """How much is kept, and where."""
        rows, encoders = self._db.execute("SELECT COUNT(*), COUNT(DISTINCT encoder) FROM features").fetchone()
        return CacheStats(rows, encoders, self.path.stat().st_size, self.path)

    def clear(self) -> int:
        """Forget everything and give the space back; returns the number of rows there were."""
        rows = self.stats().rows
        self._db.executescript("DELETE FROM features; DELETE FROM files; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")
        return rows

    def close(self) -> None:
        """Close the file, if it was opened; a later use opens it again."""
        db = self.__dict__.pop("_db", None)
        if db is not None:
            db.close()


def _bytes(features: Features) -> bytes:
    if features.ndim == 1:
        return features.astype("<f4").tobytes()
    last = np.flatnonzero(features.any(axis=1)).max(initial=-1)
    return features[: last + 1].astype("<f2").tobytes()
