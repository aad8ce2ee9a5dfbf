"""Options that several verbs share, and how ``--set`` is read."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from amodal.errors import UsageError

__all__ = ["Data", "Force", "Json", "Modalities", "Sets", "Skip", "assignments"]

Data = Annotated[str, typer.Argument(help="A file, a folder, or a name under $AMODAL_DATA.")]
Modalities = Annotated[str | None, typer.Option(help="Which, for instance image,text=text_minilm.")]
Skip = Annotated[bool, typer.Option("--skip-bad", help="Leave out what cannot be used, list it, and go on.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="An argument of the method, for instance --set epochs=20. May be repeated."),
]


def assignments(words: list[str] | None, option: str = "--set", example: str = "epochs=20") -> dict[str, Any]:
    """``["epochs=20", "balance=none"]`` as arguments; values are read as JSON, else as words.

    Args:
        words: What was given with the option.
        option: Its name, for messages.
        example: A right value, for messages.

    Raises:
        UsageError: If a word has no name or no value.
    """
    found: dict[str, Any] = {}
    for word in words or []:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise UsageError(f'{option} needs name=value, for instance {option} {example}; got "{word}".')
        name = name.removeprefix("method.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
