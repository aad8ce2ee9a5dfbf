"""A page that shows why items were found: each word, and the photograph as that word sees it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from amodal.data.files import replacing
from amodal.encoders.pictures import open_picture
from amodal.sheet import as_address, templates

if TYPE_CHECKING:
    from amodal.reranking import Why

__all__ = ["highlight", "write_why"]

SIDE, SMALL = 480, 192  #: pixels of the longer side of a photograph, and of one beside a word
DARK = 0.3  #: brightness of what is not looked at


def write_why(path: str | Path, title: str, whys: Sequence[Why]) -> None:
    """Write the page; it opens without a network, prints, and follows the reader's light or dark setting.

    Args:
        path: The file; it is there as a whole or not at all.
        title: Heading.
        whys: What to show, in this order.
    """
    environment = templates()
    environment.filters["photograph"] = lambda content: as_address(_shrunk(open_picture(content), SIDE), "jpeg")
    environment.filters["seen_by"] = lambda why, word: as_address(
        highlight(_shrunk(open_picture(why.picture), SMALL), why.boxes, why.attention[word]), "jpeg"
    )
    page = environment.get_template("why.html").render(title=title, whys=whys)
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")


def highlight(picture: Image.Image, boxes: ArrayLike, weights: ArrayLike) -> Image.Image:
    """A picture in which regions are as bright as their weights; the one with the most is as it was.

    Args:
        picture: RGB.
        boxes: Left, top, right, bottom as fractions, shape (k, 4).
        weights: Not negative, shape (k,).
    """
    shares = np.asarray(weights, dtype=np.float64)
    shares = shares / max(float(shares.max()), 1e-12)
    light = Image.new("L", picture.size, 0)
    pen = ImageDraw.Draw(light)
    size = np.array([*picture.size, *picture.size])
    corners = np.asarray(boxes) * size
    for corner, share in zip(corners.round().astype(int).tolist(), shares.tolist(), strict=True):
        if corner[2] > corner[0] and corner[3] > corner[1]:
            pen.rectangle(corner, fill=round(255 * share))
    # regions have no edges that a network would know of
    smooth = float(np.mean(corners[:, 2] - corners[:, 0])) / 4
    dark = ImageEnhance.Brightness(picture).enhance(DARK)
    return Image.composite(picture, dark, light.filter(ImageFilter.GaussianBlur(smooth)))


def _shrunk(picture: Image.Image, side: int) -> Image.Image:
    picture.thumbnail((side, side))
    return picture
