"""Items as they come over the network, as a data set; what is in the index of one; and what it lacks, imagined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.codes import BinaryCodes, Embeddings
from amodal.data import Dataset, Observations
from amodal.data.labels import Labels
from amodal.entries import of_items
from amodal.errors import AmodalError, DataError, MethodError, ShapeError, UsageError, nearest
from amodal.index import Entry
from amodal.service.generation import Generation
from amodal.service.messages import Imagined, Imputed, Item, MatchOut, NewItem, Part, Picture, Shown, Vector
from amodal.service.problems import Problem
from amodal.service.searching import content_of, shown
from amodal.service.uploads import check_picture

__all__ = ["Known", "add", "checked", "delete", "imagine", "impute", "known", "lacking", "show", "write"]


@dataclass(frozen=True)
class Known:
    """What the index holds of an item: its entries, by modality and number."""

    id: str
    entries: Sequence[Entry]

    def part(self, modality: str, number: int) -> str | None:
        """The content that was recorded of an observation, if any."""
        for one in self.entries:
            if (one.attributes["modality"], one.attributes["number"]) == (modality, number):
                return None if one.attributes["content"] is None else str(one.attributes["content"])
        return None


def known(generation: Generation, item: str) -> Known | None:
    """An indexed item, or None."""
    found = generation.index.get(of_items(generation.index, [item]))
    entries = [entry for entry in found if entry is not None]
    order = {name: k for k, name in enumerate(generation.widths())}
    entries.sort(key=lambda one: (order.get(str(one.attributes["modality"]), len(order)), one.attributes["number"]))
    return Known(item, entries) if entries else None


def show(generation: Generation, item: Known, imagined: Imagined | None) -> Shown:
    """An item as it is answered."""
    first = item.entries[0].attributes
    here = {str(one.attributes["modality"]) for one in item.entries}
    return Shown(
        id=item.id,
        parts=[_part(generation, item.id, one.attributes) for one in item.entries],
        labels=list(first["labels"] or ()),
        attributes={name: first[name] for name in _columns(generation)},
        lacks=[name for name in generation.widths() if name not in here],
        imagined=imagined,
    )


def _part(generation: Generation, item: str, attributes: Mapping[str, Any]) -> Part:
    modality, number = str(attributes["modality"]), int(attributes["number"])
    content = content_of(generation, item, modality, number, attributes["content"])
    return Part(modality=modality, number=number, content=content)


def _columns(generation: Generation) -> list[str]:
    """Attributes of the index that are an item's own columns."""
    ours = ("item", "modality", "number", "content", "labels", "split")
    return [name for name in generation.index.spec.attributes if name not in ours]


def checked(generation: Generation, item: NewItem) -> None:
    """Refuse an item that cannot be written: another content than the model takes, a column that is not there.

    Raises:
        AmodalError: Saying what is wrong.
    """
    for modality, observations in item.modalities.items():
        if modality not in generation.widths():
            raise UsageError(nearest(modality, generation.widths(), what="modality") + " The model never learned it.")
        for one in observations:
            kind = "picture" if isinstance(one, Picture) else "features" if isinstance(one, Vector) else "text"
            if kind != generation.kind(modality):
                raise UsageError(f'modality "{modality}" takes {generation.kind(modality)}, not {kind}.')
            if isinstance(one, Picture):
                check_picture(one.picture)
            elif isinstance(one, Vector) and len(one.features) != generation.widths()[modality]:
                raise ShapeError(
                    f'modality "{modality}" was learned with features of width {generation.widths()[modality]}; got '
                    f"{len(one.features)}."
                )
    columns = _columns(generation)
    for name in item.attributes:
        if name not in columns:
            raise UsageError(nearest(name, columns, what="attribute"))


def dataset(generation: Generation, items: Sequence[Item]) -> Dataset:
    """Items that were checked as a data set; their pictures are kept as files."""
    contents: dict[str, list[Any]] = {}
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        for modality, observations in item.modalities.items():
            for one in observations:
                contents.setdefault(modality, []).append(_content(generation, item.id, one))
                rows.setdefault(modality, []).append(row)
    columns = {name for item in items for name in item.attributes}
    return Dataset(
        ids=np.array([item.id for item in items]),
        modalities={
            name: Observations(_table(found), np.array(rows[name], np.int64)) for name, found in contents.items()
        },
        labels=Labels.from_lists([list(dict.fromkeys(item.labels)) or None for item in items]),
        attributes={name: _column([item.attributes.get(name) for item in items]) for name in sorted(columns)},
        name="request",
    )


def _content(generation: Generation, item: str, one: str | Picture | Vector) -> Any:
    if isinstance(one, Picture):
        return generation.uploads.keep(item, one.picture)
    return np.array(one.features, np.float32) if isinstance(one, Vector) else one


def _table(contents: list[Any]) -> NDArray[Any]:
    if isinstance(contents[0], np.ndarray):
        return np.stack(contents)
    return _column(contents)


def _column(values: list[Any]) -> NDArray[Any]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def add(generation: Generation, items: Sequence[Item], *, again: bool) -> int:
    """Write modalities that items do not have. Returns the number of entries.

    Args:
        generation: Where.
        items: That were checked, and lack what is added.
        again: Whether an earlier attempt was cut off, which may have written some.

    Raises:
        AmodalError: If one cannot be written.
    """
    writer = generation.writer
    assert writer is not None  # noqa: S101 - a service that reads only refuses before
    if again and writer.index_ is not None:
        for item in items:
            for modality in item.modalities:
                writer.index_.delete(of_items(writer.index_, [item.id], modality))
    return writer.add(dataset(generation, items), flush=False)


