"""Verbs that tell what there is: ``list`` and ``doctor``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from amodal.cli.console import emit, note, table
from amodal.cli.options import Json
from amodal.errors import UsageError, nearest

__all__ = ["register"]

KINDS = ("methods", "recipes", "data", "protocols", "settings", "encoders", "readers", "indexes", "mechanisms")
INDEXES = {
    "file": "a folder: photos.amodal, or file:photos.amodal",
    "memory": "gone when closed: memory:",
    "milvus": "a Milvus server: milvus://host:19530/collection",
    "postgresql": "PostgreSQL with pgvector: postgresql://user@host/database?table=photos",
}


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("list")(list_)
    app.command()(doctor)


def list_(
    kind: Annotated[str, typer.Argument(help=f"What to list: {', '.join(KINDS)}.")] = "methods", json: Json = False
) -> None:
    """List methods, protocols, settings, encoders and other names."""
    if kind not in KINDS:
        raise UsageError(nearest(kind, KINDS, what="kind of list"))
    rows = _rows(kind)
    if json:
        emit({kind: rows})
    elif kind == "methods":
        columns = ("method", "returns", "labels", "pairs", "gaps", "imputes", "what it does")
        cells = [
            (r["slug"], r["returns"], "needed" if r["needs_labels"] else "no", r["needs_pairs"], r["native"],
             "yes" if r["imputes"] else "no", r["summary"])
            for r in rows
        ]  # fmt: skip
        table("Methods", columns, cells)
    else:
        table(kind.capitalize(), ("name", "what it is"), [(row["name"], row["summary"]) for row in rows])


def _rows(kind: str) -> list[dict[str, Any]]:
    if kind == "methods":
        from amodal.methods import get, names

        return [get(slug).card.as_dict() for slug in names()]
    if kind == "protocols":
        from amodal.evaluation import PROTOCOLS

        return [{"name": p.name, "summary": p.summary, "comparable": p.comparable} for p in PROTOCOLS.values()]
    if kind == "encoders":
        from amodal import encoders

        packaged = [encoders.get(name) for name in encoders.names()]
        rows = [
            {"name": e.name, "summary": f"{e.kind} → {' × '.join(map(str, e.shape)) if e.dim else 'any'} numbers"}
            for e in packaged
        ]
        return [*rows, {"name": "hf:<model>", "summary": "any model or folder that transformers can open"}]
    if kind == "indexes":
        from amodal import index

        return [{"name": scheme, "summary": INDEXES.get(scheme, f"{scheme}:...")} for scheme in index.schemes()]
    if kind == "recipes":
        from amodal.benchmark import recipes

        shelf = map(recipes.peek, recipes.names())
        return [{"name": r.name, "summary": f"{r.title}; {r.paper}"} for r in shelf]
    if kind == "data":
        from amodal.data.published import PUBLISHED

        return [{"name": c.slug, "summary": f"{c.name}, {c.items:,} items: {c.summary}"} for c in PUBLISHED.values()]
    from amodal import data

    if kind == "readers":
        return [{"name": r.name, "summary": r.description} for r in data.READERS.values()]
    found = data.SETTINGS if kind == "settings" else data.MECHANISMS
    return [{"name": name, "summary": str(what)} for name, what in found.items()]


def doctor(json: Json = False) -> None:
    """Say what is installed, on what machine, with which data."""
    from amodal.diagnosis import diagnose

    facts = diagnose()
    if json:
        emit(facts)
        return
    table("amodal doctor", ("what", "found"), [(name, value) for name, value in facts["machine"].items()])
    table("Packages", ("package", "version"), list(facts["packages"].items()))
    table(
        "Extras",
        ("extra", "installed"),
        [(name, "yes" if here else f'no: pip install "amodal[{name}]"') for name, here in facts["extras"].items()],
    )
    data = facts["data"]
    note(f"Data in AMODAL_DATA: {', '.join(data) if data else 'none (set AMODAL_DATA to a folder of data sets)'}")
