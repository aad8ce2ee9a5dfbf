"""What a reader is, how one is found, and what every reader checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.labels import Labels
from amodal.data.observations import Observations
from amodal.errors import DataError, MissingModality, nearest

__all__ = ["PICTURES", "Problems", "Reader", "assemble", "chosen", "locate", "read_text", "strings"]


PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
"""Endings of picture files."""


@dataclass
class Problems:
    """What was wrong with some rows: the first one ends the reading, unless bad rows are to be skipped.

    Attributes:
        source: The file or folder that is read.
        skip_bad: Leave bad rows out and go on.
        found: A sentence for everything that was left out.
        rows: The rows of which something was left out.
    """

    source: Path
    skip_bad: bool = False
    found: list[str] = field(default_factory=list)
    rows: set[int] = field(default_factory=set)

    def report(self, sentence: str, row: int | None = None) -> None:
        """Note something bad that the caller is about to leave out.

        Args:
            sentence: Where in the source, and what is wrong.
            row: The row that loses something; an item that loses everything so is left out as a whole.

        Raises:
            DataError: Unless bad rows are skipped.
        """
        if not self.skip_bad:
            raise DataError(f"{self.source}, {sentence} Repair it, or leave it out with skip_bad=True (--skip-bad).")
        self.found.append(f"{self.source}, {sentence}")
        if row is not None:
            self.rows.add(row)


@dataclass(frozen=True)
class Reader:
    """One format of data.

    Attributes:
        name: Short name, for lists.
        description: What the format looks like, one line.
        matches: Whether a file or folder looks like it; decides by content where it can.
        read: From a path, the modalities asked for (None for all) and the problems met, to a data set.
    """

    name: str
    description: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, Sequence[str] | None, Problems], Dataset]


def locate(path: str | Path) -> Path:
    """The path itself, or a name among the data sets under the folder in the environment variable AMODAL_DATA.

    Raises:
        DataError: If there is neither; lists the names there are.
    """
    home = os.environ.get("AMODAL_DATA")
    for candidate in (Path(path), *([Path(home) / path] if home else [])):
        if candidate.is_dir() or (candidate.exists() and candidate.stat().st_size):
            return candidate
        if candidate.exists():
            raise DataError(f"{candidate}: is empty. Was it copied completely?")
    if home and Path(home).is_dir() and len(Path(path).parts) == 1:
        names = [entry.name for entry in Path(home).iterdir() if entry.is_dir()]
        raise DataError(f"there is no file {path}; " + nearest(str(path), names, what="data set") + f" (under {home})")
    raise DataError(f"{path}: there is no such file or folder.")


def chosen(modalities: Sequence[str] | None, default: Sequence[str], known: Sequence[str]) -> list[str]:
    """The modalities to read: those asked for, or all that the data show by themselves.

    Raises:
        MissingModality: If one that was asked for is not there.
    """
    for name in modalities or ():
        if name not in known:
            raise MissingModality(nearest(name, known, what="modality"))
    return list(default if modalities is None else modalities)


def assemble(
    ids: Sequence[str] | NDArray[Any],
    modalities: Mapping[str, Observations],
    problems: Problems,
    *,
    name: str,
    labels: Labels | None = None,
    split: NDArray[Any] | None = None,
    attributes: Mapping[str, NDArray[Any]] | None = None,
    place: Callable[[int], str] = "row {}".format,
) -> Dataset:
    """A data set from what a reader found, after the checks that hold for every format.

    Ids are there and unique, features finite, and every class of a later split has an example in ``train``. Bad rows,
    features and classes are reported, and left out if they are to be skipped; an item that thereby loses its last
    modality is left out too.

    Args:
        ids: Id of each row.
        modalities: Observations by name.
        problems: Where to report.
        name: Name of the data.
        labels: Labels, or None.
        split: Split names, or None.
        attributes: Further columns.
        place: How to name a row to the user.
    """
    texts = np.asarray(ids).astype(np.str_)
    n = len(texts)
    tables = {key: _finite(key, table, texts, place, problems) for key, table in modalities.items()}
    dataset = Dataset(np.arange(n).astype(np.str_), tables, labels, _text(split), dict(attributes or {}), name)
    nameless = texts == ""
    for row in np.flatnonzero(nameless).tolist():
        problems.report(f"{place(row)}: has no id.", row)
    _, first, group = np.unique(texts, return_index=True, return_inverse=True)
    repeated = np.flatnonzero((first[group] != np.arange(n)) & ~nameless).tolist()
    for row in repeated:
        problems.report(f'{place(row)}: id "{texts[row]}" is already the id of {place(int(first[group[row]]))}.', row)
    keep = np.ones(n, dtype=bool)
    keep[sorted(problems.rows)] = False
    keep |= dataset.presence().any(axis=1)
    keep[repeated] = keep[nameless] = False
    dataset = replace(dataset if keep.all() else dataset.take(keep), ids=texts[keep])
    return replace(dataset, labels=_learnable(dataset, problems))


def _text(column: NDArray[Any] | None) -> NDArray[np.str_] | None:
    return None if column is None else np.asarray(column).astype(np.str_)


def _finite(
    name: str, table: Observations, ids: NDArray[np.str_], place: Callable[[int], str], problems: Problems
) -> Observations:
    if table.raw or table.store.dtype.kind in "biu":
        return table
    start, bad = 0, []
    for chunk in table.chunks():
        finite = np.isfinite(chunk).all(axis=tuple(range(1, chunk.ndim)))
        bad += (start + np.flatnonzero(~finite)).tolist()
        start += len(chunk)
    for observation in bad:
        row = int(table.item[observation])
        problems.report(f'{place(row)}: modality "{name}" of item "{ids[row]}" holds NaN or infinity.', row)
    return table.select(np.delete(np.arange(len(table)), bad)) if bad else table


def _learnable(dataset: Dataset, problems: Problems) -> Labels | None:
    """The labels, without classes that occur but never in ``train``."""
    labels, split = dataset.labels, dataset.split
    if labels is None or split is None or "train" not in split:
        return labels
    seen = np.asarray(labels.matrix[split == "train"].sum(axis=0)).ravel() > 0
    used = np.asarray(labels.matrix.sum(axis=0)).ravel() > 0
    orphans = np.flatnonzero(used & ~seen)
    for k in orphans:
        item = dataset.ids[labels.matrix[:, k].nonzero()[0][0]]
        problems.report(f'class "{labels.names[k]}" has no training example (it occurs first in item "{item}").')
    if not len(orphans):
        return labels
    keep = np.delete(np.arange(labels.classes), orphans)
    return Labels(labels.matrix[:, keep], labels.known, tuple(labels.names[k] for k in keep))


def strings(values: Sequence[str]) -> NDArray[Any]:
    """Raw content as an array of strings; of objects, since fixed widths would pad every text to the longest."""
    return np.array(list(values), dtype=object)


def read_text(file: Path, place: str, row: int, problems: Problems) -> str:
    """The content of a text file, without white space around it; empty, and reported, if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        problems.report(f"{place}: cannot be read as UTF-8 text ({error}).", row)
        return ""
