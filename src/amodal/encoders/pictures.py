"""Decoding pictures that may be damaged, enormous, rotated, transparent or in an unusual colour mode."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amodal.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MAX_PIXELS", "open_picture"]

MAX_PIXELS = 89_478_485
"""Larger pictures are refused before they are decoded. Pillow's own bound: a quarter of a GiB at 3 bytes a pixel."""


def open_picture(content: str | Path | bytes | Image, *, at_least: int | None = None) -> Image:
    """A picture as upright RGB: EXIF rotation applied, transparency laid on white, 16 bits scaled to 8.

    Of an animation the first frame is taken.

    Args:
        content: A path, the bytes of a picture file, or a Pillow image.
        at_least: If given, a JPEG may be decoded at a reduced size of which both sides still have this many pixels; a
            photograph of 12 megapixels is then read several times faster. The picture is not resized otherwise.

    Returns:
        A Pillow image of mode RGB, decoded; no file stays open.

    Raises:
        DataError: If the file is missing, larger than ``MAX_PIXELS``, or not a picture that can be decoded to its end.
    """
    from PIL import Image

    name = f'picture "{content}"' if isinstance(content, str | Path) else "a picture"
    try:
        if isinstance(content, Image.Image):
            return _to_rgb(content)
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as picture:
            _check_size(picture, name)
            if at_least is not None:
                picture.draft(None, (at_least, at_least))
            return _to_rgb(picture)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{name} does not exist. Check the path, or leave the row out with --skip-bad.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error)) from None
    except Exception as error:  # a damaged file can make the decoders raise nearly anything
        raise DataError(
            f"{name} cannot be read ({type(error).__name__}: {error}). It is damaged or no picture; repair it, or "
            "leave the row out with --skip-bad."
        ) from error


def _check_size(picture: Image, name: str) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width} x {height} pixels")


def _too_large(name: str, why: str) -> DataError:
    return DataError(
        f"{name} is too large to decode safely ({why}; the limit is {MAX_PIXELS} pixels). Make it smaller, or leave "
        "the row out with --skip-bad."
    )


def _to_rgb(picture: Image) -> Image:
    from PIL import Image, ImageOps

    picture.load()
    upright: Image.Image = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):
        # Pillow's own conversion cuts 16-bit values off at 255
        return Image.fromarray((np.asarray(upright).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if upright.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return upright.convert("RGB")
