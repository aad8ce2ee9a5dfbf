"""One run as a record that says everything a reader needs to trust or repeat it."""

from __future__ import annotations

import hashlib
import platform
import resource
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
from amodal.evaluation.evaluate import Evaluation
from amodal.methods import Method

__all__ = ["SCHEMA", "environment", "read_record", "record"]

SCHEMA = 1


@cache
def environment() -> dict[str, Any]:
    """Versions, processor and the hash of our own source."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    packages = {}
    for name in ("numpy", "scipy", "torch", "faiss-cpu", "numba", "lightning-fabric"):
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
    seconds: dict[str, float],
    control: Evaluation | None = None,
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
        control: The evaluation of ``label_regression`` on the same gaps.
    """
    bits = getattr(method, "bits", None) if evaluation.health else None
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
        "control": None if control is None else {"method": "label_regression", "metrics": control.metrics},
        "counts": evaluation.counts,
        "absent": evaluation.absent,
        "curves": evaluation.curves,
        "health": evaluation.health,
        "seconds": round(sum(seconds.values()), 3),
        "phases": {name: round(value, 3) for name, value in seconds.items()},
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "config": method.params(),
        "ties": arrangement.protocol.ties,
        "unanswerable": arrangement.protocol.unanswerable,
        "relevance": "share-label",
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
        "environment": environment(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _patterns(presence: NDArray[np.bool_]) -> list[tuple[list[bool], int]]:
    rows, counts = np.unique(presence, axis=0, return_counts=True)
    return list(zip(rows.tolist(), counts.tolist(), strict=True))


def read_record(value: dict[str, Any], where: str) -> dict[str, Any]:
    """Accept a record of this schema and refuse any other.

    Args:
        value: The object read.
        where: File and line, for the message.

    Raises:
        DataError: If the schema is another, or the object is no record.
    """
    if value.get("schema") != SCHEMA or "metrics" not in value:
        raise DataError(
            f"{where}: this is no result of schema {SCHEMA} (found {value.get('schema')!r}). "
            "Run again with this version, or read it with the version that wrote it."
        )
    return value
