"""A recipe in the verb ``bench run``: a published experiment on the data that are here, beside its printed numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amodal.cli.console import bars, emit, note, table
from amodal.errors import UsageError

if TYPE_CHECKING:
    from amodal.benchmark.comparison import Comparison
    from amodal.benchmark.recipes import Recipe
    from amodal.data import Dataset

__all__ = ["reproduce"]


def reproduce(
    name: str,
    out: Path,
    *,
    where: Path | None,
    narrow: Mapping[str, Any],
    fixed: Mapping[str, Any],
    how: Mapping[str, Any],
    json: bool,
) -> list[dict[str, Any]]:
    """Run a recipe, or a part of it, and print its numbers beside ours.

    Args:
        name: Of the recipe, or its path.
        out: Folder of results.
        where: Folder of the data; AMODAL_DATA by default.
        narrow: Which rows, settings, code lengths and seeds; None for all.
        fixed: Options that a recipe decides itself, by name; whatever is not None is refused.
        how: Further arguments of ``run_grid``.
        json: Print JSON.

    Returns:
        The records.
    """
    from amodal.benchmark import run_grid
    from amodal.benchmark.comparison import caption, compare
    from amodal.benchmark.recipes import load

    recipe = load(name)
    for option, value in fixed.items():
        if value:
            raise UsageError(f"{option} goes with data, not with a recipe: {recipe.path.name} decides that itself.")
    wanted = {run.dataset for run in recipe.runs(**narrow)}
    data, missing = recipe.gather(where, sorted(wanted))
    runs = [run for run in recipe.runs(**narrow) if run.dataset in data]
    with bars() as progress:
        records = list(run_grid(runs, data, out, progress=progress, **how))
    lines = [line for line in compare(recipe, records) if line.seeds]
    if json:
        found = [{**asdict(line), "difference": line.difference} for line in lines]
        what = {"recipe": recipe.name, "caption": caption(recipe, data), "missing": missing}
        emit({**what, "results": str(out / "results.jsonl"), "comparison": found})
    else:
        _print(recipe, lines, data)
        if missing:
            note(f"Not run, for want of data:\n{missing}")
        note(f"Results: {out / 'results.jsonl'}")
    return records


def _print(recipe: Recipe, lines: Sequence[Comparison], data: Mapping[str, Dataset]) -> None:
    from amodal.benchmark.comparison import caption

    several = len(recipe.sources) > 1
    title = f"{recipe.title} ({recipe.paper})"
    heads = (
        "data",
        "setting",
        "bits",
        "row",
        "our method",
        "printed",
        *(["sources"] * several),
        "ours",
        "ours - printed",
    )
    cells = [
        (
            line.set,
            line.setting,
            line.bits,
            line.row + " *" * bool(line.note),
            line.method,
            _values(recipe, {name: f"{value:.3f}" for name, value in line.printed.items()}),
            *([_values(recipe, {name: f"{a:.3f}-{b:.3f}" for name, (a, b) in line.band.items()})] * several),
            _values(recipe, {name: _spread(*value) for name, value in line.own.items()}),
            _values(recipe, {name: f"{value:+.3f}" for name, value in line.difference.items()}),
        )
        for line in lines
    ]
    notes = [f"* {line.row}, {line.set}, {line.setting}: {line.note}." for line in lines if line.note]
    columns = f"Values: {' / '.join(recipe.columns)}; ours mean ± sd over seeds."
    table(title, heads, cells, "\n".join([columns, *caption(recipe, data), *notes]))


def _values(recipe: Recipe, values: Mapping[str, str]) -> str:
    return " / ".join(values.get(name, "-") for name in recipe.columns)


def _spread(mean: float, deviation: float | None) -> str:
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"
