"""Items as an index holds them: an entry per observation, and the way back from entries to items."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from amodal.codes import BinaryCodes, Codes, Embeddings
from amodal.data import Dataset
from amodal.encoders import distinct_content
from amodal.errors import DataError, UsageError
from amodal.index import Entry, Field, Hits, Index, IndexSpec, Where, id_of
from amodal.index.spec import ATTRIBUTE_TYPES
from amodal.methods import Method

__all__ = [
    "Entries",
    "Match",
    "check_new",
    "codes_of",
    "columns_of",
    "entries_of",
    "first_of",
    "keys_of",
    "match_of",
    "nearest_items",
    "of_items",
    "spec_for",
    "write",
]

OWN = {"item": "str", "modality": "str", "number": "int", "content": "str", "labels": "texts", "split": "str"}
BATCH = 4096
SEPARATOR = "\x1f"  #: the ASCII unit separator, which occurs in no name: between the parts of a key
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
        attributes: Its further columns; None where it has no value.
        number: Which of the item's observations of that modality it was, from 0.
        score: A matcher's score, higher is more similar, where answers were re-ranked and the item could be scored.
    """

    item: str
    distance: float
    modality: str
    content: str | None
    labels: tuple[str, ...]
    attributes: dict[str, Any]
    number: int = 0
    score: float | None = None

    @property
    def place(self) -> tuple[float, int]:
        """Where it stands in the order of answers: distance, then id of the entry."""
        return self.distance, id_of(_key(self.item, self.modality, self.number))


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
        if name not in types and _nameable([*types, name]):
            types[name] = _type_of(column)
    kind: Literal["binary", "float"] = "binary" if isinstance(codes, BinaryCodes) else "float"
    bits, dim = (codes.bits, None) if isinstance(codes, BinaryCodes) else (None, codes.dim)
    return IndexSpec(kind, bits=bits, dim=dim, attributes=types, lookups=("item",), fingerprint=fingerprint)


def columns_of(items: Dataset, known: Mapping[str, str]) -> dict[str, list[Any]]:
    """The items' columns as an index takes them: a value of its type per item, None where there is none.

    Args:
        items: The items; columns that the index does not know are left out.
        known: Attributes of the index and their types.

    Raises:
        DataError: If a value is of another type; names item and column.
    """
    columns = {}
    for name, column in items.attributes.items():
        if name in known and name not in OWN:
            kind, values = known[name], column.tolist()
            columns[name] = [_plain(value, kind) for value in values]
            for item, value in zip(items.ids.tolist(), columns[name], strict=True):
                if value is not None and type(value) not in ATTRIBUTE_TYPES[kind]:
                    raise DataError(
                        f'item "{item}": "{name}" is {value!r}, but this index holds a value of type {kind} there. '
                        "Repair it, or leave the column out."
                    )
    return columns


def entries_of(
    items: Dataset, features: Dataset, method: Method, columns: Mapping[str, Sequence[Any]]
) -> Iterator[Entries]:
    """The entries of items, some thousands at a time; an item's observations of one modality stay together.

    Args:
        items: The items as they were given, for content, labels and split.
        features: The same items with features.
        method: Encodes them.
        columns: A value per item of each further attribute, from ``columns_of``.
    """
    labels = _label_names(items)
    for modality, table in features.modalities.items():
        content = distinct_content(items[modality]) if items[modality].raw else None
        for part in _parts(table.item):
            rows = table.item[part].tolist()
            ids, numbers = items.ids[rows].tolist(), _numbers(table.item[part])
            yield Entries(
                [_key(one, modality, k) for one, k in zip(ids, numbers, strict=True)],
                method.encode(table.read(part), modality),
                {
                    "item": ids,
                    "modality": modality,
                    "number": numbers,
                    # an encoded table keeps one row of features for each distinct content, in order of appearance
                    "content": None if content is None else [content[k] for k in _stored(table, part)],
                    "labels": [labels[row] for row in rows],
                    "split": None if items.split is None else items.split[rows].tolist(),
                    **{name: [column[row] for row in rows] for name, column in columns.items()},
                },
            )


