"""Results as a table: mean and standard deviation over seeds, beside the chance floor and the control."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Row", "summarise"]


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        dataset: Name of the data.
        setting: Missing setting.
        protocol: Protocol; rows of different ones must not be compared.
        method: Slug.
        bits: Code length, or None for real-valued embeddings.
        config: Arguments of the method, but for its seed.
        seeds: Number of runs.
        cells: Per direction, and for their "mean": mean and sample standard deviation of the measure, the latter NaN
            for one seed.
        chance: Chance floor of the measure, by direction; empty for measures without one.
        control: Mean over seeds and directions of the control's measure on the same gaps; NaN where it has none.
        seconds: Mean time to fit.
    """

    dataset: str
    setting: str
    protocol: str
    method: str
    bits: int | None
    config: dict[str, Any]
    seeds: int
    cells: dict[str, tuple[float, float]]
    chance: dict[str, float]
    control: float
    seconds: float


def summarise(records: Sequence[dict[str, Any]], measure: str = "map") -> list[Row]:
    """Average runs that differ in their seed only; failed runs, and runs without the measure, are left out.

    Args:
        records: Lines of ``results.jsonl``.
        measure: What to show.

    Returns:
        One row for each data set, setting, protocol, method and configuration, in the order of first appearance.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in records:
        if "error" not in line and measure in line["metrics"]:
            place = [line[name] for name in ("dataset", "setting", "protocol", "method", "bits")]
            groups.setdefault(json.dumps([*place, _config(line)], sort_keys=True), []).append(line)
    return [_row(lines, measure) for lines in groups.values()]


def _config(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line["config"].items() if name != "seed"}


def _row(lines: list[dict[str, Any]], measure: str) -> Row:
    floor = "chance" if measure.startswith("map") else f"chance.{measure}"
    found, floors, controls = (
        [_values(line["metrics"], measure) for line in lines],
        [_values(line["metrics"], floor) for line in lines],
        [_values(line["control"]["metrics"], measure) for line in lines],
    )
    first = lines[0]
    return Row(
        dataset=first["dataset"],
        setting=first["setting"],
        protocol=first["protocol"],
        method=first["method"],
        bits=first["bits"],
        config=_config(first),
        seeds=len(lines),
        cells={way: _mean_and_deviation(values) for way, values in _columns(found).items()},
        chance={way: float(np.mean(values)) for way, values in _columns(floors).items() if way != "mean"},
        control=float(np.mean(_columns(controls).get("mean", [np.nan]))),
        seconds=float(np.mean([line["phases"]["fit"] for line in lines])),
    )


def _values(metrics: dict[str, dict[str, float | None]], measure: str) -> dict[str, float]:
    """A measure by direction, without those in which it has no meaning, and averaged over directions as "mean"."""
    values = {way: value for way, value in metrics.get(measure, {}).items() if value is not None}
    return {**values, "mean": float(np.mean(list(values.values())))} if values else {}


def _columns(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """The values of each direction over the seeds that have one; "mean" comes last."""
    ways = sorted(dict.fromkeys(way for row in rows for way in row), key=lambda way: way == "mean")
    return {way: [row[way] for row in rows if way in row] for way in ways}


def _mean_and_deviation(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
