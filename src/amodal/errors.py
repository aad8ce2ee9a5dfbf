"""What can go wrong, in words a user can act on.

Every error says what was wrong, where, and what to do. The command line prints the sentence without a traceback and
exits with ``exit_code``: 1 failed, 2 wrong usage, 3 data problem, 4 missing extra.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AmodalError",
    "DataError",
    "IndexMismatch",
    "IndexUnavailable",
    "MethodError",
    "MissingExtra",
    "MissingModality",
    "ShapeError",
    "UsageError",
    "nearest",
]


class AmodalError(Exception):
    """Anything this library refuses to do, said as a sentence."""

    exit_code = 1


class UsageError(AmodalError, ValueError):
    """An argument, key or name that does not exist or does not fit."""

    exit_code = 2


class DataError(AmodalError, ValueError):
    """Something in the user's data: a file, a row, a value."""

    exit_code = 3


class ShapeError(DataError):
    """Arrays whose shapes do not fit each other or the model."""


class MissingModality(DataError):
    """A modality was asked for that the data or the model does not have."""


class MethodError(AmodalError):
    """A method cannot learn from, or do, what it was asked to."""


class IndexMismatch(AmodalError):
    """An index and the model that wants to use it do not belong together."""


class IndexUnavailable(AmodalError):
    """The server that keeps an index cannot be reached. Nothing is wrong with the call; it may be repeated."""


class MissingExtra(AmodalError, ImportError):
    """An optional part of the library is not installed."""

    exit_code = 4

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} is not installed. Run: pip install "amodal[{extra}]"')


def nearest(name: str, known: Iterable[str], *, what: str) -> str:
    """A sentence for an unknown name: what it is not, the nearest right word, and the whole list.

    Args:
        name: What the user wrote.
        known: Every name that would have been right.
        what: The kind of thing, for instance "method" or "setting".

    Returns:
        The sentence, ready for an error.

    Example:
        >>> nearest("cihc", ["cich", "dch"], what="method")
        'unknown method "cihc". Did you mean "cich"? Known: cich, dch.'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    return f'unknown {what} "{name}".{hint} Known: {", ".join(names) or "none"}.'
