"""One run of a benchmark: arrange, fit, evaluate, record."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from amodal.data import Dataset
from amodal.evaluation import CONTROL, Evaluation, arrange, evaluate, evaluate_control, get_protocol, record
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
) -> tuple[dict[str, Any], Evaluation]:
    """Do a run, and the control on the same gaps unless its metrics are given.

    Args:
        run: What to run.
        dataset: All items.
        fingerprint: Of ``dataset``.
        control: Metrics of the control on the same gaps, if they are known.
        training: Device, progress.

    Returns:
        The record, and the evaluation.
    """
    arrangement = arrange(dataset, get_protocol(run.protocol), run.setting, seed=run.seed)
    train, validation = arrangement.teaching()
    method = run.build()
    watch = _Watch()
    with warnings.catch_warnings(record=True) as heard:
        with watch.phase("fit"):
            method.fit(train, validation=validation, training=training)
        with watch.phase("evaluate"):
            found = evaluate(method, arrangement)
        if run.is_control:
            control = found.metrics
        elif control is None:
            control = evaluate_control(arrangement, seed=run.seed).metrics
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
    return {"key": run.key(fingerprint), "preset": run.preset, **line}, found


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
