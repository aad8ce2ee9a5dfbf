"""Figures and lists in words, the same everywhere in a report."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["listing", "number", "p_value", "plural", "plus_minus", "signed"]


def number(value: float, percent: bool = False) -> str:
    """A figure as tables show it: three digits without the leading 0, or one digit of percent; a dash for NaN.

    Example:
        >>> number(0.3121), number(41.26, True), number(float("nan"))
        ('.312', '41.3', '–')
    """
    if math.isnan(value):
        return "–"
    text = f"{abs(value):.1f}" if percent else f"{abs(value):.3f}"
    zero = not float(text)
    text = text if percent else text.removeprefix("0")
    return f"−{text}" if value < 0 and not zero else text


def signed(value: float, percent: bool = False) -> str:
    """The same with its sign."""
    text = number(value, percent)
    return text if text.startswith(("−", "–")) else f"+{text}"


def plus_minus(mean: float, deviation: float, percent: bool = False) -> str:
    """Mean ± deviation; the mean alone if there is no deviation."""
    return number(mean, percent) if math.isnan(deviation) else f"{number(mean, percent)} ± {number(deviation, percent)}"


def p_value(p: float | None) -> str:
    """A p value with three digits; a dash if there is none."""
    return "–" if p is None else "< .001" if p < 0.001 else number(p) if p < 1 else "1"


def listing(words: Iterable[str]) -> str:
    """``a, b and c``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def plural(count: int, thing: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")
