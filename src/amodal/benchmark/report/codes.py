"""What codes are like: how evenly bits are used, and how far apart relevant and irrelevant items lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from amodal.benchmark.report.drawing import FAINT, INK, Panel, colour_of, plate
from amodal.benchmark.report.material import Block, Chapter, Material

__all__ = ["balance", "distances", "shares"]

_MOST = 3  #: methods per data set whose distances are shown


def balance(material: Material, chapter: Chapter) -> list[Panel]:
    """Share of ones of every bit, a line of dots per method and modality; half is what carries most."""
    panels = []
    for block in chapter.shown:
        lines = [
            (name, modality, np.array(health["ones"]))
            for name, row in block.rows.items()
            for modality, health in material.of(row)[0]["health"].items()
        ]
        panels += [_balance(chapter, block, lines)] if lines else []
    return panels


def _balance(chapter: Chapter, block: Block, lines: Sequence[tuple[str, str, NDArray[np.float64]]]) -> Panel:
    drawn = plate(3.6, 0.5 + 0.2 * len(lines))
    axes = drawn.axes
    axes.grid(visible=False)
    axes.axvline(0.5, color=FAINT, linewidth=0.8, zorder=1)
    for place, (name, _, ones) in enumerate(lines):
        colour = colour_of(chapter.methods.index(name))
        axes.plot(ones, np.full(len(ones), place), "o", color=colour, markersize=4, alpha=0.35, markeredgewidth=0)
    axes.set_yticks(range(len(lines)), [f"{name} {modality}" for name, modality, _ in lines], color=INK)
    axes.set(ylim=(len(lines) - 0.5, -0.5), xlim=(-0.02, 1.02), xlabel="share of ones, a dot per bit")
    off = "; ".join(f"{name} {modality} {np.abs(ones - 0.5).mean():.2f}" for name, modality, ones in lines)
    return drawn.panel(
        f"balance-{chapter.protocol}-{block.dataset}",
        block.dataset,
        f"Share of ones of every bit, first seed. Mean distance from one half: {off}.",
    )


def distances(material: Material, chapter: Chapter) -> list[Panel]:
    """Hamming distances of relevant and irrelevant pairs, for the first methods of each data set, mean over seeds."""
    panels = []
    for block in chapter.shown:
        for name, row in list(block.rows.items())[:_MOST]:
            found: dict[str, list[NDArray[np.float64]]] = {}
            for line in material.of(row):
                for way, curve in line["curves"].items():
                    if "micro.recall" in curve:
                        found.setdefault(way, []).append(shares(curve))
            panels += [_distances(chapter, f"{block.dataset}, {name}", name, found)] if found else []
    return panels


def _distances(chapter: Chapter, title: str, name: str, found: Mapping[str, list[NDArray[np.float64]]]) -> Panel:
    drawn = plate(3.6, 2.4)
    axes = drawn.axes
    colour = colour_of(chapter.methods.index(name))
    told = []
    for k, (way, one) in enumerate(found.items()):
        histograms = np.array(one).mean(axis=0)
        x = np.arange(histograms.shape[1])
        for values, tone, text in zip(histograms, (colour, FAINT), ("relevant", "irrelevant"), strict=True):
            axes.plot(x, values, color=tone, linewidth=1.4, linestyle=("-", "--", ":")[k % 3])
            if k == 0:
                axes.fill_between(x, values, color=tone, alpha=0.18, linewidth=0)
                peak = int(np.argmax(values))
                side = "right" if text == "relevant" else "left"
                axes.annotate(
                    text, (peak, values[peak]), xytext=(-6 if side == "right" else 6, 2), textcoords="offset points",
                    ha=side, va="bottom", color=tone, size=8.5,
                )  # fmt: skip
        told.append(f"{way}: relevant {x @ histograms[0]:.1f}, irrelevant {x @ histograms[1]:.1f}")
    axes.set(ylim=(0, None), xlabel="Hamming distance")
    axes.set_yticks([])
    axes.margins(y=0.15)
    return drawn.panel(f"distance-{chapter.protocol}-{title}", title, f"Mean distances, {'; '.join(told)}.")


def shares(curve: dict[str, list[float]]) -> NDArray[np.float64]:
    """Share of relevant and of irrelevant pairs at each distance, from a micro-averaged curve by radius.

        relevant up to rho = recall;   irrelevant up to rho = recall * (1 / precision - 1), scaled to end at 1

    Args:
        curve: With ``micro.precision`` and ``micro.recall``.

    Returns:
        Float64, shape (2, b + 1), each row sums to 1 unless there are no irrelevant pairs.
    """
    precision, recall = (np.array(curve[f"micro.{name}"]) for name in ("precision", "recall"))
    wrong = np.divide(recall * (1 - precision), precision, out=np.zeros_like(recall), where=precision > 0)
    wrong = np.maximum.accumulate(wrong)
    cumulative = np.stack([recall, wrong / wrong[-1] if wrong[-1] else wrong])
    return np.asarray(np.diff(cumulative, axis=1, prepend=0))
