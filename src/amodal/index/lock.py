"""One writer at a time."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from amodal.errors import DataError, UsageError

__all__ = ["WriterLock"]


class WriterLock:
    """The right to write to an index folder, held until ``release`` or the end of the process, however it ends.

    It is SQLite's own lock on an empty database beside the catalogue: the operating system frees it with the process,
    and it works wherever the catalogue does.

    Args:
        folder: The index folder.

    Raises:
        UsageError: If somebody else holds it.
        DataError: If the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "writer.lock"
        try:
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise DataError(f"{path}: {error}. To read only, open the index with readonly=True.") from error
        try:
            self._db.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            self._db.close()
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise DataError(f"{path}: {error}. To read only, open the index with readonly=True.") from error
            raise UsageError(
                f"{folder} is open for writing elsewhere, and an index has one writer at a time. "
                "Close it there first, or open it here with readonly=True."
            ) from None

    def release(self) -> None:
        """Let others write."""
        self._db.close()
