"""Verbs about models: ``demo, fit, evaluate, encode, add, delete, search, impute``."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amodal.cli.console import bars, emit, left_out, note, table
from amodal.cli.data import load
from amodal.cli.options import Data, Force, Json, Modalities, Sets, Skip, assignments
from amodal.cli.serve import search_server
from amodal.errors import DataError, MissingModality, UsageError, nearest

if TYPE_CHECKING:
    from amodal.data import Dataset
    from amodal.entries import Match
    from amodal.evaluation import Evaluation
    from amodal.reranking import Why
    from amodal.retriever import Retriever

__all__ = ["register"]

Model = Annotated[Path, typer.Argument(help="A folder that fit has written.")]


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
    """Learn from emoji with gaps, search both ways, write a page.

    Of the training items 10 % keep picture and words, 45 % only the picture, 45 % only the words. A second run starts
    from cached features.
    """
    from amodal.demo import run_demo

    with bars() as progress:
        done = run_demo(out, bits=bits, seed=seed, progress=progress)
    if json:
        emit({
            "items": done.items, "training": done.patterns, "bits": bits, "metrics": done.found.metrics,
            "control": done.control.metrics, "page": str(done.page), "model": str(done.model),
        })  # fmt: skip
        return
    rows = [
        (one.modality, one.name, ", ".join(match.attributes["name"] for match in one.matches[:5]))
        for one in done.searches
    ]
    table("Searches among held-out emoji", ("by", "query", "nearest"), rows)
    kept = ", ".join(f"{name} {count:,}" for name, count in done.patterns.items())
    note(f"Training items: {kept}. {bits}-bit codes.")
    _print_evaluation(done.found, done.control)
    note(f'Look at the pictures: {done.page}\nSearch on: amodal search {done.model} --text "a red flower"')


def fit(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder for model and index.")],
    method: Annotated[str, typer.Option(help="Which method; see: amodal list.")] = "cich",
    bits: Annotated[int | None, typer.Option(help="Code length; the method's own by default.")] = None,
    modalities: Modalities = None,
    preset: Annotated[str | None, typer.Option(help="A published configuration of the method.")] = None,
    sets: Sets = None,
    encoder: Annotated[
        list[str] | None, typer.Option("--encoder", help="modality=encoder, for instance image=hf:FOLDER.")
    ] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option("--backbone", help="modality=encoder that learns with the method: image=efficientnet-lite0."),
    ] = None,
    backbone_rate: Annotated[float, typer.Option(help="Learning rate of backbones.")] = 1e-5,
    rerank: Annotated[
        str | None, typer.Option(help="A matcher that puts the first answers in order, for instance scan.")
    ] = None,
    rerank_top: Annotated[int, typer.Option(help="How many answers it scores.")] = 50,
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
    """Learn from data with gaps, index them, save both as a folder.

    Items of the split "train" are learned from if there is such a split, else all; all are indexed.
    """
    from amodal.home import require_room
    from amodal.methods import get
    from amodal.reranking import Reranker
    from amodal.retriever import Retriever
    from amodal.training import Training

    require_room(out, force=force)
    if resume and checkpoints is None:
        raise UsageError("--resume needs --checkpoints: the folder in which the interrupted run left its checkpoint.")
    params = {**({} if bits is None else {"bits": bits}), **assignments(sets)}
    encoders = {name: str(value) for name, value in assignments(encoder, "--encoder", "image=hf:FOLDER").items()}
    learning = assignments(backbone, "--backbone", "image=efficientnet-lite0")
    shop = Retriever(
        get(method).create(preset=preset, **params),
        encoders=encoders,
        backbones={name: str(value) for name, value in learning.items()},
        backbone_rate=backbone_rate,
        rerank=None if rerank is None else Reranker(rerank, top=rerank_top),
    )
    items, problems = load(data, modalities, skip_bad=skip_bad)
    items, held = (items, None) if patience is None else _set_apart(items, validation)
    training = Training(device=device, precision=precision, folder=checkpoints, resume=resume, patience=patience)
    with bars() as progress:
        shop.fit(items, validation=held, training=training, progress=progress, skip_bad=skip_bad)
    shop.save(out, force=force)
    left = [*problems, *shop.left_out]
    if json:
        emit({"model": str(out), "entries": len(shop), "method": method, "left_out": left})
    else:
        note(f"{out}: {method}, {len(shop):,} entries of {len(items):,} items")
        left_out(left)


def _set_apart(items: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """The items with some of the training ones in a split "validation", and these once more."""
    import numpy as np

    from amodal.data import hold_out

    split = items.split if items.split is not None else np.full(len(items), "train")
    _, held = hold_out(items.take(split == "train"), share)
    return replace(items, split=np.where(np.isin(items.ids, held.ids), "validation", split)), held


def evaluate(
    model: Model,
    data: Data,
    modalities: Modalities = None,
    skip_bad: Skip = False,
    json: Json = False,
) -> None:
    """Measure a model on held-out items, beside chance and control.

    The split "test" asks and is searched. The control, label_regression, learns from the split "train" as it is here.
    """
    from amodal.evaluation import arrange, evaluate_control, get_protocol
    from amodal.evaluation import evaluate as measure

    items, problems = load(data, modalities, skip_bad=skip_bad)
    if items.split is None:
        raise DataError(f'{data}: has no split, so nothing was held out. Add a column "split" with train and test.')
    with _open(model) as shop, bars() as progress:
        arrangement = arrange(shop.features(items, progress, skip_bad=skip_bad), get_protocol("heldout"))
        found = measure(shop.method, arrangement)
        beside = evaluate_control(arrangement)
    left = [*problems, *shop.left_out]
    if json:
        emit({
            "protocol": "heldout", "metrics": found.metrics, "counts": found.counts, "absent": found.absent,
            "control": beside.metrics, "left_out": left,
        })  # fmt: skip
    else:
        _print_evaluation(found, beside)
        left_out(left)


def encode(
    model: Model,
    data: Data,
    out: Annotated[
        Path | None, typer.Option("--out", help="The .npz file to write: packed codes and ids by modality.")
    ] = None,
    index: Annotated[str | None, typer.Option("--index", help="Or the index to write to: URL, made if needed.")] = None,
    engine: Annotated[str, typer.Option(help="local, or ray: a cluster; with --index.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Parts at once on a cluster; all its processors.")] = None,
    modalities: Modalities = None,
    skip_bad: Skip = False,
    json: Json = False,
) -> None:
    """Write the codes of data to a file or an index.

    Each is made from its own modality alone. Run again after an interruption, --index goes on: parts of the data of
    which all is there are passed over. What a model that re-ranks needs of the items goes into its own folder.
    """
    if (out is None) == (index is None):
        raise UsageError("write to a file with --out, or to an index with --index; name exactly one of them.")
    if index is not None:
        _encode_into(index, model, data, engine, workers, modalities, skip_bad=skip_bad, json=json)
        return
    if engine != "local" or workers is not None:
        raise UsageError("--engine and --workers are for --index; a file is written by this process alone.")
    assert out is not None  # noqa: S101 - just checked
    from amodal.evaluation import encode_items, save_codes

    items, problems = load(data, modalities, skip_bad=skip_bad)
    with _open(model) as shop, bars() as progress:
        features = shop.features(items, progress, skip_bad=skip_bad)
        codes = encode_items(shop.method, features)
    save_codes(out, codes, features)
    counts = {name: len(rows) for name, rows in codes.items()}
    left = [*problems, *shop.left_out]
    if json:
        emit({"file": str(out), "codes": counts, "left_out": left})
    else:
        note(f"{out}: " + ", ".join(f"{count:,} of {name}" for name, count in counts.items()))
        left_out(left)


def _encode_into(
    url: str,
    model: Path,
    data: str,
    engine: str,
    workers: int | None,
    modalities: str | None,
    *,
    skip_bad: bool,
    json: bool,
) -> None:
    from amodal.bulk import encode_into

    items, problems = load(data, modalities, skip_bad=skip_bad)
    with _open(model) as shop, bars() as progress:
        done = encode_into(shop, items, url, engine=engine, workers=workers, progress=progress, skip_bad=skip_bad)
    left = [*problems, *done.left_out]
    if json:
        emit({"written": done.written, "kept": done.kept, "left_out": left})
    else:
        note(f"{done.written:,} entries written" + (f", {done.kept:,} were there already" if done.kept else ""))
        left_out(left)


def add(
    model: Model,
    data: Data,
    replace: Annotated[bool, typer.Option("--replace", help="Replace items that are there already.")] = False,
    modalities: Modalities = None,
    skip_bad: Skip = False,
    json: Json = False,
) -> None:
    """Index further items, or further modalities of known ones.

    What has been acknowledged survives a killed process.
    """
    items, problems = load(data, modalities, skip_bad=skip_bad)
    with _open(model, write=True) as shop, bars() as progress:
        written = (shop.upsert if replace else shop.add)(items, progress=progress, skip_bad=skip_bad)
        entries = len(shop)
    left = [*problems, *shop.left_out]
    if json:
        emit({"model": str(model), "written": written, "entries": entries, "left_out": left})
    else:
        note(f"{model}: {written:,} entries written, {entries:,} in all")
        left_out(left)


def delete(model: Model, ids: Annotated[list[str], typer.Argument(help="Ids of items.")], json: Json = False) -> None:
    """Take items out of the index."""
    with _open(model, write=True) as shop:
        removed, entries = shop.delete(ids), len(shop)
    if json:
        emit({"model": str(model), "removed": removed, "entries": entries})
    else:
        note(f"{model}: {removed} of {len(ids)} items removed, {entries:,} entries left")


def search(
    model: Annotated[Path | None, typer.Argument(help="A folder that fit has written; none with --server.")] = None,
    text: Annotated[str | None, typer.Option(help="Search by words (the modality text).")] = None,
    image: Annotated[Path | None, typer.Option(help="Search by a picture file (the modality image).")] = None,
    id: Annotated[str | None, typer.Option("--id", help="Search by an indexed item.")] = None,
    by: Annotated[str | None, typer.Option(help="Search by any modality: name=content.")] = None,
    into: Annotated[str | None, typer.Option(help="Find in this modality only.")] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="How many items.")] = 10,
    where: Annotated[str | None, typer.Option(help="Only items for which this holds: 'year >= 1990'.")] = None,
    radius: Annotated[float | None, typer.Option(help="Only items at most this far.")] = None,
    server: Annotated[
        str | None, typer.Option(help="Ask a service: http://127.0.0.1:8765. Its key is read from AMODAL_KEY.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the pictures found.")] = None,
    explain: Annotated[
        Path | None, typer.Option(help="Write a page that shows why: which words look at which regions.")
    ] = None,
    json: Json = False,
) -> None:
    """Find the nearest items by words, a picture or an item."""
    asked, content = _query(text, image, id, by)
    if (model is None) == (server is None):
        raise UsageError("search a model's folder, or a service with --server; name exactly one of them.")
    if server is not None:
        if html is not None or explain is not None:
            raise UsageError(
                "--html and --explain write a page from pictures on this machine; a service has a page of its own."
            )
        search_server(server, asked, content, picture=image is not None, into=into, k=k, where=where, radius=radius,
                      json=json)  # fmt: skip
        return
    assert model is not None  # noqa: S101 - just checked
    query: dict[str, Any] = {asked: content}
    with _open(model) as shop:
        if id is None and asked not in shop.method.widths_:  # before it is taken for another argument of search
            raise MissingModality(nearest(asked, shop.method.widths_, what="modality") + " The model never learned it.")
        matches = shop.search(k=k, into=into, where=where, radius=radius, **query)
        whys = _explained(shop, asked, content, matches) if explain is not None else []
    pages = {"page": html, "why": explain}
    if html is not None:
        from amodal.sheet import Search, write_sheet

        write_sheet(html, f"amodal search {model.name}", [Search(asked, content, matches)])
    if explain is not None:
        from amodal.why_sheet import write_why

        write_why(explain, f"Why: {content}", whys)
    if json:
        emit({
            "matches": [vars(match) for match in matches], "explained": [why.as_dict() for why in whys],
            **{name: None if page is None else str(page) for name, page in pages.items()},
        })  # fmt: skip
        return
    scored = any(match.score is not None for match in matches)
    rows = [
        (rank, *([_score(m)] if scored else []), f"{m.distance:g}", m.item, m.modality, m.content or "",
         ", ".join(m.labels))
        for rank, m in enumerate(matches, 1)
    ]  # fmt: skip
    table("", ("", *(["score"] if scored else []), "distance", "item", "matched", "content", "labels"), rows)
    for page in filter(None, pages.values()):
        note(f"Page: {page}")


def _score(match: Match) -> str:
    return "" if match.score is None else f"{match.score:.3f}"


def _explained(shop: Retriever, asked: str, content: str, matches: list[Match]) -> list[Why]:
    """Why those of the answers were found that have another modality than the query."""
    if asked == "id":
        raise UsageError("--explain shows how words and a picture meet: search by --text or --image.")
    # without a matcher, explain says what is missing
    able = [match for match in matches if match.score is not None or shop.reranker is None]
    query: dict[str, Any] = {asked: content}
    # what of the query was cut, the search has said
    return [shop.explain(match.item, problems=[], **query) for match in able]


def _query(text: str | None, image: Path | None, id: str | None, by: str | None) -> tuple[str, str]:
    """What to search by, and its content."""
    name, _, content = (by or "").partition("=")
    if by is not None and not (name and content):
        raise UsageError(f'--by needs name=content, for instance --by sketch=shoe.png; got "{by}".')
    options = [("text", text), ("image", image), ("id", id), (name, content or None)]
    given = [(asked, str(what)) for asked, what in options if what is not None]
    if len(given) != 1:
        raise UsageError(f"search by exactly one of --text, --image, --id and --by; got {len(given)} of them.")
    return given[0]


def impute(
    model: Model,
    data: Data,
    modality: Annotated[str, typer.Option(help="What to imagine.")],
    out: Annotated[Path, typer.Option("--out", help="The .npz file to write: ids, features, trust.")],
    modalities: Modalities = None,
    json: Json = False,
) -> None:
    """Imagine a modality for the items that lack it.

    Says for each how far to trust it.
    """
    from amodal.methods.imputation import save_imputation

    items, _ = load(data, modalities, skip_bad=False)
    with _open(model) as shop, bars() as progress:
        imagined = shop.impute(items, modality, progress=progress)
    save_imputation(out, imagined, items.ids)
    trust = float(imagined.trust.mean()) if len(imagined) else math.nan
    if json:
        emit({"file": str(out), "items": len(imagined), "modality": modality, "mean_trust": trust})
    else:
        note(f"{out}: {modality} imagined for {len(imagined):,} items, mean trust {trust:.2f}")


def _open(model: Path, *, write: bool = False) -> Retriever:
    from amodal.retriever import Retriever

    return Retriever.load(model, readonly=not write)


def _print_evaluation(found: Evaluation, control: Evaluation) -> None:
    rows = []
    for way in found.counts:
        pairs = [found.metrics.get(name, {}).get(way) for name in ("recall@1", "recall@10", "chance.recall@10")]
        values = (found.metrics["map"][way], control.metrics["map"][way], found.metrics["chance"][way])
        rows.append((way, *(f"{value:.3f}" for value in values), *("-" if p is None else f"{p:.1f}" for p in pairs)))
    columns = ("direction", "mAP", "control", "chance", "R@1 %", "R@10 %", "R@10 chance %")
    caption = "Protocol heldout, tie-aware. Control: label_regression, real-valued, on the same training items."
    table("Held-out items", columns, rows, caption)
