"""Average precision for codes and multi-hot labels: the two calls most people need."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from amodal.codes import Codes
from amodal.errors import UsageError, nearest
from amodal.metrics.measurement import Measurement, Unanswerable, measure
from amodal.metrics.relevance import share_label

__all__ = ["ApTies", "average_precision", "mean_average_precision"]

ApTies = Literal["average", "optimistic", "pessimistic", "index"]
_NAMES = {"average": "map", "optimistic": "map.optimistic", "pessimistic": "map.pessimistic", "index": "map"}


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
        unanswerable: A query without any relevant item gets 0.0 (``zero``) or is refused (``error``).
            :func:`mean_average_precision` can leave it out.
        threads: Blocks of queries worked on at once; the result is the same.

    Returns:
        One value per query in [0, 1], float64, shape (q,). Never NaN.

    Raises:
        UsageError: If a rule is unknown or queries and database are codes of two kinds.
        ShapeError: If code lengths, numbers of rows or numbers of classes do not fit.
        DataError: If labels are not 0 or 1, a side is empty, or no query at all has a relevant item.

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
    result = _measure(queries, database, query_labels, database_labels, ties, unanswerable, threads)
    return result.per_query[_NAMES[ties]]


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
        DataError: As there.
    """
    result = _measure(queries, database, query_labels, database_labels, ties, unanswerable, threads)
    return result.value(_NAMES[ties])


def _measure(
    queries: Codes,
    database: Codes,
    query_labels: Any,
    database_labels: Any,
    ties: ApTies,
    unanswerable: Unanswerable,
    threads: int,
) -> Measurement:
    if ties not in _NAMES:
        raise UsageError(nearest(ties, _NAMES, what="tie rule"))
    return measure(
        queries,
        database,
        share_label(query_labels, database_labels),
        [_NAMES[ties]],
        ties="index" if ties == "index" else "average",
        unanswerable=unanswerable,
        threads=threads,
    )
