"""A picture of what is there and what is missing."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from amodal.data.dataset import Dataset
from amodal.data.summary import Group, Summary, describe
from amodal.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

# Middle tones on a transparent ground: readable on white and on near-black pages alike.
_COLOURS = ("#3d86d6", "#d9772b", "#35a06d", "#9a6bd1", "#c9518f", "#8c8c2e")
_INK, _FAINT = "#7a7a7a", "#80808030"
_ROW, _MOST_CLASSES = 0.27, 24


def draw(dataset: Dataset, form: Literal["svg", "png"] = "svg") -> bytes:
    """Draw the presence of every modality, and what is missing by split and by class.

    On top every modality is a band over all items, grouped by what they have; it is broken where the modality is
    missing. Below, a dot per modality says which share of a split or class lacks it.

    Args:
        dataset: The data.
        form: ``svg`` or ``png``. The ground is transparent, the colours read on light and dark pages.

    Returns:
        The content of the file.

    Raises:
        MissingExtra: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "plots") from error
    summary = describe(dataset)
    blocks = _blocks(summary)
    heights = [len(dataset.names) * 0.42 + 0.35, *(len(groups) * _ROW for groups in blocks.values())]
    style = {"font.size": 9, "text.color": _INK, "svg.hashsalt": "amodal", "svg.fonttype": "path"}
    with mpl.rc_context(style):
        figure = Figure(figsize=(8, sum(heights) + 0.75 * len(heights) + 0.2))
        grid = figure.add_gridspec(
            len(heights), 1, height_ratios=heights, hspace=0.75 * len(heights) / sum(heights), left=0.2, right=0.97
        )
        total = figure.get_figheight()
        grid.update(top=1 - 0.65 / total, bottom=0.35 / total)
        colours = {name: _COLOURS[k % len(_COLOURS)] for k, name in enumerate(dataset.names)}
        _bands(figure.add_subplot(grid[0]), summary, colours)
        for k, (title, groups) in enumerate(blocks.items(), start=1):
            _dots(figure.add_subplot(grid[k]), title, groups, colours)
        return _saved(figure, form)


def _blocks(summary: Summary) -> dict[str, Mapping[str, Group]]:
    """What to show below the bands: splits and classes, as far as there are any."""
    shown = dict(list(summary.classes.items())[:_MOST_CLASSES])
    more = f", the {len(shown)} largest of {len(summary.classes)}" if len(shown) < len(summary.classes) else ""
    blocks = {"Share missing, by split": summary.splits, f"Share missing, by class{more}": shown}
    return {title: groups for title, groups in blocks.items() if groups}


def _bands(axes: Axes, summary: Summary, colours: Mapping[str, str]) -> None:
    _bare(axes, f"{summary.name}: {summary.all.items:,} items")
    names = list(colours)
    start, total = 0.0, max(summary.all.items, 1)
    for pattern, count in summary.all.patterns.items():
        share = count / total
        for row, name in enumerate(names):
            colour = colours[name] if name in pattern.split("+") else _FAINT
            axes.barh(row, share, left=start, height=0.72, color=colour, linewidth=0)
        if share > 0.06:
            kept = "all" if pattern == "+".join(names) else pattern if "+" in pattern else f"{pattern} only"
            text = f"{kept}\n{count:,} · {share:.0%}"
            axes.text(start + share / 2, len(names) - 0.45, text, ha="center", va="top", linespacing=1.3)
        start += share
    for row, name in enumerate(names):
        axes.text(-0.015, row, name, ha="right", va="center", color=colours[name], weight="bold")
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))


def _dots(axes: Axes, title: str, groups: Mapping[str, Group], colours: Mapping[str, str]) -> None:
    _bare(axes, title)
    for row, (name, group) in enumerate(groups.items()):
        shares = sorted(group.missing.values())
        axes.plot((0, 1), (row, row), color=_FAINT, linewidth=1, zorder=1)
        axes.plot((shares[0], shares[-1]), (row, row), color=_INK, linewidth=1, alpha=0.5, zorder=2)
        for k, (modality, share) in enumerate(group.missing.items()):
            # Dots on one spot become rings, so that none hides another.
            size = 6 + 3.5 * sum(abs(other - share) < 0.012 for other in list(group.missing.values())[k + 1 :])
            axes.plot(
                share, row, "o", color=colours[modality], markersize=size, markeredgewidth=0, zorder=3, clip_on=False
            )
        axes.text(-0.015, row, f"{name or 'no split'}  {group.items:,}", ha="right", va="center")
    axes.set(xlim=(0, 1), ylim=(len(groups) - 0.5, -0.5))
    for share in (0, 0.5, 1):
        axes.text(share, len(groups) - 0.3, f"{share:.0%}", ha="center", va="top", size=8)


def _bare(axes: Axes, title: str) -> None:
    axes.set_axis_off()
    axes.set_title(title, loc="left", color=_INK, weight="bold", size=10)


def _saved(figure: Figure, form: str) -> bytes:
    file = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if form == "svg" else {}
    figure.savefig(file, format=form, transparent=True, dpi=160, metadata=metadata)
    return file.getvalue()
