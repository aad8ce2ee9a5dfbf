"""A folder of pictures with text files of the same name: ``cat.jpg`` and ``cat.txt`` are one item.

A picture without text, or a text without picture, is an item with one modality. The id is the path below the folder
without its ending. A sub-folder is a class (``dog/rex.jpg``), and below ``train``, ``test`` and the like, which are
splits, the next one is (``train/dog/rex.jpg``). Items directly in the folder have unknown labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from amodal.data.dataset import Dataset
from amodal.data.labels import Labels
from amodal.data.observations import Observations
from amodal.data.readers.base import PICTURES, Problems, Reader, assemble, chosen, read_text, strings
from amodal.errors import DataError

__all__ = ["FOLDER"]

_SPLITS = frozenset({"train", "test", "val", "valid", "validation", "dev", "query", "database", "gallery", "unused"})


def _matches(path: Path) -> bool:
    return path.is_dir() and any(_modality(file) for file in path.rglob("*"))


def _modality(file: Path) -> str | None:
    if file.name.startswith("."):
        return None
    return "image" if file.suffix.lower() in PICTURES else "text" if file.suffix.lower() == ".txt" else None


def _read(path: Path, modalities: Sequence[str] | None, problems: Problems) -> Dataset:
    files = sorted(file for file in path.rglob("*") if _modality(file) and file.is_file())
    known = [name for name in ("image", "text") if any(_modality(file) == name for file in files)]
    wanted = chosen(modalities, known, known)
    files = [file for file in files if _modality(file) in wanted]
    if not files:
        raise DataError(f"{path}: holds no pictures and no text files.")
    ids = sorted({_id(path, file) for file in files})
    number = {key: row for row, key in enumerate(ids)}
    content: dict[str, list[str]] = {name: [] for name in wanted}
    owner: dict[str, list[int]] = {name: [] for name in wanted}
    for file in files:
        name, row = str(_modality(file)), number[_id(path, file)]
        value = str(file) if name == "image" else read_text(file, str(file.relative_to(path)), row, problems)
        if value:
            content[name].append(value)
            owner[name].append(row)
    folders = [PurePosixPath(key).parts[:-1] for key in ids]
    splits = ["" if not parts or parts[0].lower() not in _SPLITS else parts[0].lower() for parts in folders]
    classes = [parts[bool(split) :] for parts, split in zip(folders, splits, strict=True)]
    return assemble(
        ids,
        {name: Observations(strings(content[name]), np.array(owner[name], dtype=np.int64)) for name in wanted},
        problems,
        name=path.resolve().name,
        labels=Labels.from_lists([[parts[0]] if parts else None for parts in classes]) if any(classes) else None,
        split=np.array(splits) if any(splits) else None,
        place=lambda row: ids[row],
    )


def _id(folder: Path, file: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


FOLDER = Reader(
    "folder",
    "pictures with text files of the same name; sub-folders are classes, or splits such as train and test",
    _matches,
    _read,
)
