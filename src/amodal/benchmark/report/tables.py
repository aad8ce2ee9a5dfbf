"""Tables as data: what stands in which cell, and what is marked; how they are written is for ``formats``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from amodal.benchmark.report.material import Block, Chapter, Material
from amodal.benchmark.report.words import listing, number, plus_minus
from amodal.benchmark.summary import Row
from amodal.evaluation import CONTROL
from amodal.evaluation.protocol import PROTOCOLS

__all__ = ["Cell", "Group", "Table", "results", "ways_of"]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What it says.
        mark: Whether it is the best or second of its column.
    """

    text: str
    mark: Literal["", "best", "second"] = ""


@dataclass(frozen=True)
class Group:
    """Rows under a heading, which may be empty."""

    title: str
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Table:
    """A table with one stub column and groups of columns.

    Attributes:
        slug: Name for references.
        title: Heading.
        caption: What a reader must know to read it.
        spans: Headings over columns and how many they cover; all columns but the stub.
        columns: Names of all columns, the stub first.
        groups: The body.
    """

    slug: str
    title: str
    caption: str
    spans: Sequence[tuple[str, int]]
    columns: Sequence[str]
    groups: Sequence[Group]


def results(material: Material, chapter: Chapter, setting: str) -> Table:
    """Methods by data and direction at one setting, grouped by code length; control and chance floor at the foot."""
    blocks = [block for block in chapter.blocks if block.setting == setting]
    datasets = list(dict.fromkeys(block.dataset for block in blocks))
    ways = {d: ways_of(row for b in blocks if b.dataset == d for row in b.rows.values()) for d in datasets}
    usual = Counter(row.seeds for block in blocks for row in block.rows.values()).most_common(1)[0][0]
    groups = []
    for bits in dict.fromkeys(block.bits for block in blocks):
        here = {block.dataset: block for block in blocks if block.bits == bits}
        names = [name for name in chapter.methods if any(name in block.rows for block in here.values())]
        columns = [
            _marked([_cell(here.get(d), name, way, usual, percent=material.percent) for name in names])
            for d in datasets
            for way in ways[d]
        ]
        rows = [[Cell(name), *(column[k] for column in columns)] for k, name in enumerate(names)]
        groups.append(Group("real-valued" if bits is None else f"{bits} bit", rows))
    first = {d: next(b for b in blocks if b.dataset == d) for d in datasets}
    floor = [Cell("chance"), *(Cell(_chance(first[d], way, material)) for d in datasets for way in ways[d])]
    control = [Cell(CONTROL), *(Cell(_control(first[d], way, material)) for d in datasets for way in ways[d])]
    groups.append(Group("for comparison", [control, floor]))
    return Table(
        slug=f"{chapter.protocol}-{setting}",
        title=f"{material.label}, training items {setting}",
        caption=_caption(material, chapter, blocks, setting, usual),
        spans=[(d, len(ways[d])) for d in datasets],
        columns=["method", *(way for d in datasets for way in ways[d])],
        groups=groups,
    )


def ways_of(rows: Iterable[Row]) -> list[str]:
    """All directions that rows have, and "mean" at the end."""
    return sorted(dict.fromkeys(way for row in rows for way in row.cells), key=lambda way: way == "mean")


def _cell(block: Block | None, name: str, way: str, usual: int, *, percent: bool) -> Cell:
    row = block.rows.get(name) if block else None
    if block is None or row is None or way not in row.cells:
        return Cell("–")
    text = plus_minus(*row.cells[way], percent)
    if row.seeds != usual:
        text += f" (n={row.seeds})"
    noise = way == "mean" and name in block.to_best and block.to_best[name].verdict == "within noise"
    return Cell(text + " ≈" if noise else text)


def _marked(cells: list[Cell]) -> list[Cell]:
    """Best and second of a column by what is displayed, so that equal figures are marked alike; of one, none is."""
    shown = [cell.text.split(" ")[0] for cell in cells]
    ladder = sorted({text for text in shown if text != "–"}, key=lambda text: -float(text.replace("−", "-")))
    if sum(text != "–" for text in shown) < 2:
        return cells
    marks: dict[str, Literal["best", "second"]] = {ladder[0]: "best"}
    if len(ladder) > 1:
        marks[ladder[1]] = "second"
    return [Cell(cell.text, marks.get(text, "")) for cell, text in zip(cells, shown, strict=True)]


def _chance(block: Block, way: str, material: Material) -> str:
    floors = next(iter(block.rows.values())).chance
    value = sum(floors.values()) / len(floors) if way == "mean" and floors else floors.get(way, math.nan)
    return number(value, material.percent)


def _control(block: Block, way: str, material: Material) -> str:
    if block.control is not None:
        return plus_minus(*block.control.cells.get(way, (math.nan, math.nan)), material.percent)
    values = list(max((row.controls for row in block.rows.values()), key=len).get(way, {}).values())
    return number(sum(values) / len(values) if values else math.nan, material.percent)


def _caption(material: Material, chapter: Chapter, blocks: Sequence[Block], setting: str, usual: int) -> str:
    record = material.of(next(iter(blocks[0].rows.values())))[0]
    protocol = PROTOCOLS.get(record["protocol_fields"]["name"])
    seeds = sorted({seed for block in blocks for row in block.rows.values() for seed in row.keys})
    kept = " (n = seeds where they differ)" if any(r.seeds != usual for b in blocks for r in b.rows.values()) else ""
    sentences = [
        f"{material.label}, ties: {record['ties']}, queries without relevant item: {record['unanswerable']}.",
        f"Protocol {chapter.protocol}{': ' + protocol.summary if protocol else '.'}",
        f"Training items: {setting}.",
        f"Mean ± sample sd over seeds {listing(map(str, seeds))}{kept}."
        if len(seeds) > 1
        else "One seed: nothing can be said about luck.",
        "Best bold, second underlined, by displayed value within a code length; the control is real-valued and no "
        "competitor.",
    ]
    if any(one.verdict == "within noise" for block in blocks for one in block.to_best.values()):
        sentences.append("≈: within noise of the best (paired t over seeds, Holm, 5 %).")
    return " ".join(sentences)
