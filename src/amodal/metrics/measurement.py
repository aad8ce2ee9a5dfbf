"""Everything an evaluation writes about one direction, in one pass over the database."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amodal.codes import Codes
from amodal.errors import DataError, UsageError, nearest
from amodal.metrics.cutoff import ndcg_at, precision_at, recall_at
from amodal.metrics.first import first_rank, hit_at, inp, median_rank
from amodal.metrics.levels import Histograms
from amodal.metrics.precision import ap, ap_at, chance_ap
from amodal.metrics.radius import RadiusCurve, radius_curve
from amodal.metrics.ranking import Ranking, TieRule, rank, rank_scores, stream
from amodal.metrics.relevance import Relevance

__all__ = ["MEASURES", "Measurement", "Unanswerable", "check_answerable", "measure", "measure_scores"]

_Floats = NDArray[np.float64]
Unanswerable = Literal["skip", "zero", "error"]

MEASURES: dict[str, Callable[[Histograms, int], _Floats]] = {
    "map": lambda h, _: ap(h),
    "map.optimistic": lambda h, _: ap(h, "optimistic"),
    "map.pessimistic": lambda h, _: ap(h, "pessimistic"),
    "map@K.min": lambda h, k: ap_at(h, k, "min"),
    "map@K.relevant": lambda h, k: ap_at(h, k, "relevant"),
    "map@K.hits": lambda h, k: ap_at(h, k, "hits"),
    "map@K.first": lambda h, k: ap_at(h, k, "first"),
    "precision@K": precision_at,
    "recall@K": recall_at,
    "ndcg@K.binary": lambda h, k: ndcg_at(h, k, "binary"),
    "ndcg@K.count": lambda h, k: ndcg_at(h, k, "count"),
    "ndcg@K.exp": lambda h, k: ndcg_at(h, k, "exp"),
    "hit@K": hit_at,
    "rank": lambda h, _: first_rank(h),
    "rank.median": lambda h, _: first_rank(h),
    "rank.floor": lambda h, _: first_rank(h),
    "inp": lambda h, _: inp(h),
}
"""Names of the measures, with K for the cut-off: ``map@50.min``, ``ndcg@100.binary``, ``hit@10``."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """What was measured in one direction.

    Attributes:
        direction: Who asks whom, for instance ``image->text``.
        unanswerable: What a query without relevant item counts: ``skip`` leaves it out, ``zero`` counts 0.
        per_query: One float64 array of shape (q,) per measure; 0 for a query without relevant item.
        positives: R, relevant items of each query, int64, shape (q,).
        database: N, items in each query's ranking, int64, shape (q,); they differ where the camera rule left some out.
        curve: Precision and recall by Hamming radius over the queries that count; None where there is no radius.
    """

    direction: str
    unanswerable: Unanswerable
    per_query: dict[str, _Floats]
    positives: NDArray[np.int64]
    database: NDArray[np.int64]
    curve: RadiusCurve | None

    @property
    def answerable(self) -> NDArray[np.bool_]:
        """Which queries have a relevant item, shape (q,)."""
        return self.positives > 0

    @property
    def chance(self) -> float:
        """Expected AP of a random ranking, mean over answerable queries."""
        return float(chance_ap(self.database, self.positives)[self.answerable].mean())

    def value(self, name: str) -> float:
        """One number for all queries.

        Args:
            name: A measured name.

        Returns:
            The mean over the queries that count. Ranks have no zero, so theirs is always over answerable queries;
            ``rank.median`` and ``rank.floor`` are the two medians.

        Raises:
            UsageError: If the name was not measured.
        """
        if name not in self.per_query:
            raise UsageError(nearest(name, self.per_query, what="measure"))
        values = self.per_query[name]
        if name == "rank.median" or name == "rank.floor":
            return median_rank(values[self.answerable], medr_style="median" if name == "rank.median" else "floor")
        if self.unanswerable == "zero" and name != "rank":
            return float(values.mean())
        return float(values[self.answerable].mean())

    def summary(self) -> dict[str, Any]:
        """Counts, chance floor and every measure, ready for JSON."""
        return {
            "queries": len(self.positives),
            "unanswerable": int(np.count_nonzero(~self.answerable)),
            "database": int(self.database.max()),
            "relevant": {
                "mean": float(self.positives.mean()),
                "min": int(self.positives.min()),
                "max": int(self.positives.max()),
            },
            "chance": self.chance,
            **{name: self.value(name) for name in self.per_query},
        }


def measure(
    queries: Codes,
    database: Codes,
    relevance: Relevance,
    names: Sequence[str] = ("map", "map.optimistic", "map.pessimistic"),
    *,
    ties: TieRule = "average",
    unanswerable: Unanswerable = "skip",
    direction: str = "queries->database",
    threads: int = 1,
) -> Measurement:
    """Measure how a database of codes answers queries.

    Args:
        queries: Codes of the queries.
        database: Codes of the database, of the same kind and length.
        relevance: The rule, made for these queries and this database.
        names: Measures by name, see ``MEASURES``.
        ties: ``average`` leaves ties open, so that nothing depends on the order of the database; ``index`` breaks them
            by database position, as a stable sort does.
        unanswerable: What a query without relevant item does: ``skip`` (left out of means), ``zero`` (counts 0), or
            ``error``.
        direction: Who asks whom, for messages and results.
        threads: Blocks of queries worked on at once; the result is the same.

    Returns:
        The measurement.

    Raises:
        UsageError: If a measure, or rule is unknown, or a cut-off exceeds the database.
        ShapeError: If code lengths or numbers of rows do not fit.
        DataError: If there is nothing to rank, no query has a relevant item, or one has none and ``unanswerable`` is
            ``error``.
    """
    relevance = _grade(relevance, names)
    return _measure(rank(queries, database, relevance), names, ties, unanswerable, direction, threads)


def measure_scores(
    scores: ArrayLike,
    relevance: Relevance,
    names: Sequence[str] = ("map", "map.optimistic", "map.pessimistic"),
    *,
    ties: TieRule = "average",
    unanswerable: Unanswerable = "skip",
    direction: str = "queries->database",
    threads: int = 1,
) -> Measurement:
    """Measure rankings by ready scores, for instance those of a matcher.

    Args:
        scores: Higher is more similar, finite, shape (q, n).
        relevance: The rule, made for these queries and this database.
        names: As for :func:`measure`.
        ties: As for :func:`measure`.
        unanswerable: As for :func:`measure`.
        direction: As for :func:`measure`.
        threads: As for :func:`measure`.

    Returns:
        The measurement, without a radius curve.

    Raises:
        UsageError: As for :func:`measure`.
        ShapeError: If scores and relevance rule differ in shape.
        DataError: As for :func:`measure`, and if a score is NaN or infinite.
    """
    relevance = _grade(relevance, names)
    return _measure(rank_scores(scores, relevance), names, ties, unanswerable, direction, threads)


def _grade(relevance: Relevance, names: Sequence[str]) -> Relevance:
    return relevance.graded() if any(name.endswith((".count", ".exp")) for name in names) else relevance


def _measure(
    ranking: Ranking, names: Sequence[str], ties: TieRule, unanswerable: Unanswerable, direction: str, threads: int
) -> Measurement:
    if unanswerable not in ("skip", "zero", "error"):
        raise UsageError(nearest(unanswerable, ("skip", "zero", "error"), what="rule for unanswerable queries"))
    functions = {name: _function(name) for name in names}
    parts: dict[str, list[_Floats]] = {name: [] for name in names}
    positives, database = [], []
    curve: RadiusCurve | None = None
    for block in stream(ranking, ties=ties, threads=threads):
        positives.append(block.positives)
        database.append(block.database)
        for name, function in functions.items():
            parts[name].append(function(block))
        if block.radial:
            part = radius_curve(block, None if unanswerable == "zero" else block.positives > 0)
            curve = part if curve is None else curve + part
    result = Measurement(
        direction,
        unanswerable,
        {name: np.concatenate(values) for name, values in parts.items()},
        np.concatenate(positives),
        np.concatenate(database),
        curve,
    )
    check_answerable(result.positives, ranking.relevance, unanswerable, direction)
    return result


def _function(name: str) -> Callable[[Histograms], _Floats]:
    cutoff = re.search(r"@(\d+)", name)
    function = MEASURES.get(re.sub(r"@\d+", "@K", name, count=1))
    if function is None or "@K" in name:
        raise UsageError(nearest(name, MEASURES, what="measure") + " K stands for a number.")
    k = int(cutoff[1]) if cutoff else 0
    return lambda histograms: function(histograms, k)


def check_answerable(
    positives: NDArray[np.int64], relevance: Relevance, unanswerable: Unanswerable, direction: str
) -> None:
    """Refuse a direction that cannot be measured.

    Args:
        positives: R, relevant items of each query, shape (q,).
        relevance: The rule, for the message.
        unanswerable: With ``error`` a single query without relevant item is refused, otherwise only all of them.
        direction: Who asks whom, for the message.

    Raises:
        DataError: If that is so.
    """
    missing = np.flatnonzero(positives == 0)
    if len(missing) == len(positives):
        raise DataError(
            f"{direction}: no query has a relevant item under the rule {relevance.rule}; {relevance.describe()}."
        )
    if len(missing) and unanswerable == "error":
        raise DataError(
            f"{direction}: {len(missing)} of {len(positives)} queries have no relevant item in the database "
            f'(first: query {missing[0]}). Remove them, or choose unanswerable="skip" or "zero".'
        )
