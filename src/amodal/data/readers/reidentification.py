"""People seen by visible and infrared cameras: the folders of SYSU-MM01 and of RegDB, as their owners give them out.

A picture is an item with one modality, ``visible`` or ``infrared``; nobody knows which pictures belong together, only
who is on them. The attribute ``identity`` says that of every item. Labels, one class for each person, are known for
training items alone: the people of the test are others, and a method must not be told about them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.labels import Labels
from amodal.data.observations import Observations
from amodal.data.readers.base import PICTURES, Problems, Reader, assemble, chosen, strings
from amodal.errors import DataError, UsageError, nearest

__all__ = ["REGDB", "SYSU", "regdb_trial"]

_CAMERAS = {1: "visible", 2: "visible", 3: "infrared", 4: "visible", 5: "visible", 6: "infrared"}
_SIDES = {"visible": "visible", "thermal": "infrared"}
_NAMES = ("visible", "infrared")


def _is_sysu(path: Path) -> bool:
    return (path / "exp" / "test_id.txt").is_file() and any((path / f"cam{k}").is_dir() for k in _CAMERAS)


def _read_sysu(path: Path, modalities: Sequence[str] | None, problems: Problems) -> Dataset:
    """``cam1/0001/0001.jpg`` for identities in ``exp/train_id.txt``, ``val_id.txt`` and ``test_id.txt``."""
    wanted = chosen(modalities, _NAMES, _NAMES)
    files: list[Path] = []
    parts: list[str] = []
    owner: dict[int, str] = {}
    for part in ("train", "val", "test"):
        listing = path / "exp" / f"{part}_id.txt"
        for person in _people(listing) if listing.is_file() or part != "val" else []:
            if owner.setdefault(person, part) != part:
                raise DataError(f"{listing}: person {person} is in {owner[person]}_id.txt too; each is in one list.")
            found = [
                file
                for camera, name in _CAMERAS.items()
                if name in wanted
                for file in sorted((path / f"cam{camera}" / f"{person:04d}").glob("*"))
                if file.suffix.lower() in PICTURES
            ]
            if not found:
                problems.report(f"exp/{listing.name}: person {person} has no picture of {' or '.join(wanted)}.")
            files += found
            parts += [part] * len(found)
    cameras = np.array([int(file.parts[-3][3:]) for file in files], dtype=np.int64)
    return _pictures(
        path,
        [file.relative_to(path).as_posix() for file in files],
        [_CAMERAS[camera] for camera in cameras.tolist()],
        [file.parts[-2] for file in files],
        # The people of val_id.txt are learned from too, 395 in all, as every published table does.
        np.array(["test" if part == "test" else "train" for part in parts], dtype=np.str_),
        {"camera": cameras, "part": np.array(parts, dtype=np.str_)},
        (wanted, problems),
    )


def _people(listing: Path) -> list[int]:
    try:
        return [int(word) for word in re.split(r"[,\s]+", listing.read_text(encoding="utf-8-sig").strip()) if word]
    except (OSError, ValueError) as error:
        raise DataError(f"{listing}: must hold numbers of people apart by commas ({error}).") from error


def _is_regdb(path: Path) -> bool:
    return bool(_trials(path))


def _trials(path: Path) -> list[int]:
    found = (re.fullmatch(r"train_visible_(\d+)\.txt", file.name) for file in (path / "idx").glob("train_visible_*"))
    return sorted(int(match[1]) for match in found if match)


def _read_regdb(path: Path, modalities: Sequence[str] | None, problems: Problems) -> Dataset:
    """``Visible/<person>/x.bmp`` and ``Thermal/<person>/y.bmp``, divided by ``idx/train_visible_1.txt`` and so on."""
    wanted = chosen(modalities, _NAMES, _NAMES)
    trials = {number: _trial(path, number) for number in _trials(path)}
    files = sorted({file for lists in trials.values() for file in lists})
    side = [_SIDES[PurePosixPath(file).parts[0].lower()] for file in files]
    keep = [k for k, name in enumerate(side) if name in wanted]
    files, side = [files[k] for k in keep], [side[k] for k in keep]
    columns = {
        f"trial {number}": np.array([lists.get(file, "unused") for file in files], dtype=np.str_)
        for number, lists in trials.items()
    }
    people = [PurePosixPath(file).parts[-2] for file in files]
    for row, file in enumerate(files):
        if not (path / file).is_file():
            problems.report(f"{file}: is in a list of idx/, but there is no such file.", row)
    return _pictures(path, files, side, people, columns[f"trial {min(trials)}"], columns, (wanted, problems))


def _trial(path: Path, number: int) -> dict[str, str]:
    """Pictures of one trial, and the part each is in."""
    lists: dict[str, str] = {}
    people: dict[str, str] = {}
    for part in ("train", "test"):
        for side in _SIDES:
            listing = path / "idx" / f"{part}_{side}_{number}.txt"
            try:
                lines = listing.read_text(encoding="utf-8-sig").splitlines()
            except OSError as error:
                raise DataError(f"{listing}: cannot be read ({error.strerror}); a trial has four lists.") from error
            for place, line in enumerate(lines, start=1):
                words = line.split()
                if not words:
                    continue
                folders = PurePosixPath(words[0]).parts
                if len(folders) < 3 or folders[0].lower() != side:
                    raise DataError(
                        f'{listing}, line {place}: names "{words[0]}"; it must name a picture as '
                        f"{side.title()}/<person>/<picture>."
                    )
                if people.setdefault(folders[-2], part) != part:
                    raise DataError(
                        f"{listing}, line {place}: person {folders[-2]} is in the training list of this trial too."
                    )
                lists[words[0]] = part
    return lists


def _pictures(
    path: Path,
    files: list[str],
    modality: list[str],
    people: list[str],
    split: NDArray[np.str_],
    attributes: Mapping[str, NDArray[Any]],
    asked: tuple[list[str], Problems],
) -> Dataset:
    """The data set of all pictures, an item each."""
    wanted, problems = asked
    if not files:
        raise DataError(f"{path}: holds none of the pictures that its lists name.")
    tables = {}
    for name in wanted:
        rows = np.array([row for row, other in enumerate(modality) if other == name], dtype=np.int64)
        rows = np.setdiff1d(rows, sorted(problems.rows))
        tables[name] = Observations(strings([str(path / files[row]) for row in rows]), rows)
    return assemble(
        [str(PurePosixPath(file).with_suffix("")) for file in files],
        tables,
        problems,
        name=path.resolve().name,
        labels=_taught(people, split),
        split=split,
        attributes={"identity": np.array(people, dtype=np.str_), **attributes},
        place=files.__getitem__,
    )


def _taught(people: Sequence[str], split: NDArray[np.str_]) -> Labels:
    """Labels of the people that are learned from; those of the others are not known."""
    return Labels.from_lists(
        [[person] if part == "train" else None for person, part in zip(people, split.tolist(), strict=True)]
    )


def regdb_trial(dataset: Dataset, number: int) -> Dataset:
    """RegDB as one of its ten trials divides it: half of the people to learn from, the others for the test.

    Args:
        dataset: RegDB, as ``read`` gives it (which is the first trial), or with features instead of pictures.
        number: Of the trial, from 1.

    Returns:
        The same items with the split of that trial, and labels for its training items.

    Raises:
        UsageError: If there is no such trial.
        DataError: If the data do not say who is on the pictures.

    Paper: D. T. Nguyen, H. G. Hong, K. W. Kim, K. R. Park, "Person Recognition System Based on a Combination of Body
    Images from Visible Light and Thermal Cameras", Sensors 17(3), 2017; the ten divisions are those of M. Ye et al.,
    AAAI 2018.
    """
    if f"trial {number}" not in dataset.attributes:
        known = [name for name in dataset.attributes if name.startswith("trial ")]
        raise UsageError(nearest(f"trial {number}", known, what="trial") + f" (data: {dataset.name})")
    if "identity" not in dataset.attributes:
        raise DataError(f'{dataset.name} has no attribute "identity" that says who is on each picture.')
    split = dataset.attributes[f"trial {number}"].astype(np.str_)
    return replace(dataset, split=split, labels=_taught(dataset.attributes["identity"].tolist(), split))


SYSU = Reader(
    "sysu-mm01",
    "the folder of SYSU-MM01: cam1/0001/0001.jpg and so on, with exp/train_id.txt, val_id.txt and test_id.txt",
    _is_sysu,
    _read_sysu,
)

REGDB = Reader(
    "regdb",
    "the folder of RegDB: Visible/ and Thermal/, with idx/train_visible_1.txt and so on for each trial",
    _is_regdb,
    _read_regdb,
)
