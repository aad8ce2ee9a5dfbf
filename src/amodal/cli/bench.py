"""The verb ``bench``: grids of runs, and their tables."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amodal.cli.console import bars, emit, note, table
from amodal.cli.data import load
from amodal.cli.options import Data, Json, Modalities, Sets, assignments
from amodal.cli.report import report
from amodal.errors import DataError, MethodError, UsageError, nearest

if TYPE_CHECKING:
    from amodal.benchmark import Row
    from amodal.data import Dataset

__all__ = ["app"]

METHODS = ("cich", "label_regression")  #: of a grid, where none are named

app = typer.Typer(help="Run methods under one protocol, and print tables.", no_args_is_help=True)
app.command()(report)


@app.command()
def run(
    dataset: Annotated[
        list[str],
        typer.Argument(
            metavar="DATASET... | RECIPE",
            help="Files, folders or names under $AMODAL_DATA, each with modalities of its own if need be "
            "(wikipedia:image,text=text_tfidf); or a recipe, see: amodal list recipes.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for results.jsonl; what is there is not repeated.")],
    modalities: Modalities = None,
    where: Annotated[
        Path | None, typer.Option("--data", help="Folder of a recipe's data sets.", show_default="$AMODAL_DATA")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Methods, apart by commas.", show_default=",".join(METHODS))
    ] = None,
    settings: Annotated[
        str | None, typer.Option(help="Missing settings of the training items, apart by commas.", show_default="hard")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Who queries whom; see: amodal list protocols.", show_default="heldout")
    ] = None,
    bits: Annotated[str | None, typer.Option(help="Code lengths, apart by commas.", show_default="64")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds, from 0.", show_default="3")] = None,
    preset: Annotated[str | None, typer.Option(help="A published configuration: paper, released.")] = None,
    sets: Sets = None,
    engine: Annotated[str, typer.Option(help="local: processes of this machine; ray: a Ray cluster.")] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at once, which share the cores.", show_default="one on each core")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    json: Json = False,
) -> None:
    """Fit and evaluate a grid of methods, data sets, settings, code lengths and seeds.

    Or run a recipe, whose numbers are printed beside ours; methods, settings, bits and seeds then choose a part of it.
    """
    from amodal.benchmark.recipes import is_recipe
    from amodal.training import Training

    how: dict[str, Any] = {"engine": engine, "workers": workers, "training": Training(device=device)}
    sides = {
        "methods": _words(methods), "settings": _words(settings), "bits": _lengths(bits), "seeds": seeds,
    }  # fmt: skip
    if len(dataset) == 1 and is_recipe(dataset[0]):
        from amodal.cli.recipe import reproduce

        fixed = {"--modalities": modalities, "--protocol": protocol, "--preset": preset, "--set": sets}
        records = reproduce(dataset[0], out, where=where, narrow=sides, fixed=fixed, how=how, json=json)
    else:
        if where is not None:
            raise UsageError("--data goes with a recipe; data sets are named by their path, or lie under $AMODAL_DATA.")
        given = {name: value for name, value in sides.items() if value is not None}
        records = _grid(dataset, modalities, out, given, protocol or "heldout", preset, assignments(sets), how)
        if json:
            emit({"results": str(out / "results.jsonl"), "runs": records})
        else:
            _show(records, out)
    failures = [line for line in records if "error" in line]
    if failures:
        raise MethodError(
            f"{len(failures)} of {len(records)} runs failed (first: {failures[0]['method']} at "
            f"{failures[0]['setting']}: {failures[0]['error']}) All are in {out / 'failures.jsonl'}; run again to try "
            "them anew."
        )


def _grid(
    words: Sequence[str],
    modalities: str | None,
    out: Path,
    sides: Mapping[str, Any],
    protocol: str,
    preset: str | None,
    params: dict[str, Any],
    how: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """The records of a grid over data sets."""
    from amodal.benchmark import plan, run_grid

    sides = {"methods": METHODS, "settings": ("hard",), **sides}
    data: dict[str, Dataset] = {}
    for word in words:
        path, own = _parted(word)
        found, _ = load(path, own or modalities, skip_bad=False)
        if found.name in data:
            raise UsageError(f'two data sets are called "{found.name}". Run them into folders of their own.')
        data[found.name] = found
    runs = [
        run
        for name, found in data.items()
        for run in plan(name, modalities=found.names, protocol=protocol, preset=preset, params=params, **sides)
    ]
    with bars() as progress:
        return list(run_grid(runs, data, out, progress=progress, **how))


def _parted(word: str) -> tuple[str, str | None]:
    """``wikipedia:image,text=text_tfidf`` as path and modalities; a colon may also belong to a path."""
    path, colon, modalities = word.rpartition(":")
    if not colon or "/" in modalities or "\\" in modalities or Path(word).exists():
        return word, None
    return path, modalities


@app.command()
def tune(
    dataset: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder for study.db; what is there is gone on with.")],
    modalities: Modalities = None,
    method: Annotated[str, typer.Option(help="Which method; see: amodal list methods.")] = "cich",
    setting: Annotated[str, typer.Option(help="Missing setting of the training items.")] = "hard",
    bits: Annotated[int, typer.Option(min=1, help="Code length.")] = 64,
    trials: Annotated[int, typer.Option(min=1, help="How many in all, those that are there included.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that a trial's score is averaged over, from 0.")] = 1,
    sets: Sets = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    json: Json = False,
) -> None:
    """Search for a method's best arguments by Optuna, on validation items; test items are never looked at."""
    from amodal.benchmark.tune import Search
    from amodal.benchmark.tune import tune as tune_method
    from amodal.training import Training

    data, _ = load(dataset, modalities, skip_bad=False)
    search = Search(method, setting, bits, seeds, assignments(sets))
    with bars() as progress:
        found = tune_method(
            search, data, out, trials=trials, training=Training(device=device, progress=progress), progress=progress
        )
    best = [f"{name}={value if isinstance(value, str) else dumps(value)}" for name, value in found.params.items()]
    named = [] if modalities is None else ["--modalities", modalities]
    use = shlex.join(["amodal", "bench", "run", dataset, *named, "--methods", method, "--bits", str(bits)])
    words = " ".join(f"--set {shlex.quote(word)}" for word in [*(sets or []), *best])
    if json:
        emit({
            "method": method, "setting": setting, "bits": bits, "seeds": seeds, "score": found.score,
            "params": found.params, "set": best, "trials": [vars(trial) for trial in found.trials],
            "study": found.study, "file": str(found.file),
        })  # fmt: skip
        return
    ranked = sorted(found.trials, key=lambda trial: -math.inf if trial.score is None else trial.score, reverse=True)
    names = list(found.params)
    cells = [
        (one.number, one.state, "-" if one.score is None else f"{one.score:.4f}", *(one.params[name] for name in names))
        for one in ranked[:10]
    ]
    caption = f"mean tie-aware mAP of validation items over directions and {seeds} seeds; {len(found.trials)} trials"
    table(f"{method} on {data.name} at {setting}", ("trial", "state", "score", *names), cells, caption)
    for one in found.trials:
        if one.error:
            note(f"Trial {one.number} failed: {one.error}")
    note(f"Use the best: {use} {words}\nStudy: {found.file}")


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


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _lengths(text: str | None) -> list[int] | None:
    try:
        return None if text is None else [int(word) for word in _words(text) or ()]
    except ValueError:
        raise UsageError(f'--bits needs whole numbers apart by commas, for instance 32,64; got "{text}".') from None


