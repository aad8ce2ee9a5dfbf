"""Codes that a run left behind, and what is known of the items they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.codes import BinaryCodes, Codes, Embeddings
from amodal.data import Dataset

__all__ = ["Coded", "class_names", "distances_between", "read_codes"]


@dataclass(frozen=True)
class Coded:
    """Codes of one modality.

    Attributes:
        codes: A row per observation.
        ids: Id of the item of each row.
    """

    codes: Codes
    ids: NDArray[np.str_]


def read_codes(folder: Path, record: dict[str, Any], role: str = "codes") -> dict[str, Coded]:
    """Codes of a run by modality; empty where none were kept.

    Args:
        folder: Of the results.
        record: Of the run.
        role: ``codes`` of the queries or ``codes_database``; the latter falls back on the former, where both are one.
    """
    kept = record.get(role) or record.get("codes")
    path = folder / kept["file"] if kept else None
    if path is None or not path.exists():
        return {}
    found = {}
    with np.load(path, allow_pickle=False) as file:
        bits = int(file["bits"]) if "bits" in file else None
        for name in (key.removesuffix(".id") for key in file.files if key.endswith(".id")):
            codes: Codes = Embeddings(file[name]) if bits is None else BinaryCodes(file[name], bits)
            found[name] = Coded(codes, file[f"{name}.id"])
    return found


def distances_between(one: Codes, other: Codes) -> NDArray[np.float64]:
    """Hamming distances, or 1 - cosine, of few rows to many; shape (len(one), len(other))."""
    if isinstance(one, BinaryCodes) and isinstance(other, BinaryCodes):
        return np.asarray(np.bitwise_count(one.packed[:, None] ^ other.packed[None]).sum(axis=2), dtype=np.float64)
    a, b = (codes.vectors.astype(np.float64) for codes in (one, other) if isinstance(codes, Embeddings))
    return np.asarray(1 - a @ b.T)


def class_names(data: Dataset | None, ids: NDArray[np.str_]) -> list[tuple[str, ...]]:
    """Classes of items by id; empty for those that the data do not know."""
    if data is None or data.labels is None:
        return [()] * len(ids)
    places = {item: row for row, item in enumerate(data.ids.tolist())}
    matrix, names = data.labels.matrix, data.labels.names
    rows = [places.get(item) for item in ids.tolist()]
    return [() if row is None else tuple(names[c] for c in sorted(matrix[row].indices)) for row in rows]
