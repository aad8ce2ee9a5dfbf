"""What a data set holds, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset

__all__ = ["Group", "ModalitySummary", "Summary", "describe"]


@dataclass(frozen=True)
class Group:
    """Some of the items: all, those of a split, or those of a class.

    Attributes:
        items: How many.
        missing: Share of them without each modality, 0 to 1.
        patterns: Number of items by what they have, ``"image+text"`` and so on; those with the most first.
    """

    items: int
    missing: Mapping[str, float]
    patterns: Mapping[str, int]


@dataclass(frozen=True)
class ModalitySummary:
    """One table of observations.

    Attributes:
        items: Items that have any.
        observations: How many there are.
        most: The most that one item has.
        width: Width of the features, or None for raw content.
        kind: Dtype of the features, or "raw".
    """

    items: int
    observations: int
    most: int
    width: int | None
    kind: str


@dataclass(frozen=True)
class Summary:
    """What ``amodal data show`` prints and draws.

    Attributes:
        name: Name of the data.
        all: Every item.
        modalities: By name.
        splits: By name; empty if there are none.
        classes: By name, the largest first; empty if there are no labels. An item with several counts in each.
        labelled: Items whose labels are known.
        labels_per_item: Mean number of classes of those.
        label_density: The same as a share of the classes.
    """

    name: str
    all: Group
    modalities: Mapping[str, ModalitySummary]
    splits: Mapping[str, Group]
    classes: Mapping[str, Group]
    labelled: int
    labels_per_item: float
    label_density: float

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return asdict(self)


def describe(dataset: Dataset) -> Summary:
    """Count what is there and what is missing, over all items and by split and class."""
    presence = dataset.presence()
    splits = (
        {} if dataset.split is None else {name: dataset.split == name for name in np.unique(dataset.split).tolist()}
    )
    classes: dict[str, Group] = {}
    labelled, per_item = 0, 0.0
    if (labels := dataset.labels) is not None:
        columns = labels.matrix.tocsc()
        members = np.split(columns.indices, columns.indptr[1:-1])
        for name, rows in sorted(zip(labels.names, members, strict=True), key=lambda pair: (-len(pair[1]), pair[0])):
            classes[name] = _group(presence[rows], dataset.names)
        labelled = int(labels.known.sum())
        per_item = float(labels.per_row.sum() / max(labelled, 1))
    return Summary(
        name=dataset.name,
        all=_group(presence, dataset.names),
        modalities={name: _modality(dataset, name) for name in dataset.names},
        splits={name: _group(presence[rows], dataset.names) for name, rows in splits.items()},
        classes=classes,
        labelled=labelled,
        labels_per_item=per_item,
        label_density=per_item / max(len(classes), 1),
    )


def _group(presence: NDArray[np.bool_], names: tuple[str, ...]) -> Group:
    rows, counts = np.unique(presence, axis=0, return_counts=True)
    order = np.lexsort((*~rows.T[::-1], -rows.sum(axis=1)))
    missing = 1 - presence.mean(axis=0) if len(presence) else np.zeros(len(names))
    return Group(
        len(presence),
        dict(zip(names, missing.tolist(), strict=True)),
        {"+".join(np.array(names)[rows[k]].tolist()) or "nothing": int(counts[k]) for k in order},
    )


def _modality(dataset: Dataset, name: str) -> ModalitySummary:
    table = dataset[name]
    per_item = np.bincount(table.item, minlength=len(dataset))
    return ModalitySummary(
        items=int((per_item > 0).sum()),
        observations=len(table),
        most=int(per_item.max(initial=0)),
        width=None if table.raw else table.dim,
        kind="raw" if table.raw else str(table.store.dtype),
    )
