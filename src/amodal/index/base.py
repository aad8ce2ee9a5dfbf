"""What every index can do, whatever stores it.

A backend subclasses ``Index`` and writes the methods that begin with an underscore; they receive what is here checked.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from amodal.errors import UsageError
from amodal.index.batch import Attributes, Batch, Ids, numbered
from amodal.index.hits import Hits
from amodal.index.spec import IndexSpec, Vectors
from amodal.index.where import Where, check, parse

__all__ = ["Entry", "Index"]


@dataclass(frozen=True, eq=False)
class Entry:
    """What an index knows of one id.

    Attributes:
        id: The int64 id.
        key: The external id, if it was written under a string.
        attributes: Every declared attribute; None where no value was given.
        vector: Packed code, uint8, shape (ceil(bits / 8),), or embedding, float32, shape (dim,).
    """

    id: int
    key: str | None
    attributes: dict[str, Any]
    vector: NDArray[Any]


class Index(ABC):
    """Codes or embeddings with their ids and attributes, and the nearest of them to a query.

    * Ids are integers from 0 to 2**63 - 1, or strings, which every index turns into integers by ``id_of``.
    * A smaller distance is nearer: Hamming for codes, 1 - cos for embeddings.
    * Answers come in the order (distance, id); of entries tied at rank k those with smaller ids are kept.
    * Once a call to ``add``, ``upsert`` or ``delete`` returns, searches through this object see it.
    * All or nothing: a call that raises has written nothing.

    Attributes:
        spec: What the index was made for.
        readonly: Whether writing is refused.
    """

    spec: IndexSpec
    readonly: bool

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether searches are exact; False as soon as an approximate structure answers."""

    def add(self, ids: Ids, vectors: Vectors, attributes: Attributes | None = None) -> None:
        """Write new entries.

        Args:
            ids: Integers or strings, shape (n,); none may exist.
            vectors: ``BinaryCodes``, ``Embeddings``, or the bare array (packed uint8 or unit float32), n rows.
            attributes: Per attribute one value for all entries, or n values; several texts are tuples. Attributes left
                out are None.

        Raises:
            DataError: If an id exists already or occurs twice, or a vector or value is not possible.
            ShapeError: If lengths, bits, width or element type do not fit.
            UsageError: If an attribute is unknown, or the index is closed or read only.
        """
        self._check_writable()
        self._write(Batch.checked(self.spec, ids, vectors, attributes), replace=False)

    def upsert(self, ids: Ids, vectors: Vectors, attributes: Attributes | None = None) -> None:
        """Write entries, replacing those that exist as a whole. Arguments and errors as for ``add``."""
        self._check_writable()
        self._write(Batch.checked(self.spec, ids, vectors, attributes), replace=True)

    def delete(self, ids: Ids) -> int:
        """Remove entries; ids that do not exist are passed over.

        Returns:
            The number of entries removed.
        """
        self._check_writable()
        return self._delete(np.unique(numbered(ids)[0]))

    def search(
        self,
        queries: Vectors,
        k: int,
        *,
        where: Where | str | Mapping[str, Any] | None = None,
        radius: float | None = None,
    ) -> Hits:
        """The k nearest entries of each query.

        Args:
            queries: ``BinaryCodes``, ``Embeddings``, or the bare array (packed uint8 or unit float32), q rows.
            k: How many entries per query, at least 1; may exceed the number of entries.
            where: Only entries for which this holds; see ``amodal.index.where``. If m of them are in range, min(k, m)
                are found.
            radius: Only entries at most this far; in bits, or 1 - cos.

        Returns:
            The hits, shape (q, k).

        Raises:
            ShapeError: If bits, width or element type do not fit.
            UsageError: If k or radius is not possible, or the filter names an unknown attribute.
        """
        self._check_open()
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise UsageError(f"k must be an integer of at least 1; got {k!r}.")
        if radius is not None and not radius >= 0:  # written so that NaN is refused
            raise UsageError(f"radius must be at least 0; got {radius!r}.")
        reach = math.inf if radius is None else float(radius)
        return self._search(self.spec.rows(queries), int(k), self._checked(where), reach)

    def get(self, ids: Ids) -> list[Entry | None]:
        """The entries of these ids, in their order; None where there is none."""
        self._check_open()
        numbers, keys = numbered(ids)
        found = {entry.id: entry for entry in self._get(np.unique(numbers))}
        entries = [found.get(number) for number in numbers.tolist()]
        if keys is None:
            return entries
        return [entry if entry and entry.key == key else None for entry, key in zip(entries, keys, strict=True)]

    def ids(self, where: Where | str | Mapping[str, Any] | None = None) -> NDArray[np.int64]:
        """The ids of all entries for which ``where`` holds, ascending, int64."""
        self._check_open()
        return self._ids(self._checked(where))

    def count(self, where: Where | str | Mapping[str, Any] | None = None) -> int:
        """The number of entries for which ``where`` holds."""
        self._check_open()
        return self._count(self._checked(where))

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether ``close`` was called."""

    @abstractmethod
    def flush(self) -> None:
        """Make everything written survive a killed process, and later openings fast."""

    @abstractmethod
    def close(self) -> None:
        """Release everything. Closing twice is no error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _write(self, batch: Batch, *, replace: bool) -> None:
        """Write all of the batch or none; without ``replace``, an existing id is a DataError."""

    @abstractmethod
    def _delete(self, ids: NDArray[np.int64]) -> int: ...

    @abstractmethod
    def _search(self, queries: NDArray[Any], k: int, where: Where | None, radius: float) -> Hits: ...

    @abstractmethod
    def _get(self, ids: NDArray[np.int64]) -> Sequence[Entry]:
        """The entries that exist, in any order."""

    @abstractmethod
    def _ids(self, where: Where | None) -> NDArray[np.int64]: ...

    @abstractmethod
    def _count(self, where: Where | None) -> int: ...

    def _checked(self, where: Where | str | Mapping[str, Any] | None) -> Where | None:
        return None if where is None else check(parse(where), self.spec.attributes)

    def _check_open(self) -> None:
        if self.closed:
            raise UsageError("the index is closed; open it again with amodal.index.open.")

    def _check_writable(self) -> None:
        self._check_open()
        if self.readonly:
            raise UsageError("the index was opened to read only; open it without readonly=True to write.")
