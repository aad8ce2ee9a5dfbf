"""Codes as points in the plane: t-SNE of items of every modality at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from amodal.benchmark.report.archive import Coded, class_names, distances_between, read_codes
from amodal.benchmark.report.drawing import FAINT, SERIES, Panel, plate
from amodal.benchmark.report.material import Chapter, Material
from amodal.codes import Codes
from amodal.data import Dataset

__all__ = ["projections"]

_POINTS = 900  #: of all modalities together; more take long and hide each other
_MARKERS = "o^sD"
_MOST = 2  #: methods per data set


def projections(material: Material, chapter: Chapter) -> list[Panel]:
    """A picture for each of the first methods of each data set that left codes, first seed."""
    panels = []
    for block in chapter.shown:
        for name, row in list(block.rows.items())[:_MOST]:
            coded = read_codes(material.folder, material.of(row)[0])
            if coded:
                title = f"{block.dataset}, {name}"
                panels.append(_project(material.items(block.dataset), coded, f"tsne-{chapter.protocol}-{title}", title))
    return panels


def _project(data: Dataset | None, coded: Mapping[str, Coded], slug: str, title: str) -> Panel:
    chosen = {name: _sample(len(one.codes), _POINTS // len(coded)) for name, one in coded.items()}
    rows = [one.codes[chosen[name]] for name, one in coded.items()]
    places = _in_the_plane(rows)
    classes = [
        names[0] if len(names) == 1 else ""
        for name, one in coded.items()
        for names in class_names(data, one.ids[chosen[name]])
    ]
    largest = [name for name, _ in Counter(one for one in classes if one).most_common(len(SERIES))]
    sides = np.repeat(np.arange(len(coded)), [len(one) for one in chosen.values()])
    drawn = plate(4.0, 4.0)
    axes = drawn.axes
    axes.set_axis_off()
    for name, colour in [("", FAINT), *zip(largest, SERIES, strict=False)]:
        mine = np.array([one == name if name else one not in largest for one in classes])
        for side, marker in zip(range(len(coded)), _MARKERS, strict=False):
            x, y = places[mine & (sides == side)].T
            axes.plot(
                x, y, marker, color=colour, markersize=3.2, markeredgewidth=0.7, alpha=0.75 if name else 0.35,
                markerfacecolor=colour if side == 0 else "none",
            )  # fmt: skip
    middles = [np.median(places[[one == name for one in classes]], axis=0) for name in largest]
    for (x, y), name, colour in zip(_apart(middles, np.ptp(places, axis=0)), largest, SERIES, strict=False):
        axes.text(x, y, name, ha="center", va="center", color=colour, size=9, weight="bold")
    key = " · ".join(f"{sign} {name}" for sign, name in zip("●△□◇", coded, strict=False))
    axes.set_title(key, loc="left", size=9)
    told = f"Labelled by class: {', '.join(largest)}." if largest else "Classes are not known here."
    return drawn.panel(slug, title, f"t-SNE of {len(places)} codes; a marker per modality: {key}. {told}")


def _sample(count: int, most: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def _apart(middles: list[NDArray[np.float64]], extent: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Labels moved down until none covers one that is there already."""
    placed: list[NDArray[np.float64]] = []
    for middle in middles:
        while any((np.abs(middle - other) < extent * (0.3, 0.05)).all() for other in placed):
            middle = middle - extent * (0, 0.025)
        placed.append(middle)
    return placed


def _in_the_plane(parts: list[Codes]) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE

    far = np.block([[distances_between(one, other) for other in parts] for one in parts])
    model = TSNE(metric="precomputed", init="random", perplexity=min(30, (len(far) - 1) / 3), random_state=0)
    return np.asarray(model.fit_transform(np.maximum(far, 0)), dtype=np.float64)
