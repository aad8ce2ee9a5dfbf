"""The exact scan: the k nearest rows of a matrix.

One numba kernel serves packed codes and unit vectors. It computes the distances of 512 rows at a time in a loop that
the compiler vectorises, passes over the block if none is nearer than the k-th so far, and otherwise pushes the nearer
ones onto a heap. Rows come in ascending order, so a later row never displaces an equal one.

It is used instead of FAISS because it is faster wherever we measured, with the same answers in the same order; see
``benchmarks/index_scan.py`` and its results. It uses one thread and holds no lock, so threads may search side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

__all__ = ["nearest"]

Array = NDArray[Any]

_BLOCK = 512  # rows whose distances are computed before any is looked at
_CHUNK_BYTES = 131_072  # rows that stay in the cache while all queries of a batch pass over them
_NO_ROW = np.iinfo(np.int64).max


def nearest(
    vectors: NDArray[Any],
    queries: NDArray[Any],
    k: int,
    radius: float = math.inf,
    keep: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The k nearest rows of each query, by a full scan.

    Args:
        vectors: Packed codes, uint8, shape (n, bytes), or unit vectors, float32, shape (n, dim).
        queries: The same kind, shape (q, bytes) or (q, dim).
        k: How many rows per query, at least 1.
        radius: Only rows at most this far.
        keep: Only rows for which this is true, shape (n,); None for all.

    Returns:
        Rows, int64, -1 where fewer are found, and their distances (Hamming as int32; 1 - cos as float32, not below 0),
        both of shape (q, min(k, n)), not sorted. Of rows tied at rank k the first are returned.
    """
    binary = vectors.dtype == np.uint8
    dtype = np.dtype(np.uint16 if binary else np.float32)
    reach = np.float32(min(radius, 4.0))  # no two unit vectors are farther apart than 2
    beyond = math.floor(min(radius, 8 * vectors.shape[1])) + 1 if binary else np.nextafter(reach, np.float32(np.inf))
    distances = np.full((len(queries), min(k, len(vectors))), beyond, dtype)
    rows = np.full(distances.shape, _NO_ROW)
    if distances.size:
        blocks = max(1, _CHUNK_BYTES // (_BLOCK * vectors.strides[0]))
        every = np.empty(0, np.bool_) if keep is None else keep
        _scan(_words(vectors), _words(queries), every, distances, rows, np.empty(_BLOCK, dtype), blocks * _BLOCK)
    return np.where(rows == _NO_ROW, -1, rows), distances.astype(np.int32) if binary else distances


def _words(vectors: NDArray[Any]) -> NDArray[Any]:
    """Packed codes as the widest machine words that divide a row; unit vectors as they are."""
    if vectors.dtype != np.uint8:
        return vectors
    width = next(width for width in (8, 4, 2, 1) if vectors.shape[1] % width == 0)
    return vectors.view(f"u{width}")


@njit(nogil=True, cache=True)
def _scan(vectors: Array, queries: Array, keep: Array, distances: Array, rows: Array, near: Array, chunk: int) -> None:
    """Fill each query's heap ``distances[q], rows[q]``, worst on top, with its nearest rows."""
    for chunk_start in range(0, len(vectors), chunk):
        chunk_stop = min(chunk_start + chunk, len(vectors))
        for q in range(len(queries)):
            for start in range(chunk_start, chunk_stop, len(near)):
                stop = min(start + len(near), chunk_stop)
                least = _measure(vectors[start:stop], queries[q], near)
                if len(keep) and least < distances[q, 0]:
                    least = _hide(near, keep[start:stop], distances[q, 0])
                if least < distances[q, 0]:
                    for j in range(stop - start):
                        if near[j] < distances[q, 0]:
                            _replace_worst(distances[q], rows[q], near[j], start + j)


@njit(nogil=True, cache=True)
def _hide(near: Array, keep: Array, far: Any) -> Any:
    """Set the distances of the rows that are not kept to ``far``; return the least."""
    least = far
    for j in range(len(keep)):
        near[j] = near[j] if keep[j] else far
        least = min(least, near[j])
    return least


@njit(nogil=True, cache=True)
def _replace_worst(distances: Array, rows: Array, distance: Any, row: int) -> None:
    """Put a row in place of the top of the heap, which is the farthest, and of equally far ones the last."""
    hole = 0
    while 2 * hole + 1 < len(rows):
        child = 2 * hole + 1
        other = child + 1
        if other < len(rows) and (distances[other], rows[other]) > (distances[child], rows[child]):
            child = other
        if (distances[child], rows[child]) < (distance, row):
            break
        distances[hole], rows[hole] = distances[child], rows[child]
        hole = child
    distances[hole], rows[hole] = distance, row


def _measure(block: Array, query: Array, near: Array) -> Any:
    """Write the distances of a block to ``near``; return the least."""
    raise NotImplementedError("compiled only")


@overload(_measure)
def _measure_compiled(block: Array, query: Array, near: Array) -> Callable[[Array, Array, Array], Any]:
    return _cosine if isinstance(block.dtype, types.Float) else _hamming


@intrinsic
def _popcount(typing_context: Any, word: Any) -> Any:
    """Number of bits set in a machine word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return word(word), generate


def _hamming(block: Array, query: Array, near: Array) -> Any:
    """Bits that differ. One, two and four words are written out: only so the compiler counts many rows at once."""
    least = np.uint16(65535)
    words = block.reshape(-1)
    if len(query) == 1:
        a = query[0]
        for j in range(len(block)):
            near[j] = _popcount(words[j] ^ a)
            least = min(least, near[j])
    elif len(query) == 2:
        a, b = query[0], query[1]
        for j in range(len(block)):
            near[j] = _popcount(words[2 * j] ^ a) + _popcount(words[2 * j + 1] ^ b)
            least = min(least, near[j])
    elif len(query) == 4:
        a, b, c, d = query[0], query[1], query[2], query[3]
        for j in range(len(block)):
            first = _popcount(words[4 * j] ^ a) + _popcount(words[4 * j + 1] ^ b)
            near[j] = first + _popcount(words[4 * j + 2] ^ c) + _popcount(words[4 * j + 3] ^ d)
            least = min(least, near[j])
    else:
        for j in range(len(block)):
            row = block[j]
            count = np.uint64(0)
            for i in range(len(row)):
                count += _popcount(row[i] ^ query[i])
            near[j] = count
            least = min(least, near[j])
    return least


def _cosine(block: Array, query: Array, near: Array) -> Any:
    """1 - cos, by the same sums for every row, so that equal vectors are equally far."""
    least = np.float32(np.inf)
    for j in range(len(block)):
        near[j] = max(np.float32(0), np.float32(1) - _dot(block[j], query))
        least = min(least, near[j])
    return least


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _dot(a: Array, b: Array) -> Any:
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total
