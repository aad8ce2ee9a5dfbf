"""Readers: from files of any known format to a Dataset. One file per format; ``read`` finds the one that fits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from amodal.data.dataset import Dataset
from amodal.data.readers.archive import ARCHIVE, save_archive
from amodal.data.readers.base import Problems, Reader, locate
from amodal.data.readers.folder import FOLDER
from amodal.data.readers.manifest import MANIFEST
from amodal.data.readers.mat import MAT
from amodal.data.readers.regions import REGIONS
from amodal.data.readers.reidentification import REGDB, SYSU, regdb_trial
from amodal.errors import DataError, UsageError

__all__ = ["READERS", "Reader", "pick", "read", "regdb_trial", "save_archive"]

READERS: dict[str, Reader] = {reader.name: reader for reader in (ARCHIVE, REGIONS, MAT, SYSU, REGDB, MANIFEST, FOLDER)}
"""The formats by name, in the order in which they are tried."""


def read(
    path: str | Path,
    *,
    modalities: Sequence[str] | None = None,
    skip_bad: bool = False,
    problems: list[str] | None = None,
) -> Dataset:
    """Read data of any known format; ``READERS`` says which, and how each looks.

    Args:
        path: A file or folder, or a name under the folder in the environment variable AMODAL_DATA (``wikipedia``).
        modalities: Names of the modalities to read; by default all that the format shows by itself.
        skip_bad: Leave out what cannot be used (a missing file, a NaN feature, a repeated id) and go on.
        problems: A list to which a sentence is added for everything that was left out.

    Raises:
        DataError: If the path does not exist, has no known format, or holds bad rows that are not to be skipped; says
            in which file and row.
        MissingModality: If a modality that was asked for is not there.

    Example:
        >>> from amodal.data import read, save_archive, toy
        >>> save_archive(toy(20), "toy.npz")  # doctest: +SKIP
        >>> len(read("toy.npz"))  # doctest: +SKIP
        20
    """
    place = locate(path)
    for reader in READERS.values():
        if reader.matches(place):
            try:
                return reader.read(place, modalities, Problems(place, skip_bad, [] if problems is None else problems))
            except DataError as error:
                if str(place) in str(error):
                    raise
                raise type(error)(f"{place}: {error}") from error
    known = "; ".join(f"{reader.name} ({reader.description})" for reader in READERS.values())
    raise DataError(f"{place}: has no format that amodal reads. Known: {known}.")


def pick(dataset: Dataset, modalities: str) -> Dataset:
    """Some modalities of a data set, as words: ``"image,text=text_minilm"`` takes text_minilm and calls it text.

    Args:
        dataset: The data.
        modalities: Names apart by commas, or new names with those they have in the data.

    Raises:
        UsageError: If the words make no sense or name a modality twice.
        MissingModality: If the data have no such modality.
    """
    columns: dict[str, str] = {}
    for word in modalities.split(","):
        new, _, old = (part.strip() for part in word.partition("="))
        if not new or new in columns:
            raise UsageError(
                f'modalities "{modalities}": write names apart by commas, each once: image,text=text_minilm'
            )
        columns[new] = old or new
    return dataset.only(**columns)
