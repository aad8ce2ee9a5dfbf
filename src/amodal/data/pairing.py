"""Pairs that are wrong on purpose (noisy correspondence), drawn here or imported from the files of the field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.noise import in_split, rows_of
from amodal.data.observations import Observations
from amodal.data.sealed import Sealed
from amodal.data.settings import share_of
from amodal.errors import DataError, UsageError, nearest

__all__ = ["WrongPairs"]


@dataclass(frozen=True, eq=False)
class WrongPairs(Sealed):
    """Which observations of one modality are said to belong to an item that is not theirs.

    The items keep their ids, labels and other modalities; observations of ``modality`` move between them. So a moved
    caption stands beside a wrong picture, and under the labels of that picture.

    Attributes:
        modality: Whose observations move.
        ids: The item that each moved observation belongs to in truth, shape (k,).
        numbers: Which observation of that item it is, from 0, int64, shape (k,).
        targets: Id of the item it is given to, shape (k,).
        effective: Share of the observations in question that have a wrong partner.
        rate: Share that was asked for; None for an imported file.
        unit: ``item`` if all observations of an item moved together, else ``observation``.
        seed: Seed of the draw; None for an imported file.
        split: The only split that got noise, or None for all.
        fingerprint: Of the data it was drawn from.

    Paper: Z. Huang et al., "Learning with Noisy Correspondence for Cross-modal Matching", NeurIPS 2021.
    """

    form: ClassVar[str] = "amodal wrong pairs 1"
    kind: ClassVar[str] = "file of wrong pairs"

    modality: str
    ids: NDArray[np.str_]
    numbers: NDArray[np.int64]
    targets: NDArray[np.str_]
    effective: float
    rate: float | None
    unit: str
    seed: int | None
    split: str | None
    fingerprint: str

    @classmethod
    def draw(
        cls,
        dataset: Dataset,
        rate: float,
        modality: str | None = None,
        *,
        unit: str = "item",
        derange: bool = True,
        seed: int = 0,
        split: str | None = None,
    ) -> WrongPairs:
        """Choose floor(rate * n) pairs at random and permute one side among them.

        Args:
            dataset: The data. Items that lack ``modality`` or every other one are no pairs and not counted.
            rate: Share of the pairs, 0 to 1; the literature uses .2, .4, .6 and .8.
            modality: Whose observations move; the last of the data by default.
            unit: What a pair is: ``item`` (all captions of a picture move together) or ``observation`` (each caption
                for itself).
            derange: Nobody keeps its partner, so the effective rate is the nominal one. Otherwise the permutation is a
                plain one, as in the literature, and some stay right; ``effective`` tells.
            seed: Of the draw; the order in which items are stored does not matter.
            split: Only items of this split; give "train", since test pairs are the truth that is measured against.

        Raises:
            UsageError: If a name or the rate makes no sense, or so few pairs are chosen that one cannot be wrong.

        Example:
            >>> from amodal.data import toy
            >>> noise = WrongPairs.draw(toy(50, captions=5), 0.2)
            >>> len(noise.ids), noise.effective
            (50, 0.2)
        """
        if unit not in ("item", "observation"):
            raise UsageError(nearest(unit, ("item", "observation"), what="unit"))
        name, share = modality or dataset.names[-1], share_of(rate, "the rate of wrong pairs")
        item, number = _pairs(dataset, name, split)
        by_id = np.lexsort((number, dataset.ids[item]))
        item, number = item[by_id], number[by_id]
        owners = item[number == 0] if unit == "item" else item
        rng = np.random.default_rng([seed, 0x77726F6E67])
        chosen = rng.permutation(len(owners))[: math.floor(share * len(owners))]
        given = owners.copy()
        given[chosen] = rng.permutation(owners[chosen])
        if derange:
            given[chosen] = _deranged(owners[chosen], given[chosen], rng)
        if unit == "item":
            where = np.arange(len(dataset))
            where[owners] = given
            given = where[item]
        return cls._moved(dataset, name, (item, number, given), float(rate), unit, seed, split)

    @classmethod
    def from_index(
        cls, path: str | Path, dataset: Dataset, modality: str | None = None, *, split: str | None = "train"
    ) -> WrongPairs:
        """Import a noise file of the literature: a NumPy vector that holds a picture's number for each partner.

        Two conventions circulate, and the length tells them apart. One entry for each caption (NCR and what followed
        it, ``t2i_index``): caption i is shown with picture ``index[i]``. One entry for each picture (DECL, RCL,
        ``noise_inx_<rate>.npy``): all captions of picture i are shown with picture ``index[i]``. With one caption for
        each picture the two are the same.

        Args:
            path: The ``.npy`` file.
            dataset: The data, pictures and captions in the order of the files the index was made for.
            modality: The captions; the last modality of the data by default.
            split: The items that the index numbers, in their order; None for all. Those without captions or without
                anything else are not counted.

        Raises:
            DataError: If the file is no vector of whole numbers, its length is neither the number of pictures nor that
                of captions, or a number stands for no picture.

        Reference: the training code of github.com/XLearning-SCU/2021-NeurIPS-NCR and github.com/QinYang79/DECL.
        """
        name = modality or dataset.names[-1]
        item, number = _pairs(dataset, name, split)
        pictures = item[number == 0]
        index = _index(Path(path))
        if len(index) not in (len(pictures), len(item)):
            raise DataError(
                f"{path}: holds {len(index)} numbers, but {dataset.name} has {len(pictures)} items with "
                f'"{name}" in {"all" if split is None else f"split {split}"} and {len(item)} observations of it; a '
                "noise file has one number for each item, or one for each observation. Take the file made for these "
                "data, or name the split it was made for."
            )
        wrong = np.flatnonzero((index < 0) | (index >= len(pictures)))
        if len(wrong):
            raise DataError(
                f"{path}, entry {wrong[0]}: is {index[wrong[0]]}, but there are only items 0 to {len(pictures) - 1}. "
                "Files that number captions instead of pictures (as RDE writes) fit data with one caption an item."
            )
        unit = "observation" if len(index) == len(item) else "item"
        if unit == "item":
            index = np.repeat(index, np.diff(np.append(np.flatnonzero(number == 0), len(item))))
        return cls._moved(dataset, name, (item, number, pictures[index]), None, unit, None, split)

    @classmethod
    def _moved(
        cls,
        dataset: Dataset,
        modality: str,
        moves: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
        rate: float | None,
        unit: str,
        seed: int | None,
        split: str | None,
    ) -> WrongPairs:
        """The record of what really moves among (item, number, given item) of all observations in question."""
        item, number, given = moves
        wrong = np.flatnonzero(item != given)
        wrong = wrong[np.lexsort((number[wrong], dataset.ids[item[wrong]]))]
        return cls(
            modality,
            dataset.ids[item[wrong]],
            number[wrong],
            dataset.ids[given[wrong]],
            len(wrong) / max(len(item), 1),
            rate,
            unit,
            seed,
            split,
            dataset.fingerprint(),
        )

    def apply(self, dataset: Dataset) -> Dataset:
        """The same data with the wrong pairs; no observation and no item is lost, and features are not copied.

        Raises:
            MissingModality: If the data lack the modality.
            DataError: If the data lack an item or an observation of the record.
        """
        table = dataset[self.modality]
        owners, targets = rows_of(self.ids, dataset, "pairs"), rows_of(self.targets, dataset, "pairs")
        short = np.flatnonzero(self.numbers >= np.bincount(table.item, minlength=len(dataset))[owners])
        if len(short):
            raise DataError(
                f'item "{self.ids[short[0]]}" has no observation {self.numbers[short[0]]} of "{self.modality}" that '
                "could have a wrong partner. Apply wrong pairs before anything is removed."
            )
        by_item = np.argsort(table.item, kind="stable")
        given = table.item.copy()
        given[by_item[np.searchsorted(table.item[by_item], owners) + self.numbers]] = targets
        moved = table.select(order := np.argsort(given, kind="stable"))
        return dataset.with_tables(
            {**dataset.modalities, self.modality: Observations(moved.store, given[order], moved.rows)}
        )

    @classmethod
    def _restore(cls, content: Mapping[str, Any]) -> Self:
        moves = content["moves"]
        return cls(
            content["modality"],
            np.array([move[0] for move in moves], dtype=np.str_),
            np.array([move[1] for move in moves], dtype=np.int64),
            np.array([move[2] for move in moves], dtype=np.str_),
            **{key: content[key] for key in ("effective", "rate", "unit", "seed", "split")},
            fingerprint=content["data"],
        )

    def _content(self) -> dict[str, Any]:
        return {
            "modality": self.modality,
            "effective": self.effective,
            "rate": self.rate,
            "unit": self.unit,
            "seed": self.seed,
            "split": self.split,
            "data": self.fingerprint,
            "moves": [
                list(move) for move in zip(self.ids.tolist(), self.numbers.tolist(), self.targets.tolist(), strict=True)
            ],
        }


def _pairs(dataset: Dataset, modality: str, split: str | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Item and number of every observation that has a partner, in the order of the items."""
    partnered = in_split(dataset, split) & (dataset.presence().sum(axis=1) > 1)
    owners = dataset[modality].item
    item = np.sort(owners[partnered[owners]])
    return item, np.arange(len(item)) - np.searchsorted(item, item)


