"""What a call to ``add`` or ``upsert`` writes, checked before anything is written."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amodal.errors import DataError, ShapeError, UsageError, nearest
from amodal.index.spec import ATTRIBUTE_TYPES, IndexSpec, Scalar, Value, Vectors

__all__ = ["Attributes", "Batch", "Ids", "id_of", "numbered"]

Ids = ArrayLike | Sequence[str]
Attributes = Mapping[str, Scalar | Sequence[Value] | NDArray[Any]]


@dataclass(frozen=True)
class Batch:
    """Entries to be written.

    Attributes:
        ids: int64, shape (n,), unique, not negative.
        keys: The external ids, or None if the caller counts with integers.
        vectors: As the index stores them, shape (n, width).
        columns: The values of every declared attribute, in the order of the specification; None where not given.
    """

    ids: NDArray[np.int64]
    keys: list[str] | None
    vectors: NDArray[Any]
    columns: dict[str, list[Value]]

    @classmethod
    def checked(cls, spec: IndexSpec, ids: Ids, vectors: Vectors, attributes: Attributes | None) -> Batch:
        """The batch, or the reason why it cannot be written.

        Raises:
            DataError: If an id occurs twice or is negative, or a vector or attribute value is not possible.
            ShapeError: If there are not as many ids, vectors and values, or the vectors do not fit the index.
            UsageError: If an attribute is unknown.
        """
        numbers, keys = numbered(ids)
        rows = spec.rows(vectors)
        if len(rows) != len(numbers):
            raise ShapeError(f"{len(numbers)} ids for {len(rows)} vectors.")
        values, counts = np.unique(numbers, return_counts=True)
        if len(values) < len(numbers):
            first = int(np.flatnonzero(np.isin(numbers, values[counts > 1]))[0])
            raise DataError(f"id {keys[first] if keys else int(numbers[first])!r} occurs more than once in one call.")
        given = dict(attributes or {})
        for name in given:
            if name not in spec.attributes:
                raise UsageError(nearest(name, spec.attributes, what="attribute"))
        columns = {name: _column(name, kind, given.get(name), len(numbers)) for name, kind in spec.attributes.items()}
        return cls(numbers, keys, rows, columns)

    def piece(self, start: int, stop: int) -> Batch:
        """The entries from ``start`` up to ``stop``."""
        part = slice(start, stop)
        keys = None if self.keys is None else self.keys[part]
        return Batch(self.ids[part], keys, self.vectors[part], {n: column[part] for n, column in self.columns.items()})

    def check_against(self, known: Mapping[int, str | None], *, replace: bool) -> None:
        """Refuse what may not be written beside what exists.

        Args:
            known: The ids of this batch that exist, with their external ids.
            replace: Whether an entry may replace the one of the same external id.

        Raises:
            DataError: If an id exists (without ``replace``), or belongs to another external id.
        """
        given = zip(self.ids.tolist(), self.keys or repeat(None), strict=False)
        meeting = [(key or number, known[number] or number) for number, key in given if number in known]
        for new, old in meeting:
            if new != old:
                raise DataError(f"ids {new!r} and {old!r} have the same number in every index; rename one of them.")
        if meeting and not replace:
            raise DataError(f"id {meeting[0][0]!r} exists already; use upsert to replace it.")


def id_of(key: str) -> int:
    """The int64 id that a string id has in every index: 63 bits of its BLAKE2b hash.

    Nothing has to be looked up or counted, so every backend and every replica agrees. Two strings with one id are
    refused when the second is written (at ten million entries a chance of about one in 200,000).

    Args:
        key: The external id.

    Returns:
        The id, 0 <= id < 2**63.

    Raises:
        DataError: If the text is not valid Unicode.

    Example:
        >>> id_of("shoe-17")
        6655466331144710633
    """
    return int.from_bytes(hashlib.blake2b(_encoded(key), digest_size=8).digest()) >> 1


def numbered(ids: Ids) -> tuple[NDArray[np.int64], list[str] | None]:
    """Ids as int64, and as they were given if they are strings.

    Args:
        ids: Integers, not negative, or strings; shape (n,).

    Returns:
        The int64 ids, shape (n,), and the strings, or None for integers.

    Raises:
        DataError: If they are neither all integers nor all strings, or one is negative.
    """
    if isinstance(ids, str | bytes):
        raise DataError(f"ids must be a list; got the single text {ids!r}.")
    array = np.asarray(ids)
    if array.size == 0:
        return np.empty(0, np.int64), None
    if array.dtype.kind in "UO":
        keys: list[Any] = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)  # type: ignore[arg-type]
        if all(isinstance(key, str) for key in keys):
            return np.fromiter(map(id_of, keys), np.int64, len(keys)), keys
    if array.ndim != 1 or array.dtype.kind not in "iu" or int(array.max()) >= 2**63 or int(array.min()) < 0:
        raise DataError("ids must be strings, or integers from 0 to 2**63 - 1, one per vector.")
    return array.astype(np.int64), None


def _column(name: str, kind: str, given: Any, count: int) -> list[Value]:
    """One attribute's values, one per entry, in the declared type."""
    if given is None or isinstance(given, str | int | float):
        values: list[Any] = [given] * count
    else:
        values = [value.item() if isinstance(value, np.generic) else value for value in given]
    if len(values) != count:
        raise ShapeError(f'attribute "{name}" has {len(values)} values for {count} entries.')
    allowed = {*ATTRIBUTE_TYPES[kind], type(None)}
    if not set(map(type, values)) <= allowed:
        row = next(row for row, value in enumerate(values) if type(value) not in allowed)
        raise DataError(f'attribute "{name}" is of type {kind}; row {row} holds {values[row]!r}.')
    present = [value for value in values if value is not None]
    if kind == "str":
        _encoded("".join(present))
    elif kind == "texts":
        return _texts(name, values)
    elif kind == "int" and present and not -(2**63) <= min(present) <= max(present) < 2**63:
        raise DataError(f'attribute "{name}" holds an integer that does not fit 64 bits.')
    elif kind == "float":
        if any(map(math.isnan, present)):
            raise DataError(f'attribute "{name}" holds NaN; write None where there is no value.')
        return [None if value is None else _double(name, value) for value in values]
    return values


def _texts(name: str, values: list[Any]) -> list[Value]:
    """Several texts for each entry; none at all is None."""
    for row, value in enumerate(values):
        for one in value or ():
            if not isinstance(one, str):
                raise DataError(f'attribute "{name}" holds several texts; row {row} has {one!r} among them.')
            _encoded(one)
    return [value or None for value in values]


def _double(name: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise DataError(f'attribute "{name}" holds an integer beyond every float.') from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        bad = text[max(0, error.start - 20) : error.end + 20]
        raise DataError(f"{bad!r} is not valid Unicode; decode file names before they become ids or values.") from None
