"""Labels that are wrong on purpose, as a record that can be drawn, applied, saved and loaded by somebody else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.labels import Labels
from amodal.data.sealed import Sealed
from amodal.data.settings import share_of
from amodal.errors import DataError, nearest

__all__ = ["WrongLabels", "in_split", "rows_of"]


@dataclass(frozen=True, eq=False)
class WrongLabels(Sealed):
    """Which items carry wrong classes, and which.

    Symmetric noise: floor(rate * n) of the n items with known labels lose their classes for as many others, drawn at
    random among those they do not have. With single labels that is ``y' uniform over the classes other than y``; the
    nominal rate is then the true one. (The convention that may draw y again has a true rate of rate * (1 - 1/c).)
    Drawn by id, so that the order of the items does not matter, and nested: what is wrong at rate .2 is wrong in the
    same way at .4, for one seed.

    Attributes:
        ids: Items with wrong labels, in order of id, shape (k,).
        classes: Names of the classes each is said to have.
        rate: Share of the labelled items.
        seed: Seed of the draw.
        split: The only split that got noise, or None for all.
        fingerprint: Of the data it was drawn from.

    Paper: G. Patrini et al., "Making Deep Neural Networks Robust to Label Noise", CVPR 2017 (symmetric noise).
    """

    form: ClassVar[str] = "amodal wrong labels 1"
    kind: ClassVar[str] = "file of wrong labels"

    ids: NDArray[np.str_]
    classes: tuple[tuple[str, ...], ...]
    rate: float
    seed: int
    split: str | None
    fingerprint: str

    @classmethod
    def draw(cls, dataset: Dataset, rate: float, *, seed: int = 0, split: str | None = None) -> WrongLabels:
        """Decide at random, but with an exact count, whose labels are wrong.

        Args:
            dataset: The data, with true labels.
            rate: Share of the labelled items, 0 to 1. An item that has every class, or none, cannot be wrong so; it is
                not counted.
            seed: Of the draw.
            split: Only items of this split; give "train", since test labels are the truth that is measured against.

        Raises:
            UsageError: If the rate is not between 0 and 1, or the split unknown.
            DataError: If the data have no labels.

        Example:
            >>> from amodal.data import toy
            >>> noise = WrongLabels.draw(toy(50), 0.2)
            >>> len(noise.ids), noise.apply(toy(50)).labels.per_row.sum().item()
            (10, 50)
        """
        share, labels = share_of(rate, "the rate of wrong labels"), _labels(dataset)
        able = labels.known & (labels.per_row > 0) & (labels.per_row < labels.classes) & in_split(dataset, split)
        rows = np.flatnonzero(able)
        rows = rows[np.argsort(dataset.ids[rows])]
        rng = np.random.default_rng([seed, 0x776C6162])
        others = rng.random((len(rows), labels.classes), dtype=np.float32) - 2 * labels.dense(rows)
        wrong = np.sort(rng.permutation(len(rows))[: math.floor(share * len(rows))])
        classes = []
        for k in wrong.tolist():
            size = int(labels.per_row[rows[k]])
            # Its own classes lie below 0 and are kept only where there are not as many others.
            classes.append(tuple(labels.names[c] for c in np.sort(np.argsort(-others[k])[:size])))
        return cls(dataset.ids[rows[wrong]], tuple(classes), float(rate), seed, split, dataset.fingerprint())

    def apply(self, dataset: Dataset) -> Dataset:
        """The same data with the wrong labels in place of the true ones; everything else is untouched.

        Raises:
            DataError: If the data lack an item or a class of the record, or have no labels.
        """
        labels = _labels(dataset)
        rows, column = rows_of(self.ids, dataset, "labels"), {name: k for k, name in enumerate(labels.names)}
        matrix = labels.matrix.tolil()
        for row, names in zip(rows.tolist(), self.classes, strict=True):
            for name in names:
                if name not in column:
                    raise DataError(nearest(name, labels.names, what="class") + f" (data: {dataset.name})")
            matrix.rows[row] = sorted(column[name] for name in names)
            matrix.data[row] = [1] * len(names)
        return replace(dataset, labels=Labels.from_multihot(matrix.tocsr(), labels.known, labels.names))

    @classmethod
    def _restore(cls, content: Mapping[str, Any]) -> Self:
        return cls(
            np.array(list(content["classes"]), dtype=np.str_),
            tuple(tuple(names) for names in content["classes"].values()),
            **{key: content[key] for key in ("rate", "seed", "split")},
            fingerprint=content["data"],
        )

    def _content(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "seed": self.seed,
            "split": self.split,
            "data": self.fingerprint,
            "classes": {key: list(names) for key, names in zip(self.ids.tolist(), self.classes, strict=True)},
        }


def rows_of(ids: NDArray[np.str_], dataset: Dataset, what: str) -> NDArray[np.int64]:
    """Where items are in the data.

    Args:
        ids: Of the items, any of them repeatedly.
        dataset: The data.
        what: What is wrong about the items, for the message.

    Raises:
        DataError: If the data lack one of them.
    """
    order = np.argsort(dataset.ids)
    place = np.searchsorted(dataset.ids, ids, sorter=order).clip(max=max(len(order) - 1, 0))
    rows: NDArray[np.int64] = order[place] if len(order) else place
    lost = dataset.ids[rows] != ids if len(order) else np.ones(len(ids), dtype=bool)
    if lost.any():
        raise DataError(
            f"the wrong {what} were drawn for other data: {dataset.name} lacks {len(np.unique(ids[lost]))} of their "
            f'items (first: "{ids[lost][0]}"). Apply them to the data they were drawn for, before any item is taken '
            "away."
        )
    return rows


def in_split(dataset: Dataset, split: str | None) -> NDArray[np.bool_]:
    """Which items are in a split, bool, shape (n,); all of them for None.

    Raises:
        UsageError: If the split is unknown; names those there are.
    """
    return np.isin(dataset.ids, (dataset if split is None else dataset.part(split)).ids)


def _labels(dataset: Dataset) -> Labels:
    if dataset.labels is None:
        raise DataError(f"{dataset.name} has no labels that could be wrong.")
    return dataset.labels
