"""Results as a table: mean and standard deviation over seeds, beside the chance floor and the control."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Row", "names_of", "summarise"]

Values = dict[str, dict[int, float]]
"""A measure by direction and seed; "mean" is over the directions that a seed has."""


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
        preset: The published configuration it was made by, if any.
        seeds: Number of runs.
        cells: Per direction, and for their "mean": mean and sample standard deviation of the measure, the latter NaN
            for one seed.
        chance: Chance floor of the measure, by direction; empty for measures without one.
        control: Mean over seeds and directions of the control's measure on the same gaps; NaN where it has none.
        seconds: Mean time to fit.
        values: The single values behind ``cells``, by direction and seed.
        controls: The same of the control.
        keys: Key of the record of each seed.
    """

    dataset: str
    setting: str
    protocol: str
    method: str
    bits: int | None
    config: dict[str, Any]
    preset: str | None
    seeds: int
    cells: dict[str, tuple[float, float]]
    chance: dict[str, float]
    control: float
    seconds: float
    values: Values
    controls: Values
    keys: dict[int, str]


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
        if "error" not in line and _values(line["metrics"], measure):
            place = [line[name] for name in ("dataset", "setting", "protocol", "method", "bits")]
            groups.setdefault(json.dumps([*place, line["preset"], _config(line)], sort_keys=True), []).append(line)
    return [_row(lines, measure) for lines in groups.values()]


def names_of(rows: Sequence[Row]) -> list[str]:
    """What to call each row: the method, its preset, and the arguments in which it departs from the usual ones.

    The usual arguments are those of most rows of a method and preset. Where no two rows compete under one name, for
    instance because a method was tuned for each data set, the arguments are left out.

    Args:
        rows: All rows that are to be told apart.
    """
    families: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        families.setdefault((row.method, row.preset), []).append(row)
    names = []
    for row in rows:
        family = families[row.method, row.preset]
        name = row.method if row.preset is None else f"{row.method} ({row.preset})"
        places = Counter((other.protocol, other.dataset, other.setting, other.bits) for other in family)
        if places.most_common(1)[0][1] > 1:
            configs = Counter(json.dumps(_own(other), sort_keys=True) for other in family)
            usual = json.loads(configs.most_common(1)[0][0])
            departures = [f"{key}={value}" for key, value in _own(row).items() if usual.get(key) != value]
            name = " ".join([name, *departures])
        names.append(name)
    return names


def _own(row: Row) -> dict[str, Any]:
    own: dict[str, Any] = json.loads(json.dumps({key: row.config[key] for key in row.config if key != "bits"}))
    return own


def _config(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line["config"].items() if name != "seed"}


def _row(lines: list[dict[str, Any]], measure: str) -> Row:
    floor = "chance" if measure.startswith("map") else f"chance.{measure}"
    first = lines[0]
    values = _columns(lines, measure)
    controls = _columns([{**line["control"], "seed": line["seed"]} for line in lines], measure)
    return Row(
        dataset=first["dataset"],
        setting=first["setting"],
        protocol=first["protocol"],
        method=first["method"],
        bits=first["bits"],
        config=_config(first),
        preset=first["preset"],
        seeds=len(lines),
        cells={way: _mean_and_deviation(list(column.values())) for way, column in values.items()},
        chance={way: float(np.mean(list(c.values()))) for way, c in _columns(lines, floor).items() if way != "mean"},
        control=float(np.mean(list(controls["mean"].values()))) if controls else float("nan"),
        seconds=float(np.mean([line["phases"]["fit"] for line in lines])),
        values=values,
        controls=controls,
        keys={line["seed"]: line["key"] for line in lines},
    )


def _values(metrics: dict[str, dict[str, float | None]], measure: str) -> dict[str, float]:
    """A measure by direction, without those in which it has no meaning, and averaged over directions as "mean"."""
    values = {way: value for way, value in metrics.get(measure, {}).items() if value is not None}
    return {**values, "mean": float(np.mean(list(values.values())))} if values else {}


def _columns(lines: list[dict[str, Any]], measure: str) -> Values:
    """The values of each direction over the seeds that have one; "mean" comes last."""
    rows = {line["seed"]: _values(line["metrics"], measure) for line in lines}
    ways = sorted(dict.fromkeys(way for row in rows.values() for way in row), key=lambda way: way == "mean")
    return {way: {seed: row[way] for seed, row in rows.items() if way in row} for way in ways}


def _mean_and_deviation(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
