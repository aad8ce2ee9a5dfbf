"""A page of search results to look at: one self-contained HTML file, pictures included."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from amodal.encoders import guess_kind
from amodal.encoders.pictures import open_picture
from amodal.entries import Match
from amodal.errors import DataError

__all__ = ["Search", "write_sheet"]

SIDE = 144  #: pixels of the longer side of a thumbnail


@dataclass(frozen=True)
class Search:
    """One search and its answer.

    Attributes:
        modality: What was asked with.
        content: The query: a text, or the path of a picture.
        labels: Classes of the query, if known; answers that share one are marked.
        matches: What was found, nearest first.
    """

    modality: str
    content: str
    labels: tuple[str, ...]
    matches: Sequence[Match]


def write_sheet(
    path: Path,
    title: str,
    searches: Sequence[Search],
    *,
    lead: str = "",
    figures: Sequence[tuple[str, ...]] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the page; it opens without a network, prints, and follows the reader's light or dark setting.

    Args:
        path: The file; written beside its place and renamed.
        title: Heading.
        searches: What to show.
        lead: A sentence below the heading.
        figures: Rows of a table of numbers, the first being its head.
        notes: Sentences at the foot.
    """
    environment = Environment(loader=PackageLoader("amodal"), autoescape=select_autoescape(default=True))
    environment.filters["thumbnail"] = _thumbnail
    page = environment.get_template("sheet.html").render(
        title=title, searches=searches, lead=lead, figures=figures, notes=notes
    )
    draft = path.with_suffix(".part")
    draft.write_text(page, encoding="utf-8")
    draft.replace(path)


def _thumbnail(content: str | None) -> str | None:
    """A picture as a data address; None for text, and for a picture that cannot be read any more."""
    if not content or guess_kind([content]) != "picture":
        return None
    try:
        picture = open_picture(content, at_least=SIDE)
    except DataError:
        return None
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
