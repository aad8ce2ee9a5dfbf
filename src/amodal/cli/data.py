"""The verb ``data``: look at data, check them, and draw what goes missing or wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amodal.cli.console import emit, left_out, note, table
from amodal.cli.options import Data, Json, Modalities, Skip
from amodal.errors import DataError, UsageError

if TYPE_CHECKING:
    from amodal.data import Dataset

__all__ = ["app", "load"]

app = typer.Typer(help="Show, check, thin out and corrupt data.", no_args_is_help=True)


def load(path: str, modalities: str | None, *, skip_bad: bool) -> tuple[Dataset, list[str]]:
    """Read data as all verbs do; what was left out is returned as sentences."""
    from amodal.data import pick, read

    problems: list[str] = []
    if modalities is None:
        return read(path, skip_bad=skip_bad, problems=problems), problems
    columns = [word.rpartition("=")[2].strip() for word in modalities.split(",")]
    data = read(path, modalities=[name for name in columns if name], skip_bad=skip_bad, problems=problems)
    return pick(data, modalities), problems


@app.command()
def show(
    path: Data,
    modalities: Modalities = None,
    picture: Annotated[Path | None, typer.Option(help="Draw it too: a .png or .svg file to write.")] = None,
    skip_bad: Skip = False,
    json: Json = False,
) -> None:
    """Draw what is there and what is missing."""
    from amodal.data import describe, draw
    from amodal.data.files import replacing

    if picture is not None and picture.suffix not in (".png", ".svg"):
        raise UsageError(f"--picture {picture}: the file must end in .png or .svg.")
    data, problems = load(path, modalities, skip_bad=skip_bad)
    summary = describe(data)
    if picture is not None:
        with replacing(picture) as part:
            part.write_bytes(draw(data, "png" if picture.suffix == ".png" else "svg"))
    if json:
        emit({**summary.as_dict(), "left_out": problems})
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
    left_out(problems)


def _bar(part: int, whole: int) -> str:
    share = part / max(whole, 1)
    return f"{'█' * round(10 * share):<10} {part:,} ({share:.0%})"


@app.command()
def check(path: Data, modalities: Modalities = None, json: Json = False) -> None:
    """Report what may spoil results; exit status 3 if something does.

    Overlap of splits, repeated ids and contents, empty labels, missing and unreadable files, the order of labels, and
    how much is missing.
    """
    from amodal.data import check as check_data

    data, problems = load(path, modalities, skip_bad=True)
    findings = check_data(data, problems)
    if json:
        emit({"findings": [vars(finding) for finding in findings]})
    else:
        rows = [(f.severity, f.sentence, ", ".join(f.examples)) for f in findings]
        rows = rows or [("note", "nothing to remark on.", "")]
        table(f"{data.name}: {len(data):,} items", ("severity", "finding", "for instance"), rows)
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        raise DataError(f"{errors} of {len(findings)} findings are errors: mend them before you use these data.")


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
    """Draw who keeps what, as a file that another person can load."""
    from amodal.data import Mask

    data, _ = load(path, modalities, skip_bad=False)
    drawn = Mask.draw(data, setting, seed=seed, mechanism=mechanism, split=split)
    drawn.save(out)
    if json:
        emit({"file": str(out), "sha256": drawn.sha256, "patterns": drawn.counts()})
    else:
        kept = ", ".join(f"{name} {count:,}" for name, count in drawn.counts().items())
        note(f"{out}: {kept}\nsha256 {drawn.sha256}")


@app.command()
def wrong_labels(
    path: Data,
    rate: Annotated[float, typer.Argument(help="Share of the labelled items that get wrong classes.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    split: Annotated[str | None, typer.Option(help="Only items of this split get any.")] = None,
    json: Json = False,
) -> None:
    """Draw whose labels are wrong, as a file that another person can load."""
    from amodal.data import WrongLabels

    data, _ = load(path, None, skip_bad=False)
    drawn = WrongLabels.draw(data, rate, seed=seed, split=split)
    drawn.save(out)
    if json:
        emit({"file": str(out), "sha256": drawn.sha256, "items": len(drawn.ids)})
    else:
        note(f"{out}: {len(drawn.ids):,} items with wrong labels\nsha256 {drawn.sha256}")


@app.command()
def wrong_pairs(
    path: Data,
    rate: Annotated[float, typer.Argument(help="Share of the pairs that get a wrong partner.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    modality: Annotated[str | None, typer.Option(help="Whose observations move; the last modality by default.")] = None,
    unit: Annotated[str, typer.Option(help="What moves: all observations of an item, or each observation.")] = "item",
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    split: Annotated[str | None, typer.Option(help="Only items of this split get any.")] = None,
    modalities: Modalities = None,
    json: Json = False,
) -> None:
    """Draw who gets a wrong partner, as a file that another person can load."""
    from amodal.data import WrongPairs

    data, _ = load(path, modalities, skip_bad=False)
    drawn = WrongPairs.draw(data, rate, modality, unit=unit, seed=seed, split=split)
    drawn.save(out)
    if json:
        emit({"file": str(out), "sha256": drawn.sha256, "moved": len(drawn.ids), "effective": drawn.effective})
    else:
        note(f"{out}: {len(drawn.ids):,} observations moved, {drawn.effective:.1%}\nsha256 {drawn.sha256}")
