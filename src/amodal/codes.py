"""What every method returns and every index stores: packed binary codes and unit-length embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amodal.errors import DataError, ShapeError

__all__ = ["BinaryCodes", "Codes", "Embeddings", "concatenate"]


@dataclass(frozen=True, eq=False)
class BinaryCodes:
    """Binary codes, eight bits to the byte, most significant bit first.

    Bit k is 1 where the code is +1. Lengths that are no multiple of 8 are padded with zero bits, so a Hamming distance
    between two padded codes is that between the true ones.

    Attributes:
        packed: The codes, uint8, shape (n, ceil(bits / 8)).
        bits: True code length b.

    Raises:
        ShapeError: If ``packed`` is not a uint8 matrix of that width.
    """

    packed: NDArray[np.uint8]
    bits: int

    def __post_init__(self) -> None:
        width = -(-self.bits // 8)
        if self.bits < 1 or self.packed.ndim != 2 or self.packed.shape[1] != width or self.packed.dtype != np.uint8:
            raise ShapeError(
                f"{self.bits} bits need a uint8 matrix with {width} columns; "
                f"got {self.packed.dtype} of shape {self.packed.shape}."
            )

    @classmethod
    def from_signs(cls, array: ArrayLike) -> Self:
        """Pack codes given as -1/+1, as 0/1 or as booleans.

        Args:
            array: Codes, shape (n, b). True, 1 and +1 become bit 1.

        Returns:
            The packed codes.

        Raises:
            ShapeError: If the array is not a matrix with at least one column.
            DataError: If any entry is neither -1/+1 nor 0/1, or the two are mixed; names the first offending row.

        Example:
            >>> BinaryCodes.from_signs([[1, -1, 1, 1, -1, -1, -1, -1]]).packed
            array([[176]], dtype=uint8)
        """
        signs = np.asarray(array)
        if signs.ndim != 2 or signs.shape[1] == 0:
            raise ShapeError(f"codes need shape (n, bits); got {signs.shape}.")
        one = signs == 1
        if signs.dtype != np.bool_:
            other = -1 if bool((signs == -1).any()) else 0
            wrong = ~(one | (signs == other))
            if wrong.any():
                row = int(np.flatnonzero(wrong.any(axis=1))[0])
                raise DataError(
                    f"codes must be -1/+1 or 0/1; row {row} holds {signs[row][wrong[row]][0]!r}. "
                    "For real-valued outputs use BinaryCodes.from_outputs, which takes the sign."
                )
        return cls(np.packbits(one, axis=1), signs.shape[1])

    @classmethod
    def from_outputs(cls, outputs: ArrayLike) -> Self:
        """Take the sign of real-valued outputs: bit 1 where the output is >= 0.

        Args:
            outputs: Real-valued outputs, shape (n, b), finite.

        Returns:
            The packed codes.

        Raises:
            DataError: If an output is NaN or infinite; names the first offending row.
        """
        values = np.asarray(outputs)
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise DataError(f"output row {int(np.flatnonzero(bad)[0])} holds NaN or infinity, so it has no sign.")
        return cls.from_signs(values >= 0)

    def signs(self) -> NDArray[np.int8]:
        """The codes unpacked to -1/+1, int8, shape (n, b)."""
        bits = np.unpackbits(self.packed, axis=1, count=self.bits).astype(np.int8)
        return 2 * bits - 1

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, rows: Any) -> BinaryCodes:
        return BinaryCodes(np.atleast_2d(self.packed[rows]), self.bits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BinaryCodes) and self.bits == other.bits and np.array_equal(self.packed, other.packed)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Real-valued embeddings of unit length, compared by cosine.

    Attributes:
        vectors: float32, shape (n, d), each row of Euclidean length 1.

    Raises:
        ShapeError: If ``vectors`` is not a matrix.
        DataError: If a row is not finite or not of unit length (tolerance 1e-3); names the first such row.
    """

    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2:
            raise ShapeError(f"embeddings need shape (n, d); got {self.vectors.shape}.")
        object.__setattr__(self, "vectors", np.ascontiguousarray(self.vectors, dtype=np.float32))
        lengths = np.linalg.norm(self.vectors, axis=1)
        bad = ~(np.abs(lengths - 1) <= 1e-3)  # written so that NaN counts as bad
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"embedding row {row} has length {lengths[row]:.4g}, not 1. "
                "Use Embeddings.from_vectors to normalise (it refuses NaN and all-zero rows)."
            )

    @classmethod
    def from_vectors(cls, vectors: ArrayLike) -> Self:
        """Scale every row to unit length.

        Args:
            vectors: Finite, not all zero, shape (n, d).

        Returns:
            The embeddings.

        Raises:
            DataError: If a row is NaN, infinite or all zero; names the first such row.
        """
        values = np.asarray(vectors, dtype=np.float64)
        lengths = np.linalg.norm(values, axis=1, keepdims=True)
        bad = ~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(f"vector row {row} is NaN, infinite or all zero, so it has no direction.")
        return cls((values / lengths).astype(np.float32))

    @property
    def dim(self) -> int:
        """Width d."""
        return int(self.vectors.shape[1])

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Any) -> Embeddings:
        return Embeddings(np.atleast_2d(self.vectors[rows]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Embeddings) and np.array_equal(self.vectors, other.vectors)

    __hash__ = None  # type: ignore[assignment]


Codes = BinaryCodes | Embeddings


def concatenate(parts: Sequence[Codes]) -> Codes:
    """Codes of successive blocks of rows as one.

    Args:
        parts: At least one block; all of one kind and length.

    Raises:
        ShapeError: If they are not.
    """
    first = parts[0]
    if isinstance(first, BinaryCodes):
        packed = [part.packed for part in parts if isinstance(part, BinaryCodes) and part.bits == first.bits]
        if len(packed) == len(parts):
            return BinaryCodes(np.concatenate(packed), first.bits)
    else:
        vectors = [part.vectors for part in parts if isinstance(part, Embeddings) and part.dim == first.dim]
        if len(vectors) == len(parts):
            return Embeddings(np.concatenate(vectors))
    raise ShapeError("only codes of one kind and length can be put together.")
