"""Pair retrieval with several captions a picture, of methods that encode and of matchers that score pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from amodal.codes import Codes
from amodal.data import Dataset
from amodal.errors import DataError
from amodal.evaluation.arrange import Arrangement
from amodal.evaluation.evaluation import CUTOFFS, Evaluation, health
from amodal.evaluation.protocol import PairProtocol
from amodal.metrics import Measurement, chance_hit, measure, measure_scores, pair

if TYPE_CHECKING:
    from amodal.methods.matching.base import Matcher

__all__ = ["evaluate_pair_codes", "evaluate_pair_scores"]

Rows = NDArray[np.int64]
Measure = Callable[..., Measurement]
Rank = Callable[[str, str, Rows, Rows], tuple[Measure, Measure]]
"""Ranks the observations of two modalities, by number, for each other: ``measure`` of both directions, to be called."""


def evaluate_pair_codes(codes: Mapping[str, Codes], arrangement: Arrangement, *, threads: int = 1) -> Evaluation:
    """Pair retrieval by codes or embeddings.

    Args:
        codes: By modality, a code for each observation of the queries in the order of its table; from ``encode_items``.
        arrangement: Of a ``PairProtocol``.
        threads: Blocks of queries at once; the numbers do not depend on it.

    Returns:
        The evaluation: ``recall@K`` (percent) with ``chance.recall@K``, ``rank.median`` and ``rank.floor`` by
        direction, ``rsum`` with ``chance.rsum`` by two modalities.

    Raises:
        DataError: If no item has two modalities, or folds do not come out even.
    """

    def rank(a: str, b: str, here: Rows, there: Rows) -> tuple[Measure, Measure]:
        one, other = codes[a][here], codes[b][there]
        return partial(measure, one, other), partial(measure, other, one)

    return _evaluate(rank, set(codes), arrangement, Evaluation({}, {}, {}, {}, {}, health(codes)), threads)


def evaluate_pair_scores(matcher: Matcher, arrangement: Arrangement, *, threads: int = 1) -> Evaluation:
    """Pair retrieval by the scores of a matcher; all pairs of a fold are scored once, for both directions.

    Args:
        matcher: Fitted.
        arrangement: Of a ``PairProtocol``.
        threads: Blocks of queries at once, where ranks are counted.

    Returns:
        The evaluation, as for codes.

    Raises:
        DataError: As for codes.
    """
    items = arrangement.queries
    fragments = {name: matcher.embed_table(items[name], name) for name in items.names if len(items[name])}

    def rank(a: str, b: str, here: Rows, there: Rows) -> tuple[Measure, Measure]:
        scores = matcher.match(fragments[a][here], fragments[b][there], modalities=(a, b))
        return partial(measure_scores, scores), partial(measure_scores, scores.T)

    return _evaluate(rank, set(fragments), arrangement, Evaluation({}, {}, {}, {}, {}, {}), threads)


def _evaluate(rank: Rank, here: set[str], arrangement: Arrangement, found: Evaluation, threads: int) -> Evaluation:
    items, folds = arrangement.queries, _folds(arrangement)
    for a, b in combinations(items.names, 2):
        if not (items.present(a) & items.present(b)).any():
            found.absent[f"{a}<->{b}"] = "no query has a partner in its database."
            continue
        both = [_both(rank, a, b, items, chosen, threads) for chosen in folds]
        for results in zip(*both, strict=True):
            _enter(found, results)
        _enter_rsum(found, a, b)
    if not found.counts:
        raise DataError(f"{items.name}: no item has two modalities, and pairs are what is looked for.")
    return found


def _folds(arrangement: Arrangement) -> list[NDArray[np.bool_]]:
    """Which items are in each fold, bool, shape (n,)."""
    protocol, n = arrangement.protocol, len(arrangement.queries)
    assert isinstance(protocol, PairProtocol)  # noqa: S101 - evaluate asks for it
    size = protocol.fold or n
    if n % size:
        raise DataError(
            f"protocol {protocol.name} takes folds of {size} test items, and {arrangement.queries.name} has {n}. "
            'Protocol "flickr30k" takes all at once.'
        )
    return [np.arange(n) // size == number for number in range(n // size)]


def _both(
    rank: Rank, a: str, b: str, items: Dataset, chosen: NDArray[np.bool_], threads: int
) -> tuple[Measurement, Measurement]:
    """Both directions in one fold."""
    rows = {name: np.flatnonzero(chosen[items[name].item]) for name in (a, b)}
    owners = {name: items[name].item[rows[name]] for name in (a, b)}
    forth, back = (
        ranked(
            pair(owners[one], owners[other]),
            [*(f"hit@{k}" for k in CUTOFFS if k <= len(rows[other])), "rank.median", "rank.floor"],
            direction=f"{one}->{other}",
            threads=threads,
        )
        for (one, other), ranked in zip(((a, b), (b, a)), rank(a, b, rows[a], rows[b]), strict=True)
    )
    return forth, back


def _enter(found: Evaluation, folds: tuple[Measurement, ...]) -> None:
    """One direction: means over the folds."""
    direction = folds[0].direction
    for name in ("rank.median", "rank.floor"):
        found.metrics.setdefault(name, {})[direction] = float(np.mean([fold.value(name) for fold in folds]))
    for k in CUTOFFS:
        if f"hit@{k}" not in folds[0].per_query:
            found.absent[f"{direction} recall@{k}"] = f"the database has fewer than {k} observations."
            continue
        recall = [fold.value(f"hit@{k}") for fold in folds]
        floor = [chance_hit(fold.database, fold.positives, k)[fold.answerable].mean() for fold in folds]
        found.metrics.setdefault(f"recall@{k}", {})[direction] = 100 * float(np.mean(recall))
        found.metrics.setdefault(f"chance.recall@{k}", {})[direction] = 100 * float(np.mean(floor))
    summaries = [fold.summary() for fold in folds]
    found.counts[direction] = {
        "queries": sum(one["queries"] for one in summaries),
        "unanswerable": sum(one["unanswerable"] for one in summaries),
        "database": summaries[0]["database"],
        "relevant": summaries[0]["relevant"],
        "folds": len(folds),
    }
    hits = [sum(fold.per_query[f"hit@{k}"] for k in CUTOFFS if f"hit@{k}" in fold.per_query) for fold in folds]
    found.per_query[direction] = 100 * np.concatenate(hits)


def _enter_rsum(found: Evaluation, a: str, b: str) -> None:
    """The sum of both directions, where there are all six recalls."""
    for kind in ("", "chance."):
        by_cutoff = [found.metrics.get(f"{kind}recall@{k}", {}) for k in CUTOFFS]
        recalls = [values.get(way) for values in by_cutoff for way in (f"{a}->{b}", f"{b}->{a}")]
        if None not in recalls:
            found.metrics.setdefault(f"{kind}rsum", {})[f"{a}<->{b}"] = float(sum(filter(None, recalls)))
