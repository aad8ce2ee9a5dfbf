"""Verbs about models: ``demo, fit, evaluate, encode, add, delete, search, impute``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amodal.cli.console import bars, emit, note, table
from amodal.cli.data import Data, Modalities, Skip, load
from amodal.cli.options import Json, Sets, assignments

if TYPE_CHECKING:
    from amodal.evaluation import Evaluation
    from amodal.retriever import Retriever

__all__ = ["register"]

Model = Annotated[Path, typer.Argument(help="A folder that fit has written.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (demo, fit, evaluate, encode, add, delete, search, impute):
        app.command()(verb)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for corpus, page and model.")] = Path("amodal-demo"),
    bits: Annotated[int, typer.Option(help="Code length.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of gaps and learning.")] = 0,
    json: Json = False,
) -> None:
    """Learn from emoji of which most have lost picture or words, search both ways, and write a page."""
    from amodal.demo import run_demo

    with bars() as progress:
        done = run_demo(out, bits=bits, seed=seed, progress=progress)
    if json:
        emit({
            "items": done.items, "training": done.patterns, "bits": bits, "metrics": done.found.metrics,
            "control": done.control.metrics, "page": str(done.page), "model": str(done.model),
        })  # fmt: skip
        return
    for one in done.searches:
        found = ", ".join(str(m.attributes.get("name") or m.item) for m in one.matches[:5])
        note(f"[b]{one.modality}[/b] {Path(one.content).name if one.modality == 'image' else one.content} → {found}")
    kept = ", ".join(f"{name} {count:,}" for name, count in done.patterns.items())
    note(f"\nLearned from training items with gaps: {kept}. {bits}-bit codes; queries and answers held out.")
    _print_evaluation(done.found, done.control)
    note(f"Look at the pictures: {done.page}\nThe model: {done.model}  (amodal search {done.model} --text ...)")


def fit(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder for model and index.")],
    method: Annotated[str, typer.Option(help="Which method; see: amodal list.")] = "cich",
    bits: Annotated[int, typer.Option(help="Code length.")] = 64,
    modalities: Modalities = None,
    preset: Annotated[str | None, typer.Option(help="A published configuration of the method.")] = None,
    sets: Sets = None,
    encoder: Annotated[
        list[str] | None, typer.Option("--encoder", help="modality=encoder, for instance image=hf:FOLDER.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="32-true or bf16-mixed.")] = "32-true",
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better validation score.")
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of training items held out for --patience.")] = 0.1,
    checkpoints: Annotated[Path | None, typer.Option(help="Folder for checkpoints and the log of losses.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    skip_bad: Skip = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Learn from data with gaps, index them, and save both as one folder."""
    from amodal.data import hold_out
    from amodal.errors import UsageError
    from amodal.methods import get
    from amodal.retriever import Retriever
    from amodal.training import Training

    if out.exists() and not force:
        raise UsageError(f"{out} exists already. Choose another place, or pass --force.")
    if resume and checkpoints is None:
        raise UsageError("--resume needs --checkpoints: the folder in which the interrupted run left its checkpoint.")
    chosen = get(method)
    params = {**({"bits": bits} if chosen.accepts("bits") else {}), **assignments(sets)}
    shop = Retriever(
        chosen.create(preset=preset, **params), encoders={k: str(v) for k, v in assignments(encoder).items()}
    )
    items, problems = load(data, modalities, skip_bad=skip_bad)
    held = None
    if patience is not None:
        learned = items.part("train") if items.split is not None and "train" in items.split else items
        items, held = hold_out(learned, validation)
    training = Training(device=device, precision=precision, folder=checkpoints, resume=resume, patience=patience)
    with bars() as progress:
        shop.fit(items, validation=held, training=training, progress=progress, skip_bad=skip_bad)
    shop.save(out, force=force)
    left = [*problems, *shop.left_out]
    if json:
        emit({"model": str(out), "entries": len(shop), "method": method, "left_out": left})
    else:
        note(f"{out}: {method}, {len(shop):,} entries of {len(items):,} items")
        _print_left(left)


def evaluate(
    model: Model,
    data: Data,
    modalities: Modalities = None,
    skip_bad: Skip = False,
    json: Json = False,
) -> None:
    """Measure a model on the held-out items of data, beside chance and the control learned from its training items."""
    from amodal.evaluation import arrange, get_protocol
    from amodal.evaluation import evaluate as measure
    from amodal.methods import get

    items, _ = load(data, modalities, skip_bad=skip_bad)
    shop = _open(model)
    with bars() as progress:
        arrangement = arrange(shop.features(items, progress), get_protocol("heldout"))
        found = measure(shop.method, arrangement)
        control = measure(get("label_regression").create().fit(arrangement.train.seen_classes()), arrangement)
    if json:
        emit({"protocol": "heldout", "metrics": found.metrics, "counts": found.counts, "control": control.metrics})
    else:
        _print_evaluation(found, control)


def encode(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="The .npz file to write: packed codes and ids by modality.")],
    modalities: Modalities = None,
    skip_bad: Skip = False,
    json: Json = False,
) -> None:
    """Write the codes of data, each observation from its own modality alone."""
    from amodal.evaluation import encode_items, save_codes

    items, _ = load(data, modalities, skip_bad=skip_bad)
    shop = _open(model)
    with bars() as progress:
        features = shop.features(items, progress, skip_bad=skip_bad)
        codes = encode_items(shop.method, features)
    save_codes(out, codes, features)
    counts = {name: len(rows) for name, rows in codes.items()}
    if json:
        emit({"file": str(out), "codes": counts})
    else:
        note(f"{out}: " + ", ".join(f"{count:,} of {name}" for name, count in counts.items()))