def write(index: Index, ids: NDArray[np.str_], batches: Iterable[Entries], *, replacing: bool) -> int:
    """Write all entries of some items, and return how many those are.

    Args:
        index: The index; not flushed.
        ids: The items.
        batches: Their entries.
        replacing: Whether items may be there already; they keep no entry that they no longer have.
    """
    written, stale = 0, set(of_items(index, ids.tolist()).tolist()) if replacing else set()
    for entries in batches:
        (index.upsert if replacing else index.add)(entries.keys, entries.codes, entries.attributes)
        written += len(entries.keys)
        stale.difference_update(id_of(key) for key in entries.keys)
    # entries that an item no longer has go last, so that a process killed in between has lost nothing
    if stale:
        index.delete(sorted(stale))
    return written


def keys_of(items: Dataset) -> list[str]:
    """The external ids that the entries of items have, if all their content can be encoded."""
    keys: list[str] = []
    for modality, table in items.modalities.items():
        rows = np.sort(table.item)
        named = zip(items.ids[rows].tolist(), _numbers(rows), strict=True)
        keys += [_key(one, modality, number) for one, number in named]
    return keys


def of_items(index: Index, items: Sequence[str], modality: str | None = None) -> NDArray[np.int64]:
    """Ids of the entries of some items, ascending.

    Args:
        index: Entries.
        items: Ids of items; those that are not there are passed over.
        modality: Only entries of this modality.
    """
    found: list[NDArray[np.int64]] = []
    for start in range(0, len(items), BATCH):
        where: Where = Field("item").isin(items[start : start + BATCH])
        found.append(index.ids(where=where if modality is None else where & (Field("modality") == modality)))
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)


def check_new(index: Index, features: Dataset) -> None:
    """Refuse items of which the index has an observation in a modality that they bring.

    Raises:
        DataError: Naming the first of them.
    """
    for name, table in features.modalities.items():
        known = of_items(index, features.ids[np.unique(table.item)].tolist(), name)
        if len(known):
            (first,) = index.get(known[:1])
            item = "" if first is None else first.attributes["item"]
            raise DataError(
                f'item "{item}" has its {name} in the index already. Use upsert to replace the item (--replace).'
            )


def codes_of(index: Index, item: str) -> Codes:
    """The codes of all entries of an item.

    Args:
        index: Entries.
        item: Its id.

    Raises:
        DataError: If it is not there.
    """
    vectors = [entry.vector for entry in index.get(of_items(index, [item])) if entry is not None]
    if not vectors:
        raise DataError(f'no item "{item}" is indexed.')
    stacked = np.stack(vectors)
    return BinaryCodes(stacked, index.spec.bits) if index.spec.bits else Embeddings(stacked)


def first_of(index: Index, item: str, modality: str) -> Match | None:
    """The first observation of an item in one modality, at distance 0; None if it is not there."""
    found = [entry for entry in index.get(of_items(index, [item], modality)) if entry is not None]
    return match_of(min(found, key=lambda entry: int(entry.attributes["number"] or 0)), 0.0) if found else None


def nearest_items(
    index: Index,
    codes: Codes,
    k: int,
    *,
    where: Where | None,
    radius: float | None,
    without: str | None,
    after: tuple[float, int] | None = None,
) -> list[Match]:
    """The k items with an entry nearest to any of some codes; equal distances in the order of entry ids.

    Args:
        index: Entries.
        codes: One code, or the several codes of one item.
        k: How many items.
        where: Only entries for which this holds.
        radius: Only entries at most this far.
        without: An item to leave out.
        after: Only items that stand behind this place of a match.
    """
    start = (-math.inf, 0) if after is None else after
    fetch = 2 * (k + 1)
    while True:
        hits = index.search(codes, fetch, where=where, radius=radius)
        best = _nearest_to_any(hits)
        matches = _items(index, best, k, without=without, start=start)
        # several entries of one item may fill an answer: fetch more until there are k items, or no more entries
        if len(matches) >= k or hits.found.max(initial=0) < fetch:
            return matches
        fetch *= 4


