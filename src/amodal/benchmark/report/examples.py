"""Some searches and what they found, with pictures and texts where the data have them."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from amodal.benchmark.report.archive import Coded, class_names, distances_between, read_codes
from amodal.benchmark.report.material import Chapter, Material
from amodal.data import Dataset
from amodal.entries import Match
from amodal.sheet import Search

__all__ = ["searches"]

_ASKED, _FOUND = 3, 6


def searches(material: Material, chapter: Chapter) -> list[tuple[str, list[Search]]]:
    """Searches by the best method of each data set that left codes, first seed, under a heading for each direction.

    Queries are drawn at random, always the same ones, whatever came of them.
    """
    found = []
    for block in chapter.shown:
        record = material.of(block.rows[block.best])[0]
        asked, searched = (read_codes(material.folder, record, role) for role in ("codes", "codes_database"))
        for a, b in permutations(asked, 2):
            if b in searched:
                title = f"{block.dataset}, {block.best}: {a} asks, {b} answers"
                found.append((title, _direction(material.items(block.dataset), asked[a], searched[b], a, b)))
    return found


def _direction(data: Dataset | None, asked: Coded, searched: Coded, a: str, b: str) -> list[Search]:
    rows = np.random.default_rng(0).permutation(len(asked.ids))[:_ASKED]
    contents = {name: _contents(data, name) for name in (a, b)}
    found = []
    for row, far in zip(rows, distances_between(asked.codes[rows], searched.codes), strict=True):
        nearest = np.argsort(far, kind="stable")[:_FOUND]
        ids = searched.ids[nearest]
        matches = [
            Match(item, distance, b, contents[b].get(item), names, {"name": None})
            for item, distance, names in zip(ids.tolist(), far[nearest].tolist(), class_names(data, ids), strict=True)
        ]
        item = str(asked.ids[row])
        found.append(Search(a, contents[a].get(item, item), matches, class_names(data, asked.ids[[row]])[0], item))
    return found


def _contents(data: Dataset | None, modality: str) -> dict[str, str]:
    """What raw data say of each item, the first observation of it; nothing where there are only features."""
    if data is None or modality not in data.modalities or not data[modality].raw:
        return {}
    table = data[modality]
    return dict(zip(reversed(data.ids[table.item].tolist()), map(str, reversed(table.read())), strict=True))
