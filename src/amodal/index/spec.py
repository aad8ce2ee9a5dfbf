"""What an index holds: its kind of vectors, their size, the attributes of an entry, and the model they came from."""

from __future__ import annotations

import json
import keyword
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from amodal.codes import BinaryCodes, Embeddings
from amodal.errors import DataError, ShapeError, UsageError, nearest

__all__ = ["ATTRIBUTE_TYPES", "IndexSpec", "Scalar", "Value", "Vectors"]

Scalar = str | int | float | bool | None
Value = Scalar | tuple[str, ...]
Vectors = BinaryCodes | Embeddings | NDArray[Any]

ATTRIBUTE_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {"str": (str,), "int": (int,), "float": (float, int), "bool": (bool,), "texts": (tuple,)}
)
_RESERVED = ("id", "key", "vector")
_MOST_BITS = 32_768  # a distance and its "none" must fit 16 bits


@dataclass(frozen=True)
class IndexSpec:
    """What an index was made for. It is stored with the index and never changes.

    Attributes:
        kind: "binary" (packed codes, Hamming distance) or "float" (unit vectors, cosine distance).
        bits: Code length of a binary index; need not be a multiple of 8.
        dim: Width of a float index.
        attributes: Name and type of everything an entry may carry besides its vector, for instance
            ``{"item": "str", "labels": "texts"}``: "str", "int", "float", "bool", or "texts" for several texts, of
            which a filter asks for one. Every value may be missing (None).
        lookups: Attributes by which single entries are found often. They cost a search tree each on writing, and
            ``ids(where=Field("item") == ...)`` then does not read all rows.
        fingerprint: Of the model whose vectors these are; "" if no model made them.

    Raises:
        UsageError: If kind, size or an attribute's name or type cannot be.

    Example:
        >>> IndexSpec("binary", bits=64, attributes={"modality": "str"}).row_bytes
        8
    """

    kind: Literal["binary", "float"]
    bits: int | None = None
    dim: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    lookups: tuple[str, ...] = ()
    fingerprint: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", dict(self.attributes))
        object.__setattr__(self, "lookups", tuple(self.lookups))
        if self.kind == "binary":
            if self.dim is not None or self.bits is None or not 1 <= self.bits <= _MOST_BITS:
                raise UsageError(f"a binary index needs bits from 1 to {_MOST_BITS} and no dim; got bits={self.bits}.")
        elif self.kind == "float":
            if self.bits is not None or self.dim is None or self.dim < 1:
                raise UsageError(f"a float index needs dim of at least 1 and no bits; got dim={self.dim}.")
        else:
            raise UsageError(nearest(str(self.kind), ["binary", "float"], what="kind of index"))
        self._check_attributes()

    def _check_attributes(self) -> None:
        for name, kind in self.attributes.items():
            if not name.isidentifier() or keyword.iskeyword(name) or name.lower() in _RESERVED:
                raise UsageError(
                    f'an attribute cannot be called "{name}": use letters, digits and _, and neither '
                    f"{', '.join(_RESERVED)} nor a word of the Python language."
                )
            if kind not in ATTRIBUTE_TYPES:
                raise UsageError(f'attribute "{name}": ' + nearest(str(kind), ATTRIBUTE_TYPES, what="type"))
        if len({name.lower() for name in self.attributes}) < len(self.attributes):
            raise UsageError(f"attributes that differ only in case cannot be told apart: {', '.join(self.attributes)}.")
        for name in self.lookups:
            if name not in self.attributes:
                raise UsageError(nearest(name, self.attributes, what="attribute in lookups"))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a stored vector's elements: uint8 (packed bits) or float32."""
        return np.dtype(np.uint8 if self.kind == "binary" else np.float32)

    @property
    def width(self) -> int:
        """Elements of a stored vector: ceil(bits / 8) or dim."""
        return -(-self.bits // 8) if self.bits is not None else int(self.dim or 0)

    @property
    def row_bytes(self) -> int:
        """Bytes of a stored vector."""
        return self.width * self.dtype.itemsize

    def rows(self, vectors: Vectors) -> NDArray[Any]:
        """The vectors as the array that is stored, checked against this specification.

        Args:
            vectors: ``BinaryCodes`` or ``Embeddings``, or the bare array: packed uint8, shape (n, ceil(bits / 8)), or
                float32 rows of unit length, shape (n, dim).

        Returns:
            Contiguous array of shape (n, width) and type ``dtype``.

        Raises:
            ShapeError: If bits, width or element type differ from the index's.
            DataError: If a row is not finite, not of unit length, or has a bit set beyond the code length.
        """
        if self.bits is not None:
            codes = vectors if isinstance(vectors, BinaryCodes) else BinaryCodes(self._array(vectors), self.bits)
            if codes.bits != self.bits:
                raise ShapeError(f"the index holds codes of {self.bits} bits; got {codes.bits} bits.")
            beyond = codes.packed[:, -1] & ((1 << (8 * self.width - self.bits)) - 1)
            if beyond.any():
                row = int(np.flatnonzero(beyond)[0])
                raise DataError(f"code row {row} has a bit set beyond its {self.bits} bits; pad with zero bits.")
            return np.ascontiguousarray(codes.packed)
        embeddings = vectors if isinstance(vectors, Embeddings) else Embeddings(self._array(vectors))
        if embeddings.dim != self.dim:
            raise ShapeError(f"the index holds embeddings of width {self.dim}; got width {embeddings.dim}.")
        return embeddings.vectors

    def _array(self, vectors: Any) -> NDArray[Any]:
        if isinstance(vectors, BinaryCodes | Embeddings):
            raise ShapeError(f"a {self.kind} index does not take {type(vectors).__name__}.")
        array = np.asarray(vectors)
        if array.ndim != 2 or array.dtype != self.dtype:
            raise ShapeError(
                f"a {self.kind} index takes {self.dtype} arrays of shape (n, {self.width}); "
                f"got {array.dtype} of shape {array.shape}."
            )
        return array

    def to_json(self) -> str:
        """This specification as JSON text."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The specification that ``to_json`` wrote."""
        return cls(**json.loads(text))
