"""Recipes: a published experiment each, as YAML, with the numbers that its paper prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from amodal.benchmark.runs import Run
from amodal.benchmark.strict import parse
from amodal.data import Dataset, published
from amodal.data.settings import resolve
from amodal.errors import DataError, UsageError, nearest
from amodal.evaluation import get_protocol
from amodal.methods import get

__all__ = ["Entry", "Printed", "Recipe", "Use", "is_recipe", "load", "names", "peek"]

MODALITIES = ("image", "text")
"""The modalities of the published data sets."""

DIRECTIONS = ("image->text", "text->image", "mean")
"""What a column of a printed table may hold."""


@dataclass(frozen=True, kw_only=True)
class Use:
    """A data set as a paper uses it.

    Attributes:
        set: Its name among the published sets.
        queries: How many items ask.
        train: How many are learned from and searched; all that are no queries if it is not said.
        lines: Where each key stands in the file.
    """

    set: str
    queries: int
    train: int | None = None
    lines: dict[str, int] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of a printed table.

    Attributes:
        row: What the paper calls it.
        method: Our method; None for a row that is printed only.
        preset: A published configuration of the method.
        params: Further arguments.
        why: Why a row is printed only, or what our form of it is.
        lines: Where each key stands in the file.
    """

    row: str
    method: str | None = None
    preset: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    lines: dict[str, int] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Printed:
    """Numbers that a source prints for one data set, row, setting and code length.

    Attributes:
        set: Name of the data set.
        row: Name of the row.
        setting: Missing setting of the training rows.
        bits: Code length.
        values: As printed, in the order of the recipe's columns; None where nothing is.
        source: Which of the recipe's sources prints them.
        note: What is odd about them.
        lines: Where each key stands in the file.
    """

    set: str
    row: str
    setting: str = "complete"
    bits: int
    values: tuple[float | None, ...]
    source: str
    note: str = ""
    lines: dict[str, int] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A published experiment.

    Attributes:
        name: Its name, that of its file.
        title: What it shows.
        paper: Authors, title, venue and year.
        url: DOI or address of the paper.
        protocol: Who queries whom.
        measure: What is printed.
        inputs: What the paper learned from.
        seeds: How many runs of ours to average.
        data: The data sets.
        methods: The rows.
        columns: What each printed value is: directions, or their mean.
        sources: Where the numbers stand, by a word; the first is the paper itself.
        printed: The numbers.
        notes: What a reader has to know to compare.
        lines: Where each key stands in the file.
        path: The file.
    """

    name: str
    title: str
    paper: str
    url: str
    protocol: str
    measure: str = "map"
    inputs: str
    seeds: int = 3
    data: tuple[Use, ...]
    methods: tuple[Entry, ...]
    columns: tuple[str, ...]
    sources: Mapping[str, str]
    printed: tuple[Printed, ...]
    notes: tuple[str, ...] = ()
    lines: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    path: Path = Path()

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """The rows by name."""
        return {entry.row: entry for entry in self.methods}

    def run_of(self, printed: Printed, seed: int = 0) -> Run | None:
        """Our run behind printed numbers; None for a row that is printed only.

        Args:
            printed: Numbers of this recipe.
            seed: Of mask and method.
        """
        entry = self.entries[printed.row]
        if entry.method is None:
            return None
        bits = printed.bits if get(entry.method).card.returns == "codes" else None
        place = (printed.set, printed.setting, self.protocol)
        return Run(entry.method, *place, bits, seed, dict(entry.params), entry.preset)

    def runs(
        self,
        *,
        sets: Sequence[str] | None = None,
        methods: Sequence[str] | None = None,
        settings: Sequence[str] | None = None,
        bits: Sequence[int] | None = None,
        seeds: int | None = None,
    ) -> list[Run]:
        """What has to be run for the printed numbers, or for some of them.

        Args:
            sets: Data sets.
            methods: Rows, by their names or their methods'.
            settings: Missing settings.
            bits: Code lengths.
            seeds: How many, from 0; as many as the recipe says by default.

        Raises:
            UsageError: If the recipe has no such row, setting or code length, or nothing is left to run.
        """
        chosen = [p for p in self.printed if self.entries[p.row].method is not None]
        rows = {name for p in chosen for name in (p.row, str(self.entries[p.row].method))}
        for what, wanted, known in (
            ("data set", sets, {p.set for p in chosen}),
            ("row", methods, rows),
            ("setting", settings, {p.setting for p in chosen}),
            ("code length", [str(b) for b in bits or ()], {str(p.bits) for p in chosen}),
        ):
            for word in wanted or ():
                if word not in known:
                    raise UsageError(f"recipe {self.name}: " + nearest(word, known, what=what))
        chosen = [
            p
            for p in chosen
            if (sets is None or p.set in sets)
            and (methods is None or {p.row, self.entries[p.row].method} & set(methods))
            and (settings is None or p.setting in settings)
            and (bits is None or p.bits in bits)
        ]
        found = [self.run_of(p, seed) for p in chosen for seed in range(self.seeds if seeds is None else seeds)]
        unique = {json.dumps(vars(run), sort_keys=True): run for run in found if run is not None}
        if not unique:
            raise UsageError(f"recipe {self.name}: prints no numbers for that choice of rows, settings and bits.")
        return list(unique.values())

    def gather(self, where: Path | None = None, sets: Sequence[str] | None = None) -> tuple[dict[str, Dataset], str]:
        """The data sets that are there, divided as the paper does, and what the others would take.

        Args:
            where: The folder that holds them; the one in AMODAL_DATA by default.
            sets: Which of the recipe's; all by default.

        Raises:
            DataError: If none is there; says which files each takes, where they go, and how large they are.
        """
        found, missing = {}, []
        for use in self.data:
            if sets is None or use.set in sets:
                try:
                    data = published.load(published.get_card(use.set), where)
                except published.MissingFiles as error:
                    missing.append(str(error))
                else:
                    found[use.set] = published.divide(data, queries=use.queries, train=use.train)
        if not found:
            raise DataError(f"recipe {self.name}: its data are not here.\n" + "\n".join(missing))
        return found, "\n".join(missing)


def names() -> list[str]:
    """The recipes that come with the library."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _shelf().iterdir() if entry.name.endswith(".yaml"))


