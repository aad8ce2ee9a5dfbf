"""Results as a table: mean and standard deviation over seeds, beside the chance floor and the control."""

from __future__ import annotations

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
        seeds: Number of runs.
        cells: Per direction, and for their "mean": mean and sample standard deviation (NaN for one seed) of mAP.
        chance: Chance floor, by direction.
        control: Mean over seeds and directions of the control's mAP on the same gaps.
        seconds: Mean time to fit.
    """

    dataset: str
    setting: str
    protocol: str
    method: str
    bits: int | None
    seeds: int
    cells: dict[str, tuple[float, float]]
    chance: dict[str, float]
    control: float
    seconds: float


def summarise(records: Sequence[dict[str, Any]], measure: str = "map") -> list[Row]:
    """Average runs that differ in their seed only; failed runs are left out.

    Args:
        records: Lines of ``results.jsonl``.
        measure: What to show.

    Returns:
        One row for each data set, setting, protocol, method and code length, in the order of first appearance.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in records:
        if "error" not in line:
            place = (line["dataset"], line["setting"], line["protocol"], line["method"], line["bits"])
            groups.setdefault(place, []).append(line)
    return [_row(place, lines, measure) for place, lines in groups.items()]


def _row(place: tuple[Any, ...], lines: list[dict[str, Any]], measure: str) -> Row:
    directions = list(lines[0]["metrics"][measure])
    table = np.array([[line["metrics"][measure][way] for way in directions] for line in lines], dtype=float)
    table = np.hstack([table, table.mean(axis=1, keepdims=True)])
    spread = table.std(axis=0, ddof=1) if len(lines) > 1 else np.full(table.shape[1], np.nan)
    cells = zip([*directions, "mean"], table.mean(axis=0).tolist(), spread.tolist(), strict=True)
    control = [np.mean(list(line["control"]["metrics"][measure].values())) for line in lines]
    dataset, setting, protocol, method, bits = place
    return Row(
        dataset=dataset,
        setting=setting,
        protocol=protocol,
        method=method,
        bits=bits,
        seeds=len(lines),
        cells={name: (mean, sd) for name, mean, sd in cells},
        chance={way: float(np.mean([line["metrics"]["chance"][way] for line in lines])) for way in directions},
        control=float(np.mean(control)),
        seconds=float(np.mean([line["phases"]["fit"] for line in lines])),
    )
