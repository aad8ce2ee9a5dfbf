"""Arrays inside ``.npz`` archives and folders of ``.npy`` files, mapped into memory where they lie uncompressed."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from amodal.errors import DataError

__all__ = ["Array", "Stack", "arrays_in"]


@dataclass(frozen=True)
class Array:
    """An array that is known by shape and dtype, and loaded or mapped when asked for."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], NDArray[Any]]

    @property
    def features(self) -> bool:
        """Whether it could be a modality: numbers, on two or three axes."""
        return len(self.shape) in (2, 3) and self.dtype.kind in "biuf"


class Stack:
    """Arrays one behind the other as if they were one; none is copied. The rows of an index are read, and only those.

    Args:
        arrays: Arrays of the same shape but for the number of rows.
    """

    def __init__(self, arrays: Sequence[NDArray[Any]]) -> None:
        self.arrays = tuple(arrays)
        self.starts = np.cumsum([0, *(len(array) for array in arrays)])
        self.shape = (int(self.starts[-1]), *arrays[0].shape[1:])
        self.dtype, self.ndim = np.result_type(*(array.dtype for array in arrays)), len(self.shape)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        wanted = np.asarray(rows)
        flat = wanted.reshape(-1)
        found = np.empty((len(flat), *self.shape[1:]), dtype=self.dtype)
        owner = np.searchsorted(self.starts, flat, side="right") - 1
        for k in np.unique(owner).tolist():
            mine = np.flatnonzero(owner == k)
            found[mine] = self.arrays[k][flat[mine] - self.starts[k]]
        return found.reshape(*wanted.shape, *self.shape[1:])


def arrays_in(path: Path) -> dict[str, Array]:
    """The arrays of an archive or folder by name.

    Raises:
        DataError: If it is damaged, or holds pickled objects.
    """
    arrays = dict(_in_folder(path) if path.is_dir() else _in_archive(path))
    for key, array in arrays.items():
        if array.dtype.hasobject:
            raise DataError(
                f'{path}: array "{key}" holds pickled Python objects, which are never opened. Save it as plain numbers '
                "or strings."
            )
    return arrays


def _in_folder(path: Path) -> Iterator[tuple[str, Array]]:
    for file in sorted(path.glob("*.npy")):
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{file}: is damaged, incomplete or holds Python objects ({error}). Write it again."
            ) from error
        yield file.stem, Array(array.shape, array.dtype, partial(np.asanyarray, array))


def _in_archive(path: Path) -> Iterator[tuple[str, Array]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as member:
                        shape, fortran, dtype = _header(member)
                        skip = member.tell()
                    yield info.filename[:-4], Array(shape, dtype, _loader(path, info, shape, fortran, dtype, skip))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from error


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    shape, fortran, dtype = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
    return tuple(shape), bool(fortran), dtype


def _loader(
    path: Path, info: zipfile.ZipInfo, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any], skip: int
) -> Callable[[], NDArray[Any]]:
    def load() -> NDArray[Any]:
        try:
            if info.compress_type == zipfile.ZIP_STORED and all(shape) and not fortran:
                offset = _data_offset(path, info) + skip
                return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
            with zipfile.ZipFile(path) as archive, archive.open(info) as member:
                return np.asarray(npy.read_array(member, allow_pickle=False))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise _damaged(path, error) from error

    return load


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin: after its local header, whose two last fields are lengths of what follows."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + int(name) + int(extra)


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: is truncated, damaged or no NumPy archive ({error}). Copy or download it again.")
