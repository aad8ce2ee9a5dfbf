"""Catalogues that tests make: drawn pictures with words, and features with columns; both with gaps."""

import csv
from dataclasses import replace
from itertools import product

import numpy as np
from PIL import Image, ImageDraw

from amodal.data import toy

TINY = {"epochs": 2, "latent": 8, "hidden": 16, "batch_size": 32}
"""Arguments that make CICH quick."""


def draw(colour, shape, size=64):
    picture = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(picture)
    (pen.ellipse if shape == "circle" else pen.rectangle)((8, 8, size - 8, size - 8), fill=colour)
    return picture


def write_catalogue(folder):
    """32 drawn shapes: a quarter has no picture, a quarter no words, a quarter is held out; years are missing too."""
    (folder / "img").mkdir(parents=True)
    rows = []
    for n, (colour, shape, size) in enumerate(
        product(("red", "green", "blue", "gold"), ("circle", "square"), range(4))
    ):
        image = f"img/{n}.png" if n % 4 != 1 else ""
        if image:
            draw(colour, shape, 64 + size).save(folder / image)
        text = f"a {colour} {shape} of size {size}" if n % 4 != 2 else ""
        split = "test" if n % 4 == 3 else "train"
        year = "" if n % 5 == 0 else 1980 + n
        rows.append([f"p{n}", image, text, shape, split, year, colour])
    path = folder / "shapes.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "image", "text", "labels", "split", "year", "colour"], *rows])
    return path


def with_columns(n=60, **how):
    """Features of n items with columns of every type, each with gaps, and names that a filter cannot write."""
    data = toy(n, **how)
    row = np.arange(n)
    columns = {
        "year": 1990 + row,
        "price": np.where(row % 3 == 0, np.nan, row / 2),
        "colour": np.array(["" if k % 4 == 0 else f"colour {k % 4}" for k in row], dtype=object),
        "sold": np.array([None if k % 5 == 0 else bool(k % 2) for k in row], dtype=object),
        "class": row,
        "key": row,
        "price-eur": row,
    }
    return replace(data, attributes=columns)


def renamed(data, prefix):
    """The same items under other ids."""
    return replace(data, ids=np.array([f"{prefix}{one}" for one in data.ids]))
