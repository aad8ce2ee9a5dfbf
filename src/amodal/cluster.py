"""Where work can be done: the cores of this machine, and a Ray cluster."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from amodal.errors import UsageError

__all__ = ["connect", "cores"]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def connect(ray: ModuleType, processors: int) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine.

    Args:
        ray: The module.
        processors: How many tasks one started here may do at once; one that is there says so itself.

    Raises:
        UsageError: If it cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray tells its makers nothing unless the user wants it
    address = os.environ.get("RAY_ADDRESS")
    own: dict[str, Any] = {} if address else {"num_cpus": processors, "include_dashboard": False}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"no Ray cluster answers at {address or 'this machine'}: {error} Start one, or use --engine local."
        ) from error