def _shelf() -> Path:
    return Path(str(files("amodal") / "recipes"))


def is_recipe(word: str) -> bool:
    """Whether a word means a recipe: its name, the path of one, or a name misspelt that no data bear."""
    if word in names() or Path(word).suffix in (".yaml", ".yml"):
        return True
    data = Path(word).exists() or (published.home() / word).exists()
    return not data and bool(get_close_matches(word, names(), n=1, cutoff=0.8))


def peek(name: str | Path) -> Recipe:
    """A recipe by name or path as it stands in its file, whether or not it can be run.

    Args:
        name: One of ``names()``, or the path of a YAML file.

    Raises:
        UsageError: If there is no such recipe, or, with file and line, if a key is wrong.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if str(name) not in names():
            raise UsageError(nearest(str(name), names(), what="recipe"))
        path = _shelf() / f"{name}.yaml"
    return replace(parse(path, Recipe), path=path)


def load(name: str | Path) -> Recipe:
    """A recipe by name or path, checked as a whole before anything runs.

    Args:
        name: One of ``names()``, or the path of a YAML file.

    Raises:
        UsageError: If there is no such recipe; or, with file and line, if a key is wrong, or a method, argument,
            preset, data set, setting or protocol does not exist.
    """
    recipe = peek(name)
    _check(recipe)
    return recipe


def _check(recipe: Recipe) -> None:
    """Refuse what no run could do, where it stands."""

    @contextmanager
    def at(part: Any, key: str) -> Iterator[None]:
        try:
            yield
        except UsageError as error:
            line = part.lines.get(key, part.lines.get("", 1))
            raise UsageError(f"{recipe.path}, line {line}: {error}") from error

    with at(recipe, "protocol"):
        get_protocol(recipe.protocol)
    with at(recipe, "columns"):
        for column in recipe.columns:
            _known(column, DIRECTIONS, "column")
    for use in recipe.data:
        with at(use, "set"):
            published.get_card(use.set)
    for entry in recipe.methods:
        for key in ("method", "preset", "params"):
            with at(entry, key):
                _check_entry(entry, key)
    places: set[tuple[Any, ...]] = set()
    for printed in recipe.printed:
        with at(printed, "set"):
            _known(printed.set, [use.set for use in recipe.data], "data set of this recipe")
        with at(printed, "row"):
            _known(printed.row, list(recipe.entries), "row of this recipe")
        with at(printed, "source"):
            _known(printed.source, list(recipe.sources), "source of this recipe")
        with at(printed, "setting"):
            resolve(printed.setting, MODALITIES)
        with at(printed, "values"):
            if len(printed.values) != len(recipe.columns) or not all(
                0 <= v <= 1 for v in printed.values if v is not None
            ):
                raise UsageError(f"there must be {len(recipe.columns)} values between 0 and 1, one for each column.")
        place = (printed.set, printed.row, printed.setting, printed.bits, printed.source)
        with at(printed, ""):
            if place in places:
                raise UsageError(f"the numbers of {' '.join(map(str, place))} stand here a second time.")
        places.add(place)


def _check_entry(entry: Entry, key: str) -> None:
    """Whether the method exists, then its preset, then its arguments."""
    if entry.method is None:
        if not entry.why:
            raise UsageError(f'"{entry.row}" has no method, so "why" must say why not.')
    elif key == "method":
        get(entry.method)
    elif key == "preset":
        get(entry.method).create(preset=entry.preset)
    else:
        for name in ("bits", "seed"):
            if name in entry.params:
                raise UsageError(f'"{name}" is no argument of a row: it goes with the printed numbers.')
        get(entry.method).create(preset=entry.preset, **entry.params)


def _known(word: str, words: Sequence[str], what: str) -> None:
    if word not in words:
        raise UsageError(nearest(word, words, what=what))
