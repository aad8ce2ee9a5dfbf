"""Average precision for codes and multi-hot labels: the two calls most people need."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from amodal.codes import Codes
from amodal.errors import UsageError, nearest
from amodal.metrics.measurement import Unanswerable, check_answerable, measure
from amodal.metrics.precision import Ties, ap
from amodal.metrics.ranking import TieRule, rank, stream
from amodal.metrics.relevance import share_label

__all__ = ["ApTies", "average_precision", "mean_average_precision"]

ApTies = Literal["average", "optimistic", "pessimistic", "index"]


def average_precision(
    queries: Codes,
    database: Codes,
    query_labels: Any,
    database_labels: Any,
    ties: ApTies = "average",
    *,
    unanswerable: Literal["zero", "error"] = "zero",
    threads: int = 1,
) -> NDArray[np.float64]:
    """Average precision of each query; an item is relevant if it shares a label.

    Args:
        queries: Codes of the queries: BinaryCodes (ranked by Hamming distance) or Embeddings (by cosine).
        database: Codes of the database, of the same kind and length.
        query_labels: Multi-hot labels, shape (q, c), dense or ``scipy.sparse``.
        database_labels: Multi-hot labels, shape (n, c).
        ties: What happens to items at equal distance. ``average``: expectation over all their orders; ``optimistic``
            and ``pessimistic``: relevant ones first or last; ``index``: by position in the database, as a stable sort.
        unanswerable: A query without any relevant item gets 0.0 (``zero``) or is refused (``error``); the mean over
            the others is what :func:`mean_average_precision` takes.
        threads: Blocks of queries worked on at once; the result is the same.

    Returns:
        One value per query in [0, 1], float64, shape (q,). Never NaN.

    Raises:
        UsageError: If a rule is unknown or queries and database are codes of two kinds.
        ShapeError: If code lengths, numbers of rows or numbers of classes do not fit.
        DataError: If labels are not 0 or 1, a side is empty, or ``unanswerable`` is ``error`` and a query is.

    Example:
        >>> from amodal.codes import BinaryCodes
        >>> codes = BinaryCodes.from_signs([[1, 1], [1, -1], [-1, -1]])
        >>> average_precision(codes[:1], codes, [[1, 0]], [[1, 0], [0, 1], [1, 1]]).round(4)
        array([0.8333])
    """
    if unanswerable not in ("zero", "error"):
        raise UsageError(
            f'average_precision returns one value per query, so unanswerable must be "zero" or "error"; '
            f"got {unanswerable!r}. To leave queries out use mean_average_precision."
        )
    order, among_ties = _split(ties)
    ranking = rank(queries, database, share_label(query_labels, database_labels))
    values, positives = [], []
    for block in stream(ranking, ties=order, threads=threads):
        values.append(ap(block, among_ties))
        positives.append(block.positives)
    if unanswerable == "error":
        check_answerable(np.concatenate(positives), ranking.relevance, unanswerable, "queries->database")
    return np.concatenate(values)


def mean_average_precision(
    queries: Codes,
    database: Codes,
    query_labels: Any,
    database_labels: Any,
    ties: ApTies = "average",
    *,
    unanswerable: Unanswerable = "skip",
    threads: int = 1,
) -> float:
    """Mean of :func:`average_precision` over the queries.

    Args:
        queries: As there.
        database: As there.
        query_labels: As there.
        database_labels: As there.
        ties: As there.
        unanswerable: A query without any relevant item is left out (``skip``), counts 0 (``zero``) or is refused
            (``error``).
        threads: As there.

    Returns:
        The mean, in [0, 1].

    Raises:
        UsageError: As there.
        ShapeError: As there.
        DataError: As there, and if no query at all has a relevant item.
    """
    order, among_ties = _split(ties)
    name = "map" if among_ties == "average" else f"map.{among_ties}"
    rule = share_label(query_labels, database_labels)
    result = measure(queries, database, rule, [name], ties=order, unanswerable=unanswerable, threads=threads)
    return result.value(name)


def _split(ties: ApTies) -> tuple[TieRule, Ties]:
    """How to rank, and which order to assume inside the levels that remain."""
    if ties == "index":
        return "index", "average"
    if ties not in ("average", "optimistic", "pessimistic"):
        raise UsageError(nearest(ties, ("average", "optimistic", "pessimistic", "index"), what="tie rule"))
    return "average", ties
