"""Picture files that raw modalities point to: are they there, and can they be opened?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from amodal.data.dataset import Dataset
from amodal.data.observations import Observations
from amodal.data.readers.base import PICTURES
from amodal.errors import DataError

__all__ = ["are_pictures", "openable", "opened", "unopenable"]


def are_pictures(table: Observations) -> bool:
    """Whether raw content is paths of pictures: most of it ends like a picture's name."""
    if not table.raw or not len(table):
        return False
    sample = table.read(slice(0, 1000)).tolist()
    return 2 * sum(Path(str(text)[-100:]).suffix.lower() in PICTURES for text in sample) > len(sample)


def opened(table: Observations) -> Iterator[tuple[int, str, str | None, bool]]:
    """Open every picture.

    Every file is decoded, at reduced size where its format allows, so that a truncated one is found too.

    Yields:
        Number of the observation, its path, what is wrong with it if it cannot be opened, and else whether all of it is
        of one colour.
    """
    from PIL import Image

    for number, path in enumerate(table.read().tolist()):
        trouble, plain = None, False
        try:
            with Image.open(path) as picture:
                picture.draft("RGB", (64, 64))
                pixels = np.asarray(picture.convert("RGB"))
            plain = bool((pixels == pixels[0, 0]).all())
        except FileNotFoundError:
            trouble = "is not there"
        # Pillow raises SyntaxError on broken PNG chunks, and its own bomb error is a plain Exception.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            trouble = f"cannot be opened as a picture ({error})"
        yield number, path, trouble, plain


def unopenable(table: Observations) -> Iterator[tuple[int, str, str]]:
    """The pictures that cannot be opened: number of the observation, its path, and what is wrong with it."""
    for number, path, trouble, _ in opened(table):
        if trouble is not None:
            yield number, path, trouble


def openable(dataset: Dataset, *, skip_bad: bool = False, problems: list[str] | None = None) -> Dataset:
    """The data without pictures that cannot be opened; items that thereby lose everything are left out.

    Args:
        dataset: Data whose raw modalities may be paths of pictures; other modalities are not looked at.
        skip_bad: Leave such pictures out; otherwise the first one is an error.
        problems: A list to which a sentence is added for everything that was left out.

    Raises:
        DataError: Naming the first such item and file.
    """
    found = [] if problems is None else problems
    tables, lost = dict(dataset.modalities), np.zeros(len(dataset), dtype=bool)
    for name, table in dataset.modalities.items():
        if not are_pictures(table):
            continue
        good = np.ones(len(table), dtype=bool)
        for number, path, trouble in unopenable(table):
            sentence = f'item "{dataset.ids[table.item[number]]}", {name}: the file {path} {trouble}.'
            if not skip_bad:
                raise DataError(f"{sentence} Replace it, or leave it out with skip_bad=True (--skip-bad).")
            found.append(sentence)
            good[number], lost[table.item[number]] = False, True
        tables[name] = table.select(good)
    kept = replace(dataset, modalities=tables)
    return kept.take(~lost | kept.presence().any(axis=1))
