"""CMC over distinct identities: how the released evaluation of SYSU-MM01 counts, exact under ties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from amodal.codes import BinaryCodes, Codes, Embeddings
from amodal.errors import UsageError
from amodal.metrics.ranking import rank
from amodal.metrics.relevance import SameGroup
from amodal.metrics.scores import cosine

__all__ = ["identity_hit_at"]

_Floats = NDArray[np.float64]
_PAIRS = 1 << 20  # distances held at once


def identity_hit_at(queries: Codes, database: Codes, relevance: SameGroup, cutoffs: Sequence[int]) -> _Floats:
    """Probability that the query's identity is among the first k distinct ones: CMC@k with ``cmc="identity"``.

    Each identity is kept once, at its best rank, so the value is never lower than that of ``hit_at``, which counts
    pictures. With A identities on nearer levels, m pictures of the query's own on the first level that has one, and w_i
    of each identity i that is new there, a random order of the tied pictures puts J of the new ones before it:

        P(hit) = P(A + J < k),    P(J = j) = integral over s from 0 to 1 of m s^(m-1) e_j(s) ds

    where e_j(s) is the probability that j of independent events with probabilities 1 - s^w_i occur. The integrand is a
    polynomial, which Gauss-Legendre quadrature integrates exactly.

    Args:
        queries: Codes of the queries.
        database: Codes of the database, of the same kind and length.
        relevance: From :func:`identity`, with the camera rule or without.
        cutoffs: The k, each at least 1.

    Returns:
        Shape (q, cut-offs), float64; 0 where the identity is not in the database.

    Raises:
        UsageError: If a cut-off is below 1, or codes and database are of two kinds.
        ShapeError: If lengths or numbers of rows do not fit.

    Paper: A. Wu, W.-S. Zheng, H.-X. Yu, S. Gong, J. Lai, "RGB-Infrared Cross-Modality Person Re-Identification",
    ICCV 2017, and the evaluation code released with it.
    """
    if min(cutoffs, default=1) < 1:
        raise UsageError(f"cut-offs must be at least 1; got {list(cutoffs)}.")
    rank(queries, database, relevance)  # refuses what does not fit
    distances, identities = _distances(queries, database), int(relevance.database.max()) + 1
    step = max(1, _PAIRS // len(database))
    hits = np.zeros((len(queries), len(cutoffs)))
    for start in range(0, len(queries), step):
        rows = slice(start, min(start + step, len(queries)))
        block, everybody = distances(rows), slice(0, len(database))
        scratch = np.empty(block.size, np.uint8)
        left_out = relevance.grades(rows, everybody, scratch) == len(relevance.values)
        for row in range(len(block)):
            keep = ~left_out[row]
            found = _query(block[row, keep], relevance.database[keep], relevance.queries[start + row], identities)
            if found is not None:
                hits[start + row] = _probabilities(*found, cutoffs)
    return hits


def _distances(queries: Codes, database: Codes) -> Callable[[slice], _Floats]:
    """Distances of blocks of queries to the whole database, smaller is nearer; only their order matters."""
    if isinstance(queries, Embeddings) and isinstance(database, Embeddings):
        scores = cosine(queries, database)
        return lambda rows: -scores(rows)
    assert isinstance(queries, BinaryCodes) and isinstance(database, BinaryCodes)  # noqa: S101 - rank has refused others
    signs = database.signs().astype(np.float64).T
    return lambda rows: -(queries[rows].signs() @ signs)


def _query(
    distances: _Floats, database: NDArray[np.int64], own: np.int64, identities: int
) -> tuple[int, int, NDArray[np.int64]] | None:
    """Identities before the query's own, copies of it on its first level, and those of the identities new there."""
    mine = distances[database == own]
    if not len(mine):
        return None
    level = mine.min()
    before = np.zeros(identities, dtype=bool)
    before[database[distances < level]] = True
    copies = np.bincount(database[distances == level], minlength=identities)
    copies[before] = 0
    own_copies, copies[own] = int(copies[own]), 0
    return int(before.sum()), own_copies, copies[copies > 0]


def _probabilities(before: int, own: int, others: NDArray[np.int64], cutoffs: Sequence[int]) -> list[float]:
    """P(before + J < k) for each k."""
    most = min(max(cutoffs) - before, len(others) + 1)  # J = 0 .. most - 1 is what the largest cut-off asks for
    if most < 1:
        return [0.0] * len(cutoffs)
    nodes, weights = _quadrature((own + int(others.sum()) + 1) // 2)
    chance = np.zeros((most, len(nodes)))  # P(J = j) at each node, so far
    chance[0] = 1.0
    for copies in others:
        later = nodes**copies
        chance[1:] = chance[1:] * later + chance[:-1] * (1 - later)
        chance[0] *= later
    up_to = np.cumsum(chance @ (weights * own * nodes ** (own - 1)))
    return [0.0 if k <= before else float(min(up_to[min(k - before, most) - 1], 1.0)) for k in cutoffs]


@lru_cache(maxsize=512)
def _quadrature(points: int) -> tuple[_Floats, _Floats]:
    """Nodes and weights on [0, 1]; exact for polynomials up to degree 2 points - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return (nodes + 1) / 2, weights / 2
