"""Precomputed regions as the field passes them on: ``<split>_ims.npy`` beside ``<split>_caps.txt``.

``train_ims.npy`` holds the regions of each picture, (n, 36, 2048), and ``train_caps.txt`` a caption in each line. There
are two layouts of it. In one the file of regions has a row per picture, and five lines in a row are its captions. In
the other it has a row per caption, the rows of a picture five times over. Which it is, the numbers of rows and lines
say; where they are equal, the rows themselves. A row per caption without repetition is a picture with one caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.observations import Observations
from amodal.data.readers.arrays import Stack
from amodal.data.readers.base import Problems, Reader, assemble, chosen, strings
from amodal.errors import DataError, ShapeError

__all__ = ["REGIONS"]

_IMAGES, _CAPTIONS = "_ims.npy", "_caps.txt"
_EACH = 5  # captions of a picture in all the field's data sets
_SAMPLE = 200  # pictures that are compared to tell repeated rows from others


def _matches(path: Path) -> bool:
    return path.is_dir() and any(path.glob(f"*{_IMAGES}"))


def _read(path: Path, modalities: Sequence[str] | None, problems: Problems) -> Dataset:
    wanted = chosen(modalities, ("image", "text"), ("image", "text"))
    ids: list[str] = []
    parts: list[str] = []
    regions: list[NDArray[Any]] = []
    rows: list[NDArray[np.int64]] = []
    texts: list[str] = []
    owner: list[int] = []
    for split in _splits(path, problems):
        array, lines = _open(path / f"{split}{_IMAGES}"), _lines(path / f"{split}{_CAPTIONS}")
        picture, each = _layout(array, len(lines), path, split)
        for k, line in enumerate(lines):
            if line:
                texts.append(line)
                owner.append(len(ids) + k // each)
            else:
                problems.report(f"{split}{_CAPTIONS}, line {k + 1}: is an empty caption.", len(ids) + k // each)
        rows.append(sum(map(len, regions)) + picture)
        regions.append(array)
        ids += [f"{split}/{k}" for k in range(len(picture))]
        parts += [split] * len(picture)
    if not regions:
        raise DataError(f"{path}: holds no split with both a file of regions and a file of captions.")
    if len({array.shape[1:] for array in regions}) > 1:
        shapes = ", ".join(
            f"{split}: {array.shape[1:]}" for split, array in zip(dict.fromkeys(parts), regions, strict=True)
        )
        raise ShapeError(f"{path}: pictures must have as many regions of the same width in every split; here {shapes}.")
    store: Any = regions[0] if len(regions) == 1 else Stack(regions)
    tables = {
        "image": Observations(store, np.arange(len(ids)), np.concatenate(rows)),
        "text": Observations(strings(texts), np.array(owner, dtype=np.int64)),
    }
    return assemble(
        ids,
        {name: tables[name] for name in wanted},
        problems,
        name=path.resolve().name,
        split=np.array(parts),
        place=lambda row: f"picture {ids[row]}",
    )


def _splits(path: Path, problems: Problems) -> list[str]:
    """Splits of which regions and captions are there; where one of the two is missing, that is reported."""
    images = {file.name.removesuffix(_IMAGES) for file in path.glob(f"*{_IMAGES}")}
    captions = {file.name.removesuffix(_CAPTIONS) for file in path.glob(f"*{_CAPTIONS}")}
    for split in sorted(images ^ captions):
        there, missing = (_IMAGES, _CAPTIONS) if split in images else (_CAPTIONS, _IMAGES)
        without = "pictures without captions" if split in images else "captions without a picture"
        problems.report(f"{split}{there}: holds {without}, as there is no {split}{missing}.")
    order = {"train": 0, "dev": 1, "val": 1, "test": 2}
    return sorted(images & captions, key=lambda split: (order.get(split, 3), split))


def _open(file: Path) -> NDArray[Any]:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file}: is damaged, incomplete or holds Python objects ({error}). Copy it again.") from error
    if array.ndim != 3 or array.dtype.kind != "f":
        raise ShapeError(
            f"{file}: must hold numbers of shape (pictures, regions, width), not {array.dtype} {array.shape}."
        )
    return np.asanyarray(array)


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as UTF-8 text ({error}).") from error
    # not splitlines, which also divides at characters that occur inside captions
    lines = [line.strip() for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def _layout(array: NDArray[Any], lines: int, path: Path, split: str) -> tuple[NDArray[np.int64], int]:
    """The row of each picture, and how many captions each has."""
    n = len(array)
    if n and lines == _EACH * n:
        return np.arange(n), _EACH
    if n and lines == n:
        return (np.arange(0, n, _EACH), _EACH) if _repeats(array) else (np.arange(n), 1)
    raise ShapeError(
        f"{path}: {split}{_IMAGES} has {n:,} rows and {split}{_CAPTIONS} {lines:,} lines. There must be one line for "
        f"each row, or {_EACH}; so it cannot be told which captions belong to which picture. Copy both again."
    )


def _repeats(array: NDArray[Any]) -> bool:
    """Whether rows come in fives that are the same, by a sample of them."""
    if len(array) % _EACH:
        return False
    first = np.unique(np.linspace(0, len(array) - _EACH, _SAMPLE).astype(np.int64) // _EACH * _EACH)
    return all(bool((array[row] == array[row + 1 : row + _EACH]).all()) for row in first.tolist())


REGIONS = Reader(
    "regions",
    "precomputed regions: <split>_ims.npy (pictures, regions, width) beside <split>_caps.txt, one caption per line",
    _matches,
    _read,
)
