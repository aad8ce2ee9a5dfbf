"""From codes, embeddings or scores to level histograms, one block of queries at a time.

Nothing is sorted when counting is enough, and nothing of size queries x database is kept. The histograms depend neither
on block sizes nor on the order of the database, ``ties="index"`` excepted, which is there for parity with papers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from amodal.codes import BinaryCodes, Codes, Embeddings
from amodal.errors import DataError, ShapeError, UsageError, nearest
from amodal.metrics.distances import HammingRanking
from amodal.metrics.levels import Histograms, stack
from amodal.metrics.relevance import Relevance
from amodal.metrics.scores import ScoreRanking, cosine, given

__all__ = ["Ranking", "TieRule", "histograms", "rank", "rank_scores", "stream"]

TieRule = Literal["average", "index"]
Ranking = HammingRanking | ScoreRanking


def rank(queries: Codes, database: Codes, relevance: Relevance) -> Ranking:
    """The ranking of a database for each query, nearest first; nothing is computed yet.

    Binary codes are ranked by Hamming distance, embeddings by cosine.

    Args:
        queries: Codes of the queries.
        database: Codes of the database, of the same kind and length.
        relevance: The rule, made for these queries and this database.

    Returns:
        The ranking, for :func:`histograms`, :func:`stream` and ``measure``.

    Raises:
        UsageError: If queries and database are codes of two kinds.
        ShapeError: If code lengths differ, or the relevance rule was made for other numbers of rows.
        DataError: If there is no query or no database item.
    """
    _check((len(queries), len(database)), relevance)
    if isinstance(queries, BinaryCodes) and isinstance(database, BinaryCodes):
        _check_width(queries.bits, database.bits, "bits")
        return HammingRanking(queries, database, relevance)
    if isinstance(queries, Embeddings) and isinstance(database, Embeddings):
        _check_width(queries.dim, database.dim, "dimensions")
        return ScoreRanking(cosine(queries, database), relevance)
    raise UsageError(
        f"queries are {type(queries).__name__}, the database is {type(database).__name__}; both must be of one kind."
    )


def rank_scores(scores: ArrayLike, relevance: Relevance) -> Ranking:
    """The ranking by ready scores, for instance those of a matcher.

    Args:
        scores: Higher is more similar, finite, shape (q, n). Scores that are exactly equal are tied.
        relevance: The rule, made for these queries and this database.

    Returns:
        The ranking. A NaN or infinite score is refused when its row is reached.

    Raises:
        ShapeError: If scores are no matrix or the relevance rule was made for another shape.
        DataError: If there is no query or no database item.
    """
    matrix = np.asarray(scores)
    if matrix.ndim != 2:
        raise ShapeError(f"scores need shape (queries, database); got {matrix.shape}.")
    _check((matrix.shape[0], matrix.shape[1]), relevance)
    return ScoreRanking(given(matrix), relevance)


def stream(ranking: Ranking, *, ties: TieRule = "average", threads: int = 1) -> Iterator[Histograms]:
    """Level histograms of successive blocks of queries.

    Args:
        ranking: From :func:`rank` or :func:`rank_scores`.
        ties: ``average`` leaves ties to the measures; ``index`` breaks them by database position, as stable sorts do.
        threads: Number of blocks worked on at once. More of them need more memory; the result is the same.

    Yields:
        The histograms, block after block, in the order of the queries.

    Raises:
        UsageError: If the tie rule is unknown or ``threads`` is below 1.
        DataError: If a score is NaN or infinite; names the first such row.
    """
    if ties not in ("average", "index"):
        raise UsageError(nearest(ties, ("average", "index"), what="tie rule"))
    if threads < 1:
        raise UsageError(f"threads must be at least 1; got {threads}.")
    work, step = (ranking.count, ranking.block) if ties == "average" else (ranking.order, ranking.ordered_block)
    queries = ranking.relevance.shape[0]
    blocks = (slice(start, min(start + step, queries)) for start in range(0, queries, step))
    if threads == 1:
        yield from map(work, blocks)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Histograms]] = deque()
        for block in blocks:
            waiting.append(pool.submit(work, block))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()


def histograms(ranking: Ranking, *, ties: TieRule = "average", threads: int = 1) -> Histograms:
    """Level histograms of all queries at once: queries x levels numbers, which is little for codes of some 100 bits.

    Args:
        ranking: From :func:`rank` or :func:`rank_scores`.
        ties: As in :func:`stream`.
        threads: As in :func:`stream`.

    Returns:
        The histograms of all queries.
    """
    return stack(list(stream(ranking, ties=ties, threads=threads)))


def _check(shape: tuple[int, int], relevance: Relevance) -> None:
    if shape != relevance.shape:
        raise ShapeError(
            f"{shape[0]} queries and {shape[1]} database items were given, but the relevance rule was made for "
            f"{relevance.shape[0]} and {relevance.shape[1]}."
        )
    if 0 in shape:
        raise DataError(f"nothing to rank: {shape[0]} queries, {shape[1]} database items.")


def _check_width(queries: int, database: int, unit: str) -> None:
    if queries != database:
        raise ShapeError(f"queries have {queries} {unit}, the database {database}; both must come from one model.")
