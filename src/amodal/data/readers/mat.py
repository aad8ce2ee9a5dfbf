"""Matlab files in the field's layout: ``<name>-iall.mat``, ``<name>-tall.mat`` or ``-yall.mat``, ``<name>-lall.mat``.

They hold ``IAll`` (items, width), ``TAll`` or ``YAll`` (items, tags) and ``LAll`` (items, classes); one file may hold
all of them. Rows are items; there are no ids, so the row number is the id. Both the older format (v5) and the one that
is HDF5 inside (v7.3) are read; which it is, the content says. A file that is absent is a modality that is absent.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from amodal.data.dataset import Dataset
from amodal.data.labels import Labels
from amodal.data.observations import Observations
from amodal.data.readers.base import Problems, Reader, assemble, chosen
from amodal.errors import DataError, ShapeError

__all__ = ["MAT"]

_ROLES = {
    "image": ("iall", "xall", "fall", "images", "image"),
    "text": ("tall", "yall", "tags", "texts", "text"),
    "label": ("lall", "labels", "label"),
}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_Loader = Callable[[], NDArray[Any]]


def _matches(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.mat"))
    with path.open("rb") as file:
        start = file.read(19)
    return path.suffix == ".mat" or start.startswith((b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file", _HDF5))


def _read(path: Path, modalities: Sequence[str] | None, problems: Problems) -> Dataset:
    found: dict[str, tuple[Path, _Loader]] = {}
    for file in _group(path):
        for variable, load in _variables(file):
            role = _role(variable)
            if role in found:
                raise DataError(f'{file}: "{variable}" is a second {role} beside that in {found[role][0].name}.')
            if role:
                found[role] = (file, load)
    known = [role for role in ("image", "text") if role in found]
    if not known:
        raise DataError(f"{path}: holds neither IAll nor TAll or YAll, so there is no modality to read.")
    arrays = {role: _matrix(*found[role]) for role in (*chosen(modalities, known, known), "label") if role in found}
    n = len(next(iter(arrays.values())))
    for role, array in arrays.items():
        if len(array) != n:
            raise ShapeError(f"{found[role][0]}: has {len(array)} rows, where {next(iter(arrays))} has {n}.")
    labels = Labels.from_multihot(arrays.pop("label")) if "label" in arrays else None
    tables = {role: Observations(array, np.arange(n)) for role, array in arrays.items()}
    return assemble(np.arange(n), tables, problems, name=_name(next(iter(found.values()))[0]), labels=labels)


def _group(path: Path) -> list[Path]:
    """The files of one data set: all in a folder, or all that share the name before the last hyphen."""
    files = sorted(path.glob("*.mat")) if path.is_dir() else [path]
    if not path.is_dir() and _role(path.stem.rpartition("-")[2]):
        files = [file for file in sorted(path.parent.glob("*.mat")) if _name(file) == _name(path)]
    names = sorted({_name(file) for file in files})
    if len(names) > 1:
        raise DataError(f"{path}: holds several data sets ({', '.join(names)}). Name one of the files.")
    return files


def _name(path: Path) -> str:
    before, _, last = path.stem.rpartition("-")
    return before if before and _role(last) else path.stem


def _role(variable: str) -> str | None:
    return next((role for role, names in _ROLES.items() if variable.lower() in names), None)


def _variables(file: Path) -> Iterator[tuple[str, _Loader]]:
    """The variables of a file, and how to load each."""
    import h5py
    from scipy import io

    try:
        if h5py.is_hdf5(file):
            with h5py.File(file) as content:
                names = [name for name in content if not name.startswith("#")]
            for name in names:
                yield name, partial(_from_hdf5, file, name)
        else:
            for name, _, _ in io.whosmat(file):
                yield name, partial(_from_v5, file, name)
    except _BROKEN as error:
        raise _damaged(file, error) from error


def _from_v5(file: Path, name: str) -> NDArray[Any]:
    from scipy import io

    value = io.loadmat(file, variable_names=[name])[name]
    return np.asarray(value.toarray() if sparse.issparse(value) else value)


def _from_hdf5(file: Path, name: str) -> NDArray[Any]:
    import h5py

    with h5py.File(file) as content:
        node = content[name]
        if isinstance(node, h5py.Group):  # a sparse matrix, by columns
            rows = int(node.attrs["MATLAB_sparse"])
            pointers = node["jc"][()]
            if "data" not in node:
                return np.zeros((rows, len(pointers) - 1))
            shape = (rows, len(pointers) - 1)
            return np.asarray(sparse.csc_matrix((node["data"][()], node["ir"][()], pointers), shape=shape).toarray())
        # Matlab stores by columns and HDF5 by rows, so the axes come reversed.
        return np.ascontiguousarray(np.asarray(node[()]).T)


def _matrix(file: Path, load: _Loader) -> NDArray[Any]:
    try:
        array = load()
    except _BROKEN as error:
        raise _damaged(file, error) from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{file}: holds {array.dtype} where a matrix of numbers is needed (items, width).")
    if array.ndim != 2:
        raise ShapeError(
            f"{file}: holds an array of shape {array.shape}. A matrix (items, width) is needed; pictures as pixels go "
            "into picture files with a manifest instead."
        )
    return array


_BROKEN = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, NotImplementedError, zlib.error)


def _damaged(file: Path, error: Exception) -> DataError:
    return DataError(f"{file}: is truncated, damaged or no Matlab file ({error}). Copy or download it again.")


MAT = Reader(
    "mat",
    "Matlab v5 or v7.3: <name>-iall.mat, -tall.mat or -yall.mat, -lall.mat",
    _matches,
    _read,
)