def _nearest_to_any(hits: Hits) -> dict[int, float]:
    """The entries nearest to any of some codes, nearest first, and their distances; as far as the hits can tell."""
    answers = [hits[query] for query in range(len(hits))]
    rows = [list(zip(distances.tolist(), ids.tolist(), strict=True)) for ids, distances in answers]
    # a code that found as many as it was asked for says nothing about those behind its last
    horizon = min((row[-1] for row in rows if len(row) == hits.ids.shape[1]), default=(math.inf, 0))
    best: dict[int, float] = {}
    for distance, entry in rows[0] if len(rows) == 1 else merge(*rows):
        if (distance, entry) <= horizon:
            best.setdefault(entry, distance)
    return best


def _items(
    index: Index,
    distances: Mapping[int, float],
    k: int,
    *,
    without: str | None,
    start: tuple[float, int],
) -> list[Match]:
    """The first k items that some entries, nearest first, belong to; only as many are read as that takes."""
    matches: list[Match] = []
    entries, passed, begin, end = list(distances), {without}, 0, k + 1
    while begin < len(entries):
        for entry in index.get(entries[begin:end]):
            if entry is not None and (item := str(entry.attributes["item"])) not in passed:
                passed.add(item)
                if (distances[entry.id], entry.id) > start:
                    matches.append(match_of(entry, distances[entry.id]))
                    if len(matches) == k:
                        return matches
        begin, end = end, 2 * end
    return matches


def match_of(entry: Entry, distance: float) -> Match:
    """An entry as an answer.

    Args:
        entry: As the index gives it.
        distance: How far it is.
    """
    facts: Mapping[str, Any] = entry.attributes
    labels = facts["labels"] or ()
    further = {name: value for name, value in facts.items() if name not in OWN}
    return Match(
        str(facts["item"]), distance, str(facts["modality"]), facts["content"], labels, further, int(facts["number"])
    )


def _key(item: str, modality: str, number: int) -> str:
    """The external id of an entry."""
    return SEPARATOR.join((item, modality, str(number)))


def _nameable(names: Sequence[str]) -> bool:
    """Whether an index can have attributes of these names."""
    try:
        IndexSpec("binary", bits=1, attributes=dict.fromkeys(names, "str"))
    except UsageError:
        return False
    return True


def _type_of(column: NDArray[Any]) -> str:
    """The type of an attribute; a column of true, false and nothing arrives as objects."""
    if column.dtype.kind == "O" and {type(value) for value in column.tolist()} - {type(None)} == {bool}:
        return "bool"
    return TYPES.get(column.dtype.kind, "str")


def _plain(value: Any, kind: str) -> Any:
    """A column's value as an index takes it; NaN, None and empty texts are missing."""
    if value is None or value != value:
        return None
    if kind == "str":
        return str(value) or None
    # whole numbers beside gaps arrive as 1990.0
    return int(value) if kind == "int" and isinstance(value, float) and value.is_integer() else value


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
    numbers: list[int] = (np.arange(len(rows)) - np.searchsorted(rows, rows)).tolist()
    return numbers


def _stored(table: Any, part: NDArray[np.int64]) -> list[int]:
    numbers: list[int] = table.rows[part].tolist()
    return numbers


def _label_names(items: Dataset) -> list[tuple[str, ...] | None]:
    """The classes of each item; None if it has none."""
    if items.labels is None:
        return [None] * len(items)
    matrix, names = items.labels.matrix, items.labels.names
    return [
        tuple(names[k] for k in matrix.indices[start:end]) or None
        for start, end in zip(matrix.indptr, matrix.indptr[1:], strict=False)
    ]
