"""Who keeps what: a presence mask that can be drawn, applied, saved and loaded by somebody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from amodal.data.assignment import assign
from amodal.data.dataset import Dataset
from amodal.data.sealed import Sealed
from amodal.data.settings import resolve
from amodal.errors import DataError, UsageError

__all__ = ["Mask"]


@dataclass(frozen=True, eq=False)
class Mask(Sealed):
    """Which item keeps which modality, and how that was decided.

    Attributes:
        ids: Ids of the items, shape (n,).
        modalities: Names of the modalities, M of them.
        keeps: Whether the item has the modality afterwards, bool, shape (n, M).
        setting: The setting, as it was asked for.
        seed: Seed of the draw.
        mechanism: Why things went missing, see ``amodal.data.MECHANISMS``.
        strength: How strongly the mechanism acts; None if it is ``random``.
        split: The only split that lost anything, or None for all.
        stratify: "label" if every class was to have the same shares.
        fingerprint: Of the data it was drawn from.
    """

    form: ClassVar[str] = "amodal mask 1"
    kind: ClassVar[str] = "mask file"

    ids: NDArray[np.str_]
    modalities: tuple[str, ...]
    keeps: NDArray[np.bool_]
    setting: str
    seed: int
    mechanism: str
    strength: float | None
    split: str | None
    stratify: str | None
    fingerprint: str

    @classmethod
    def draw(
        cls,
        dataset: Dataset,
        setting: str | None = None,
        *,
        rates: Mapping[str, float] | None = None,
        presence: Mapping[str, float] | None = None,
        seed: int = 0,
        mechanism: str = "random",
        strength: float = 2.0,
        split: str | None = None,
        stratify: str | None = None,
    ) -> Mask:
        """Decide at random, but with exact counts, what each item loses; see ``amodal.incomplete``."""
        if stratify not in (None, "label"):
            raise UsageError(f'stratify="{stratify}" is unknown; it is "label" or None.')
        wanted = resolve(setting, dataset.names, rates=rates, presence=presence)
        present = dataset.presence()
        rows = np.flatnonzero(present.all(axis=1) & _in_split(dataset, split))
        if wanted.partial and not len(rows):
            where = "" if split is None else f' of split "{split}"'
            raise DataError(
                f"no item{where} has all of {', '.join(dataset.names)}, so nothing can be removed: only items that "
                "have everything lose something."
            )
        keeps = present.copy()
        # In the order of the ids, so that the mask does not depend on the order in which items are stored.
        rows = rows[np.argsort(dataset.ids[rows])]
        reduced = assign(dataset, rows, wanted, seed, mechanism, strength, stratify)
        for number, pattern in enumerate(wanted.partial):
            keeps[rows[reduced == number]] = [name in pattern for name in dataset.names]
        return cls(
            dataset.ids,
            dataset.names,
            keeps,
            wanted.name,
            seed,
            mechanism,
            strength if mechanism != "random" else None,
            split,
            stratify,
            dataset.fingerprint(),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self) -> dict[str, int]:
        """Number of items that keep each pattern, for instance ``{"image+text": 10, "image": 45, "text": 45}``."""
        return {"+".join(names): len(ids) for names, ids in self._groups()}

    def apply(self, dataset: Dataset) -> Dataset:
        """Remove from a data set what the mask does not keep.

        Items are found by id, so their order is free, and a part of the items (one split, say) will do.

        Raises:
            DataError: If the mask does not know an item, or is about other modalities.
        """
        if set(dataset.names) != set(self.modalities):
            raise DataError(
                f"the mask is about {', '.join(self.modalities)}, but the data have {', '.join(dataset.names)}. Pick "
                "the same modalities first, for instance with Dataset.only."
            )
        order = np.argsort(self.ids)
        place = np.searchsorted(self.ids, dataset.ids, sorter=order).clip(max=max(len(order) - 1, 0))
        rows = order[place] if len(order) else place
        unknown = self.ids[rows] != dataset.ids if len(order) else np.ones(len(dataset), dtype=bool)
        if unknown.any():
            raise DataError(
                f"the mask was drawn for other data: it does not know {int(unknown.sum())} of {len(dataset)} items "
                f'(first: "{dataset.ids[unknown][0]}"). Draw a mask for these data.'
            )
        columns = [self.modalities.index(name) for name in dataset.names]
        return dataset.keep(self.keeps[rows][:, columns])

    @classmethod
    def _restore(cls, content: Mapping[str, Any]) -> Self:
        names = tuple(content["modalities"])
        groups = [(group["modalities"], group["items"]) for group in content["keeps"]]
        ids = np.array([item for _, items in groups for item in items], dtype=np.str_)
        rows = [[name in kept for name in names] for kept, items in groups for _ in items]
        return cls(
            ids,
            names,
            np.array(rows, dtype=bool).reshape(len(ids), len(names)),
            **{key: content[key] for key in ("setting", "seed", "mechanism", "strength", "split", "stratify")},
            fingerprint=content["data"],
        )

    def _content(self) -> dict[str, Any]:
        return {
            "setting": self.setting,
            "seed": self.seed,
            "mechanism": self.mechanism,
            "strength": self.strength,
            "split": self.split,
            "stratify": self.stratify,
            "modalities": list(self.modalities),
            "data": self.fingerprint,
            "keeps": [{"modalities": list(names), "items": ids} for names, ids in self._groups()],
        }

    def _groups(self) -> list[tuple[tuple[str, ...], list[str]]]:
        """The ids of each pattern that occurs, sorted; patterns with the most modalities first."""
        patterns = {tuple(row) for row in np.unique(self.keeps, axis=0).tolist()}
        return [
            (
                tuple(name for name, kept in zip(self.modalities, pattern, strict=True) if kept),
                np.sort(self.ids[(self.keeps == pattern).all(axis=1)]).tolist(),
            )
            for pattern in sorted(patterns, key=lambda flags: (sum(flags), flags), reverse=True)
        ]


def _in_split(dataset: Dataset, split: str | None) -> NDArray[np.bool_]:
    if split is None:
        return np.ones(len(dataset), dtype=bool)
    return np.isin(dataset.ids, dataset.part(split).ids)
