"""How training went: losses by epoch from the logs of runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from amodal.benchmark.report.drawing import SERIES, Panel, end_labels, plate
from amodal.benchmark.report.material import Chapter, Material

__all__ = ["training_curves"]

_Stages = dict[str, dict[str, dict[int, float]]]


def training_curves(material: Material, chapter: Chapter) -> list[Panel]:
    """A picture per data set, method and stage at the setting and length shown; methods without epochs have none."""
    panels = []
    for block in chapter.shown:
        for name, row in block.rows.items():
            kept = [line["log"]["file"] for line in material.of(row) if "log" in line]
            runs = [_read(material.folder / name) for name in kept]
            for stage in dict.fromkeys(stage for run in runs for stage in run):
                title = f"{block.dataset}, {name}" + (f", {stage}" if stage != "training" else "")
                panels.append(_stage([run[stage] for run in runs if stage in run], chapter, title))
    return panels


def _read(path: Path) -> _Stages:
    """Losses by stage, name and epoch; a torn line is passed over."""
    stages: _Stages = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        for name, value in line["losses"].items():
            if value is not None:
                stages.setdefault(line["stage"], {}).setdefault(name, {})[line["epoch"]] = value
    return stages


def _stage(runs: list[dict[str, dict[int, float]]], chapter: Chapter, title: str) -> Panel:
    drawn, labels = plate(), []
    names = list(dict.fromkeys(name for run in runs for name in run))[: len(SERIES)]
    lowest = np.inf
    for colour, name in zip(SERIES, names, strict=False):
        series = [run[name] for run in runs if name in run]
        epochs = sorted(set.intersection(*(set(one) for one in series)))
        if not epochs:
            continue
        values = np.array([[one[epoch] for epoch in epochs] for one in series])
        drawn.axes.plot(epochs, values.mean(axis=0), color=colour, linewidth=1.6)
        if len(values) > 1:
            drawn.axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, lw=0)
        lowest = min(lowest, float(values.min()))
        labels.append((float(values.mean(axis=0)[-1]), name, colour))
    if lowest > 0:
        drawn.axes.set_yscale("log")
        drawn.axes.minorticks_off()
        drawn.axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    drawn.axes.locator_params(axis="x", integer=True)
    drawn.axes.set(xlabel="epoch", ylabel="loss (log scale)" if lowest > 0 else "loss")
    end_labels(drawn.axes, labels)
    told = "; ".join(f"{name} ends at {value:.3g}" for value, name, _ in labels)
    return drawn.panel(f"training-{chapter.protocol}-{title}", title, f"Losses by epoch, mean over seeds. {told}.")