def _show(records: Sequence[dict[str, Any]], out: Path) -> None:
    from amodal.benchmark import summarise

    judged = {record["relevance"] for record in records if "error" not in record}
    measure = "rsum" if judged == {"pair"} else "map"
    _print(summarise(records, measure), measure)
    note(f"Results: {out / 'results.jsonl'}")


def _print(rows: Sequence[Row], measure: str = "map") -> None:
    """One table for each protocol: results of different protocols are never compared."""
    from amodal.benchmark.summary import names_of

    for protocol in dict.fromkeys(row.protocol for row in rows):
        chosen = [row for row in rows if row.protocol == protocol]
        ways = list(dict.fromkeys(way for row in chosen for way in row.cells))
        cells = [
            (row.dataset, row.setting, name, row.bits or "real",
             *(_cell(*row.cells.get(way, (math.nan, math.nan))) for way in ways),
             _cell(row.control), _cell(_mean(row.chance)), row.seeds, f"{row.seconds:.1f}")
            for row, name in zip(chosen, names_of(chosen), strict=True)
        ]  # fmt: skip
        columns = ("data", "setting", "method", "bits", *ways, "control", "chance", "seeds", "fit s")
        caption = f"{measure}, tie-aware, mean ± sd over seeds; control: label_regression on the same gaps"
        table(f"Protocol {protocol}", columns, cells, caption)


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values) if values else math.nan


def _cell(mean: float, deviation: float = math.nan) -> str:
    if math.isnan(mean):
        return "-"
    return f"{mean:.3f}" if math.isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"
