"""Catalogues that tests make: drawn pictures with words, and features with columns; both with gaps."""

import csv
from dataclasses import replace
from inspect import signature
from itertools import product

import numpy as np
from PIL import Image, ImageDraw

from amodal.data import toy
from amodal.methods import get

TINY = {"anchors": 20}
"""Arguments that make DCH quick."""


def short():
    """Arguments that cut every loop of CICH short."""
    loops = {name: 2 for name in signature(get("cich")).parameters if name.endswith(("epochs", "steps"))}
    return loops | {"members": 1}


def draw(colour, shape, size=64):
    picture = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(picture)
    (pen.ellipse if shape == "circle" else pen.rectangle)((8, 8, size - 8, size - 8), fill=colour)
    return picture


def write_catalogue(folder):
    """32 drawn shapes: a quarter has no picture, a quarter no words, a quarter is held out; years are missing too."""
    (folder / "img").mkdir(parents=True)
    rows = []
    kinds = product(("red", "green", "blue", "gold"), ("circle", "square"), range(4))
    for n, (colour, shape, size) in enumerate(kinds):
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
