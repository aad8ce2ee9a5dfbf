"""Curves of a ranking: precision by recall over Hamming radii, and NDCG of the first places, with bands over seeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.benchmark.report.drawing import FAINT, INK, MARKERS, SERIES, Panel, Plate, colour_of, end_labels, plate
from amodal.benchmark.report.material import Block, Chapter, Material
from amodal.benchmark.summary import Row
from amodal.evaluation import CONTROL

__all__ = ["line_of", "ndcg", "precision_recall"]


def precision_recall(material: Material, chapter: Chapter) -> list[Panel]:
    """Micro-averaged precision against recall; one picture per data set and direction."""
    panels = []
    for block, way in _places(material, chapter, "micro.recall"):
        drawn = plate()
        for name, row in block.rows.items():
            recall, precision = (_curves(material, row, way, f"micro.{part}") for part in ("recall", "precision"))
            if not recall.size:
                continue
            reached = (recall > 0).all(axis=0)  # nothing can be said of a radius at which a seed finds nothing
            _band(drawn, recall.mean(axis=0)[reached], precision[:, reached], chapter.methods.index(name))
        drawn.axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
        description = f"Precision falls as recall grows with the Hamming radius, for {', '.join(block.rows)}."
        title = f"{block.dataset}, {way}"
        panels.append(drawn.panel(f"pr-{chapter.protocol}-{title}", title, description))
    return panels


def ndcg(material: Material, chapter: Chapter) -> list[Panel]:
    """Binary NDCG against the number of places, one picture per data set and direction."""
    panels = []
    for block, way in _places(material, chapter, "ndcg"):
        drawn = plate()
        labels = []
        rows = {**block.rows, **({CONTROL: block.control} if block.control else {})}
        for name, row in rows.items():
            values = _curves(material, row, way, "ndcg")
            if not len(values):
                continue
            places = np.array(material.of(row)[0]["curves"][way]["places"])
            place = chapter.methods.index(name) if name != CONTROL else None
            _band(drawn, places, values, place)
            labels.append((float(values.mean(axis=0)[-1]), name, INK if place is None else colour_of(place)))
        drawn.axes.set(xscale="log", xlabel="first places k (log scale)", ylabel="NDCG@k")
        drawn.axes.minorticks_off()
        drawn.axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        end_labels(drawn.axes, labels)
        title = f"{block.dataset}, {way}"
        told = "; ".join(f"{name} ends at {value:.3f}" for value, name, _ in labels)
        panels.append(drawn.panel(f"ndcg-{chapter.protocol}-{title}", title, f"NDCG of the first places. {told}."))
    return panels


def line_of(place: int | None) -> dict[str, Any]:
    """How the line of a method looks: the control is dashed ink, methods beyond the palette are thin and faint.

    Args:
        place: In the order of methods; None for the control.
    """
    if place is None:
        return {"color": INK, "linestyle": (0, (4, 2)), "linewidth": 1.3}
    if place >= len(SERIES):
        return {"color": FAINT, "linewidth": 0.8}
    return {"color": SERIES[place], "linewidth": 1.6, "marker": MARKERS[place], "markersize": 4, "markeredgewidth": 0}


def _places(material: Material, chapter: Chapter, curve: str) -> Iterator[tuple[Block, str]]:
    for block in chapter.shown:
        lines = [line for row in block.rows.values() for line in material.of(row)]
        for way in dict.fromkeys(way for line in lines for way, curves in line["curves"].items() if curve in curves):
            yield block, way


def _curves(material: Material, row: Row, way: str, name: str) -> NDArray[np.float64]:
    """One curve per seed, shape (seeds, points); none without such a curve."""
    found = [line["curves"].get(way, {}).get(name) for line in material.of(row)]
    return np.array([curve for curve in found if curve is not None], dtype=np.float64)


def _band(drawn: Plate, x: NDArray[Any], values: NDArray[np.float64], place: int | None) -> None:
    """Mean over seeds, with a band of one sample standard deviation to both sides."""
    if not values.size:
        return
    mean, look = values.mean(axis=0), line_of(place)
    drawn.axes.plot(x, mean, **look, markevery=max(1, len(x) // 10))
    if len(values) > 1:
        wide = values.std(axis=0, ddof=1)
        drawn.axes.fill_between(x, mean - wide, mean + wide, color=look["color"], alpha=0.15, linewidth=0)
