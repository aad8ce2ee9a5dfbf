"""From one index to another, and whether they then hold the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from amodal.errors import DataError
from amodal.index.base import Entry, Index
from amodal.progress import Progress

__all__ = ["Copied", "checksum", "copy"]

BATCH = 10_000  #: entries read and written at a time
_MODULUS = 2**128


@dataclass(frozen=True)
class Copied:
    """What a copy came to.

    Attributes:
        entries: Entries of the source.
        written: Those of them that the target did not hold already.
        checksum: Of the source, as ``checksum`` computes it.
    """

    entries: int
    written: int
    checksum: str


def copy(source: Index, target: Index, *, progress: Progress | None = None) -> Copied:
    """Write every entry of one index into another of the same specification.

    What the target holds already is read and compared, and written only where it differs. So a copy that was
    interrupted goes on where it was when it is started again.

    Args:
        source: Where entries are read; if it changes meanwhile, the changes may be in the copy or not.
        target: Where they are written.
        progress: Told how many entries are done.

    Returns:
        What was copied.

    Raises:
        DataError: If the target holds an entry that the source has not; nothing is written then.
    """
    ids, held = source.ids(), target.ids()
    foreign = np.setdiff1d(held, ids, assume_unique=True)
    if len(foreign):
        raise DataError(
            f"the target holds {len(foreign):,} entries that the source has not, for instance id {foreign[0]}. "
            "Copy to a new index, or delete them first."
        )
    entries = written = total = 0
    for start in range(0, len(ids), BATCH):
        block = ids[start : start + BATCH]
        wanted = _digests(source.get(block))
        present = _digests(target.get(np.intersect1d(block, held, assume_unique=True)))
        news = [entry for entry, digest in wanted.values() if present.get(entry.id, (None, 0))[1] != digest]
        if news:
            _write(target, news)
        entries, written = entries + len(wanted), written + len(news)
        total += sum(digest for _, digest in wanted.values())
        if progress is not None:
            progress(start + len(block), len(ids), "copying")
    target.flush()
    return Copied(entries, written, _text(total))


def checksum(index: Index, *, progress: Progress | None = None) -> str:
    """A checksum of everything in an index: ids, external ids, attributes and vectors, in whatever order.

    It is the sum of the BLAKE2b hashes of all entries, so two indexes of the same entries have the same one, whatever
    stores them.

    Args:
        index: Any index.
        progress: Told how many entries are done.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> import amodal.index
        >>> with amodal.index.open("memory:", create=amodal.index.IndexSpec("binary", bits=8)) as index:
        ...     checksum(index)
        '00000000000000000000000000000000'
    """
    ids, total = index.ids(), 0
    for start in range(0, len(ids), BATCH):
        block = ids[start : start + BATCH]
        total += sum(digest for _, digest in _digests(index.get(block)).values())
        if progress is not None:
            progress(start + len(block), len(ids), "checking")
    return _text(total)


def _write(target: Index, entries: list[Entry]) -> None:
    """Entries under a string and entries under a number need a call each."""
    for named in (False, True):
        some = [entry for entry in entries if (entry.key is not None) == named]
        if some:
            columns = {name: [entry.attributes[name] for entry in some] for name in target.spec.attributes}
            ids: list[Any] = [entry.key if named else entry.id for entry in some]
            target.upsert(ids, np.stack([entry.vector for entry in some]), columns)


def _digests(entries: Iterable[Entry | None]) -> Mapping[int, tuple[Entry, int]]:
    """Of each entry that exists, by id, itself and the number that it adds to a checksum."""
    return {entry.id: (entry, _digest(entry)) for entry in entries if entry is not None}


def _digest(entry: Entry) -> int:
    words = [entry.id, entry.key, sorted(entry.attributes.items()), entry.vector.tobytes().hex()]
    return int.from_bytes(hashlib.blake2b(json.dumps(words).encode(), digest_size=16).digest(), "big")


def _text(total: int) -> str:
    return f"{total % _MODULUS:032x}"
