"""What the verbs share: results on stdout, everything else on stderr, and errors as sentences."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from amodal.errors import AmodalError
from amodal.progress import Progress

__all__ = ["SCHEMA", "Settings", "bars", "emit", "fail", "note", "settings", "table"]

SCHEMA = 1  #: version of what ``--json`` prints


@dataclass
class Settings:
    """Options that stand before the verb."""

    quiet: bool = False
    debug: bool = False


settings = Settings()


@contextmanager
def bars() -> Iterator[Progress | None]:
    """Progress bars on a terminal, one JSON line per tenth elsewhere, nothing with --quiet.

    Yields:
        The callback, or None.
    """
    if settings.quiet:
        yield None
    elif sys.stderr.isatty():
        with _rich_bars() as progress:
            yield progress
    else:
        yield _lines()


@contextmanager
def _rich_bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Bars(*columns, *times, console=Console(stderr=True)) as display:
        tasks: dict[str, Any] = {}

        def progress(done: int, total: int, what: str) -> None:
            name = what.split(" · ")[0]
            if name not in tasks:
                tasks[name] = display.add_task(what, total=total)
            display.update(tasks[name], completed=done, total=total, description=what)

        yield progress


def _lines() -> Progress:
    last: dict[str, int] = {}

    def progress(done: int, total: int, what: str) -> None:
        name, tenth = what.split(" · ")[0], 10 * done // max(total, 1)
        if tenth != last.get(name):
            last[name] = tenth
            print(json.dumps({"progress": what, "done": done, "total": total}), file=sys.stderr)  # noqa: T201

    return progress


def emit(value: Any) -> None:
    """A result as JSON on stdout, with the version of its schema."""
    body = {"schema": SCHEMA, **value} if isinstance(value, Mapping) else value
    print(json.dumps(body, indent=2, ensure_ascii=False, default=str))  # noqa: T201


def note(text: str) -> None:
    """A line for people, on stdout."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(text)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> None:
    """A table for people, on stdout; numbers to the right."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    sheet = Table(title=title or None, caption=caption or None, title_justify="left", caption_justify="left")
    numeric = [
        all(isinstance(row[k], int | float) or str(row[k])[:1] in ".0123456789-" for row in rows)
        for k in range(len(columns))
    ]
    for name, right in zip(columns, numeric, strict=True):
        sheet.add_column(name, justify="right" if right and rows else "left", overflow="fold")
    for row in rows:
        sheet.add_row(*(escape(str(cell)) for cell in row))
    width = None if sys.stdout.isatty() else 160
    Console(highlight=False, width=width).print(sheet)


def fail(error: Exception) -> int:
    """Print what went wrong as a sentence on stderr; returns the exit status."""
    if settings.debug:
        import traceback

        traceback.print_exception(error)
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    label = "\x1b[31merror:\x1b[0m" if colour else "error:"
    print(f"{label} {error}", file=sys.stderr)  # noqa: T201
    return error.exit_code if isinstance(error, AmodalError) else 1
