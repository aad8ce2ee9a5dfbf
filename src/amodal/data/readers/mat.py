"""Matlab and HDF5 files in the layouts that the field passes around; rows are items.

- ``XAll``, ``IAll`` or ``images``; ``TAll``, ``YAll`` or ``tags``; ``LAll`` or ``labels``: all items, in one file or in
  ``<name>-xall-vgg.mat``, ``<name>-iall.mat``, ``<name>-yall.mat``, ``<name>-lall.mat``, also in folders ``IAll/`` ...
- in halves, which are the split: ``I_tr I_te T_tr ... L_te`` (or ``I_db``: the database, of which one learns);
  ``VDatabase VTest YDatabase YTest databaseL testL``; ``train_img.mat`` ... ``test_img_lab.mat``; ``train_imgs_deep``
- ``caption.mat``, ``index.mat``, ``label.mat``: words and paths of pictures, still to be encoded.

There are no ids, so the row number is the id. Of several forms of one modality the one named first above is read, so
that features (``XAll``) go before pixels. A modality that is absent from the files is absent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.labels import Labels
from amodal.data.observations import Observations
from amodal.data.readers.arrays import Array
from amodal.data.readers.base import Problems, Reader, assemble, chosen, strings
from amodal.data.readers.variables import HDF5, variables_in
from amodal.errors import DataError, ShapeError

__all__ = ["ENDINGS", "MAT", "read_files"]

ENDINGS = (".mat", ".h5", ".hdf5", ".h5py")
"""Endings of the files that are read."""

# names of variables by what they hold, in order of preference; a group says which half of the items
_VARIABLES = {
    "image": ("xall", "iall", "images?", "i_(db|te)", "i_(tr)", "v(database|test)", "x(database|test)",
              "(train|test)_img", "(train|test)_imgs_deep", "index"),
    "text": ("[ty]all", "tags", "texts?", "t_(db|te)", "t_(tr)", "y(database|test)", "(train|test)_te?xt", "captions?"),
    "label": ("lall", "labels?", "l_(db|te)", "l_(tr)", "(database|test)l", "(train|test)_imgs?_lab(?:els)?",
              "category"),
}  # fmt: skip
_TEST = ("te", "test")
_SET = re.compile(r"(?P<name>.+)-[fixtyl]all(-.+)?", re.IGNORECASE)


@dataclass(frozen=True)
class _Found:
    """A variable that holds all of a modality or of the labels, or the half of it that is called ``part``."""

    role: str
    part: str
    rank: int
    file: Path
    variable: str
    array: Array


def _matches(path: Path) -> bool:
    if path.is_dir():
        return bool(_files(path))
    with path.open("rb") as file:
        start = file.read(19)
    return path.suffix == ".mat" or start.startswith((b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file", HDF5))


def _read(path: Path, modalities: Sequence[str] | None, problems: Problems) -> Dataset:
    files = _group(path)
    return read_files(files, _name(files[0]), problems, modalities)


def read_files(
    files: Sequence[Path], name: str, problems: Problems, modalities: Sequence[str] | None = None
) -> Dataset:
    """The data set that some files hold together.

    Args:
        files: Matlab or HDF5 files.
        name: What to call the data.
        problems: Where to report bad rows.
        modalities: Which to read; all that are there by default.

    Raises:
        DataError: If no modality is found, or parts do not fit each other.
    """
    found = _variables(files)
    known = [role for role in ("image", "text") if any(one.role == role for one in found)]
    if not known:
        raise DataError(f"{files[0]}: holds neither IAll nor TAll or YAll, so there is no modality to read.")
    wanted = chosen(modalities, known, known) + ["label"] * any(one.role == "label" for one in found)
    halves: dict[str, list[Any]] = {role: [] for role in wanted}
    lengths: dict[str, int] = {}
    for part in sorted({one.part for one in found}, reverse=True):
        here = {one.role: one for one in found if one.part == part and one.role in wanted}
        for role in wanted:
            if role not in here:
                raise DataError(f"{files[0]}: holds no {role} of the {part} items, only of the others.")
        for role, array in _upright({role: here[role] for role in wanted}).items():
            halves[role].append(array)
            lengths[part] = len(array)
    labels = halves.pop("label", None)
    return assemble(
        np.arange(sum(lengths.values())),
        {role: _table(role, parts, files[0].parent, problems) for role, parts in halves.items()},
        problems,
        name=name,
        labels=None if labels is None else _labels(np.concatenate(labels)),
        split=np.repeat(list(lengths), list(lengths.values())) if "" not in lengths else None,
    )


def _files(folder: Path) -> list[Path]:
    here = [file for file in folder.iterdir() if file.suffix.lower() in ENDINGS]
    return sorted(here + [file for file in folder.glob("?All/**/*") if file.suffix.lower() in ENDINGS])


def _group(path: Path) -> list[Path]:
    """The files of one data set: all in a folder, or those that go with the one that is named."""
    if not path.is_dir() and _name(path) == path.stem:
        return [path]
    files = _files(path if path.is_dir() else path.parent)
    if not path.is_dir():
        return [file for file in files if _name(file) == _name(path)]
    if len(names := sorted({_name(file) for file in files})) > 1:
        raise DataError(f"{path}: holds several data sets ({', '.join(names)}). Name one of the files.")
    return files


def _name(file: Path) -> str:
    """What comes before the hyphen, or the name of the folder where files are named for what they hold."""
    if (match := _SET.fullmatch(file.stem)) is not None:
        return match["name"]
    return file.resolve().parent.name if _place(file.stem) is not None else file.stem


def _place(variable: str) -> tuple[str, str, int] | None:
    """What a name says that a variable holds: its role, which part of the items, and how much it is preferred."""
    for role, patterns in _VARIABLES.items():
        for rank, pattern in enumerate(patterns):
            if (match := re.fullmatch(pattern, variable, re.IGNORECASE)) is not None:
                half = match[1].lower() if match.groups() else None
                return role, "" if half is None else "test" if half in _TEST else "train", rank
    return None


def _variables(files: Sequence[Path]) -> list[_Found]:
    """One variable for each role and part: all items at once where every role has that, else in halves."""
    best: dict[tuple[str, str], _Found] = {}
    for file in files:
        for variable, array in variables_in(file).items():
            if (place := _place(variable)) is not None:
                one = _Found(*place, file, variable, array)
                other = best.setdefault(place[:2], one)
                if other is not one and other.rank == one.rank:
                    raise DataError(
                        f'{file}: "{variable}" is a second {one.role} beside that in {other.file.name}. Name one file.'
                    )
                best[place[:2]] = min(one, other, key=lambda found: found.rank)
    whole = {role for role, part in best if not part}
    return [one for one in best.values() if bool(one.part) != (whole == {role for role, _ in best})]


def _upright(found: dict[str, _Found]) -> dict[str, NDArray[Any]]:
    """Arrays with a row per item; what lies on its side is turned where the others say how many items there are."""
    for one in found.values():
        shape = one.array.shape
        if len(shape) != 2 and one.array.dtype.kind not in "OU":
            raise ShapeError(
                f"{one.file}: holds an array of shape {shape}. A matrix (items, width) is needed; pictures as pixels "
                "go into picture files with a manifest instead, or their features beside them as XAll."
            )
    arrays = {role: _content(one) for role, one in found.items()}
    shapes = [set(array.shape) for array in arrays.values()]
    if len({len(array) for array in arrays.values()}) > 1 and len(shared := set.intersection(*shapes)) == 1:
        arrays = {role: array if len(array) in shared else array.T for role, array in arrays.items()}
    first = next(iter(arrays))
    for role, array in arrays.items():
        if len(array) != len(arrays[first]):
            raise ShapeError(f"{found[role].file}: has {len(array)} rows, where {first} has {len(arrays[first])}.")
    return arrays


def _content(one: _Found) -> NDArray[Any]:
    """A matrix of numbers; or the texts of each item in an array of lists."""
    array = one.array.load()
    if array.dtype.kind in "biuf":
        return array
    cells = array.reshape(-1)
    texts = [[str(text).strip() for text in np.asarray(cell).reshape(-1)] for cell in cells.tolist()]
    if one.role == "label" or array.dtype.kind not in "OU" or not all(_is_text(cell) for cell in cells.tolist()):
        raise DataError(f"{one.file}: holds {array.dtype} where a matrix of numbers is needed (items, width).")
    lists = np.empty(len(texts), dtype=object)
    lists[:] = texts
    return lists


def _is_text(cell: Any) -> bool:
    return np.asarray(cell).dtype.kind == "U"


def _table(role: str, parts: list[NDArray[Any]], folder: Path, problems: Problems) -> Observations:
    array = np.concatenate(parts)
    if array.dtype.kind != "O":
        return Observations(array, np.arange(len(array)))
    content, item = [], []
    for row, texts in enumerate(array):
        for text in filter(None, texts):
            if role == "image" and not (folder / text).is_file():
                problems.report(f"row {row}: there is no picture {folder / text}.", row)
            else:
                content.append(str(folder / text) if role == "image" else text)
                item.append(row)
    return Observations(strings(content), np.array(item, dtype=np.int64))


def _labels(array: NDArray[Any]) -> Labels:
    """Multi-hot, or one column with the number of the class."""
    if array.shape[1] == 1 and array.max(initial=0) > 1:
        return Labels.from_lists([[f"class {value}"] for value in array[:, 0].astype(int).tolist()])
    return Labels.from_multihot(array)


MAT = Reader(
    "mat",
    "Matlab or HDF5 as the field shares it: <name>-iall.mat or -xall.mat, -tall.mat or -yall.mat, -lall.mat; or halves",
    _matches,
    _read,
)
