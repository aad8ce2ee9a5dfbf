"""Pictures that came over the network: checked, kept under names of our own, and shown again."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable
from pathlib import Path

from amodal.data.files import replacing
from amodal.encoders.pictures import open_picture
from amodal.errors import DataError

__all__ = ["Uploads", "check_picture", "thumbnail"]

FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"}
"""What is taken, all decoded inside this process; other formats that Pillow opens may start a program."""
MOST_PIXELS = 50_000_000


class Uploads:
    """A folder of pictures, each belonging to one item.

    A name is a hash of item and content, so no request can choose one, and a write that is repeated makes nothing new.

    Args:
        folder: Made with the first picture.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, item: str, content: bytes) -> str:
        """Write a picture that was checked; returns its path. It is on disk when this returns."""
        name = hashlib.sha256(f"{len(item)}:{item}".encode() + content).hexdigest()
        path = self._folder / name[:2] / (name + FORMATS[_format(content)])
        if not path.exists():
            with replacing(path) as part, part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        return str(path)

    def find(self, recorded: str) -> Path:
        """Where a picture lies that an index has recorded; uploads move with the model's folder."""
        path = Path(recorded)
        if not path.exists() and re.fullmatch(r"[0-9a-f]{64}\.\w+", path.name):
            return self._folder / path.name[:2] / path.name
        return path

    def drop(self, recorded: Iterable[str]) -> None:
        """Remove those of some pictures that were uploaded; others belong to somebody else."""
        for one in recorded:
            path = self.find(one)
            if path.is_relative_to(self._folder):
                path.unlink(missing_ok=True)


def check_picture(content: bytes) -> bytes:
    """The same bytes, if they are a picture that can be decoded to its end.

    Raises:
        DataError: If they are no picture, damaged, or larger than ``MOST_PIXELS``.
    """
    _format(content)
    try:
        open_picture(content)
    except DataError:
        raise DataError(
            "the picture is damaged: it cannot be decoded to its end. Send it again, or repair it."
        ) from None
    return content


def thumbnail(path: Path, size: int) -> bytes:
    """A picture as a JPEG of which no side is longer than ``size``.

    Raises:
        DataError: If it cannot be read.
    """
    picture = open_picture(path, at_least=size)
    picture.thumbnail((size, size))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _format(content: bytes) -> str:
    """Which of ``FORMATS`` some bytes claim to be, read from their head alone."""
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=tuple(FORMATS)) as picture:
                (width, height), found = picture.size, picture.format
    except Image.DecompressionBombError:
        raise _too_large("the picture") from None
    except Exception:  # a damaged file can make the decoders raise nearly anything
        raise DataError(f"this is no picture that can be read. Send one of {', '.join(FORMATS)}.") from None
    if width * height > MOST_PIXELS:
        raise _too_large(f"{width} x {height} pixels")
    return str(found)


def _too_large(what: str) -> DataError:
    return DataError(f"{what}: too large to decode safely; the limit is {MOST_PIXELS} pixels. Make it smaller.")
