"""Items as an index holds them: an entry per observation, and the way back from entries to items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from amodal.codes import BinaryCodes, Codes
from amodal.data import Dataset
from amodal.encoders import distinct_content
from amodal.index import Index, IndexSpec, Where
from amodal.methods import Method

__all__ = ["Entries", "Match", "entries_of", "nearest_items", "spec_for"]

OWN = {"item": "str", "modality": "str", "number": "int", "content": "str", "labels": "str", "split": "str"}
BATCH = 4096
TYPES = {"b": "bool", "i": "int", "u": "int", "f": "float"}


@dataclass(frozen=True)
class Match:
    """An item that was found.

    Attributes:
        item: Its id.
        distance: Hamming distance, or 1 - cosine; smaller is nearer.
        modality: The modality in which it was nearest.
        content: What was matched, as it was given: a text, or the path of a picture; None for bare features.
        labels: Names of its classes, if known.
        attributes: Its further columns.
    """

    item: str
    distance: float
    modality: str
    content: str | None
    labels: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Entries:
    """Some observations of one modality, ready for an index."""

    keys: list[str]
    codes: Codes
    attributes: dict[str, Any]


def spec_for(items: Dataset, codes: Codes, fingerprint: str) -> IndexSpec:
    """What an index for these items must hold: codes of this kind, our own attributes and the items' columns.

    Args:
        items: The items; columns whose names cannot be written in a filter are left out.
        codes: Any codes of the model.
        fingerprint: Of the model.
    """
    types = dict(OWN)
    for name, column in items.attributes.items():
        if name.isidentifier() and name not in types:
            types[name] = TYPES.get(column.dtype.kind, "str")
    kind: Literal["binary", "float"] = "binary" if isinstance(codes, BinaryCodes) else "float"
    bits, dim = (codes.bits, None) if isinstance(codes, BinaryCodes) else (None, codes.dim)
    return IndexSpec(kind, bits=bits, dim=dim, attributes=types, lookups=("item",), fingerprint=fingerprint)


def entries_of(items: Dataset, features: Dataset, method: Method, known: Mapping[str, str]) -> Iterator[Entries]:
    """The entries of items, some thousands at a time; an item's observations of one modality stay together.

    Args:
        items: The items as they were given, for content and columns.
        features: The same items with features.
        method: Encodes them.
        known: Attributes of the index; columns it does not know are left out.
    """
    for modality, table in features.modalities.items():
        content = distinct_content(items[modality]) if items[modality].raw else None
        for part in _parts(table.item):
            rows = table.item[part]
            numbers = _numbers(rows)
            columns = {
                name: [_plain(value, known[name]) for value in column[rows]]
                for name, column in items.attributes.items()
                if name in known and name not in OWN
            }
            yield Entries(
                [f"{one}\x1f{modality}\x1f{k}" for one, k in zip(items.ids[rows].tolist(), numbers, strict=True)],
                method.encode(table.read(part), modality),
                {
                    "item": items.ids[rows].tolist(),
                    "modality": modality,
                    "number": numbers,
                    # an encoded table keeps one row of features for each distinct content, in order of appearance
                    "content": None if content is None else [content[k] for k in _stored(table, part)],
                    "labels": _label_names(items, rows),
                    "split": None if items.split is None else items.split[rows].tolist(),
                    **columns,
                },
            )


def nearest_items(
    index: Index, codes: Codes, k: int, *, where: Where | None, radius: float | None, without: str | None
) -> list[Match]:
    """The k items with an entry nearest to any of some codes; equal distances in the order of entry ids.

    Args:
        index: Entries.
        codes: One code, or the several codes of one item.
        k: How many items.
        where: Only entries for which this holds.
        radius: Only entries at most this far.
        without: An item to leave out.
    """
    fetch = 2 * (k + 1)
    while True:
        hits = index.search(codes, fetch, where=where, radius=radius)
        best: dict[int, float] = {}
        for query in range(len(hits)):
            for entry, distance in zip(*hits[query], strict=True):
                best[int(entry)] = min(float(distance), best.get(int(entry), np.inf))
        ranked = sorted(best, key=lambda entry: (best[entry], entry))
        matches: dict[str, Match] = {}
        for entry in index.get(np.array(ranked, dtype=np.int64)):
            if entry is not None and (item := str(entry.attributes["item"])) != without and item not in matches:
                matches[item] = _match(item, best[entry.id], entry.attributes)
        # several entries of one item may fill an answer: fetch more until there are k items, or no more entries
        if len(matches) >= k or int(hits.found.max(initial=0)) < fetch:
            return list(matches.values())[:k]
        fetch *= 4


def _match(item: str, distance: float, attributes: Mapping[str, Any]) -> Match:
    labels = tuple(str(attributes["labels"]).split("|")) if attributes["labels"] else ()
    further = {name: value for name, value in attributes.items() if name not in OWN}
    return Match(item, distance, str(attributes["modality"]), attributes["content"], labels, further)


def _parts(item: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Observation numbers in batches, sorted by item, that never divide an item's observations."""
    order = np.argsort(item, kind="stable")
    start = 0
    while start < len(order):
        end = min(start + BATCH, len(order))
        while end < len(order) and item[order[end]] == item[order[end - 1]]:
            end += 1
        yield order[start:end]
        start = end


def _numbers(rows: NDArray[np.int64]) -> list[int]:
    """0, 1, 2, ... among the observations of each item; ``rows`` is sorted."""
    first = np.searchsorted(rows, rows)
    return [int(k) for k in np.arange(len(rows)) - first]


def _stored(table: Any, part: NDArray[np.int64]) -> list[int]:
    numbers: list[int] = table.rows[part].tolist()
    return numbers


def _label_names(items: Dataset, rows: NDArray[np.int64]) -> list[str | None]:
    labels = items.labels
    if labels is None:
        return [None] * len(rows)
    matrix = labels.matrix
    return [
        "|".join(labels.names[k] for k in matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]) or None
        for row in rows
    ]


def _plain(value: Any, kind: str) -> Any:
    """A column's value as the index takes it; NaN and None are missing."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or plain != plain:
        return None
    return str(plain) if kind == "str" else plain
