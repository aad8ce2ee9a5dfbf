"""One run of a benchmark: arrange, fit, evaluate, record."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from amodal.data import Dataset
from amodal.evaluation import Evaluation, arrange, evaluate, get_protocol, record
from amodal.methods import get
from amodal.training import Training

__all__ = ["Run", "carry_out"]

CONTROL = "label_regression"


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

    def key(self, data: str) -> str:
        """A hash of what the run depends on, so that a finished one is not repeated.

        Args:
            data: Fingerprint of the data.
        """
        facts = [self.method, data, self.setting, self.protocol, self.bits, self.seed, dict(self.params), self.preset]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def carry_out(
    run: Run,
    dataset: Dataset,
    *,
    fingerprint: str,
    control: Evaluation | None = None,
    training: Training | None = None,
) -> tuple[dict[str, Any], Evaluation, Evaluation]:
    """Do a run, and the control on the same gaps unless it is given.

    Args:
        run: What to run.
        dataset: All items.
        fingerprint: Of ``dataset``.
        control: Evaluation of the control on the same gaps, if it is known.
        training: Device, progress.

    Returns:
        The record, the evaluation, and the control's evaluation.
    """
    arrangement = arrange(dataset, get_protocol(run.protocol), run.setting, seed=run.seed)
    train = arrangement.train.seen_classes()
    seconds = {}
    validation = _like(arrangement.validation, train)
    if control is None and run.method != CONTROL:
        began = time.perf_counter()
        control = evaluate(get(CONTROL).create(seed=run.seed).fit(train, validation=validation), arrangement)
        seconds["control"] = time.perf_counter() - began
    chosen = get(run.method)
    given = {"seed": run.seed, "bits": run.bits}
    params = {name: value for name, value in given.items() if value is not None and chosen.accepts(name)}
    method = chosen.create(preset=run.preset, **{**params, **run.params})
    began = time.perf_counter()
    method.fit(train, validation=validation, training=training)
    seconds["fit"] = time.perf_counter() - began
    began = time.perf_counter()
    found = evaluate(method, arrangement)
    seconds["evaluate"] = time.perf_counter() - began
    control = found if run.method == CONTROL else control
    line = record(
        method,
        arrangement,
        found,
        dataset=run.dataset,
        fingerprint=fingerprint,
        seed=run.seed,
        seconds=seconds,
        control=control,
    )
    assert control is not None  # noqa: S101 - computed above
    return {"key": run.key(fingerprint), "preset": run.preset, **line}, found, control


def _like(validation: Dataset | None, train: Dataset) -> Dataset | None:
    """Validation items with the label columns that the training items have."""
    if validation is None or train.labels is None:
        return validation
    return validation.with_classes(train.labels.names)
