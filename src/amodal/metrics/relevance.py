"""Which database item answers which query, and how well: the five rules, in blocks, never as a whole matrix.

A rule hands out *grades*: small numbers, 0 for an item that is not relevant. ``values[grade]`` is the graded value s of
the item. Where a rule leaves pairs out of the ranking, as the camera rule of re-identification does, such a pair gets
the grade ``len(values)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from amodal.errors import DataError, ShapeError, UsageError, nearest
from amodal.metrics.labels import pack_labels

__all__ = [
    "Judgements",
    "Relevance",
    "SameGroup",
    "SharedLabels",
    "identity",
    "judged",
    "pair",
    "same_label",
    "share_label",
]

_BINARY = np.array([0.0, 1.0])


@dataclass(frozen=True, eq=False, kw_only=True)
class Relevance(ABC):
    """A rule applied to one set of queries and one database.

    Attributes:
        rule: Name of the rule, as written into results.
        shape: Number of queries and of database items.
        values: Graded value s of each grade, float64, ascending, ``values[0] == 0``.
        relevant_from: The first grade that counts as relevant.
        excludes: Whether some pairs are left out of the ranking.
        exact: Whether grades tell s itself; False where they only tell relevant from not relevant.
    """

    rule: str
    shape: tuple[int, int]
    values: NDArray[np.float64]
    relevant_from: int = 1
    excludes: bool = False
    exact: bool = True

    @abstractmethod
    def fill(self, rows: slice, columns: slice, out: NDArray[Any]) -> None:
        """Write the grades of a block of queries and database items to ``out``, uint8 or uint16."""

    @abstractmethod
    def describe(self) -> str:
        """What queries and database carry, for the message that nothing is relevant."""

    def graded(self) -> Relevance:
        """The same rule with grades that tell s; itself where they do already."""
        return self

    @property
    def slots(self) -> int:
        """Number of different grades, the one for excluded pairs included."""
        return len(self.values) + self.excludes

    def grades(self, rows: slice, columns: slice, scratch: NDArray[Any]) -> NDArray[Any]:
        """The grades of a block, written to the front of a flat scratch array.

        Args:
            rows: The queries.
            columns: The database items.
            scratch: Flat, at least as long as the block has pairs.

        Returns:
            A contiguous view of ``scratch``, shape (queries, items).
        """
        shape = rows.stop - rows.start, columns.stop - columns.start
        out = scratch[: shape[0] * shape[1]].reshape(shape)
        self.fill(rows, columns, out)
        return out


@dataclass(frozen=True, eq=False, kw_only=True)
class SharedLabels(Relevance):
    """Relevant where label sets intersect; s is the size of the intersection.

    Attributes:
        queries: Packed labels of the queries, uint8, shape (q, bytes).
        planes: Packed labels of the database, uint8, shape (bytes, n).
    """

    queries: NDArray[np.uint8]
    planes: NDArray[np.uint8]

    def fill(self, rows: slice, columns: slice, out: NDArray[Any]) -> None:
        """Write the grades of a block."""
        from amodal.metrics import kernels

        kernel = kernels.count_overlap if self.exact else kernels.share_any
        kernel(self.queries[rows], self.planes, columns.start, out)

    def describe(self) -> str:
        """The classes on both sides."""
        return f"queries carry labels {_classes(self.queries)}, the database {_classes(self.planes.T)}"

    def graded(self) -> SharedLabels:
        """The same rule with the number of shared labels as grade."""
        query_most = np.bitwise_count(self.queries).sum(axis=1, dtype=np.int64).max(initial=1)
        database_most = np.bitwise_count(self.planes).sum(axis=0, dtype=np.int64).max(initial=1)
        return replace(self, values=np.arange(1.0 + min(query_most, database_most)), exact=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class SameGroup(Relevance):
    """Relevant where two ids are equal; left out of the ranking where two places are equal too, or alone.

    Attributes:
        queries: Ids of the queries, int64, shape (q,).
        database: Ids of the database items, int64, shape (n,).
        query_places: Places of the queries, int64, or None where nothing is left out.
        database_places: Places of the database items, int64, or None.
        whole_places: Whether everybody at the query's place is left out, not only the query's own id.
    """

    queries: NDArray[np.int64]
    database: NDArray[np.int64]
    query_places: NDArray[np.int64] | None = None
    database_places: NDArray[np.int64] | None = None
    whole_places: bool = False

    def fill(self, rows: slice, columns: slice, out: NDArray[Any]) -> None:
        """Write the grades of a block."""
        out[...] = self.queries[rows, None] == self.database[None, columns]
        if self.query_places is not None and self.database_places is not None:
            here = self.query_places[rows, None] == self.database_places[None, columns]
            out[here if self.whole_places else here & (out == 1)] = 2  # left out

    def describe(self) -> str:
        """How many ids each side has."""
        return (
            f"queries carry {len(np.unique(self.queries))} different ids, the database {len(np.unique(self.database))}"
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Judgements(Relevance):
    """Relevant where a stored judgement reaches a threshold; s is the judgement.

    Attributes:
        table: Grades of the judged pairs, ``scipy.sparse`` CSR, shape (q, n).
    """

    table: Any

    def fill(self, rows: slice, columns: slice, out: NDArray[Any]) -> None:
        """Write the grades of a block."""
        out[...] = self.table[rows, columns].toarray()

    def describe(self) -> str:
        """The range of judgements."""
        return f"judgements go up to {self.values[-1]:g}"


def share_label(query_labels: Any, database_labels: Any) -> SharedLabels:
    """Relevant where the label sets intersect (``share-label``).

    Args:
        query_labels: Multi-hot labels, shape (q, c), dense or ``scipy.sparse``.
        database_labels: Multi-hot labels, shape (n, c).

    Returns:
        The rule. Its ``graded()`` counts the shared labels, which NDCG with gain ``count`` or ``exp`` needs.

    Raises:
        ShapeError: If the two differ in the number of classes.
        DataError: If an entry is neither 0 nor 1.
    """
    queries, database = pack_labels(query_labels), pack_labels(database_labels)
    classes = np.shape(query_labels)[1], np.shape(database_labels)[1]
    if classes[0] != classes[1]:
        raise ShapeError(
            f"query labels have {classes[0]} classes, database labels {classes[1]}; "
            "both need one column for each class of the whole data set."
        )
    return SharedLabels(
        rule="share-label",
        shape=(len(queries), len(database)),
        values=_BINARY,
        exact=False,
        queries=queries,
        planes=np.ascontiguousarray(database.T),
    )


def same_label(query_labels: ArrayLike, database_labels: ArrayLike) -> SameGroup:
    """Relevant where single labels are equal (``same-label``).

    Args:
        query_labels: One label per query, integers or strings, shape (q,).
        database_labels: One label per database item, shape (n,).

    Returns:
        The rule.

    Raises:
        ShapeError: If a side is no vector.
    """
    return _same("same-label", query_labels, database_labels)


def pair(query_items: ArrayLike, database_items: ArrayLike) -> SameGroup:
    """Relevant where both are observations of one item (``pair``): a picture and its own captions.

    Args:
        query_items: The item of each query, integers or strings, shape (q,).
        database_items: The item of each database observation, shape (n,).

    Returns:
        The rule.

    Raises:
        ShapeError: If a side is no vector.
    """
    return _same("pair", query_items, database_items)


def identity(
    query_ids: ArrayLike,
    database_ids: ArrayLike,
    query_places: ArrayLike | None = None,
    database_places: ArrayLike | None = None,
    *,
    leave_out: Literal["own", "place"] = "own",
) -> SameGroup:
    """Relevant where person or object are the same (``identity``), with the camera rule if places are given.

    Args:
        query_ids: Identity of each query, integers or strings, shape (q,).
        database_ids: Identity of each database item, shape (n,).
        query_places: Place of each query. A database item of the same identity and the same place is taken out of that
            query's ranking. Cameras that look at one place share its number.
        database_places: Place of each database item.
        leave_out: ``own``: what is taken out is the query's identity at the query's place, as above. ``place``:
            everybody at that place is, as the evaluation of SYSU-MM01 does.

    Returns:
        The rule.

    Raises:
        ShapeError: If a side is no vector, or places and ids differ in length.
        UsageError: If places are given for one side only, or ``leave_out`` is unknown.
    """
    if leave_out not in ("own", "place"):
        raise UsageError(nearest(leave_out, ("own", "place"), what="camera rule"))
    if (query_places is None) != (database_places is None):
        raise UsageError("the camera rule needs the places of queries and of database items; only one side was given.")
    ids = _same("identity", query_ids, database_ids)
    if query_places is None or database_places is None:
        return ids
    places = _same("identity", query_places, database_places)
    if places.shape != ids.shape:
        raise ShapeError(
            f"places have shape {places.shape} (queries, database), ids {ids.shape}; each id needs a place."
        )
    return replace(
        ids,
        excludes=True,
        query_places=places.queries,
        database_places=places.database,
        whole_places=leave_out == "place",
    )


def judged(judgements: Any, threshold: float) -> Judgements:
    """Relevant where a stored judgement is at least a threshold (``judged``).

    Args:
        judgements: Judgements of the pairs, >= 0, shape (q, n), dense or ``scipy.sparse``; 0 where nobody judged.
        threshold: The lowest judgement that counts as relevant, > 0. Lower ones still add to graded NDCG.

    Returns:
        The rule.

    Raises:
        DataError: If a judgement is negative, NaN or infinite; names the first such row.
        UsageError: If the threshold is not positive or no judgement reaches it.
    """
    table = sparse.csr_array(judgements, dtype=np.float64, copy=True)
    wrong = ~(np.isfinite(table.data) & (table.data >= 0))
    if wrong.any():
        row = int(np.searchsorted(table.indptr, np.flatnonzero(wrong)[0], side="right")) - 1
        raise DataError(f"judgements must be finite and >= 0; row {row} holds {table.data[wrong][0]}.")
    values = np.unique(np.append(table.data, 0.0))
    if not 0 < threshold <= values[-1]:
        raise UsageError(
            f"threshold must be above 0 and at most the highest judgement, {values[-1]:g}; got {threshold:g}."
        )
    grades = np.searchsorted(values, table.data).astype(np.int32)
    return Judgements(
        rule="judged",
        shape=table.shape,
        values=values,
        relevant_from=int(np.searchsorted(values, threshold)),
        table=sparse.csr_array((grades, table.indices, table.indptr), shape=table.shape),
    )


def _same(rule: str, query_ids: ArrayLike, database_ids: ArrayLike) -> SameGroup:
    queries, database = np.asarray(query_ids), np.asarray(database_ids)
    if queries.ndim != 1 or database.ndim != 1:
        raise ShapeError(f"{rule} needs one id per row, shape (rows,); got {queries.shape} and {database.shape}.")
    codes = np.unique(np.concatenate([queries, database]), return_inverse=True)[1].astype(np.int64)
    return SameGroup(
        rule=rule,
        shape=(len(queries), len(database)),
        values=_BINARY,
        queries=codes[: len(queries)],
        database=codes[len(queries) :],
    )


def _classes(packed: NDArray[np.uint8], most: int = 8) -> str:
    present = np.flatnonzero(np.unpackbits(np.bitwise_or.reduce(packed, axis=0), bitorder="little"))
    return (", ".join(map(str, present[:most])) or "none") + (", ..." if len(present) > most else "")
