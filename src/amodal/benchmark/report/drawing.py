"""How figures look: one style, colours that follow the page, labels beside lines, and SVG that stands inside HTML."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from amodal.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FAINT", "INK", "LINE", "MARKERS", "SERIES", "Panel", "Plate", "colour_of", "end_labels", "plate"]

# Stand-ins in what matplotlib draws; ``_follow_page`` turns them into the variables of the page, light or dark.
INK, FAINT, LINE = "#0a0a01", "#0a0a02", "#0a0a03"
SERIES = tuple(f"#0b0b{k:02x}" for k in range(8))
MARKERS = "os^DvPX*"
_NAMES = {INK: "--ink", FAINT: "--soft", LINE: "--line", **{c: f"--series-{k}" for k, c in enumerate(SERIES)}}


@dataclass(frozen=True)
class Panel:
    """One finished picture.

    Attributes:
        title: Heading above it.
        svg: The picture, ready for HTML.
    """

    title: str
    svg: str


@dataclass(frozen=True)
class Plate:
    """A picture in the making.

    Attributes:
        figure: Of matplotlib.
        axes: Its only axes.
    """

    figure: Any
    axes: Axes

    def panel(self, slug: str, title: str, description: str) -> Panel:
        """Finish it.

        Args:
            slug: Tells its parts from those of other pictures on the page.
            title: Heading, and name for those who listen.
            description: What there is to be seen, for those who listen.
        """
        import matplotlib as mpl

        file = io.StringIO()
        with mpl.rc_context(_style()):
            self.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None}, bbox_inches="tight")
        return Panel(title, _inline(file.getvalue(), re.sub(r"\W+", "-", slug), title, description))


def plate(width: float = 4.4, height: float = 3.0) -> Plate:
    """Empty axes in the style of the house, in inches; they are shown about as large.

    Raises:
        MissingExtra: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "plots") from error
    with mpl.rc_context(_style()):
        figure = Figure(figsize=(width, height))
        axes = figure.add_subplot()
        axes.tick_params(length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.grid(axis="y", linewidth=0.6)
        axes.set_axisbelow(True)
    return Plate(figure, axes)


def _style() -> dict[str, Any]:
    return {
        "font.size": 9,
        "axes.labelsize": 9,
        "text.color": INK,
        "text.parse_math": False,  # names are not formulas, whatever signs are in them
        "axes.labelcolor": FAINT,
        "axes.edgecolor": LINE,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "grid.color": LINE,
        "svg.hashsalt": "amodal",
        "svg.fonttype": "none",
    }


def colour_of(place: int) -> str:
    """The colour of the method at a place of the order; those beyond the palette share a faint one."""
    return SERIES[place] if place < len(SERIES) else FAINT


def end_labels(axes: Axes, labels: Sequence[tuple[float, str, str]], *, gap: float = 0.065) -> None:
    """Write names at the right edge at the heights where lines end, moved apart so that none covers another.

    Args:
        axes: With its final limits and scale.
        labels: Height in data units, text and colour of each.
        gap: Least distance in parts of the height.
    """
    to_part = axes.transData + axes.transAxes.inverted()
    wanted = sorted((float(to_part.transform((axes.get_xlim()[1], y))[1]), text, colour) for y, text, colour in labels)
    places: list[float] = []
    for height, _, _ in wanted:
        places.append(max(height, places[-1] + gap) if places else height)
    excess = max(0.0, places[-1] - 1.0) if places else 0.0
    for k in range(len(places) - 1, -1, -1):  # what overflows at the top is pushed down again
        ceiling = places[k + 1] - gap if k + 1 < len(places) else places[k] - excess
        places[k] = min(places[k], ceiling)
    for place, (_, text, colour) in zip(places, wanted, strict=True):
        axes.text(1.02, place, text, transform=axes.transAxes, color=colour, va="center", ha="left", size=8.5)


def _inline(svg: str, slug: str, title: str, description: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{slug}-", svg)
    svg = re.sub(r"font(-family)?: ([^;\"]*?)'?DejaVu Sans'?[^;\"]*", _without_family, svg)
    svg = re.sub(r"#0[ab]0[ab][0-9a-f]{2}", lambda found: f"var({_NAMES[found[0]]})", svg)
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg).groups()  # type: ignore[union-attr]
    svg = svg.replace(f'width="{width}pt" height="{height}pt"', f'style="max-width: {1.25 * float(width):.0f}px"', 1)
    head = f'role="img" aria-labelledby="{slug}-title {slug}-desc"'
    told = f'<title id="{slug}-title">{escape(title)}</title><desc id="{slug}-desc">{escape(description)}</desc>'
    svg = re.sub(r"<svg ([^>]*)>", lambda found: f"<svg {head} {found[1]}>{told}", svg, count=1)
    return re.sub(r"\n\s*", "\n", svg)


def _without_family(found: re.Match[str]) -> str:
    size = re.search(r"[\d.]+px", found[2])
    return f"font-size: {size[0]}" if size else "font-size: 9px"
