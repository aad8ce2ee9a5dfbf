"""Arrays inside Matlab files, of the older format (v5) and of the one that is HDF5 inside (v7.3), and in plain HDF5."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from amodal.data.readers.arrays import Array
from amodal.errors import DataError

__all__ = ["HDF5", "variables_in"]

HDF5 = b"\x89HDF\r\n\x1a\n"
"""How HDF5 files begin that are no Matlab files."""

_KINDS = {"double": "f8", "single": "f4", "logical": "?", "sparse": "f8", "char": "U1"}
_BROKEN = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, NotImplementedError, zlib.error)


def variables_in(file: Path) -> dict[str, Array]:
    """The variables of a file by name, known by shape and loaded when asked for.

    Shapes are as Matlab says them. What other programs wrote as plain HDF5 is as it lies there.

    Raises:
        DataError: If the file is damaged; the same when a variable is loaded.
    """
    import h5py

    with file.open("rb") as content:
        by_columns = content.read(6) == b"MATLAB"
    with _sound(file):
        return _in_hdf5(file, by_columns) if h5py.is_hdf5(file) else _in_v5(file)


def _in_v5(file: Path) -> dict[str, Array]:
    from scipy import io

    found = {}
    for name, shape, kind in io.whosmat(file):
        # classes that have no dtype of their own (cells, structures) are objects
        dtype = np.dtype(_KINDS.get(kind, kind if "int" in kind else "O"))
        found[name] = Array(tuple(shape), dtype, _sound(file)(partial(_from_v5, file, name)))
    return found


def _from_v5(file: Path, name: str) -> NDArray[Any]:
    from scipy import io

    value = io.loadmat(file, variable_names=[name])[name]
    return np.asarray(value.toarray() if sparse.issparse(value) else value)


def _in_hdf5(file: Path, by_columns: bool) -> dict[str, Array]:
    import h5py

    found = {}
    with h5py.File(file) as content:
        for name, node in content.items():
            load = _sound(file)(partial(_from_hdf5, file, name, by_columns))
            if isinstance(node, h5py.Dataset):
                shape = node.shape[::-1] if by_columns else node.shape
                # references to other parts of the file are cells, which only the older format can hold here
                found[name] = Array(shape, np.dtype("O") if node.dtype.kind == "O" else node.dtype, load)
            elif "MATLAB_sparse" in node.attrs:
                shape = (int(node.attrs["MATLAB_sparse"]), len(node["jc"]) - 1)
                found[name] = Array(shape, np.dtype("f8"), load)
    return found


def _from_hdf5(file: Path, name: str, by_columns: bool) -> NDArray[Any]:
    import h5py

    with h5py.File(file) as content:
        node = content[name]
        if isinstance(node, h5py.Group):  # a sparse matrix, by columns
            pointers = node["jc"][()]
            shape = (int(node.attrs["MATLAB_sparse"]), len(pointers) - 1)
            if "data" not in node:
                return np.zeros(shape)
            return np.asarray(sparse.csc_matrix((node["data"][()], node["ir"][()], pointers), shape=shape).toarray())
        # Matlab stores by columns and HDF5 by rows, so the axes of its files come reversed.
        return np.ascontiguousarray(node[()].T) if by_columns else np.asarray(node[()])


@contextmanager
def _sound(file: Path) -> Iterator[None]:
    """Whatever a broken file makes the libraries raise, as one sentence."""
    try:
        yield
    except _BROKEN as error:
        raise DataError(
            f"{file}: is truncated, damaged or no Matlab file ({error}). Copy or download it again."
        ) from error
