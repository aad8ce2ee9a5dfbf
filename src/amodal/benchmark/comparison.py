"""The numbers of a recipe beside our own, and what has to be known to compare them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from amodal.benchmark.recipes import Printed, Recipe
from amodal.benchmark.runs import Run
from amodal.data import Dataset, published
from amodal.evaluation import get_protocol

__all__ = ["Comparison", "caption", "compare"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One line of a table that sets printed numbers beside ours.

    Attributes:
        set: Name of the data set.
        row: What the paper calls the method.
        method: Our method with its preset and arguments, or empty if there is none.
        setting: Missing setting of the training rows.
        bits: Code length.
        printed: By column, as the first source that has them prints them.
        source: Which source that is.
        band: By column, the lowest and highest value that any source prints.
        own: By column, mean and sample standard deviation over seeds, the latter None for one seed.
        seeds: Number of our runs.
        note: What is odd about the printed numbers.
    """

    set: str
    row: str
    method: str
    setting: str
    bits: int
    printed: Mapping[str, float]
    source: str
    band: Mapping[str, tuple[float, float]]
    own: Mapping[str, tuple[float, float | None]]
    seeds: int
    note: str

    @property
    def difference(self) -> dict[str, float]:
        """Ours less theirs, by column."""
        return {name: mean - self.printed[name] for name, (mean, _) in self.own.items() if name in self.printed}


def compare(recipe: Recipe, records: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """Printed numbers and ours, a line for each data set, row, setting and code length that is printed.

    Args:
        recipe: The recipe.
        records: Lines of ``results.jsonl``; those that belong to none of its runs, and failures, are passed over.
    """
    ours: dict[str, list[Mapping[str, Any]]] = {}
    for line in records:
        if "error" not in line:
            ours.setdefault(_of_record(line), []).append(line)
    groups: dict[tuple[Any, ...], list[Printed]] = {}
    for printed in recipe.printed:
        groups.setdefault((printed.set, printed.row, printed.setting, printed.bits), []).append(printed)
    return [_line(recipe, group, ours) for group in groups.values()]


def _of_record(line: Mapping[str, Any]) -> str:
    config = {name: value for name, value in line["config"].items() if name not in ("seed", "bits")}
    return _key(*(line[name] for name in ("dataset", "method", "setting", "protocol", "bits")), config)


def _of_run(run: Run) -> str:
    config = {name: value for name, value in run.build().params().items() if name not in ("seed", "bits")}
    return _key(run.dataset, run.method, run.setting, run.protocol, run.bits, config)


def _key(*facts: Any) -> str:
    return json.dumps(facts, sort_keys=True, default=str)


def _line(recipe: Recipe, group: Sequence[Printed], ours: Mapping[str, Sequence[Mapping[str, Any]]]) -> Comparison:
    order = list(recipe.sources)
    first = min(group, key=lambda printed: order.index(printed.source))
    columns = [_named(recipe, printed) for printed in group]
    run, entry = recipe.run_of(first), recipe.entries[first.row]
    lines = ours.get(_of_run(run), []) if run is not None else []
    arguments = [f"{name}={value}" for name, value in entry.params.items()]
    return Comparison(
        set=first.set,
        row=first.row,
        method=" ".join(filter(None, (entry.method, entry.preset, *arguments))),
        setting=first.setting,
        bits=first.bits,
        printed=_named(recipe, first),
        source=first.source,
        band={
            name: (min(values), max(values))
            for name in recipe.columns
            if (values := [column[name] for column in columns if name in column])
        },
        own=_own(recipe, lines),
        seeds=len(lines),
        note=first.note,
    )


def _named(recipe: Recipe, printed: Printed) -> dict[str, float]:
    pairs = zip(recipe.columns, printed.values, strict=True)
    return {name: value for name, value in pairs if value is not None}


def _own(recipe: Recipe, lines: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float | None]]:
    found = {}
    for column in recipe.columns if lines else ():
        measured = [line["metrics"].get(recipe.measure, {}) for line in lines]
        values = [
            fmean(one.values()) if column == "mean" else one[column] for one in measured if None not in one.values()
        ]
        found[column] = (fmean(values), stdev(values) if len(values) > 1 else None)
    return found


def caption(recipe: Recipe, data: Mapping[str, Dataset]) -> list[str]:
    """What a reader has to know to compare: protocol, tie rule, what the paper learned from, and other data sets.

    Args:
        recipe: The recipe.
        data: The data sets that were run, divided.
    """
    protocol = get_protocol(recipe.protocol)
    lines = [
        f"{recipe.measure}, protocol {protocol.name}: {protocol.summary}",
        f"Ties: {protocol.ties}; papers sort, which depends on the order of storage. "
        f"A query without relevant item: {protocol.unanswerable}.",
        f"The paper learned from: {recipe.inputs}",
        *(f"{word}: {where}" for word, where in recipe.sources.items()),
        *recipe.notes,
        *(f"{entry.row}: {entry.why}" for entry in recipe.methods if entry.why),
    ]
    for use in recipe.data:
        if use.set in data:
            here, card = data[use.set], published.get_card(use.set)
            counts = {
                "training items": (len(here.part("train")), use.train),
                "queries": (len(here.part("test")), use.queries),
            }
            lines += [
                f"{card.name}, differs from the paper's: {fact}."
                for fact in [
                    *card.differences(here),
                    *(f"{n:,} {what} in place of {k:,}" for what, (n, k) in counts.items() if k is not None and n != k),
                ]
            ]
            lines.append(f"{card.name}: which items are queries is drawn here; no paper publishes its rows.")
    return lines
