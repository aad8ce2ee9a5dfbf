"""Small pictures drawn for tests."""

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (50, 40)) -> Image.Image:
    """Smooth coloured noise, the same for the same seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
