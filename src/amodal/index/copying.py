"""From one index to another."""

from __future__ import annotations

import numpy as np

from amodal.index.base import Index

__all__ = ["copy"]

BATCH = 10_000


def copy(source: Index, target: Index) -> int:
    """Write every entry of one index into another of the same specification.

    Args:
        source: Where entries are read.
        target: Where they are written; entries of the same id are replaced.

    Returns:
        The number of entries.
    """
    ids = source.ids()
    for start in range(0, len(ids), BATCH):
        entries = [entry for entry in source.get(ids[start : start + BATCH]) if entry is not None]
        attributes = {name: [entry.attributes[name] for entry in entries] for name in source.spec.attributes}
        vectors = np.stack([entry.vector for entry in entries])
        keys = [entry.key if entry.key is not None else entry.id for entry in entries]
        target.upsert(keys, vectors, attributes)
    target.flush()
    return len(ids)
