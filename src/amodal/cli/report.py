"""The verb ``bench report``: tables and a page from a folder of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amodal.cli.console import emit, note
from amodal.cli.data import load
from amodal.cli.options import Json, Modalities

__all__ = ["report"]


def report(
    folder: Annotated[Path, typer.Argument(help="A folder with results.jsonl.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for index.html and tables.md, .csv, .tex.")],
    data: Annotated[
        str | None, typer.Option(help="Items with labels or pictures, for what the records do not hold.")
    ] = None,
    modalities: Modalities = None,
    measure: Annotated[str, typer.Option(help="Which measure; higher must be better.")] = "map",
    json: Json = False,
) -> None:
    """Write tables, statistics and one page with figures from finished runs."""
    from amodal.benchmark.report import write_report

    items = load(data, modalities, skip_bad=False)[0] if data is not None else None
    files = write_report(folder, out, measure=measure, data=items)
    if json:
        emit({"files": [str(path) for path in files]})
    else:
        note("\n".join(str(path) for path in files))
