"""The exact scan: the k nearest rows of a matrix.

One numba kernel serves packed codes and unit vectors. It computes the distances of 512 rows at a time in a loop that
the compiler vectorises, passes over the block if none is nearer than the k-th so far, and otherwise puts the nearer
rows on a heap. A heap holds keys of 64 bits, distance above row, so it orders by (distance, row) by itself.

It stands where FAISS could, with the same answers in the same order. Of ten million 64-bit codes a query takes about a
third of the time of ``IndexBinaryFlat``, a batch a seventh; below a million codes a single query takes about as long
(``benchmarks/results/index_scan.json``). It uses one thread and no lock, so threads may search side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from amodal.errors import UsageError

__all__ = ["nearest", "nearest_in_parts"]

Array = NDArray[Any]

_BLOCK = 512  # rows whose distances are computed before any is looked at
_CHUNK_BYTES = 131_072  # rows that stay in the cache while all queries of a batch pass over them


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
        both of shape (q, min(k, n)), sorted by (distance, row).

    Raises:
        UsageError: If there are more rows than 32 bits can count.
    """
    if len(vectors) > 2**32:
        raise UsageError(f"one scan takes at most {2**32} vectors; got {len(vectors)}. Split the index.")
    beyond = _beyond(vectors, radius)
    heaps = np.full((len(queries), min(k, len(vectors))), beyond << 32, np.uint64)
    if heaps.size:
        blocks = max(1, _CHUNK_BYTES // (_BLOCK * vectors.strides[0]))
        every = np.empty(0, np.bool_) if keep is None else keep
        own = queries.copy()  # may be read-only, for which the kernel would have to be compiled once more
        _scan(_words(vectors), _words(own), every, heaps, np.empty(_BLOCK, np.uint32), blocks * _BLOCK)
    return _read(heaps, beyond, vectors)


def nearest_in_parts(
    vectors: NDArray[Any],
    rows: NDArray[np.int64],
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    queries: NDArray[Any],
    k: int,
    radius: float = math.inf,
    keep: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """As ``nearest``, but each query meets some parts of the matrix only, and the matrix may be in another order.

    Args:
        vectors: As for ``nearest``.
        rows: What each vector is called in the answer, shape (n,), at most 2**32 - 1.
        parts: For each query, where its parts begin and where they end, int64.
        queries: As for ``nearest``.
        k: How many rows per query, at least 1.
        radius: Only rows at most this far.
        keep: Only rows for which this is true, by their names in ``rows``; None for all.

    Returns:
        Rows and distances as ``nearest`` returns them, in the order (distance, row).
    """
    beyond = _beyond(vectors, radius)
    heaps = np.full((len(queries), min(k, len(vectors))), beyond << 32, np.uint64)
    if heaps.size:
        every = np.empty(0, np.bool_) if keep is None else keep
        near = np.empty(_BLOCK, np.uint32)
        for own, (starts, stops), heap in zip(_words(queries.copy()), parts, heaps, strict=True):
            _scan_parts(_words(vectors), rows, starts, stops, own, every, heap, near)
    return _read(heaps, beyond, vectors)


def _beyond(vectors: NDArray[Any], radius: float) -> int:
    """The least distance, as a key holds it, that is too far."""
    if vectors.dtype == np.uint8:
        return int(min(radius, 8 * vectors.shape[1])) + 1
    reach = np.float32(min(radius, 4))  # no two unit vectors are farther apart than 2
    return int(np.nextafter(reach, np.float32(np.inf)).view(np.uint32))


def _read(heaps: NDArray[np.uint64], beyond: int, vectors: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The rows and distances in the keys of heaps."""
    heaps.sort(axis=1)
    distances = (heaps >> 32).astype(np.uint32)
    rows = np.where(distances < beyond, (heaps & 0xFFFFFFFF).astype(np.int64), -1)
    return rows, distances.astype(np.int32) if vectors.dtype == np.uint8 else distances.view(np.float32)


def _words(vectors: NDArray[Any]) -> NDArray[Any]:
    """Packed codes as the widest machine words that divide a row; unit vectors as they are."""
    if vectors.dtype != np.uint8:
        return vectors
    width = next(width for width in (8, 4, 2, 1) if vectors.shape[1] % width == 0)
    return vectors.view(f"u{width}")


@njit(nogil=True, cache=True)
def _scan(vectors: Array, queries: Array, keep: Array, heaps: Array, near: Array, chunk: int) -> None:
    """Fill each query's heap with the keys of its nearest rows, the greatest on top."""
    for chunk_start in range(0, len(vectors), chunk):
        chunk_stop = min(chunk_start + chunk, len(vectors))
        for q in range(len(queries)):
            for start in range(chunk_start, chunk_stop, len(near)):
                stop = min(start + len(near), chunk_stop)
                top = np.uint32(heaps[q, 0] >> np.uint64(32))
                least = _measure(vectors[start:stop], queries[q], near)
                if len(keep) and least < top:
                    least = _hide(near, keep[start:stop], top)
                if least < top:
                    for j in range(stop - start):
                        if near[j] < top:
                            _replace_top(heaps[q], np.uint64(near[j]) << np.uint64(32) | np.uint64(start + j))
                            top = np.uint32(heaps[q, 0] >> np.uint64(32))


@njit(nogil=True, cache=True)
def _scan_parts(
    vectors: Array, rows: Array, starts: Array, stops: Array, query: Array, keep: Array, heap: Array, near: Array
) -> None:
    """Fill a query's heap with the keys of its nearest rows in some parts; rows come in any order."""
    for part in range(len(starts)):
        for start in range(starts[part], stops[part], len(near)):
            stop = min(start + len(near), stops[part])
            if _measure(vectors[start:stop], query, near) <= np.uint32(heap[0] >> np.uint64(32)):
                for j in range(stop - start):
                    row = rows[start + j]
                    key = np.uint64(near[j]) << np.uint64(32) | np.uint64(row)
                    if key < heap[0] and (len(keep) == 0 or keep[row]):
                        _replace_top(heap, key)


@njit(nogil=True, cache=True)
def _hide(near: Array, keep: Array, far: Any) -> Any:
    """Set the distances of the rows that are not kept to ``far``; return the least."""
    least = far
    for j in range(len(keep)):
        near[j] = near[j] if keep[j] else far
        least = min(least, near[j])
    return least


@njit(nogil=True, cache=True)
def _replace_top(heap: Array, key: Any) -> None:
    """Put a key in place of the greatest."""
    hole, child = 0, 1
    while child < len(heap):
        if child + 1 < len(heap) and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] < key:
            break
        heap[hole] = heap[child]
        hole, child = child, 2 * child + 1
    heap[hole] = key


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
    least = np.uint32(0xFFFFFFFF)
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
    least = np.uint32(0xFFFFFFFF)
    distances = near.view(np.float32)  # floats that are not negative have the order of their bits
    for j in range(len(block)):
        distances[j] = max(np.float32(0), np.float32(1) - _dot(block[j], query))
        least = min(least, near[j])
    return least


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _dot(a: Array, b: Array) -> Any:
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total
