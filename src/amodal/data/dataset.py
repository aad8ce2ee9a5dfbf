"""Items, and what was observed of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.data.labels import Labels
from amodal.data.observations import Observations
from amodal.errors import DataError, MissingModality, UsageError, nearest

__all__ = ["Dataset"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Items with an id, labels or none, and a table of observations per modality.

    Complete, incomplete, one-to-many and partially aligned data are this one representation: an item that lacks a
    modality has no row in its table; an unpaired caption is an item of its own.

    Attributes:
        ids: Unique ids, strings, shape (n,).
        modalities: Observations by modality name, in the order of the data.
        labels: Labels of the items, or None.
        split: Split name of each item ("train", "test", ...), or None.
        attributes: Further columns, for filters and display; each of shape (n,).
        name: What to call the data in results.

    Raises:
        DataError: If ids repeat, or an observation belongs to no item.
    """

    ids: NDArray[np.str_]
    modalities: Mapping[str, Observations]
    labels: Labels | None = None
    split: NDArray[np.str_] | None = None
    attributes: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    name: str = "data"

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", np.asarray(self.ids, dtype=np.str_))
        unique, counts = np.unique(self.ids, return_counts=True)
        if len(unique) != len(self.ids):
            raise DataError(
                f'{int((counts > 1).sum())} ids stand for several items (first: "{unique[counts > 1][0]}").'
            )
        for name, observations in self.modalities.items():
            if len(observations) and not 0 <= observations.item.min() <= observations.item.max() < len(self):
                raise DataError(f'modality "{name}" has observations of items beyond the {len(self)} there are.')
        for what, column in {"labels": self.labels, "split": self.split, **self.attributes}.items():
            if column is not None and len(column) != len(self):
                raise DataError(f"{what} has {len(column)} rows for {len(self)} items.")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, modality: str) -> Observations:
        if modality not in self.modalities:
            raise MissingModality(nearest(modality, self.modalities, what="modality") + f" (data: {self.name})")
        return self.modalities[modality]

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities, in the order of the data."""
        return tuple(self.modalities)

    def present(self, modality: str) -> NDArray[np.bool_]:
        """Which items have at least one observation of a modality, bool, shape (n,)."""
        flags = np.zeros(len(self), dtype=bool)
        flags[self[modality].item] = True
        return flags

    def presence(self) -> NDArray[np.bool_]:
        """Presence of every modality, bool, shape (n, M), columns in the order of ``names``."""
        return np.stack([self.present(name) for name in self.names], axis=1)

    def take(self, rows: NDArray[Any]) -> Dataset:
        """Some items, by mask or by number, in the order named; features are not copied."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            ids=self.ids[rows],
            modalities={name: table.of_items(rows, len(self)) for name, table in self.modalities.items()},
            labels=self.labels.take(rows) if self.labels is not None else None,
            split=self.split[rows] if self.split is not None else None,
            attributes={name: column[rows] for name, column in self.attributes.items()},
        )

    def part(self, split: str) -> Dataset:
        """The items of one split.

        Raises:
            UsageError: If the data have no such split; names those there are.
        """
        known = [] if self.split is None else sorted(set(self.split.tolist()))
        if self.split is None or split not in known:
            raise UsageError(nearest(split, known, what="split") + f" (data: {self.name})")
        return self.take(self.split == split)

    def only(self, **columns: str) -> Dataset:
        """Some modalities, renamed if need be.

        Args:
            columns: New name = name in the data, for instance ``image="image", text="text_minilm"``.
        """
        return replace(self, modalities={new: self[old] for new, old in columns.items()})

    def keep(self, mask: NDArray[np.bool_]) -> Dataset:
        """Remove the observations that a presence mask lacks; the items stay.

        Args:
            mask: Bool, shape (n, M), columns in the order of ``names``.
        """
        tables = {
            name: table.select(np.flatnonzero(mask[table.item, m]))
            for m, (name, table) in enumerate(self.modalities.items())
        }
        return replace(self, modalities=tables)

    def with_tables(self, tables: Mapping[str, Observations]) -> Dataset:
        """The same items with other observations."""
        return replace(self, modalities=tables)

    def with_classes(self, names: Sequence[str]) -> Dataset:
        """The same items with some label columns only, in the order named.

        Raises:
            UsageError: If a class is unknown; names the nearest.
        """
        if self.labels is None:
            return self
        for name in names:
            if name not in self.labels.names:
                raise UsageError(nearest(name, self.labels.names, what="class"))
        columns = [self.labels.names.index(name) for name in names]
        return replace(self, labels=Labels(self.labels.matrix[:, columns].tocsr(), self.labels.known, tuple(names)))

    def seen_classes(self) -> Dataset:
        """The same items without the label columns that no item has; nothing can be learned about those."""
        if self.labels is None:
            return self
        seen = np.asarray(self.labels.matrix.sum(axis=0)).ravel() > 0
        return self.with_classes([name for name, here in zip(self.labels.names, seen, strict=True) if here])

    def fingerprint(self) -> str:
        """A hash of what a result depends on: ids, presence, labels and split, and a sample of the features.

        Features are sampled (64 rows of each modality) so that the hash stays cheap on data larger than memory.
        """
        digest = hashlib.sha256()
        digest.update("\0".join(self.ids.tolist()).encode())
        for name, table in self.modalities.items():
            digest.update(name.encode() + table.item.tobytes())
            sample = (
                table.read(np.unique(np.linspace(0, max(len(table) - 1, 0), 64, dtype=np.int64))) if len(table) else ""
            )
            digest.update(
                sample.tobytes() if isinstance(sample, np.ndarray) and not table.raw else repr(sample).encode()
            )
        if self.labels is not None:
            digest.update(self.labels.matrix.indices.tobytes() + self.labels.matrix.indptr.tobytes())
            digest.update(self.labels.known.tobytes() + "\0".join(self.labels.names).encode())
        if self.split is not None:
            digest.update("\0".join(self.split.tolist()).encode())
        return digest.hexdigest()
