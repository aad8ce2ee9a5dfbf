"""Snapshots: all vectors sorted by id, in two files that processes map into memory.

A snapshot is derived from the catalogue and may be deleted at any time. It is valid only if the catalogue names its
generation and checksums, so a stale, half-written or damaged one is never used.
"""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.index.spec import IndexSpec
from amodal.index.store import SnapshotRecord

__all__ = ["Snapshot", "load", "remove_others", "save"]

_OURS = re.compile(r"(ids|codes)-(\d+)\.npy(\.tmp)?")


@dataclass(frozen=True)
class Snapshot:
    """All entries at one generation.

    Attributes:
        generation: Of the last write that is in it.
        ids: int64, shape (n,), ascending.
        vectors: Shape (n, width), in the order of ``ids``.
    """

    generation: int
    ids: NDArray[np.int64]
    vectors: NDArray[Any]

    @classmethod
    def empty(cls, spec: IndexSpec) -> Snapshot:
        """The snapshot of an index to which nothing was ever written."""
        return cls(0, np.empty(0, np.int64), np.empty((0, spec.width), spec.dtype))


def save(folder: Path, snapshot: Snapshot) -> SnapshotRecord:
    """Write a snapshot's files, each under a temporary name, fsynced, then renamed.

    Returns:
        The record under which the catalogue may name it.
    """
    ids_crc = _write(folder / f"ids-{snapshot.generation}.npy", snapshot.ids)
    codes_crc = _write(folder / f"codes-{snapshot.generation}.npy", snapshot.vectors)
    return SnapshotRecord(snapshot.generation, ids_crc, codes_crc)


def load(folder: Path, record: SnapshotRecord) -> Snapshot | None:
    """Map the snapshot that the catalogue names, or None if it is missing, stale or damaged."""
    ids = _read(folder / f"ids-{record.generation}.npy", record.ids_crc)
    vectors = _read(folder / f"codes-{record.generation}.npy", record.codes_crc)
    return None if ids is None or vectors is None else Snapshot(record.generation, ids, vectors)


def remove_others(folder: Path, generation: int) -> None:
    """Delete the files of all other snapshots, and what an interrupted write left."""
    for path in folder.iterdir():
        name = _OURS.fullmatch(path.name)
        if name and (name[3] or int(name[2]) != generation):
            path.unlink(missing_ok=True)


def _write(path: Path, array: NDArray[Any]) -> int:
    """Write an array and return the CRC-32 of the file."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.lib.format.write_array(file, array)
        file.flush()
        os.fsync(file.fileno())
    crc = _crc(temporary)
    temporary.replace(path)
    return crc


def _read(path: Path, crc: int) -> NDArray[Any] | None:
    try:
        if _crc(path) != crc:
            return None
        # copy on write: nothing is ever written, but the scan is compiled for arrays that could be
        return np.asarray(np.load(path, mmap_mode="c"))
    except (OSError, ValueError):
        return None


def _crc(path: Path) -> int:
    return zlib.crc32(np.memmap(path, mode="r").data)
