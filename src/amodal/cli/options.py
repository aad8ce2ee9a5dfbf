"""Options that several verbs share, and how ``--set`` is read."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from amodal.errors import UsageError

__all__ = ["Json", "Sets", "assignments"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="An argument of the method, for instance --set epochs=20. May be repeated."),
]


def assignments(words: list[str] | None) -> dict[str, Any]:
    """``["epochs=20", "balance=none"]`` as arguments; values are read as JSON, else as words.

    Raises:
        UsageError: If a word has no name or no value.
    """
    found: dict[str, Any] = {}
    for word in words or []:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise UsageError(f'--set needs name=value, for instance --set epochs=20; got "{word}".')
        try:
            found[name.removeprefix("method.")] = json.loads(value)
        except ValueError:
            found[name.removeprefix("method.")] = value
    return found
