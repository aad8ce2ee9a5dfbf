"""What the verbs share: results on stdout, everything else on stderr, and errors as sentences."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from amodal.errors import AmodalError
from amodal.progress import Progress

__all__ = ["SCHEMA", "Settings", "bars", "emit", "fail", "left_out", "note", "settings", "table", "warn"]

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


def emit(value: Mapping[str, Any]) -> None:
    """A result as JSON on stdout, with the version of its schema; NaN and infinity, which JSON lacks, are null."""
    text = json.dumps(_plain({"schema": SCHEMA, **value}), indent=2, ensure_ascii=False, allow_nan=False)
    print(text)  # noqa: T201


def _plain(value: Any) -> Any:
    """The same in what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "tolist"):  # a NumPy number or array
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def note(text: str) -> None:
    """A line for people, on stdout."""
    print(text)  # noqa: T201


def left_out(sentences: Sequence[str]) -> None:
    """What --skip-bad went past, a line each; nothing if there was nothing."""
    if sentences:
        note(f"Left out ({len(sentences)}):\n" + "\n".join(f"  {sentence}" for sentence in sentences))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> None:
    """A table for people, on stdout; numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    sheet = Table(title=title or None, caption=caption or None, title_justify="left", caption_justify="left")
    for k, name in enumerate(columns):
        numeric = rows and all(isinstance(row[k], int | float) or str(row[k])[:1] in "0123456789.-" for row in rows)
        sheet.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        sheet.add_row(*map(str, row))
    width = None if sys.stdout.isatty() else 160
    Console(highlight=False, markup=False, emoji=False, width=width).print(sheet)


def fail(error: Exception) -> int:
    """Print what went wrong as a sentence on stderr; returns the exit status."""
    if settings.debug:
        import traceback

        traceback.print_exception(error)
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    label = "\x1b[31merror:\x1b[0m" if colour else "error:"
    print(f"{label} {_sentence(error)}", file=sys.stderr)  # noqa: T201
    return error.exit_code if isinstance(error, AmodalError) else 1


def warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as a sentence on stderr; stands for ``warnings.showwarning``."""
    print(f"warning: {message}", file=sys.stderr)  # noqa: T201


def _sentence(error: Exception) -> str:
    if isinstance(error, AmodalError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return (
        f"{type(error).__name__}: {error}. amodal did not expect this; please report what "
        f'"amodal --debug {" ".join(sys.argv[1:])}" prints.'
    )
