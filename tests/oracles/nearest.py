"""The k nearest entries by the obvious way: every distance, then a full sort by (distance, id)."""

import numpy as np

FARTHEST = np.iinfo(np.int32).max


def hamming(queries, codes):
    """Hamming distances of packed codes, int64, shape (q, n)."""
    return np.array([np.bitwise_count(query ^ codes).sum(axis=1) for query in queries], dtype=np.int64)


def nearest(distances, ids, k, radius=np.inf):
    """Ids and distances of shape (q, k), padded with -1 and FARTHEST, and the number found per query."""
    hits = np.full((len(distances), k), -1)
    away = np.full((len(distances), k), FARTHEST, dtype=distances.dtype)
    found = np.zeros(len(distances), dtype=np.int64)
    for q, row in enumerate(distances):
        inside = np.flatnonzero(row <= radius)
        order = inside[np.lexsort((ids[inside], row[inside]))][:k]
        hits[q, : len(order)] = ids[order]
        away[q, : len(order)] = row[order]
        found[q] = len(order)
    return hits, away, found