def _deranged(owners: NDArray[np.int64], given: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A permutation of the owners in which nobody keeps its own, from a plain one by exchanging a few.

    Whoever holds its own exchanges with one that neither belongs there nor holds the same; such a one exists as long as
    nobody owns more than half of all, since fewer than n/2 others can hold it.
    """
    most = int(np.unique(owners, return_counts=True)[1].max(initial=0))
    if 2 * most > len(owners):
        raise UsageError(
            f"the rate chooses {len(owners)} pairs, of which {most} belong to one item, so not all of them can be "
            "wrong. Choose a higher rate, or derange=False."
        )
    given = given.copy()
    for stuck in np.flatnonzero(given == owners).tolist():
        if given[stuck] == owners[stuck]:
            able = np.flatnonzero((owners != owners[stuck]) & (given != owners[stuck]))
            other = rng.choice(able)
            given[[stuck, other]] = given[[other, stuck]]
    return given


def _index(path: Path) -> NDArray[np.int64]:
    try:
        index = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as a NumPy file ({error}).") from error
    if not isinstance(index, np.ndarray) or index.ndim != 1 or index.dtype.kind not in "iu":
        shape = f"{index.dtype} of shape {index.shape}" if isinstance(index, np.ndarray) else "several arrays"
        raise DataError(f"{path}: holds {shape}; a noise file is one vector of whole numbers.")
    return index.astype(np.int64)
