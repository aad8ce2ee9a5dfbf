"""The data sets of published tables: what they hold, which files they come in, and how papers divide them.

Nothing is downloaded. A set lies in a folder of its own under the folder that is asked, or is that folder itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from amodal.data.dataset import Dataset
from amodal.data.readers.archive import ARCHIVE
from amodal.data.readers.base import Problems
from amodal.data.readers.mat import read_files
from amodal.errors import DataError, UsageError, nearest

__all__ = ["PUBLISHED", "DataCard", "File", "MissingFiles", "divide", "get_card", "home", "load"]

OURS = "features.npz"  #: features of one's own, in the form that ``save_archive`` writes


class MissingFiles(DataError):
    """A published data set is not where it was looked for."""


@dataclass(frozen=True)
class File:
    """A file of a published data set.

    Attributes:
        names: Names under which it goes around; case does not matter.
        holds: What each variable in it is: "image", "text" or "label".
    """

    names: tuple[str, ...]
    holds: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class DataCard:
    """What is known of a data set that papers print numbers on.

    Attributes:
        slug: Its name in recipes, and the folder to put it in.
        name: Its name in papers.
        summary: One sentence.
        items: How many items papers use.
        classes: Number of classes.
        widths: Width of the features that go around, by modality.
        folders: Other names of its folder.
        forms: Sets of files, each of which is the whole data set.
        source: Who published the raw data.
    """

    slug: str
    name: str
    summary: str
    items: int
    classes: int
    widths: Mapping[str, int]
    folders: tuple[str, ...] = ()
    forms: tuple[tuple[File, ...], ...]
    source: str

    def differences(self, data: Dataset) -> list[str]:
        """What is other in some data than in the published ones, as sentences without a full stop.

        Args:
            data: The data as they were read.
        """
        classes = data.labels.classes if data.labels is not None else 0
        facts = [
            ("items", len(data), self.items),
            ("classes", classes, self.classes),
            *((f"features of {name}", data[name].dim, self.widths[name]) for name in data.names if name in self.widths),
        ]
        return [f"{found:,} {what} where papers have {usual:,}" for what, found, usual in facts if found != usual]

    def megabytes(self) -> float:
        """Size of features and labels as they lie in memory, at 4 bytes a number and 1 a label."""
        return self.items * (4 * sum(self.widths.values()) + self.classes) / 1e6

    def describe(self, file: File) -> str:
        """The names of one of the files, and what is in it.

        Args:
            file: One of a form's.
        """
        width = {**self.widths, "label": self.classes}
        what = ", ".join(f"{variable} ({width[role]:,} columns: {role})" for variable, role in file.holds.items())
        return f"{' or '.join(file.names)}: {what}"


def _apart(name: str, features: str) -> tuple[File, ...]:
    """The three files of the layout with one kind in each."""
    return (
        File((features, f"{name}-iall.mat"), {"XAll or IAll": "image"}),
        File((f"{name}-yall.mat", f"{name}-tall.mat"), {"YAll": "text"}),
        File((f"{name}-lall.mat",), {"LAll": "label"}),
    )


def _halves(names: Mapping[str, str]) -> tuple[File, ...]:
    """A file for each kind and half, named like the variable in it."""
    return tuple(File((f"{name}.mat",), {name: role}) for name, role in names.items())


_WHOLE = {"XAll": "image", "YAll": "text", "LAll": "label"}

PUBLISHED: dict[str, DataCard] = {
    card.slug: card
    for card in (
        DataCard(
            slug="mirflickr25k",
            name="MIRFLICKR-25K",
            summary="Photographs and their tags; 24 labels, several each; the 20,015 items that DCMH kept.",
            items=20_015,
            classes=24,
            widths={"image": 4096, "text": 1386},
            folders=("mirflickr", "flickr25k", "flickr-25k", "flickr", "mirflickr-25k", "cleared-set"),
            forms=(
                _apart("mirflickr25k", "mirflickr25k-iall-vgg.mat"),
                (File(("FLICKR-25K.mat",), {"images": "image", "YAll": "text", "LAll": "label"}),),
            ),
            source="Huiskes, Lew: The MIR Flickr retrieval evaluation, MIR 2008",
        ),
        DataCard(
            slug="nuswide",
            name="NUS-WIDE",
            summary="Photographs and their tags; the 21 most frequent concepts, several each.",
            items=195_834,
            classes=21,
            widths={"image": 4096, "text": 1000},
            folders=("nus-wide", "nus-wide-tc21", "nus_wide"),
            forms=(
                _apart("nus-wide-tc21", "nus-wide-tc21-xall-vgg.mat"),
                (File(("NUS-WIDE-TC21.mat",), {"image": "image", "text": "text", "label": "label"}),),
            ),
            source="Chua et al.: NUS-WIDE: A real-world web image database, CIVR 2009",
        ),
        DataCard(
            slug="nuswide10k",
            name="NUS-WIDE-10K",
            summary="Photographs and their tags; 10 concepts, one each, 1,000 items of each.",
            items=10_000,
            classes=10,
            widths={"image": 4096, "text": 1000},
            folders=("nus-wide-10k", "nus_wide_10k", "nus_deep"),
            forms=(
                _halves(
                    {
                        f"{half}_{name}": role
                        for half in ("train", "test")
                        for name, role in (("img", "image"), ("txt", "text"), ("img_lab", "label"))
                    }
                ),
            ),
            source="Chua et al.: NUS-WIDE: A real-world web image database, CIVR 2009",
        ),
        DataCard(
            slug="mscoco",
            name="MS COCO",
            summary="Photographs and their captions; 80 kinds of objects, several each; items without are left out.",
            items=122_218,
            classes=80,
            widths={"image": 4096, "text": 300},
            folders=("coco", "ms-coco", "ms_coco"),
            forms=(
                (File(("MSCOCO_deep_doc2vec_data_rand.h5py",), _WHOLE),),
                (
                    File(
                        ("MSCOCO_deep_doc2vec_data.h5py",),
                        {
                            "train_imgs_deep, test_imgs_deep": "image",
                            "train_text, test_text": "text",
                            "train_imgs_labels, test_imgs_labels": "label",
                        },
                    ),
                ),
            ),
            source="Lin et al.: Microsoft COCO: Common objects in context, ECCV 2014",
        ),
        DataCard(
            slug="iapr_tc12",
            name="IAPR TC-12",
            summary="Photographs and their descriptions; 255 labels, several each.",
            items=20_000,
            classes=255,
            widths={"image": 4096, "text": 2912},
            folders=("iapr-tc12", "iapr", "iaprtc12", "iapr tc-12"),
            forms=(
                (
                    File(
                        ("iapr-tc12-rand.mat", "iapr-tc12.mat"),
                        {"VDatabase, VTest": "image", "YDatabase, YTest": "text", "databaseL, testL": "label"},
                    ),
                ),
                (File(("IAPR-TC12.mat",), {"IAll": "image", "YAll": "text", "LAll": "label"}),),
            ),
            source="Escalante et al.: The segmented and annotated IAPR TC-12 benchmark, CVIU 2010",
        ),
    )
}
"""The sets by name."""


def get_card(slug: str) -> DataCard:
    """The card of a published data set.

    Raises:
        UsageError: Naming the nearest.
    """
    if slug not in PUBLISHED:
        raise UsageError(nearest(slug, PUBLISHED, what="data set"))
    return PUBLISHED[slug]


def home() -> Path:
    """Where data sets lie by default: the folder in the environment variable AMODAL_DATA, or the current one."""
    return Path(os.environ.get("AMODAL_DATA", "."))


def load(card: DataCard, where: Path | None = None) -> Dataset:
    """Read a published data set from any of its forms, or from ``features.npz`` with features of one's own.

    Args:
        card: Which.
        where: The folder that holds it, or the folder of that; ``home()`` by default.

    Raises:
        MissingFiles: If it is not there; says which files it takes, where they go, and how large they are.
        DataError: If a file is broken.
    """
    where = home() if where is None else where
    for folder in _folders(card, where):
        if (folder / OURS).is_file() and _is_its_own(card, folder):
            return replace(ARCHIVE.read(folder, None, Problems(folder)), name=card.slug)
        here = _by_name(folder)
        for form in card.forms:
            found = [_first(file, here) for file in form]
            files = [path for path in found if path is not None]
            if len(files) == len(form):
                return read_files(files, card.slug, Problems(folder))
    raise MissingFiles(_missing(card, where))


def _folders(card: DataCard, where: Path) -> Iterator[Path]:
    """Where the set may lie: in a folder of any of its names, or right here."""
    if where.is_dir():
        yield from sorted(entry for entry in where.iterdir() if entry.is_dir() and _is_its_own(card, entry))
        yield where


def _is_its_own(card: DataCard, folder: Path) -> bool:
    return folder.resolve().name.lower() in (card.slug, *card.folders)


def _by_name(folder: Path) -> dict[str, Path]:
    return {file.name.lower(): file for file in [*folder.glob("?All/**/*"), *folder.iterdir()] if file.is_file()}


def _first(file: File, here: Mapping[str, Path]) -> Path | None:
    return next((here[name.lower()] for name in file.names if name.lower() in here), None)


def _missing(card: DataCard, where: Path) -> str:
    """What is needed and what of it is there, a line for each file."""
    there = [_by_name(folder) for folder in _folders(card, where)]
    size = f"{card.items:,} items, about {card.megabytes():,.0f} MB in memory"
    lines = [f"{card.name} ({size}) is not complete under {where}. Put one of these into {where / card.slug}:"]
    for number, form in enumerate(card.forms, start=1):
        for file in form:
            state = "found" if any(_first(file, here) for here in there) else "missing"
            lines.append(f"  {number}. {state:7} {card.describe(file)}")
    lines.append(f"  {len(card.forms) + 1}. {OURS}: arrays image and text (items, width), label (items, classes)")
    lines.append(f"Nothing is downloaded. The pictures and words are those of {card.source}.")
    return "\n".join(lines)


def divide(dataset: Dataset, *, queries: int, train: int | None = None) -> Dataset:
    """Divide data as papers do, none of which publishes its rows: one permutation, always the same.

    The first rows of NumPy's legacy permutation with seed 0 are "train", which is the database too; the next ones are
    "test", the queries; what is left is "unused". That is what the released code of CICH does. Where the data come in
    halves large enough, each is drawn from its own.

    Args:
        dataset: All items.
        queries: How many ask.
        train: How many are learned from and searched; all that are no queries by default, or if there are fewer.

    Raises:
        DataError: If there are no more items than queries.

    Example:
        >>> from amodal.data import toy
        >>> divided = divide(toy(50), queries=10, train=30)
        >>> [len(divided.part(name)) for name in ("train", "test", "unused")]
        [30, 10, 10]
    """
    n = len(dataset)
    if queries >= n:
        raise DataError(f"{dataset.name} has {n:,} items, which leaves none to search beside {queries:,} queries.")
    train = n - queries if train is None else min(train, n - queries)
    order = np.random.RandomState(0).permutation(n)
    if dataset.split is not None:
        half = {name: order[dataset.split[order] == name] for name in ("train", "test")}
        if len(half["train"]) >= train and len(half["test"]) >= queries:
            order = np.concatenate([half["train"][:train], half["test"][:queries]])
    split = np.full(n, "unused")
    split[order[:train]], split[order[train : train + queries]] = "train", "test"
    return replace(dataset, split=split)
