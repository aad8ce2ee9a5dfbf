"""Many runs, each on disk as soon as it is finished; started again, it repeats nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from amodal.benchmark.runs import Run, carry_out
from amodal.data import Dataset
from amodal.data.files import replacing
from amodal.data.settings import resolve
from amodal.errors import AmodalError, UsageError, nearest
from amodal.evaluation import CONTROL, Evaluation, get_protocol, read_record
from amodal.methods import get
from amodal.progress import Progress
from amodal.training import Training

__all__ = ["plan", "read_results", "run_grid"]


def plan(
    dataset: str,
    methods: Sequence[str],
    settings: Sequence[str],
    *,
    modalities: Sequence[str],
    protocol: str = "heldout",
    bits: Sequence[int] = (64,),
    seeds: int = 3,
    params: dict[str, Any] | None = None,
    preset: str | None = None,
) -> list[Run]:
    """The grid of runs; the control comes first on each setting and seed, so that it is fitted once.

    Args:
        dataset: Name of the data.
        methods: Slugs.
        settings: Missing settings.
        modalities: Names of the modalities of the data.
        protocol: Name of the protocol.
        bits: Code lengths; methods without codes run once whatever these are.
        seeds: How many, from 0.
        params: Further arguments, for every method that has them.
        preset: A published configuration, for every method that has it.

    Raises:
        UsageError: If a method, setting, protocol or preset is unknown, or no method has an argument of ``params``.
    """
    get_protocol(protocol)
    for setting in settings:
        resolve(setting, tuple(modalities))
    chosen = {slug: get(slug) for slug in sorted(methods, key=lambda slug: slug != CONTROL)}
    for name in params or {}:
        if not any(method.accepts(name) for method in chosen.values()):
            known = {argument for method in chosen.values() for argument in signature(method).parameters}
            raise UsageError(nearest(name, known, what=f"argument of {' or '.join(chosen)}"))
        if name in ("bits", "seed"):
            raise UsageError(f'"{name}" is a side of the grid. Give {"bits" if name == "bits" else "seeds"} instead.')
    presets = {name for method in chosen.values() for name in method.presets}
    if preset is not None and preset not in presets:
        raise UsageError(nearest(preset, presets, what=f"preset of {' or '.join(chosen)}"))
    runs = []
    for setting, seed, (slug, method) in product(settings, range(seeds), chosen.items()):
        own = {name: value for name, value in (params or {}).items() if method.accepts(name)}
        lengths: list[int | None] = list(bits) if method.card.returns == "codes" else [None]
        named = preset if preset in method.presets else None
        runs += [Run(slug, dataset, setting, protocol, b, seed, own, named) for b in lengths]
    return runs


def run_grid(
    runs: Sequence[Run],
    dataset: Dataset,
    folder: Path,
    *,
    training: Training | None = None,
    progress: Progress | None = None,
) -> Iterator[dict[str, Any]]:
    """Carry out runs that are not in ``folder`` yet; yields the record of every run, old or new.

    ``results.jsonl`` gets a line for each finished run, ``failures.jsonl`` for each that failed; the rest goes on, and
    what failed is tried again next time. Average precision of each query is kept in ``per_query/<key>.npz``.

    Args:
        runs: What to run.
        dataset: All items.
        folder: Where results are kept.
        training: Device, and progress within a run.
        progress: Told after each run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fingerprint = dataset.fingerprint()
    done = {line["key"]: line for line in read_results(folder)}
    controls = {_gaps(line): line["control"]["metrics"] for line in done.values()}
    for number, run in enumerate(runs):
        key = run.key(fingerprint)
        if key not in done:
            gaps = (fingerprint, get_protocol(run.protocol).sha256, run.setting, run.seed)
            try:
                line, found = carry_out(
                    run, dataset, fingerprint=fingerprint, control=controls.get(gaps), training=training
                )
            except Exception as error:
                # not only ours: one run that a solver or memory gives up on must not end the night's grid
                sentence = str(error) if isinstance(error, AmodalError) else f"{type(error).__name__}: {error}"
                line = {"key": key, **asdict(run), "error": sentence}
                _append(folder / "failures.jsonl", line)
            else:
                controls[gaps] = line["control"]["metrics"]
                line["per_query"] = _save_per_query(folder, key, found)
                _append(folder / "results.jsonl", line)
            done[key] = line
        if progress is not None:
            progress(number + 1, len(runs), f"runs · {run.method} {run.setting} seed {run.seed}")
        yield done[key]


def _gaps(line: dict[str, Any]) -> tuple[str, str, str, int]:
    """What the control depends on."""
    return line["hashes"]["data"], line["hashes"]["protocol"], line["setting"], line["seed"]


def _save_per_query(folder: Path, key: str, found: Evaluation) -> dict[str, str]:
    path = folder / "per_query" / f"{key}.npz"
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **found.per_query)  # type: ignore[arg-type]
    return {"file": f"per_query/{path.name}", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _append(path: Path, line: dict[str, Any]) -> None:
    """One write and one sync, so that a line is there as a whole or not at all."""
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if torn else "") + json.dumps(line, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The records of finished runs; a last line torn by a killed process is passed over.

    Raises:
        DataError: If a record is of another schema.
    """
    path = folder / "results.jsonl"
    if not path.exists():
        return []
    records = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            value = json.loads(text)
        except ValueError:
            continue
        records.append(read_record(value, f"{path} line {number}"))
    return records
