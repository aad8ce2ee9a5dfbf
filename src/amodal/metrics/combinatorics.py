"""Tables and distributions behind the closed forms: harmonic numbers, discounts, who stands where inside a tie."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["discounts", "draws", "harmonic", "hit_probability", "places", "row_sums"]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


def harmonic(largest: int) -> _Floats:
    """Harmonic numbers H(0) = 0, H(m) = 1 + 1/2 + ... + 1/m.

    Args:
        largest: The table reaches at least this m.

    Returns:
        Read-only table, float64. Summed in the longest float of the machine and rounded once: where that has 80 bits,
        each entry is correct to half a unit in the last place.
    """
    return _harmonic(1 << max(10, int(largest).bit_length()))  # lengths in powers of two, so that one table serves many


@lru_cache(maxsize=2)
def _harmonic(length: int, stretch: int = 1 << 20) -> _Floats:
    table = np.zeros(length)
    total = np.longdouble(0)
    for start in range(1, length, stretch):
        sums = total + np.cumsum(1 / np.arange(start, min(start + stretch, length), dtype=np.longdouble))
        table[start : start + len(sums)] = sums
        total = sums[-1]
    table.flags.writeable = False
    return table


@lru_cache(maxsize=8)
def discounts(k: int) -> _Floats:
    """Summed discounts D(0) = 0, D(p) = sum over i = 1..p of 1 / log2(i + 1).

    Args:
        k: The table reaches this p.

    Returns:
        Read-only table, float64, length k + 1.
    """
    table = np.append(0.0, np.cumsum(1 / np.log2(np.arange(2, k + 2))))
    table.flags.writeable = False
    return table


def draws(n: int, r: int, t: int) -> tuple[_Ints, _Floats]:
    """How many of t items drawn from n, of which r are relevant, are relevant (hypergeometric).

    Args:
        n: Items.
        r: Relevant items among them.
        t: Items drawn without replacement.

    Returns:
        The possible numbers x, ascending, and P(X = x).
    """
    x = np.arange(max(0, t - (n - r)), min(r, t) + 1)
    before = x[:-1].astype(np.float64)
    return x, _from_ratios((r - before) * (t - before) / ((before + 1) * (n - r - t + before + 1)))


def places(n: int, r: int, i: int) -> tuple[_Ints, _Floats]:
    """Where the i-th relevant of n items in random order stands, r of them relevant.

        P(place = p) = C(p - 1, i - 1) C(n - p, r - i) / C(n, r)

    Args:
        n: Items.
        r: Relevant items among them.
        i: Which relevant item, 1 to r.

    Returns:
        The possible places p, 1-based, ascending, and their probabilities.
    """
    p = np.arange(i, n - r + i + 1)
    before = p[:-1].astype(np.float64)
    return p, _from_ratios(before * (n - before - r + i) / ((before - i + 1) * (n - before)))


def hit_probability(n: _Ints, r: _Ints, t: _Ints) -> _Floats:
    """Probability 1 - C(n - r, t) / C(n, t) that t items drawn from n include one of r.

    Args:
        n: Items.
        r: Relevant items among them.
        t: Items drawn without replacement; the three broadcast.

    Returns:
        The probabilities, float64.
    """
    n, r, t = np.broadcast_arrays(n, r, t)
    few, many = np.minimum(r, t), np.maximum(r, t)
    miss = np.ones(n.shape)
    for i in range(int(few.max(initial=0))):
        miss = np.where(i < few, miss * np.maximum(n - many - i, 0) / np.maximum(n - i, 1), miss)
    return 1 - miss


def row_sums(table: _Floats) -> _Floats:
    """Sum of each row by a tree of neighbouring pairs.

    Zeros at the end of a row change nothing, not even the last digit; so the sum does not depend on how long the
    longest row of a block is.

    Args:
        table: float64, shape (rows, columns), at least one column.

    Returns:
        The sums, shape (rows,).
    """
    while table.shape[1] > 1:
        pairs = table[:, :-1:2] + table[:, 1::2]
        table = np.column_stack([pairs, table[:, -1]]) if table.shape[1] % 2 else pairs
    return table[:, 0]


def _from_ratios(ratios: _Floats) -> _Floats:
    """Probabilities from the ratios of successive ones, which must fall: products run outwards from the mode."""
    mode = int(np.count_nonzero(ratios > 1))
    left = np.cumprod(1 / ratios[:mode][::-1])[::-1]
    right = np.cumprod(ratios[mode:])
    weights = np.concatenate([left, [1.0], right])
    return np.asarray(weights / weights.sum())