def write(generation: Generation, items: Sequence[Item]) -> int:
    """Upsert items that were checked, and drop uploads that they no longer have. Returns the number of entries.

    Raises:
        AmodalError: If one cannot be written.
    """
    writer = generation.writer
    assert writer is not None  # noqa: S101 - a service that reads only refuses before
    before = _recorded(generation, [item.id for item in items])
    data = dataset(generation, items)
    written = writer.upsert(data, flush=False)
    after = {str(one) for table in data.modalities.values() if table.raw for one in table.read().tolist()}
    generation.uploads.drop(before - after)
    return written


def delete(generation: Generation, ids: Sequence[str]) -> int:
    """Take items out of the index, with their uploads. Returns how many there were."""
    writer = generation.writer
    assert writer is not None  # noqa: S101 - a service that reads only refuses before
    before = _recorded(generation, ids)
    removed = writer.delete(ids, flush=False)
    generation.uploads.drop(before)
    return removed


def _recorded(generation: Generation, ids: Sequence[str]) -> set[str]:
    """Content recorded for some items in modalities of pictures."""
    index = generation.index
    found = index.get(of_items(index, list(ids))) if any(map(_pictures(generation), generation.widths())) else []
    return {
        str(entry.attributes["content"])
        for entry in found
        if entry is not None and _pictures(generation)(entry.attributes["modality"]) and entry.attributes["content"]
    }


def _pictures(generation: Generation) -> Any:
    return lambda modality: generation.kind(str(modality)) == "picture"


def lacking(generation: Generation, items: Sequence[Item]) -> None:
    """Refuse to add what is there already.

    Raises:
        Problem: Naming the first item that has a modality already.
    """
    for item in items:
        there = known(generation, item.id)
        for entry in there.entries if there else ():
            if entry.attributes["modality"] in item.modalities:
                raise Problem("exists", f'item "{item.id}" has its {entry.attributes["modality"]} already; use upsert.')


def impute(generation: Generation, item: NewItem, modality: str, k: int) -> Imputed:
    """A side of an item that need not be indexed, imagined.

    Raises:
        Problem: If the model cannot.
        AmodalError: If the item does not fit the model, or has that side.
    """
    if modality in item.modalities:
        raise UsageError(f"the item has a {modality} already; only what is missing can be imagined.")
    checked(generation, item)
    tables = {
        name: Observations(_features(generation, name, observations), np.zeros(len(observations), np.int64))
        for name, observations in item.modalities.items()
    }
    return _imputed(generation, Dataset(np.array(["item"]), tables), modality, k, without=None)


def _features(generation: Generation, modality: str, observations: Sequence[str | Picture | Vector]) -> NDArray[Any]:
    contents = [
        one.picture if isinstance(one, Picture) else one.features if isinstance(one, Vector) else one
        for one in observations
    ]
    encoder = generation.reader.encoders_.get(modality)
    return np.array(contents, np.float32) if encoder is None else encoder.encode(contents)


def _imputed(generation: Generation, data: Dataset, modality: str, k: int, *, without: str | None) -> Imputed:
    imagined = generation.reader.impute(data, modality)
    if not len(imagined):
        raise MethodError(f"the model can imagine no {modality} from what the item has.")
    codes = generation.encode(imagined.values[0], modality)
    found = generation.reader.search(vector=codes, into=modality, k=k + 1)
    matches = [shown(generation, match) for match in found if match.item != without][:k]
    return Imputed(
        modality=modality, trust=float(imagined.trust[0]), features=imagined.values[0].tolist(), matches=matches
    )


def imagine(generation: Generation, item: Known, modality: str, k: int) -> Imagined:
    """What an indexed item lacks, suggested by real items: imagined by the model if it can, else those nearest.

    Raises:
        UsageError: If the item has that side, or the model does not know it.
    """
    if modality not in generation.widths():
        raise UsageError(nearest(modality, generation.widths(), what="modality"))
    if any(one.attributes["modality"] == modality for one in item.entries):
        raise UsageError(f'item "{item.id}" has its {modality}; only what is missing can be imagined.')
    try:
        found = _imputed(generation, _recalled(generation, item), modality, k, without=item.id)
        return Imagined(modality=modality, trust=found.trust, how="imagined", matches=found.matches)
    except AmodalError:  # a method that cannot, or content that was not recorded or is gone
        return Imagined(modality=modality, trust=None, how="nearest", matches=_nearest(generation, item, modality, k))


def _recalled(generation: Generation, item: Known) -> Dataset:
    """An indexed item with its features, from the content that was recorded."""
    tables = {}
    for modality, encoder in generation.reader.encoders_.items():
        contents: list[Any] = [
            one.attributes["content"] for one in item.entries if one.attributes["modality"] == modality
        ]
        if contents and encoder.kind == "picture":
            contents = [generation.uploads.find(str(one)) for one in contents]
        if contents:
            tables[modality] = Observations(encoder.encode(contents), np.zeros(len(contents), np.int64))
    if not tables:
        raise DataError(f'no content of item "{item.id}" is recorded.')
    return Dataset(np.array([item.id]), tables)


def _nearest(generation: Generation, item: Known, modality: str, k: int) -> list[MatchOut]:
    vectors, bits = np.stack([entry.vector for entry in item.entries]), generation.index.spec.bits
    codes = Embeddings(vectors) if bits is None else BinaryCodes(vectors, bits)
    found = generation.reader.search(vector=codes, into=modality, k=k + 1)
    return [shown(generation, match) for match in found if match.item != item.id][:k]
