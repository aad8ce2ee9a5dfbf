"""The critical-difference plot: mean ranks on a line, with bars over methods that are not told apart."""

from __future__ import annotations

from amodal.benchmark.report.drawing import FAINT, INK, Panel, colour_of, plate
from amodal.benchmark.report.material import Chapter
from amodal.benchmark.statistics import Ranks

__all__ = ["critical_differences"]

_STEP = 0.3  #: inches per line of names


def critical_differences(chapter: Chapter, found: Ranks) -> Panel:
    """Better methods to the left; their names stand to the sides.

    Paper: Demšar, JMLR 7, 2006, figure 1.
    """
    k = len(found.names)
    left = (k + 1) // 2
    top = 0.9 + 0.22 * len(found.groups)
    height = top + _STEP * left
    drawn = plate(4.8 + 0.2 * k, height)
    axes = drawn.axes
    axes.set_axis_off()
    axes.set(xlim=(1 - 0.42 * (k - 1), k + 0.42 * (k - 1)), ylim=(height, 0))
    axes.plot([1, k], [0.6, 0.6], color=INK, linewidth=1)
    for whole in range(1, k + 1, 1 if k <= 10 else 2):
        axes.plot([whole, whole], [0.54, 0.6], color=INK, linewidth=1)
        axes.text(whole, 0.5, f"{whole}", ha="center", va="bottom", color=FAINT)
    reach = min(1 + found.critical, float(k))
    axes.plot([1, reach], [0.12, 0.12], color=INK, linewidth=1.5)
    axes.text(reach + 0.04 * k, 0.12, f"critical difference {found.critical:.2f}", va="center", color=FAINT, size=8)
    for place, (name, rank) in enumerate(zip(found.names, found.ranks, strict=True)):
        first = place < left
        y = top + _STEP * (place if first else k - 1 - place)
        edge = 1 - 0.05 * (k - 1) if first else k + 0.05 * (k - 1)
        colour = colour_of(chapter.methods.index(name))
        axes.plot([rank, rank, edge], [0.6, y, y], color=colour, linewidth=1)
        text = f"{rank:.2f}  {name}" if not first else f"{name}  {rank:.2f}"
        axes.text(edge, y, f" {text} ", ha="right" if first else "left", va="center", color=colour)
    for row, (start, end) in enumerate(found.groups):
        y = 0.76 + 0.2 * row
        axes.plot([found.ranks[start] - 0.03, found.ranks[end] + 0.03], [y, y], color=INK, linewidth=3.5)
    told = "; ".join(f"{name} {rank:.2f}" for name, rank in zip(found.names, found.ranks, strict=True))
    alike = ", ".join(f"{found.names[a]} to {found.names[b]}" for a, b in found.groups) or "none"
    return drawn.panel(
        f"cd-{chapter.protocol}", "Critical differences", f"Mean ranks: {told}. Not told apart: {alike}."
    )
