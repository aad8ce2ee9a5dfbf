"""How results move with what is missing and with the length of codes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from amodal.benchmark.report.curves import line_of
from amodal.benchmark.report.drawing import INK, Panel, colour_of, end_labels, plate
from amodal.benchmark.report.material import Chapter, Material
from amodal.benchmark.summary import Row
from amodal.data.settings import resolve
from amodal.evaluation import CONTROL

__all__ = ["by_bits", "by_missing_rate", "missing_share"]


def missing_share(material: Material, row: Row) -> float:
    """Share of the training items that lack a modality, 0 to 1.

    Counted in the record; where a protocol drops the incomplete ones before training, as the setting says.
    """
    line = material.of(row)[0]
    patterns: dict[str, int] = line["train"]["patterns"]
    if line["protocol_fields"]["learns"] == "paired":
        names = tuple(dict.fromkeys(part for way in line["counts"] for part in way.split("->")))
        return 1 - float(resolve(line["setting"], names).complete)
    most = max(pattern.count("+") for pattern in patterns)
    whole = sum(count for pattern, count in patterns.items() if pattern.count("+") == most)
    return 1 - whole / sum(patterns.values())


def by_missing_rate(material: Material, chapter: Chapter) -> list[Panel]:
    """The measure against the share of incomplete training items; a picture per data set and kind of gap."""
    panels = []
    for dataset in chapter.datasets:
        blocks = [b for b in chapter.blocks if b.dataset == dataset and b.bits == chapter.bits]
        kinds = dict.fromkeys(_kind(block.setting) for block in blocks)
        for kind in [one for one in kinds if one] or [""]:
            here = [block for block in blocks if _kind(block.setting) in (kind, "")]
            lines: dict[str, list[tuple[float, Row]]] = {}
            for block in here:
                share = missing_share(material, next(iter(block.rows.values())))
                for name, row in block.rows.items():
                    lines.setdefault(name, []).append((100 * share, row))
                if (block.dataset, block.setting) in chapter.controls:
                    lines.setdefault(CONTROL, []).append((100 * share, chapter.controls[dataset, block.setting]))
            title = f"{dataset}, {kind}" if kind != "either side" else dataset
            panels += _sweep(material, chapter, lines, "rate", title, "training items with a gap, %")
    return panels


def by_bits(material: Material, chapter: Chapter) -> list[Panel]:
    """The measure against the length of codes at the setting shown; the control has no length and is a level."""
    panels = []
    for dataset in chapter.datasets:
        lines: dict[str, list[tuple[float, Row]]] = {}
        blocks = [b for b in chapter.blocks if (b.dataset, b.setting) == (dataset, chapter.setting) and b.bits]
        for block in blocks:
            for name, row in block.rows.items():
                lines.setdefault(name, []).append((float(block.bits or 0), row))
            if block.control is not None:
                lines.setdefault(CONTROL, []).append((float(block.bits or 0), block.control))
        panels += _sweep(material, chapter, lines, "bits", dataset, "bits (log scale)")
    return panels


def _kind(setting: str) -> str:
    """Settings of one kind form a line; ``complete`` belongs to all."""
    if setting == "complete":
        return ""
    one_sided = re.fullmatch(r"one-sided-(.+)-missing-\d+", setting)
    return f"only {one_sided[1]} missing" if one_sided else "either side"


def _sweep(
    material: Material, chapter: Chapter, lines: Mapping[str, Sequence[tuple[float, Row]]], slug: str, name: str, x: str
) -> list[Panel]:
    if len({place for points in lines.values() for place, _ in points}) < 2:
        return []
    drawn, labels = plate(), []
    for method, points in lines.items():
        ordered = sorted(points, key=lambda point: point[0])
        places = [place for place, _ in ordered]
        means, wide = np.array([row.cells["mean"] for _, row in ordered]).T
        rank = chapter.methods.index(method) if method != CONTROL else None
        look = line_of(rank)
        drawn.axes.plot(places, means, **look)
        if not all(map(math.isnan, wide)):
            wide = np.nan_to_num(wide)
            drawn.axes.fill_between(places, means - wide, means + wide, color=look["color"], alpha=0.15, linewidth=0)
        labels.append((float(means[-1]), method, INK if rank is None else colour_of(rank)))
    all_places = sorted({place for points in lines.values() for place, _ in points})
    drawn.axes.set(xlabel=x, ylabel=material.label)
    if slug == "bits":
        drawn.axes.set_xscale("log", base=2)
        drawn.axes.minorticks_off()
        drawn.axes.set_xticks(all_places, [f"{place:g}" for place in all_places])
    end_labels(drawn.axes, labels)
    told = "; ".join(f"{text} ends at {value:.3f}" for value, text, _ in labels)
    return [drawn.panel(f"{slug}-{chapter.protocol}-{name}", name, f"{material.label} against {x}. {told}.")]
