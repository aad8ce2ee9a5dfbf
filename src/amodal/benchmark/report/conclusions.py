"""Tables of what may be concluded: differences, robustness, ranks; and all tables in their order."""

from __future__ import annotations

import math

from amodal.benchmark.report.material import Chapter, Material
from amodal.benchmark.report.tables import Cell, Group, Table, results, ways_of
from amodal.benchmark.report.words import listing, p_value, plus_minus, signed
from amodal.benchmark.statistics import Difference, Ranks, rank_methods, robustness
from amodal.benchmark.summary import Row
from amodal.errors import DataError
from amodal.evaluation import CONTROL

__all__ = ["comparisons", "losses", "ranks", "tables_of"]


def tables_of(material: Material) -> list[tuple[Chapter, list[Table]]]:
    """All tables, by chapter."""
    found = []
    for chapter in material.chapters:
        tables = [
            results(material, chapter, setting)
            for setting in sorted(chapter.settings, key=lambda one: one != chapter.setting)
        ]
        loss, places = losses(material, chapter), ranks(chapter)
        tables += [*([loss] if loss else []), *([_ranks(chapter, places)] if places else [])]
        found.append((chapter, [*tables, comparisons(material, chapter)]))
    return found


def comparisons(material: Material, chapter: Chapter) -> Table:
    """Every method against the best of its block and against the control: effect and interval first, then p."""
    groups = []
    for block in chapter.blocks:
        kind = "real-valued" if block.bits is None else f"{block.bits} bit"
        rows = []
        for name, row in block.rows.items():
            best = [Cell("the best"), *[Cell("")] * 5] if name == block.best else None
            to_best = best or _difference(block.to_best.get(name), percent=material.percent)
            to_control = _difference(block.to_control.get(name), percent=material.percent)
            rows.append([Cell(name), Cell(plus_minus(*row.cells["mean"], material.percent)), *to_best, *to_control])
        groups.append(Group(f"{block.dataset}, {block.setting}, {kind}", rows))
    tests = ["effect", "95 % interval", "p seeds", "p flips", "p queries", "verdict"]
    return Table(
        slug=f"{chapter.protocol}-tests",
        title="Differences, and whether they are more than luck",
        caption=f"{material.label}, mean of directions, protocol {chapter.protocol}. Effect: method minus reference, "
        "paired by seed. p seeds: paired t over seeds, which speaks about the methods and gives the verdict at 5 %. "
        "p flips: exact sign-flip test over seeds, at least 2/2^seeds however large the effect. p queries: paired "
        "randomisation over queries (10,000 flips) of the per-query average precision, whatever the measure; it speaks "
        "about these trained models only. All p are corrected by Holm within a block and reference.",
        spans=[("", 1), ("against the best", 6), (f"against the control, {CONTROL}", 6)],
        columns=["method", "mean", *tests, *tests],
        groups=groups,
    )


def losses(material: Material, chapter: Chapter) -> Table | None:
    """What each method loses from complete training data to incomplete; None without both."""
    setting = chapter.setting
    pairs = {
        (block.dataset, block.bits, name): (row, other.rows[name])
        for block in chapter.blocks
        if block.setting == "complete" and setting != "complete"
        for other in chapter.blocks
        if (other.dataset, other.bits, other.setting) == (block.dataset, block.bits, setting)
        for name, row in block.rows.items()
        if name in other.rows
    }
    if not pairs:
        return None
    datasets = list(dict.fromkeys(dataset for dataset, _, _ in pairs))
    groups = []
    for bits in dict.fromkeys(bits for _, bits, _ in pairs):
        names = [name for name in chapter.methods if any((d, bits, name) in pairs for d in datasets)]
        rows = [[Cell(name), *(_loss(pairs.get((d, bits, name)), material) for d in datasets)] for name in names]
        groups.append(Group("real-valued" if bits is None else f"{bits} bit", rows))
    controls = {
        d: (chapter.controls[d, "complete"], chapter.controls[d, setting])
        for d in datasets
        if (d, "complete") in chapter.controls and (d, setting) in chapter.controls
    }
    if controls:
        row = [Cell(CONTROL), *(_loss(controls.get(d), material) for d in datasets)]
        groups.append(Group("for comparison", [row]))
    return Table(
        slug=f"{chapter.protocol}-robustness",
        title=f"What is lost from complete to {setting}",
        caption=f"Δ = {material.label} at complete minus {setting}, mean of directions, paired by seed, ± sample sd "
        f"over seeds; protocol {chapter.protocol}. Small is robust, but a weak method has little to lose: read it "
        "beside the tables above.",
        spans=[("Δ", len(datasets))],
        columns=["method", *datasets],
        groups=groups,
    )


def ranks(chapter: Chapter) -> Ranks | None:
    """Ranks over data sets and directions at the setting and length shown; None of a single data set or method."""
    if len(chapter.shown) < 2:
        return None
    cases = [(block, way) for block in chapter.shown for way in ways_of(block.rows.values()) if way != "mean"]
    names = [n for n in chapter.methods if all(n in b.rows and way in b.rows[n].cells for b, way in cases)]
    try:
        return rank_methods(names, [[block.rows[name].cells[way][0] for name in names] for block, way in cases])
    except DataError:
        return None


def _ranks(chapter: Chapter, found: Ranks) -> Table:
    """Mean ranks, and who is not told apart from the first."""
    together = next((last for first, last in found.groups if first == 0), 0)
    rows = [
        [Cell(name), Cell(f"{rank:.2f}"), Cell("the first" if k == 0 else "no" if k <= together else "yes")]
        for k, (name, rank) in enumerate(zip(found.names, found.ranks, strict=True))
    ]
    kind = "real-valued" if chapter.bits is None else f"{chapter.bits} bit"
    return Table(
        slug=f"{chapter.protocol}-ranks",
        title="Mean ranks over data sets and directions",
        caption=f"Protocol {chapter.protocol}, {chapter.setting}, {kind}; {found.cases} cases: "
        f"{listing(chapter.datasets)}, each direction. Friedman's test that all are alike: p {p_value(found.p)}. "
        f"Critical difference (Nemenyi, 5 %): {found.critical:.2f}. Directions of one data set are not independent, "
        "so p is too small.",
        spans=[("", 1), ("", 1)],
        columns=["method", "mean rank", "apart from the first"],
        groups=[Group("", rows)],
    )


def _difference(found: Difference | None, *, percent: bool) -> list[Cell]:
    if found is None:
        return [Cell("–")] * 6
    low, high = found.interval
    interval = "–" if math.isnan(low) else f"[{signed(low, percent)}, {signed(high, percent)}]"
    verdict = found.verdict + (f" ({found.untested[0].split(',')[0]})" if found.p_seeds is None else "")
    texts = (signed(found.effect, percent), interval, *map(p_value, (found.p_seeds, found.p_flips, found.p_queries)))
    return [Cell(text) for text in (*texts, verdict)]


def _loss(pair: tuple[Row, Row] | None, material: Material) -> Cell:
    if pair is None:
        return Cell("–")
    mean, deviation, _ = robustness(*pair)
    return Cell(plus_minus(mean, deviation, material.percent))
