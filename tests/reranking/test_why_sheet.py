"""What is drawn of an explanation."""

import numpy as np
from PIL import Image

from amodal.why_sheet import DARK, highlight

QUARTERS = [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]


def brightness(picture):
    values = np.asarray(picture, dtype=float).mean(axis=2)
    centres = ((values.shape[0] // 8, values.shape[1] // 8), (values.shape[0] // 8, -values.shape[1] // 8))
    return [values[row, column] / 200 for row, column in (*centres, (-values.shape[0] // 8, values.shape[1] // 8))]


def test_the_region_with_the_most_weight_is_as_it_was_and_one_without_is_dark():
    picture = Image.new("RGB", (160, 120), (200, 200, 200))
    bright, half, dark = brightness(highlight(picture, QUARTERS, [0.4, 0.2, 0, 0.4]))
    assert bright > 0.95
    assert abs(dark - DARK) < 0.05
    assert dark + 0.2 < half < bright - 0.2


def test_what_looks_everywhere_alike_dims_nothing():
    picture = Image.new("RGB", (90, 90), (200, 200, 200))
    assert min(brightness(highlight(picture, QUARTERS, [0.25] * 4))) > 0.98
    assert max(brightness(highlight(picture, QUARTERS, [0.0] * 4))) < DARK + 0.05
