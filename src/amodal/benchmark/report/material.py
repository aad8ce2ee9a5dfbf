"""What a report is made from: records of one folder, in chapters of one protocol each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from amodal.benchmark.statistics import Difference, compare, correct
from amodal.benchmark.store import read_failures, read_results
from amodal.benchmark.summary import Row, names_of, summarise
from amodal.data import Dataset
from amodal.errors import DataError, UsageError, nearest
from amodal.evaluation import CONTROL

__all__ = ["Block", "Chapter", "Material", "read_material"]


@dataclass(frozen=True)
class Block:
    """Methods that may be compared: one protocol, data set, setting and code length.

    Attributes:
        dataset: Name of the data.
        setting: Missing setting.
        bits: Code length; None for real-valued embeddings.
        rows: By name of the method, best first, without the control.
        control: The control's own row, if it was run.
        records: All records by key.
        folder: Where they lie.
    """

    dataset: str
    setting: str
    bits: int | None
    rows: Mapping[str, Row]
    control: Row | None
    records: Mapping[str, dict[str, Any]]
    folder: Path

    @property
    def best(self) -> str:
        """The method with the highest mean."""
        return next(iter(self.rows))

    @cached_property
    def to_best(self) -> dict[str, Difference]:
        """Every other method minus the best, corrected by Holm; without those that share no seed with it."""
        best = self.rows[self.best]
        rivals = {
            name: row
            for name, row in self.rows.items()
            if name != self.best and row.values["mean"].keys() & best.values["mean"].keys()
        }
        return self._corrected({name: (row, best) for name, row in rivals.items()})

    @cached_property
    def to_control(self) -> dict[str, Difference]:
        """Every method minus the control on the same gaps, corrected by Holm."""
        own = self.control
        pairs: dict[str, tuple[Row, Any]] = {}
        for name, row in self.rows.items():
            if own is not None and row.keys.keys() <= own.keys.keys():
                pairs[name] = (row, own)
            elif row.controls:
                pairs[name] = (row, row.controls)
        return self._corrected(pairs)

    def _corrected(self, pairs: Mapping[str, tuple[Row, Any]]) -> dict[str, Difference]:
        found = [compare(row, other, self.records, self.folder) for row, other in pairs.values()]
        return dict(zip(pairs, correct(found), strict=True))


@dataclass(frozen=True)
class Chapter:
    """All results of one protocol, which must not be mixed with others.

    Attributes:
        protocol: Its name.
        blocks: In the order of data, settings and code lengths.
        methods: All names but the control's, best first.
        controls: Rows of the control by data set and setting.
    """

    protocol: str
    blocks: Sequence[Block]
    methods: Sequence[str]
    controls: Mapping[tuple[str, str], Row]

    @cached_property
    def datasets(self) -> list[str]:
        """Names of the data, in order."""
        return list(dict.fromkeys(block.dataset for block in self.blocks))

    @cached_property
    def settings(self) -> list[str]:
        """Missing settings, in order."""
        return list(dict.fromkeys(block.setting for block in self.blocks))

    @cached_property
    def setting(self) -> str:
        """The setting that figures show: ``hard`` if it is there, else the one with most results."""
        counts = Counter(block.setting for block in self.blocks for _ in block.rows)
        return "hard" if "hard" in counts else counts.most_common(1)[0][0]

    @cached_property
    def bits(self) -> int | None:
        """The code length that figures show: 64 if it is there, else the one with most results."""
        counts = Counter(block.bits for block in self.blocks for _ in block.rows if block.setting == self.setting)
        coded = {bits: count for bits, count in counts.items() if bits is not None}
        return 64 if 64 in coded else max(coded, key=lambda bits: coded[bits]) if coded else None

    @cached_property
    def shown(self) -> list[Block]:
        """The blocks that figures show, one per data set."""
        return [block for block in self.blocks if (block.setting, block.bits) == (self.setting, self.bits)]


@dataclass(frozen=True)
class Material:
    """Everything a report is made from.

    Attributes:
        folder: Where it was read.
        measure: What the tables show.
        records: Finished runs by key.
        failures: Runs that failed and were not done since.
        chapters: One per protocol.
        data: Items with labels and content for pictures of codes and examples; None if they were not given.
    """

    folder: Path
    measure: str
    records: Mapping[str, dict[str, Any]]
    failures: Sequence[dict[str, Any]]
    chapters: Sequence[Chapter]
    data: Dataset | None

    @property
    def percent(self) -> bool:
        """Whether the measure is in percent."""
        return self.measure.startswith("recall")

    @property
    def label(self) -> str:
        """What the measure is called in print."""
        return self.measure.replace("map", "mAP").replace("ndcg", "NDCG")

    def items(self, dataset: str) -> Dataset | None:
        """The given items, if they are those of a data set: by its name, or because there is no other."""
        others = {name for chapter in self.chapters for name in chapter.datasets} - {dataset}
        own = self.data is not None and self.data.name == dataset.split(" (")[0]
        return self.data if own or not others else None

    def of(self, row: Row) -> list[dict[str, Any]]:
        """The records behind a row, by seed."""
        return [self.records[row.keys[seed]] for seed in sorted(row.keys)]


def read_material(folder: Path, *, measure: str = "map", data: Dataset | None = None) -> Material:
    """Read the results of a benchmark.

    Args:
        folder: With ``results.jsonl``, and what else ``amodal bench run`` leaves there.
        measure: Higher must be better.
        data: The items, for what the records do not hold.

    Raises:
        DataError: If there is no finished or failed run, or a record is of another schema.
        UsageError: If the measure is unknown, or lower is better.
    """
    records = _told_apart(read_results(folder))
    done = {line["key"]: line for line in records}
    failures = [line for line in read_failures(folder) if line["key"] not in done]
    if not records and not failures:
        raise DataError(f"{folder} holds no results. Make some: amodal bench run DATASET --out {folder}")
    known = {name for line in records for name in line["metrics"] if not name.startswith(("chance", "rank"))}
    if records and measure not in known:
        raise UsageError(nearest(measure, known, what="measure in which higher is better"))
    rows = summarise(records, measure)
    named = list(zip(names_of(rows), rows, strict=True))
    chapters = [_chapter(name, named, done, folder) for name in dict.fromkeys(row.protocol for row in rows)]
    return Material(folder, measure, done, failures, [one for one in chapters if one.blocks], data)


def _chapter(
    protocol: str, named: Sequence[tuple[str, Row]], records: Mapping[str, dict[str, Any]], folder: Path
) -> Chapter:
    own = [(name, row) for name, row in named if row.protocol == protocol]
    controls = {(row.dataset, row.setting): row for name, row in own if name == CONTROL}
    places: dict[tuple[str, str, int | None], dict[str, Row]] = {}
    for name, row in sorted(own, key=lambda pair: -pair[1].cells["mean"][0]):
        if name != CONTROL:
            places.setdefault((row.dataset, row.setting, row.bits), {})[name] = row
    first = {place: k for k, place in enumerate(dict.fromkeys((r.dataset, r.setting, r.bits) for _, r in own))}
    order = sorted(places, key=lambda place: (place[2] is None, place[2] or 0, first[place]))
    blocks = [Block(*place, places[place], controls.get(place[:2]), records, folder) for place in order]
    standing: dict[str, list[float]] = {}
    for block in blocks:
        for place, name in enumerate(block.rows):
            standing.setdefault(name, []).append(place / len(block.rows))
    methods = sorted(standing, key=lambda name: sum(standing[name]) / len(standing[name]))
    return Chapter(protocol, blocks, methods, controls)


def _told_apart(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two things that go by one name, such as another edition of the data, get their hash for a surname."""
    for field, kind in (("dataset", "data"), ("protocol", "protocol")):
        versions: dict[str, set[str]] = {}
        for line in records:
            versions.setdefault(line[field], set()).add(line["hashes"][kind])
        records = [
            {**line, field: f"{line[field]} ({line['hashes'][kind][:6]})"} if len(versions[line[field]]) > 1 else line
            for line in records
        ]
    return records
