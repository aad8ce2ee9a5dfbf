"""A table with a row per item: Parquet, CSV, TSV or JSON lines.

=============================  =========================================================================================
``id``                         unique; required
``labels`` or ``label``        a list, or text parted by ``;`` or ``|``, or a JSON list; nothing means unknown
``split``                      name of the split
a modality                     text, a path (relative to the table's folder), a vector of numbers, or nothing
any other column               an attribute
=============================  =========================================================================================

Columns are modalities if they hold vectors, or have one of the usual names (``image``, ``text``, ``caption``, ... see
``PATHS`` and ``WORDS``); others are named with ``modalities=``. A list in a cell is several observations, five captions
for instance. A column holds paths if it is named in ``PATHS`` or most of its values end like a picture's name; text
files (``.txt``) are opened and read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.labels import Labels
from amodal.data.observations import Observations
from amodal.data.readers.base import PICTURES, Problems, Reader, assemble, chosen, read_text, strings
from amodal.data.readers.tables import is_table, read_table
from amodal.errors import DataError

__all__ = ["MANIFEST", "PATHS", "WORDS"]

PATHS = ("image", "images", "picture", "photo", "sketch", "visible", "infrared", "thermal")
"""Names of columns that hold paths of pictures."""
WORDS = ("text", "texts", "caption", "captions", "description")
"""Names of columns that hold text."""

_Place = Callable[[int], str]


def _read(path: Path, modalities: Sequence[str] | None, problems: Problems) -> Dataset:
    table = read_table(path, problems)
    columns, place = table.columns, table.place
    if "id" not in columns:
        raise DataError(f'{path}: has no column "id". Columns: {", ".join(columns) or "none"}.')
    reserved = ("id", "labels" if "labels" in columns else "label", "split")
    usable = [name for name, column in columns.items() if name not in reserved and (_texts(column) or _vectors(column))]
    usual = [name for name in usable if name in PATHS or name in WORDS or _vectors(columns[name])]
    names = chosen(modalities, usual, usable)
    if not names:
        raise DataError(
            f"{path}: no column is a modality by its name ({', '.join((*PATHS, *WORDS))}). Say which are, for instance "
            f"modalities=[{usable[0] if usable else 'image'!r}]. Columns: {', '.join(columns)}."
        )
    tables = {
        name: _features(name, columns[name], place, problems)
        if _vectors(columns[name])
        else _content(name, columns[name], path.parent, place, problems)
        for name in names
    }
    classes = [_classes(value) for value in columns[reserved[1]].to_pylist()] if reserved[1] in columns else []
    return assemble(
        _strings(columns["id"]),
        tables,
        problems,
        name=path.stem,
        labels=Labels.from_lists(classes) if any(classes) else None,
        split=np.array(_strings(columns["split"])) if "split" in columns else None,
        attributes={
            name: _attribute(column, table.typed)
            for name, column in columns.items()
            if name not in (*reserved, *names) and not pa.types.is_nested(column.type)
        },
        place=place,
    )


def _texts(column: pa.Array) -> bool:
    """Whether a column holds text, or lists of texts."""
    inner = column.type.value_type if _is_list(column.type) else column.type
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner))


def _vectors(column: pa.Array) -> bool:
    """Whether a column holds vectors of numbers, or lists of vectors."""
    kind = column.type
    while _is_list(kind):
        kind = kind.value_type
    return _is_list(column.type) and (pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _strings(column: pa.Array) -> list[str]:
    """The values as text, blank where there is none."""
    return [value or "" for value in column.cast(pa.string()).to_pylist()]


def _classes(value: Any) -> list[str] | None:
    """The classes in a cell, or None if they are unknown."""
    if isinstance(value, str):
        listed = _json_list(value)
        if listed is not None:
            return listed
        parts = [part.strip() for part in value.replace("|", ";").split(";")]
        return [part for part in parts if part] or None
    if isinstance(value, Iterable):
        return [str(part) for part in value]
    return None if value is None else [str(value)]


def _features(name: str, column: pa.Array, place: _Place, problems: Problems) -> Observations:
    """A table of vectors; rows of another width than most are reported and left out."""
    item, vectors = np.arange(len(column))[column.is_valid().to_numpy(zero_copy_only=False)], column.drop_null()
    if _is_list(vectors.type.value_type):
        item = np.repeat(item, pc.list_value_length(vectors).to_numpy(zero_copy_only=False))
        vectors = vectors.flatten()
    widths = pc.list_value_length(vectors).to_numpy(zero_copy_only=False)
    width = int(np.bincount(widths).argmax()) if len(widths) else 0
    good = widths == width
    for observation in np.flatnonzero(~good):
        row = int(item[observation])
        sentence = f'{place(row)}, column "{name}": has {widths[observation]} numbers where most rows have {width}.'
        problems.report(sentence, row)
    flat = vectors.filter(pa.array(good)).flatten().to_numpy(zero_copy_only=False)
    return Observations(flat.reshape(-1, width).astype(np.float32, copy=False), item[good])


def _content(name: str, column: pa.Array, folder: Path, place: _Place, problems: Problems) -> Observations:
    """A table of texts or paths; files that are not there are reported and left out."""
    cells = [(row, text) for row, value in enumerate(column.to_pylist()) for text in _cell(value)]
    kinds = [Path(text).suffix.lower() if len(text) < 1000 else "" for _, text in cells]
    paths = name in PATHS or sum(kind in PICTURES for kind in kinds) * 2 > len(kinds)
    written = bool(kinds) and all(kind == ".txt" for kind in kinds)
    content, item = [], []
    for row, text in cells:
        value = text
        if paths or written:
            where = f'{place(row)}, column "{name}"'
            file = folder / text
            if not _is_file(file):
                problems.report(f"{where}: there is no file {text}.", row)
                continue
            value = str(file) if paths else read_text(file, where, row, problems)
        if value:
            content.append(value)
            item.append(row)
    return Observations(strings(content), np.array(item, dtype=np.int64))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long to be one
        return False


def _cell(value: Any) -> list[str]:
    """The observations in a cell: none, one, or those of a list (in CSV a JSON list)."""
    values = value if isinstance(value, list) else _json_list(value or "") or [value]
    return [part.strip() for part in values if part is not None and part.strip()]


def _json_list(text: str) -> list[str] | None:
    """The strings that a text lists in JSON; None if it is just text."""
    try:
        value = json.loads(text) if text.lstrip().startswith("[") else None
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(part, str) for part in value) else None


def _attribute(column: pa.Array, typed: bool) -> NDArray[Any]:
    """A column as numbers if it holds numbers (in CSV: if every value reads as one), else as text."""
    for kind in () if typed else (pa.int64(), pa.float64()):
        try:
            column = column.cast(kind)
            break
        except pa.ArrowException:
            continue
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    return strings(_strings(column))


MANIFEST = Reader(
    "manifest",
    "a table with a row per item (Parquet, CSV, TSV, JSON lines): id, one column per modality, labels, split",
    is_table,
    _read,
)
