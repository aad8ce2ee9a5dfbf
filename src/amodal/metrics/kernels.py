"""The inner loops, compiled by numba: shared labels, counts by Hamming distance, stable order, levels of a sorted row.

Codes and labels come as byte planes: plane p of the database is byte p of every item, side by side, so that one vector
instruction serves 64 items. Queries are rows of bytes. Loops are written over slices because only then does LLVM prove
that the loads are contiguous and vectorise them.

A *key* is ``grade * levels + distance``: one number that says in which bin of the histogram a pair falls.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["count_narrow", "count_overlap", "count_wide", "rank_stable", "run_levels", "share_any"]

Bytes = NDArray[np.uint8]
Counts = NDArray[np.int64]
Numbers = NDArray[Any]  # of the narrowest unsigned type that holds them

_jit = njit(cache=True, nogil=True)


@intrinsic
def _ones(_typing: Any, byte: Any) -> Any:
    """Number of one bits, by LLVM's own popcount, which becomes a vector instruction where the machine has one."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return byte(byte), generate


@_jit
def share_any(queries: Bytes, planes: Bytes, start: int, out: Numbers) -> None:
    """Write 1 to out[i, j] where query i and item start + j share a label, else 0."""
    stop = start + out.shape[1]
    for i in range(out.shape[0]):
        row = out[i]
        row[:] = 0
        for p in range(queries.shape[1]):
            byte = queries[i, p]
            if byte == 0:
                continue
            items = planes[p, start:stop]
            for j in range(row.size):
                row[j] |= byte & items[j]
        for j in range(row.size):
            row[j] = row[j] != 0


@_jit
def count_overlap(queries: Bytes, planes: Bytes, start: int, out: Numbers) -> None:
    """Write to out[i, j] how many labels query i and item start + j share."""
    stop = start + out.shape[1]
    for i in range(out.shape[0]):
        row = out[i]
        row[:] = 0
        for p in range(queries.shape[1]):
            byte = queries[i, p]
            if byte == 0:
                continue
            items = planes[p, start:stop]
            for j in range(row.size):
                row[j] += _ones(byte & items[j])


@_jit
def _fill_keys(query: Bytes, planes: Bytes, start: int, grades: Numbers, levels: int, keys: Numbers) -> None:
    """Write the keys of one query and the items from start on."""
    stop = start + grades.size
    for j in range(grades.size):
        keys[j] = grades[j] * levels
    for p in range(query.size):
        byte = query[p]
        items = planes[p, start:stop]
        for j in range(grades.size):
            keys[j] += _ones(byte ^ items[j])


@_jit
def count_narrow(
    queries: Bytes, planes: Bytes, start: int, grades: Numbers, levels: int, keys: Numbers, counts: Counts
) -> None:
    """Add to counts[i, key] for keys of one byte; at most 131,070 items.

    Keys are counted two at a time, as 16-bit numbers: half as many increments, and two equal keys in a row do not wait
    for each other's store. A uint16 counter holds 65,535 such pairs.
    """
    bins = counts.shape[1]
    two_keys = keys.view(np.uint16)
    table = np.zeros((256, 256), np.uint16)
    flat = table.reshape(-1)
    for i in range(queries.shape[0]):
        _fill_keys(queries[i], planes, start, grades[i], levels, keys)
        for j in range(grades.shape[1] // 2):
            flat[two_keys[j]] += np.uint16(1)
        if grades.shape[1] % 2:
            counts[i, keys[grades.shape[1] - 1]] += 1
        for first in range(bins):
            row = table[first, :bins]
            total = 0
            for second in range(bins):
                total += row[second]
                counts[i, second] += row[second]
            counts[i, first] += total
            row[:] = 0


@_jit
def count_wide(
    queries: Bytes, planes: Bytes, start: int, grades: Numbers, levels: int, keys: Numbers, counts: Counts
) -> None:
    """Add to counts[i, key] for keys of any size."""
    for i in range(queries.shape[0]):
        _fill_keys(queries[i], planes, start, grades[i], levels, keys)
        for j in range(grades.shape[1]):
            counts[i, keys[j]] += 1


@_jit
def rank_stable(queries: Bytes, planes: Bytes, grades: Numbers, levels: int, keys: Numbers, out: Numbers) -> None:
    """Write to out[i] the grades in the order (distance, database position), by counting instead of sorting."""
    place = np.empty(levels + 1, np.int64)
    for i in range(queries.shape[0]):
        _fill_keys(queries[i], planes, 0, grades[i], 0, keys)
        place[:] = 0
        for j in range(grades.shape[1]):
            place[keys[j] + 1] += 1
        for level in range(levels):
            place[level + 1] += place[level]
        for j in range(grades.shape[1]):
            out[i, place[keys[j]]] = grades[i, j]
            place[keys[j]] += 1


@_jit
def run_levels(grades: Numbers, fresh: NDArray[np.bool_], graded: int, counts: Counts) -> None:
    """Count the grades of each level of rankings that are already in order.

    Levels without a graded item that follow each other become one: no measure can tell, and the tables stay short.
    So level 0, 2, 4, ... of counts holds such runs and level 1, 3, 5, ... those with something in them.

    ``fresh[i, j]`` says whether a new level begins at j; grades from 1 to ``graded - 1`` are graded items;
    counts has shape (queries, slots, levels).
    """
    items = grades.shape[1]
    for i in range(grades.shape[0]):
        level, start = 0, 0
        while start < items:
            stop, found = start, False
            while stop < items and (stop == start or not fresh[i, stop]):
                found |= 0 < grades[i, stop] < graded
                stop += 1
            target = level + 1 if found else level
            for j in range(start, stop):
                counts[i, grades[i, j], target] += 1
            level += 2 * found
            start = stop
