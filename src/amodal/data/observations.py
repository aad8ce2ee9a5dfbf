"""One modality of a data set: a table of observations, each belonging to an item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.errors import DataError, ShapeError

__all__ = ["Observations"]


@dataclass(frozen=True, eq=False)
class Observations:
    """What was observed of one modality.

    A picture with five captions is one observation in one table and five in another. The features themselves are never
    copied by taking subsets: ``rows`` points into the shared ``store``, which may be an array or a memory map.

    Attributes:
        store: Features, shape (s, d); or parts, shape (s, length, d), such as the regions of a picture and the words of
            a text, where a part that is all zeros is padding; any float dtype. Or raw content still to be encoded,
            shape (s,) of strings (texts or paths of files).
        item: Row of the owning item in the data set, int64, shape (m,).
        rows: Row of each observation in ``store``, int64, shape (m,). All of them in order by default.

    Raises:
        ShapeError: If the shapes do not fit each other.
    """

    store: NDArray[Any]
    item: NDArray[np.int64]
    rows: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.rows is None:
            object.__setattr__(self, "rows", np.arange(len(self.store), dtype=np.int64))
        object.__setattr__(self, "item", np.asarray(self.item, dtype=np.int64))
        object.__setattr__(self, "rows", np.asarray(self.rows, dtype=np.int64))
        if self.item.shape != self._rows.shape or self.item.ndim != 1:
            raise ShapeError(f"{len(self._rows)} observations, but {self.item.shape} item numbers.")
        if self.store.ndim not in (1, 2, 3) or (self.store.ndim == 1 and not self.raw):
            raise ShapeError(
                f"features need shape (m, d) or (m, length, d), raw content (m,) of strings; got {self.store.dtype} "
                f"of shape {self.store.shape}."
            )

    @property
    def _rows(self) -> NDArray[np.int64]:
        assert self.rows is not None  # noqa: S101 - filled in __post_init__
        return self.rows

    @property
    def raw(self) -> bool:
        """Whether the content is text or file names that an encoder has yet to turn into features."""
        return self.store.dtype.kind in "OUS" or self.store.dtype.kind == "T"

    @property
    def dim(self) -> int:
        """Width d of the features; 0 for raw content."""
        return 0 if self.raw else int(self.store.shape[-1])

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, which: Any = slice(None)) -> NDArray[Any]:
        """The chosen observations themselves: float32 features, or raw strings.

        Only the chosen rows are read from a memory map. Values are as they are stored; nothing is checked here.

        Args:
            which: Any index of a vector of length m.
        """
        chosen = self.stored(which)
        return chosen if self.raw else np.asarray(chosen, dtype=np.float32)

    def stored(self, which: Any = slice(None)) -> NDArray[Any]:
        """As ``read``, in the type in which they are stored."""
        return np.asarray(self.store[self._rows[which]])

    def chunks(self, size: int | None = None) -> Any:
        """The observations in order, ``size`` at a time, for passes over data larger than memory.

        Args:
            size: Observations in a chunk; by default 8,192 vectors, or as many parts.
        """
        if size is None:
            size = max(1, 8192 // (self.store.shape[1] or 1)) if self.store.ndim == 3 else 8192
        for start in range(0, len(self), size):
            yield self.read(slice(start, start + size))

    def select(self, which: NDArray[Any]) -> Observations:
        """Some of the observations, by mask or by number, without copying features."""
        return Observations(self.store, self.item[which], self._rows[which])

    def of_items(self, rows: NDArray[np.int64], n: int) -> Observations:
        """The observations of some items, renumbered to the order in which the items are named.

        Args:
            rows: Distinct item rows.
            n: Number of items in the data set.
        """
        new = np.full(n, -1, dtype=np.int64)
        new[rows] = np.arange(len(rows))
        keep = np.flatnonzero(new[self.item] >= 0)
        keep = keep[np.argsort(new[self.item[keep]], kind="stable")]
        return Observations(self.store, new[self.item[keep]], self._rows[keep])

    def check_finite(self, name: str, ids: NDArray[Any]) -> None:
        """Refuse NaN and infinite features.

        Raises:
            DataError: Naming the modality and the first item that holds one.
        """
        if self.raw:
            return
        start = 0
        for chunk in self.chunks():
            bad = ~np.isfinite(chunk).all(axis=tuple(range(1, chunk.ndim)))
            if bad.any():
                row = start + int(np.flatnonzero(bad)[0])
                raise DataError(
                    f'modality "{name}": the features of item "{ids[self.item[row]]}" (observation {row}) hold NaN or '
                    "infinity. Repair that row, or leave it out: read the data with --skip-bad."
                )
            start += len(chunk)
