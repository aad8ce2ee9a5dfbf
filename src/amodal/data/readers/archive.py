"""Features in NumPy's own formats: an ``.npz`` archive, or a folder of ``.npy`` files.

``id (n,)``, ``split (n,)``, ``label (n, c)`` multi-hot or ``(n,)``, ``label_names (c,)``, ``label.known (n,)``; every
other numeric array of two or three axes is a modality with one row per item. ``<modality>.item`` gives the owning item
of each row instead, for gaps and several observations per item. A column of n values is an attribute; other arrays
(vocabularies and the like) are left alone. One array of features beside ``domain (n,)`` is one modality per domain.
Arrays that are stored without compression are mapped, not loaded. Nothing is ever unpickled.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.files import replacing
from amodal.data.labels import Labels
from amodal.data.observations import Observations
from amodal.data.readers.arrays import Array, arrays_in
from amodal.data.readers.base import Problems, Reader, assemble, chosen
from amodal.errors import DataError, ShapeError

__all__ = ["ARCHIVE", "save_archive"]

_RESERVED = ("id", "split", "label", "label_names", "label.known", "domain")


def _matches(path: Path) -> bool:
    if path.is_dir():
        # *_ims.npy beside captions are another format, of readers/regions.py
        arrays = [file for file in path.glob("*.npy") if not file.name.endswith("_ims.npy")]
        return (path / "features.npz").exists() or bool(arrays)
    if path.suffix == ".npz" or not zipfile.is_zipfile(path):
        return path.suffix == ".npz"
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def _read(path: Path, modalities: Sequence[str] | None, problems: Problems) -> Dataset:
    if path.is_dir() and (path / "features.npz").exists():
        path = path / "features.npz"
    arrays = arrays_in(path)
    n = _items(arrays, path)
    tables = _tables(arrays, n, modalities, path)
    used = {*_RESERVED, *tables, *(f"{name}.item" for name in tables)}
    columns = {key: array.load() for key, array in arrays.items() if key not in used and array.shape == (n,)}
    return assemble(
        arrays["id"].load() if "id" in arrays else np.arange(n),
        tables,
        problems,
        name=path.parent.resolve().name if path.name == "features.npz" else path.stem,
        labels=_labels(arrays, n, path),
        split=_column(arrays, "split", n, path),
        attributes=columns,
    )


def _items(arrays: dict[str, Array], path: Path) -> int:
    """Number of items: as many as there are ids, labels or splits, or rows of features."""
    for key in ("id", "label", "split"):
        if key in arrays and arrays[key].shape:
            return arrays[key].shape[0]
    for key, array in arrays.items():
        if array.features and f"{key}.item" not in arrays:
            return array.shape[0]
    raise DataError(
        f"{path}: holds no modality. Expected an array of features (items, width), and beside it id, label and split; "
        f"found: {', '.join(arrays) or 'nothing'}."
    )


def _column(arrays: dict[str, Array], key: str, n: int, path: Path) -> NDArray[Any] | None:
    if key not in arrays:
        return None
    if arrays[key].shape[:1] != (n,):
        raise ShapeError(f'{path}: "{key}" has shape {arrays[key].shape} for {n} items.')
    return arrays[key].load()


def _tables(arrays: dict[str, Array], n: int, modalities: Sequence[str] | None, path: Path) -> dict[str, Observations]:
    free = [key for key in arrays if key not in _RESERVED and not key.endswith(".item")]
    features = [key for key in free if arrays[key].features or f"{key}.item" in arrays]
    domains = _column(arrays, "domain", n, path)
    if domains is not None and len(features) == 1:
        store = _store(arrays, features[0], n, path)
        names = sorted(set(domains.astype(np.str_).tolist()))
        rows = {name: np.flatnonzero(domains.astype(np.str_) == name) for name in names}
        return {name: Observations(store, rows[name], rows[name]) for name in chosen(modalities, names, names)}
    texts = [key for key in free if arrays[key].dtype.kind in "US" and arrays[key].shape[:1] == (n,)]
    names = chosen(modalities, features, [*features, *texts])
    if not names:
        raise DataError(f"{path}: holds no modality, that is no array of features (items, width).")
    return {name: _table(arrays, name, n, path) for name in names}


def _table(arrays: dict[str, Array], name: str, n: int, path: Path) -> Observations:
    owners = f"{name}.item"
    if owners in arrays:
        store, item = arrays[name].load(), arrays[owners].load()
        if item.shape != store.shape[:1] or item.dtype.kind not in "iu":
            raise ShapeError(f'{path}: "{owners}" of shape {item.shape} must number the items of {len(store)} rows.')
        return Observations(store, item)
    store = _store(arrays, name, n, path)
    if store.dtype.kind not in "US":
        return Observations(store, np.arange(n))
    # (n,) or (n, k) texts: one row per text, blank ones are absent
    width = int(np.prod(store.shape[1:], dtype=np.int64))
    flat = store.reshape(-1).astype(np.str_)
    return Observations(flat, np.repeat(np.arange(n), width), None).select(flat != "")


def _store(arrays: dict[str, Array], name: str, n: int, path: Path) -> NDArray[Any]:
    if arrays[name].shape[0] != n:
        raise ShapeError(
            f'{path}: array "{name}" has {arrays[name].shape[0]} rows for {n} items. Give it one row per item, or an '
            f'array "{name}.item" with the item of each row, or name the modalities to read.'
        )
    return arrays[name].load()


def _labels(arrays: dict[str, Array], n: int, path: Path) -> Labels | None:
    values = _column(arrays, "label", n, path)
    if values is None:
        return None
    names = tuple(str(name) for name in arrays["label_names"].load()) if "label_names" in arrays else None
    known = _column(arrays, "label.known", n, path)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f'{path}: "label" holds NaN in row {np.argwhere(~np.isfinite(values))[0][0]}.')
    if values.ndim == 1:
        if values.dtype.kind in "iu" and names is not None and values.max(initial=0) >= len(names):
            raise ShapeError(f'{path}: "label" counts up to {values.max()}, but there are {len(names)} label_names.')
        texts = _class_names(values, names)
        return Labels.from_lists([[text] if text else None for text in texts], names)
    if names is not None and len(names) != values.shape[1]:
        raise ShapeError(f'{path}: "label" has {values.shape[1]} columns, but there are {len(names)} label_names.')
    return Labels.from_multihot(values, known, names)


def _class_names(values: NDArray[Any], names: tuple[str, ...] | None) -> list[str]:
    """The class of each row as text; empty where it is unknown (blank, or a negative number)."""
    if values.dtype.kind in "US":
        return [str(value) for value in values.astype(np.str_)]
    return ["" if value < 0 else names[value] if names else f"class {value}" for value in values.astype(int).tolist()]


def save_archive(dataset: Dataset, path: str | Path) -> None:
    """Write a data set as an ``.npz`` archive that ``amodal.read`` maps into memory.

    Features keep their dtype and are written in chunks. Gaps and several observations per item are kept.

    Args:
        dataset: The data.
        path: Where to; an existing file is replaced once the new one is complete.
    """
    n = len(dataset)
    columns: dict[str, NDArray[Any]] = {"id": dataset.ids}
    if dataset.split is not None:
        columns["split"] = dataset.split
    if dataset.labels is not None:
        columns["label"] = dataset.labels.matrix.toarray().astype(np.uint8)
        columns["label_names"] = np.array(dataset.labels.names, dtype=np.str_)
        columns["label.known"] = dataset.labels.known
    for key, column in dataset.attributes.items():
        columns[key] = column.astype(np.str_) if column.dtype.kind in "OT" else column
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for key, column in columns.items():
            _write(archive, key, column.shape, column.dtype, [column])
        for name, table in dataset.modalities.items():
            if not np.array_equal(table.item, np.arange(n)) or table.raw:
                _write(archive, f"{name}.item", table.item.shape, table.item.dtype, [table.item])
            if table.raw:
                texts = table.read().astype(np.str_)
                _write(archive, name, texts.shape, texts.dtype, [texts])
            else:
                shape = (len(table), *table.store.shape[1:])
                _write(archive, name, shape, table.store.dtype, (c.astype(table.store.dtype) for c in table.chunks()))


def _write(archive: zipfile.ZipFile, key: str, shape: tuple[int, ...], dtype: np.dtype[Any], chunks: Any) -> None:
    with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
        header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_2_0(member, header)
        for chunk in chunks:
            member.write(np.ascontiguousarray(chunk).tobytes())


ARCHIVE = Reader(
    "archive",
    "features as .npz or a folder of .npy: id, split, label, and one array per modality",
    _matches,
    _read,
)
