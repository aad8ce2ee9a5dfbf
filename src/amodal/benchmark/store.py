"""A folder of results: a line for each finished run and each failure, and the files that belong to them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from amodal.benchmark.runs import Run
from amodal.data.files import replacing
from amodal.errors import UsageError
from amodal.evaluation import read_record

__all__ = ["keep", "keep_failure", "only_writer", "read_failures", "read_results"]


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a folder of results, which is made if need be; the hold ends with the process, however it ends.

    Args:
        folder: Where results are kept.

    Raises:
        UsageError: If another process holds it: two would carry out the same runs twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"another process is writing results to {folder}. Wait until it ends, or choose another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def keep(folder: Path, line: dict[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a finished run: first its files, then its line in ``results.jsonl``, which makes it finished.

    Args:
        folder: Where results are kept.
        line: The record.
        files: Content by path in the folder.
    """
    for name, content in files.items():
        with replacing(folder / name) as part:
            part.write_bytes(content)
    _append(folder / "results.jsonl", line)


def keep_failure(folder: Path, key: str, run: Run, error: str) -> dict[str, Any]:
    """Write a run that failed to ``failures.jsonl``.

    Args:
        folder: Where results are kept.
        key: Of the run.
        run: What failed.
        error: Why, as a sentence.

    Returns:
        The line.
    """
    line = {"key": key, **asdict(run), "error": error}
    _append(folder / "failures.jsonl", line)
    return line


def _append(path: Path, line: dict[str, Any]) -> None:
    """One write and one sync, so that a line is there as a whole or not at all."""
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if torn else "") + json.dumps(line, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The records of finished runs; a last line torn by a killed process is passed over.

    Raises:
        DataError: If a record is of another schema.
    """
    path = folder / "results.jsonl"
    if not path.exists():
        return []
    records = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            value = json.loads(text)
        except ValueError:
            continue
        records.append(read_record(value, f"{path} line {number}"))
    return records


def read_failures(folder: Path) -> list[dict[str, Any]]:
    """The last failure of each run that failed, whether or not it succeeded later."""
    path = folder / "failures.jsonl"
    found: dict[str, dict[str, Any]] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue  # torn by a killed process
        found[line["key"]] = line
    return list(found.values())
