"""A page of search results to look at: one self-contained HTML file, pictures included."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jinja2 import Environment, PackageLoader, select_autoescape

from amodal.data.files import replacing
from amodal.encoders import guess_kind
from amodal.encoders.pictures import open_picture
from amodal.entries import Match
from amodal.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Search", "as_address", "templates", "write_sheet"]

SIDE = 144  #: pixels of the longer side of a thumbnail


@dataclass(frozen=True)
class Search:
    """One search and its answer.

    Attributes:
        modality: What was asked with.
        content: The query: a text, or the path of a picture.
        matches: What was found, nearest first.
        labels: Classes of the query, if known; answers that share one are marked.
        name: What to call a query that is a picture.
    """

    modality: str
    content: str
    matches: Sequence[Match]
    labels: tuple[str, ...] = ()
    name: str = ""

    def shared(self, match: Match) -> str | None:
        """The first class that query and answer share, if any."""
        return next((label for label in self.labels if label in match.labels), None)


def write_sheet(
    path: str | Path,
    title: str,
    searches: Sequence[Search],
    *,
    lead: str = "",
    figures: Sequence[tuple[str, ...]] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the page; it opens without a network, prints, and follows the reader's light or dark setting.

    Args:
        path: The file; it is there as a whole or not at all.
        title: Heading.
        searches: What to show, grouped by modality in the order in which they come.
        lead: A sentence below the heading.
        figures: Rows of a table of numbers, the first being its head.
        notes: Sentences at the foot.
    """
    groups = {one.modality: [other for other in searches if other.modality == one.modality] for one in searches}
    page = (
        templates()
        .get_template("sheet.html")
        .render(title=title, groups=groups, lead=lead, figures=figures, notes=notes)
    )
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")


def templates() -> Environment:
    """The templates of all pages; what they are given is escaped, and pictures become thumbnails within the page."""
    environment = Environment(
        loader=PackageLoader("amodal"), autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["thumbnail"] = _thumbnail
    return environment


def _thumbnail(content: str | None) -> str | None:
    """A picture as a data address; None for text, and for a picture that cannot be read any more."""
    if not content or guess_kind([content]) != "picture":
        return None
    try:
        picture = open_picture(content, at_least=SIDE)
    except DataError:
        return None
    picture.thumbnail((SIDE, SIDE))
    return as_address(picture)


def as_address(picture: Image, form: Literal["png", "jpeg"] = "png") -> str:
    """A picture as a data address, so that a page carries it along."""
    buffer = io.BytesIO()
    picture.save(buffer, form, optimize=True)
    return f"data:image/{form};base64," + base64.b64encode(buffer.getvalue()).decode()
