"""One run as a record that says everything a reader needs to trust or repeat it."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal._version import __version__
from amodal.errors import DataError
from amodal.evaluation.arrange import Arrangement
from amodal.evaluation.evaluation import Evaluation
from amodal.evaluation.protocol import PairProtocol
from amodal.methods import Method

__all__ = ["SCHEMA", "environment", "read_record", "record"]

SCHEMA = 1


@cache
def environment() -> dict[str, Any]:
    """Versions, processor, threads, and the hash of our own source."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    packages = {}
    for name in ("numpy", "scipy", "torch", "numba", "lightning-fabric"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "amodal": __version__,
        "source": digest.hexdigest()[:16],
        "python": platform.python_version(),
        "packages": packages,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def record(
    method: Method,
    arrangement: Arrangement,
    evaluation: Evaluation,
    *,
    dataset: str,
    fingerprint: str,
    seed: int,
    seconds: Mapping[str, float],
    cpu_seconds: Mapping[str, float] | None = None,
    control: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """The JSON object of one run.

    Args:
        method: The fitted method.
        arrangement: What it learned from and was judged on.
        evaluation: What was measured.
        dataset: Name of the data.
        fingerprint: ``Dataset.fingerprint`` of the data before anything was removed.
        seed: Seed of the run.
        seconds: Wall time of each phase.
        cpu_seconds: Processor time of each phase, if it was taken.
        control: ``Evaluation.metrics`` of ``label_regression`` on the same gaps.
        warnings: What was warned of on the way.

    Returns:
        JSON values only. A measure that has no meaning is null, and ``absent`` says why; so are ``bits``, ``fill`` and
        ``selection`` of methods without codes, without a fill policy, or without epochs.
    """
    bits = getattr(method, "bits", None) if evaluation.health else None
    outcome = getattr(method, "outcome_", None)
    presence = arrangement.train.presence()
    return {
        "schema": SCHEMA,
        "method": method.card.slug,
        "dataset": dataset,
        "setting": arrangement.setting,
        "protocol": arrangement.protocol.name,
        "bits": bits,
        "seed": seed,
        "metrics": evaluation.metrics,
        "control": None if control is None else {"method": "label_regression", "metrics": control},
        "counts": evaluation.counts,
        "absent": evaluation.absent,
        "curves": evaluation.curves,
        "health": evaluation.health,
        "seconds": round(sum(seconds.values()), 3),
        "phases": {name: round(value, 3) for name, value in seconds.items()},
        "cpu_phases": {name: round(value, 3) for name, value in (cpu_seconds or {}).items()},
        "peak_memory_mb": _peak_memory(),
        "config": method.params(),
        "parameters": sum(array.size for array in method.state().values()),
        "selection": asdict(outcome) if outcome is not None else None,
        "fill": method.params().get("fill"),
        "db_codes": arrangement.protocol.db_codes,
        "ties": arrangement.protocol.ties,
        "unanswerable": arrangement.protocol.unanswerable,
        "relevance": "pair" if isinstance(arrangement.protocol, PairProtocol) else "share-label",
        "hashes": {
            "data": fingerprint,
            "protocol": arrangement.protocol.sha256,
            "mask": arrangement.mask.sha256 if arrangement.mask is not None else None,
            "model": method.fingerprint(),
        },
        "protocol_fields": asdict(arrangement.protocol),
        "train": {
            "items": len(arrangement.train),
            "patterns": {
                "+".join(n for n, here in zip(arrangement.train.names, row, strict=True) if here): int(count)
                for row, count in _patterns(presence)
            },
        },
        "warnings": list(warnings),
        "environment": environment(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _peak_memory() -> float:
    """Most memory this process has held so far, in MB: that of the run, or of a larger one before it."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def _patterns(presence: NDArray[np.bool_]) -> list[tuple[list[bool], int]]:
    rows, counts = np.unique(presence, axis=0, return_counts=True)
    return list(zip(rows.tolist(), counts.tolist(), strict=True))


def read_record(value: Any, where: str) -> dict[str, Any]:
    """Accept a record of this schema and refuse any other.

    Args:
        value: The object read.
        where: File and line, for the message.

    Raises:
        DataError: If the schema is another, or the object is no record.
    """
    found = value.get("schema") if isinstance(value, dict) else None
    if found != SCHEMA or "metrics" not in value:
        raise DataError(
            f"{where}: this is no result of schema {SCHEMA} (found {found!r}). "
            "Run again with this version, or read it with the version that wrote it."
        )
    return dict(value)
