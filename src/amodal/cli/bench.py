"""The verb ``bench``: grids of runs, and their tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amodal.cli.console import bars, emit, note, table
from amodal.cli.data import load
from amodal.cli.options import Data, Json, Modalities, Sets, assignments
from amodal.errors import DataError, MethodError, UsageError, nearest

if TYPE_CHECKING:
    from amodal.benchmark import Row

__all__ = ["app"]

app = typer.Typer(help="Run methods under one protocol, and print tables.", no_args_is_help=True)


@app.command()
def run(
    dataset: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder for results.jsonl; what is there is not repeated.")],
    modalities: Modalities = None,
    methods: Annotated[str, typer.Option(help="Methods, apart by commas.")] = "cich,label_regression",
    settings: Annotated[str, typer.Option(help="Missing settings of the training items, apart by commas.")] = "hard",
    protocol: Annotated[str, typer.Option(help="Who queries whom; see: amodal list protocols.")] = "heldout",
    bits: Annotated[str, typer.Option(help="Code lengths, apart by commas.")] = "64",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 0.")] = 3,
    preset: Annotated[str | None, typer.Option(help="A published configuration: paper, released.")] = None,
    sets: Sets = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    json: Json = False,
) -> None:
    """Fit and evaluate a grid of methods, settings, code lengths and seeds."""
    from amodal.benchmark import plan, run_grid, summarise
    from amodal.training import Training

    data, _ = load(dataset, modalities, skip_bad=False)
    runs = plan(
        data.name,
        _words(methods),
        _words(settings),
        modalities=data.names,
        protocol=protocol,
        bits=_lengths(bits),
        seeds=seeds,
        params=assignments(sets),
        preset=preset,
    )
    with bars() as progress:
        records = list(run_grid(runs, data, out, training=Training(device=device), progress=progress))
    failures = [line for line in records if "error" in line]
    if json:
        emit({"results": str(out / "results.jsonl"), "runs": records})
    else:
        _print(summarise(records))
        note(f"Results: {out / 'results.jsonl'}")
    if failures:
        raise MethodError(
            f"{len(failures)} of {len(runs)} runs failed (first: {failures[0]['method']} at {failures[0]['setting']}: "
            f"{failures[0]['error']}) All are in {out / 'failures.jsonl'}; run again to try them anew."
        )


@app.command()
def show(
    out: Annotated[Path, typer.Argument(help="A folder with results.jsonl.")],
    measure: Annotated[str, typer.Option(help="Which measure.")] = "map",
    json: Json = False,
) -> None:
    """Print the table of finished runs."""
    from amodal.benchmark import read_results, summarise

    records = read_results(out)
    if not records:
        raise DataError(f"{out} holds no results. Make some: amodal bench run DATASET --out {out}")
    known = {name for record in records for name in record["metrics"]}
    if measure not in known:
        raise UsageError(nearest(measure, known, what="measure"))
    rows = summarise(records, measure)
    if json:
        emit({"rows": [vars(row) for row in rows]})
    else:
        _print(rows, measure)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _lengths(text: str) -> list[int]:
    try:
        return [int(word) for word in _words(text)]
    except ValueError:
        raise UsageError(f'--bits needs whole numbers apart by commas, for instance 32,64; got "{text}".') from None


def _print(rows: Sequence[Row], measure: str = "map") -> None:
    """One table for each protocol: results of different protocols are never compared."""
    for protocol in dict.fromkeys(row.protocol for row in rows):
        chosen = [row for row in rows if row.protocol == protocol]
        ways = list(dict.fromkeys(way for row in chosen for way in row.cells))
        cells = [
            (row.dataset, row.setting, _method(row, chosen), row.bits or "real",
             *(_cell(*row.cells.get(way, (math.nan, math.nan))) for way in ways),
             _cell(row.control), _cell(_mean(row.chance)), row.seeds, f"{row.seconds:.1f}")
            for row in chosen
        ]  # fmt: skip
        columns = ("data", "setting", "method", "bits", *ways, "control", "chance", "seeds", "fit s")
        caption = f"{measure}, tie-aware, mean ± sd over seeds; control: label_regression on the same gaps"
        table(f"Protocol {protocol}", columns, cells, caption)


def _method(row: Row, rows: Sequence[Row]) -> str:
    """The method's name, and its arguments as far as rows of the same method differ in them."""
    configs = [other.config for other in rows if other.method == row.method]
    differing = [
        f"{name}={value}"
        for name, value in row.config.items()
        if name != "bits" and any(config.get(name) != value for config in configs)
    ]
    return " ".join([row.method, *differing])


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values) if values else math.nan


def _cell(mean: float, deviation: float = math.nan) -> str:
    if math.isnan(mean):
        return "-"
    return f"{mean:.3f}" if math.isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"
