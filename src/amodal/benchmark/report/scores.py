"""The result at a glance: every seed of every method, between the chance floor and the control."""

from __future__ import annotations

import math

from amodal.benchmark.report.drawing import FAINT, INK, Panel, colour_of, plate
from amodal.benchmark.report.material import Block, Chapter, Material
from amodal.benchmark.report.words import plus_minus

__all__ = ["glance"]


def glance(material: Material, chapter: Chapter) -> list[Panel]:
    """One picture per data set, at the setting and length shown."""
    return [_glance(material, chapter, block) for block in chapter.shown]


def _glance(material: Material, chapter: Chapter, block: Block) -> Panel:
    height = 0.55 + 0.27 * len(block.rows)
    drawn = plate(3.6, height)
    axes = drawn.axes
    axes.grid(visible=False)
    chance = next(iter(block.rows.values())).chance
    floor = sum(chance.values()) / len(chance) if chance else math.nan
    control = next(iter(block.rows.values())).control
    for value, text, style in ((floor, "chance", ":"), (control, "control", "--")):
        if not math.isnan(value):
            axes.axvline(value, color=INK if text == "control" else FAINT, linestyle=style, linewidth=1, zorder=1)
            axes.annotate(
                text, (value, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
                ha="center", va="bottom", size=8, color=FAINT,
            )  # fmt: skip
    for place, (name, row) in enumerate(block.rows.items()):
        colour = colour_of(chapter.methods.index(name))
        values = list(row.values["mean"].values())
        mean = row.cells["mean"][0]
        axes.plot(values, [place] * len(values), "o", color=colour, markersize=4, alpha=0.45, markeredgewidth=0)
        axes.plot([mean], [place], "|", color=colour, markersize=13, markeredgewidth=2.2)
    axes.set(ylim=(len(block.rows) - 0.4, -0.6))
    axes.set_yticks(range(len(block.rows)), list(block.rows), color=INK)
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=5)
    told = "; ".join(f"{n} {plus_minus(*row.cells['mean'], material.percent)}" for n, row in block.rows.items())
    return drawn.panel(
        f"glance-{chapter.protocol}-{block.dataset}",
        block.dataset,
        f"{material.label} of each method on {block.dataset}: a dot per seed, a bar at the mean. {told}. "
        f"Dashed: the control. Dotted: chance.",
    )
