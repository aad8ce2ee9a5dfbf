"""What one search sees: a snapshot, and beside it what has been written since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from amodal.index.snapshot import Snapshot
from amodal.index.store import Change

__all__ = ["View", "positions"]


@dataclass(frozen=True)
class View:
    """All entries at one generation. A view never changes; a write makes the next one.

    Attributes:
        generation: Of the last write that is seen.
        snapshot: Entries as they once were.
        kept: Which of the snapshot's rows still hold, bool, shape (n,); None for all.
        ids: Written or deleted since the snapshot, int64, shape (m,), ascending.
        live: Which of ``ids`` exist, bool, shape (m,).
        vectors: Those of ``ids``, shape (m, width); zeros where deleted.
    """

    generation: int
    snapshot: Snapshot
    kept: NDArray[np.bool_] | None
    ids: NDArray[np.int64]
    live: NDArray[np.bool_]
    vectors: NDArray[Any]

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """The view of a snapshot to which nothing was added."""
        return cls(
            snapshot.generation,
            snapshot,
            None,
            snapshot.ids[:0].copy(),
            np.empty(0, np.bool_),
            snapshot.vectors[:0].copy(),
        )

    def after(self, changes: Sequence[Change]) -> View:
        """The view after some writes, oldest first."""
        if not changes:
            return self
        ids, live, vectors = [self.ids], [self.live], [self.vectors]
        for change in changes:
            blank = np.zeros((len(change.ids), self.vectors.shape[1]), self.vectors.dtype)
            ids.append(change.ids)
            live.append(np.full(len(change.ids), change.vectors is not None))
            vectors.append(blank if change.vectors is None else change.vectors)
        in_reverse = np.concatenate(ids)[::-1]
        changed, place = np.unique(in_reverse, return_index=True)  # of several writes of one id the last counts
        last = len(in_reverse) - 1 - place
        replaced = positions(self.snapshot.ids, changed)
        kept = self.kept
        if len(replaced):
            kept = np.ones(len(self.snapshot.ids), np.bool_)
            kept[replaced] = False
        return View(
            changes[-1].generation,
            self.snapshot,
            kept,
            changed,
            np.concatenate(live)[last],
            np.concatenate(vectors)[last],
        )

    def folded(self) -> Snapshot:
        """All entries of this view as one snapshot."""
        kept = slice(None) if self.kept is None else self.kept
        old_ids, new_ids = self.snapshot.ids[kept], self.ids[self.live]
        is_new = np.zeros(len(old_ids) + len(new_ids), np.bool_)
        is_new[np.searchsorted(old_ids, new_ids) + np.arange(len(new_ids))] = True
        ids = np.empty(len(is_new), np.int64)
        ids[is_new], ids[~is_new] = new_ids, old_ids
        vectors = np.empty((len(is_new), self.vectors.shape[1]), self.vectors.dtype)
        vectors[is_new], vectors[~is_new] = self.vectors[self.live], self.snapshot.vectors[kept]
        return Snapshot(self.generation, ids, vectors)


def positions(ascending: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where in an ascending array those of some ids stand that occur in it."""
    places = np.searchsorted(ascending, ids)
    inside = places < len(ascending)
    places = places[inside]
    return np.asarray(places[ascending[places] == ids[inside]])
