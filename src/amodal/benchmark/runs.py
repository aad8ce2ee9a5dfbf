"""One run of a benchmark: arrange, fit, evaluate, record."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.codes import Codes
from amodal.data import Dataset
from amodal.evaluation import (
    CONTROL,
    PairProtocol,
    arrange,
    encode_roles,
    evaluate,
    evaluate_codes,
    evaluate_control,
    get_protocol,
    record,
    save_codes,
)
from amodal.methods import Method, get
from amodal.training import Training

__all__ = ["Run", "carry_out"]


@dataclass(frozen=True)
class Run:
    """What is to be run.

    Attributes:
        method: Slug.
        dataset: Name of the data.
        setting: Missing setting of the training rows.
        protocol: Name of the protocol.
        bits: Code length; None for methods without codes.
        seed: Seed of mask and method.
        params: Further arguments of the method.
        preset: A published configuration of the method, or None.
    """

    method: str
    dataset: str
    setting: str
    protocol: str
    bits: int | None
    seed: int
    params: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None

    @property
    def is_control(self) -> bool:
        """Whether this is the control as every other run is compared with it."""
        return self.method == CONTROL and not self.params and self.preset is None

    def build(self) -> Method:
        """The method, ready to be fitted."""
        chosen = get(self.method)
        given = {"seed": self.seed, "bits": self.bits}
        own = {name: value for name, value in given.items() if value is not None and chosen.accepts(name)}
        return chosen.create(preset=self.preset, **{**own, **self.params})

    def key(self, data: str) -> str:
        """A hash of what the run depends on, so that a finished one is not repeated; a changed default is another run.

        Args:
            data: Fingerprint of the data.
        """
        protocol = get_protocol(self.protocol).sha256
        facts = [self.method, data, self.setting, protocol, self.bits, self.seed, self.build().params(), self.preset]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def carry_out(
    run: Run,
    dataset: Dataset,
    *,
    fingerprint: str,
    control: Mapping[str, Any] | None = None,
    training: Training | None = None,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Do a run, and the control on the same gaps unless its metrics are given.

    Nothing is left on this machine: what belongs beside the record comes back with it, so that whoever keeps results
    may be another process or another computer.

    Args:
        run: What to run.
        dataset: All items.
        fingerprint: Of ``dataset``.
        control: Metrics of the control on the same gaps, if they are known.
        training: Device, progress.

    Returns:
        The record, and the files it names by their path in the folder of results: average precision of each query,
        codes of queries and database, and what deep methods logged of each epoch.
    """
    arrangement = arrange(dataset, get_protocol(run.protocol), run.setting, seed=run.seed)
    train, validation = arrangement.teaching()
    method = run.build()
    watch = _Watch()
    with tempfile.TemporaryDirectory(prefix="amodal-run-") as name, warnings.catch_warnings(record=True) as heard:
        folder = Path(name)
        # a folder is what makes the loop keep a log
        logged = replace(training or Training(), folder=folder / "training", checkpoint_every=None)
        with watch.phase("fit"):
            method.fit(train, validation=validation, training=logged)
        with watch.phase("evaluate"):
            asked: dict[str, Codes] = {}
            searched = asked
            if method.card.returns == "scores":  # a matcher has no codes
                found = evaluate(method, arrangement)
            else:
                asked, searched = encode_roles(method, arrangement)
                found = evaluate_codes(asked, searched, arrangement)
        if run.is_control:
            control = found.metrics
        elif isinstance(arrangement.protocol, PairProtocol):
            control = {}  # it learns from labels, and pairs are judged without
        elif control is None:
            control = evaluate_control(arrangement, seed=run.seed).metrics
        key = run.key(fingerprint)
        files = {"log": (f"logs/{key}.jsonl", _log(folder / "training"))}
        files["per_query"] = (f"per_query/{key}.npz", _archive(found.per_query))
        if asked:
            files["codes"] = (f"codes/{key}.npz", _codes(folder, asked, arrangement.queries))
        if searched is not asked:
            database = _codes(folder, searched, arrangement.database)
            files["codes_database"] = (f"codes/{key}.database.npz", database)
    for one in heard:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    line = record(
        method,
        arrangement,
        found,
        dataset=run.dataset,
        fingerprint=fingerprint,
        seed=run.seed,
        seconds=watch.wall,
        cpu_seconds=watch.cpu,
        control=control,
        warnings=sorted({str(one.message) for one in heard}),
    )
    kept = {role: (path, content) for role, (path, content) in files.items() if content}
    hashes = {
        role: {"file": path, "sha256": hashlib.sha256(content).hexdigest()} for role, (path, content) in kept.items()
    }
    return {"key": key, "preset": run.preset, **line, **hashes}, dict(kept.values())


def _log(folder: Path) -> bytes:
    """The epochs of every stage in the order in which they were learned; empty where there were none."""
    logs = sorted(folder.rglob("log.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    lines = []
    for path in logs:
        stage = "training" if path.parent == folder else path.parent.relative_to(folder).as_posix()
        for text in path.read_text(encoding="utf-8").splitlines():
            epoch = json.loads(text)
            kept = {name: epoch[name] for name in ("epoch", "losses", "validation", "seconds")}
            lines.append(json.dumps({"stage": stage, **kept}) + "\n")
    return "".join(lines).encode()


def _archive(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    file = BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _codes(folder: Path, codes: dict[str, Codes], items: Dataset) -> bytes:
    path = folder / "codes.npz"
    save_codes(path, codes, items)
    return path.read_bytes()


class _Watch:
    """Wall and processor time of named phases, in seconds."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall[name], self.cpu[name] = time.perf_counter() - wall, time.process_time() - cpu
