"""Labels of items: sparse multi-hot rows, and which rows are known at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from amodal.errors import ShapeError

__all__ = ["Labels"]


@dataclass(frozen=True, eq=False)
class Labels:
    """Which classes each item belongs to.

    Attributes:
        matrix: Multi-hot labels, CSR, shape (n, c), entries 1.
        known: Whether the labels of a row are known, bool, shape (n,). A known row without any class is possible and
            different from an unknown one.
        names: Class names, c of them, in column order.

    Raises:
        ShapeError: If the three do not fit each other.
    """

    matrix: sparse.csr_matrix
    known: NDArray[np.bool_]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        self.matrix.eliminate_zeros()  # what is stored is a membership: per_row and distinct count stored entries
        n, c = self.matrix.shape
        if len(self.known) != n or len(self.names) != c:
            raise ShapeError(
                f"labels of shape {(n, c)}, but {len(self.known)} known flags and {len(self.names)} names."
            )

    @classmethod
    def from_multihot(
        cls, labels: ArrayLike | sparse.spmatrix, known: ArrayLike | None = None, names: tuple[str, ...] | None = None
    ) -> Labels:
        """Labels from a dense or sparse multi-hot matrix.

        Args:
            labels: Shape (n, c); any non-zero entry means membership.
            known: Bool, shape (n,); every row by default.
            names: Class names; ``class 0`` and so on by default.

        Raises:
            ShapeError: If ``labels`` is no matrix.
        """
        matrix = sparse.csr_matrix(labels if sparse.issparse(labels) else np.atleast_2d(np.asarray(labels) != 0))
        matrix = (matrix != 0).astype(np.uint8).tocsr()
        n, c = matrix.shape
        flags = np.ones(n, dtype=bool) if known is None else np.asarray(known, dtype=bool)
        return cls(matrix, flags, tuple(names) if names else tuple(f"class {k}" for k in range(c)))

    @classmethod
    def from_lists(cls, lists: list[list[str] | None], names: tuple[str, ...] | None = None) -> Labels:
        """Labels from one list of class names per item; ``None`` means unknown.

        Args:
            lists: For each item its class names.
            names: Column order; the names in alphabetical order by default, so that order of rows does not matter.
        """
        order = tuple(sorted({name for row in lists for name in row or ()})) if names is None else tuple(names)
        column = {name: k for k, name in enumerate(order)}
        pairs = [(i, column[name]) for i, row in enumerate(lists) for name in row or ()]
        matrix = sparse.csr_matrix(
            (np.ones(len(pairs), np.uint8), tuple(np.array(pairs, dtype=np.int64).reshape(-1, 2).T)),
            shape=(len(lists), len(order)),
        )
        return cls.from_multihot(matrix, np.array([row is not None for row in lists]), order)

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def classes(self) -> int:
        """Number of classes c."""
        return int(self.matrix.shape[1])

    @property
    def single(self) -> bool:
        """Whether every known row has exactly one class."""
        return bool((self.per_row[self.known] == 1).all())

    @property
    def per_row(self) -> NDArray[np.int64]:
        """Number of classes of each item, shape (n,)."""
        counts: NDArray[np.int64] = np.diff(self.matrix.indptr).astype(np.int64)
        return counts

    def dense(self, rows: Any = slice(None)) -> NDArray[np.float32]:
        """Some rows as a dense multi-hot matrix, float32."""
        return np.asarray(self.matrix[rows].toarray(), dtype=np.float32)

    def take(self, rows: NDArray[np.int64]) -> Labels:
        """Some rows, in the order named."""
        return Labels(self.matrix[rows], self.known[rows], self.names)

    def distinct(self) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """The distinct known, non-empty label vectors, their counts, and which of them each item has.

        This is what replaces every n x n similarity: with U distinct vectors a sum over n targets that are functions of
        the label alone is a weighted sum over U.

        Returns:
            Vectors (U, c) float32; counts (U,); index (n,), -1 for rows that are unknown or have no class.
        """
        index = np.full(len(self), -1, dtype=np.int64)
        rows = np.flatnonzero(self.known & (self.per_row > 0))
        self.matrix.sort_indices()
        pointers = self.matrix.indptr
        seen: dict[bytes, int] = {}
        first: list[int] = []
        for row in rows:
            key = self.matrix.indices[pointers[row] : pointers[row + 1]].tobytes()
            number = seen.setdefault(key, len(seen))
            if number == len(first):
                first.append(int(row))
            index[row] = number
        counts = np.bincount(index[rows], minlength=len(first)).astype(np.int64)
        return self.dense(np.array(first, dtype=np.int64)), counts, index
