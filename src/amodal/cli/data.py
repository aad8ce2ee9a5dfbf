"""The verb ``data``: look at data, check them, and make masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from amodal.cli.console import emit, note, table
from amodal.cli.options import Json
from amodal.errors import DataError

__all__ = ["app"]

app = typer.Typer(help="Show, check and thin out data.", no_args_is_help=True)
Data = Annotated[str, typer.Argument(help="A file, a folder, or a name under $AMODAL_DATA.")]
Modalities = Annotated[str | None, typer.Option(help="Which, for instance image,text=text_minilm.")]
Skip = Annotated[bool, typer.Option("--skip-bad", help="Leave out what cannot be used, list it, and go on.")]


def load(path: str, modalities: str | None, *, skip_bad: bool) -> tuple[Any, list[str]]:
    """Read data as several verbs do; what was left out is returned as sentences."""
    from amodal.data import pick, read

    problems: list[str] = []
    data = read(path, skip_bad=skip_bad, problems=problems)
    return (pick(data, modalities) if modalities else data), problems


@app.command()
def show(
    path: Data,
    modalities: Modalities = None,
    picture: Annotated[Path | None, typer.Option(help="Draw it: a .png or .svg file to write.")] = None,
    skip_bad: Skip = False,
    json: Json = False,
) -> None:
    """Draw what is there and what is missing."""
    from amodal.data import describe, draw

    data, _ = load(path, modalities, skip_bad=skip_bad)
    summary = describe(data)
    if picture is not None:
        picture.write_bytes(draw(data, "png" if picture.suffix == ".png" else "svg"))
    if json:
        emit(summary.as_dict())
        return
    rows = [
        (name, m.kind, m.width or "-", m.items, m.observations, m.most, f"{summary.all.missing[name]:.1%}")
        for name, m in summary.modalities.items()
    ]
    columns = ("modality", "content", "width", "items", "observations", "most per item", "missing")
    caption = f"{summary.labelled:,} of {summary.all.items:,} items labelled, {summary.labels_per_item:.1f} labels each"
    table(f"{summary.name}: {summary.all.items:,} items", columns, rows, caption)
    groups = {"all": summary.all, **summary.splits}
    patterns = list(dict.fromkeys(p for group in groups.values() for p in group.patterns))
    cells = [(n, g.items, *(_bar(g.patterns.get(p, 0), g.items) for p in patterns)) for n, g in groups.items()]
    table("What items have", ("split", "items", *patterns), cells)
    if picture is not None:
        note(f"Picture: {picture}")


def _bar(part: int, whole: int) -> str:
    share = part / max(whole, 1)
    return f"{'█' * round(10 * share):<10} {part:,} ({share:.0%})"


@app.command()
def check(path: Data, modalities: Modalities = None, skip_bad: Skip = False, json: Json = False) -> None:
    """Report overlap of splits, duplicates, empty labels, missing files, label order, and what is missing."""
    from amodal.data import check as check_data

    data, problems = load(path, modalities, skip_bad=skip_bad)
    findings = check_data(data, problems)
    if json:
        emit({"findings": [vars(finding) for finding in findings]})
    else:
        rows = [(f.severity, f.sentence, ", ".join(f.examples)) for f in findings]
        table(f"{data.name}: {len(data):,} items", ("severity", "finding", "for instance"), rows)
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        raise DataError(f"{errors} of {len(findings)} findings must be mended before these data can be used.")


@app.command()
def mask(
    path: Data,
    setting: Annotated[str, typer.Argument(help="Missing setting; see: amodal list settings.")],
    out: Annotated[Path, typer.Option("--out", help="The mask file to write.")],
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    mechanism: Annotated[str, typer.Option(help="Why things go missing; see: amodal list mechanisms.")] = "random",
    split: Annotated[str | None, typer.Option(help="Only items of this split lose anything.")] = None,
    modalities: Modalities = None,
    json: Json = False,
) -> None:
    """Draw who keeps what, as a file with a hash that another person can load."""
    from amodal.data import Mask

    data, _ = load(path, modalities, skip_bad=False)
    drawn = Mask.draw(data, setting, seed=seed, mechanism=mechanism, split=split)
    drawn.save(out)
    if json:
        emit({"file": str(out), "sha256": drawn.sha256, "patterns": drawn.counts()})
    else:
        note(f"{out}: {drawn.counts()} sha256 {drawn.sha256}")