def add(
    model: Model,
    data: Data,
    replace: Annotated[bool, typer.Option("--replace", help="Replace items that are there already.")] = False,
    modalities: Modalities = None,
    skip_bad: Skip = False,
    json: Json = False,
) -> None:
    """Index further items; what has been acknowledged survives a killed process."""
    items, problems = load(data, modalities, skip_bad=skip_bad)
    shop = _open(model, write=True)
    with bars() as progress:
        written = (shop.upsert if replace else shop.add)(items, progress=progress, skip_bad=skip_bad)
    left = [*problems, *shop.left_out]
    if json:
        emit({"model": str(model), "written": written, "entries": len(shop), "left_out": left})
    else:
        note(f"{model}: {written:,} entries written, {len(shop):,} in all")
        _print_left(left)


def delete(model: Model, ids: Annotated[list[str], typer.Argument(help="Ids of items.")], json: Json = False) -> None:
    """Take items out of the index."""
    shop = _open(model, write=True)
    removed = shop.delete(ids)
    if json:
        emit({"model": str(model), "removed": removed, "entries": len(shop)})
    else:
        note(f"{model}: {removed} of {len(ids)} items removed, {len(shop):,} entries left")


def search(
    model: Model,
    text: Annotated[str | None, typer.Option(help="Search by words (the modality text).")] = None,
    image: Annotated[Path | None, typer.Option(help="Search by a picture file (the modality image).")] = None,
    id: Annotated[str | None, typer.Option("--id", help="Search by an indexed item.")] = None,
    by: Annotated[str | None, typer.Option(help="Search by any modality: name=content.")] = None,
    into: Annotated[str | None, typer.Option(help="Find in this modality only.")] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="How many items.")] = 10,
    where: Annotated[str | None, typer.Option(help="Only items for which this holds: 'year >= 1990'.")] = None,
    radius: Annotated[float | None, typer.Option(help="Only items at most this far.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the pictures found.")] = None,
    json: Json = False,
) -> None:
    """Find the nearest items by words, a picture, an item or any other modality."""
    query: dict[str, Any] = {"text": text, "image": None if image is None else str(image), "id": id}
    name, _, content = (by or "").partition("=")
    query |= {name: content} if name else {}
    shop = _open(model)
    matches = shop.search(k=k, into=into, where=where, radius=radius, **query)
    if html is not None:
        from amodal.sheet import Search, write_sheet

        asked, what = next((name, value) for name, value in query.items() if value is not None)
        write_sheet(html, f"amodal search {model.name}", [Search(asked, str(what), (), matches)])
    if json:
        emit({"matches": [vars(match) for match in matches]})
        return
    rows = [
        (k + 1, f"{m.distance:g}", m.item, m.modality, m.content or "", ", ".join(m.labels))
        for k, m in enumerate(matches)
    ]
    table("", ("", "distance", "item", "matched", "content", "labels"), rows)
    if html is not None:
        note(f"Page: {html}")


def impute(
    model: Model,
    data: Data,
    modality: Annotated[str, typer.Option(help="What to imagine.")],
    out: Annotated[Path, typer.Option("--out", help="The .npz file to write: ids, features, trust.")],
    modalities: Modalities = None,
    json: Json = False,
) -> None:
    """Imagine a modality for the items that lack it, and say how far to trust it."""
    from amodal.methods.imputation import save_imputation

    items, _ = load(data, modalities, skip_bad=False)
    shop = _open(model)
    with bars() as progress:
        imagined = shop.impute(items, modality, progress=progress)
    save_imputation(out, imagined, items.ids)
    trust = float(imagined.trust.mean()) if len(imagined) else None
    if json:
        emit({"file": str(out), "items": len(imagined), "modality": modality, "mean_trust": trust})
    else:
        note(f"{out}: {modality} imagined for {len(imagined):,} items" + (f", mean trust {trust:.2f}" if trust else ""))


def _open(model: Path, *, write: bool = False) -> Retriever:
    from amodal.retriever import Retriever

    return Retriever.load(model, readonly=not write)


def _print_left(left: Sequence[str]) -> None:
    if left:
        note(f"Left out ({len(left)}):\n" + "\n".join(f"  {sentence}" for sentence in left))


def _print_evaluation(found: Evaluation, control: Evaluation) -> None:
    rows = []
    for way in found.counts:
        pairs = [found.metrics.get(name, {}).get(way) for name in ("recall@1", "recall@10", "chance.recall@10")]
        values = (found.metrics["map"][way], control.metrics["map"][way], found.metrics["chance"][way])
        rows.append((way, *(f"{value:.3f}" for value in values), *("-" if p is None else f"{p:.1f}" for p in pairs)))
    columns = ("direction", "mAP", "control", "chance", "R@1 %", "R@10 %", "R@10 chance %")
    caption = "heldout; tie-aware mAP over all; control: label_regression, real-valued, on the same training items"
    table("Held-out items", columns, rows, caption)
