"""Where runs are carried out: here, in processes of this machine, or on a Ray cluster; one contract for all."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from amodal.benchmark.runs import Run, carry_out
from amodal.cluster import cores
from amodal.data import Dataset
from amodal.errors import AmodalError, UsageError, nearest
from amodal.training import Training

__all__ = ["ENGINES", "Engine", "Here", "Job", "Outcome", "attempt", "check_engine", "open_engine"]

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Job:
    """A run, and what it takes beside the data.

    Attributes:
        run: What to run.
        key: Its key.
        fingerprint: Of the data.
        control: Metrics of the control on the same gaps; None if the run is to find them out.
    """

    run: Run
    key: str
    fingerprint: str
    control: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a record and its files, or with an error.

    Attributes:
        record: Of the run; None if it failed.
        files: Content by path in the folder of results.
        error: What went wrong, as a sentence.
    """

    record: dict[str, Any] | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    error: str = ""


class Engine(ABC):
    """Takes jobs, and gives their outcomes back in the order in which they end.

    Attributes:
        slots: How many jobs may be under way at once.
    """

    slots: int

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Begin a job; never more than ``slots`` at once."""

    @abstractmethod
    def wait(self) -> tuple[Job, Outcome]:
        """Wait until one of the jobs has ended."""

    @abstractmethod
    def close(self) -> None:
        """End whatever is under way."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Here(Engine):
    """One job at a time, in this process.

    Args:
        data: Data sets by name.
        training: Device, and progress within a run.
    """

    slots = 1

    def __init__(self, data: Mapping[str, Dataset], training: Training) -> None:
        self._data, self._training = data, training
        self._job: Job | None = None

    def submit(self, job: Job) -> None:
        """Remember the job."""
        self._job = job

    def wait(self) -> tuple[Job, Outcome]:
        """Do it."""
        assert self._job is not None  # noqa: S101 - nobody waits for nothing
        return self._job, attempt(self._job, self._data[self._job.run.dataset], self._training)

    def close(self) -> None:
        """Forget the job."""
        self._job = None


def attempt(job: Job, dataset: Dataset, training: Training) -> Outcome:
    """Carry out a job; whatever goes wrong is its outcome.

    Args:
        job: What to do.
        dataset: All items.
        training: Device, progress.
    """
    try:
        line, files = carry_out(job.run, dataset, fingerprint=job.fingerprint, control=job.control, training=training)
    except Exception as error:
        # not only ours: one run that a solver or memory gives up on must not end the night's grid
        return Outcome(error=str(error) if isinstance(error, AmodalError) else f"{type(error).__name__}: {error}")
    return Outcome(line, files)


def check_engine(name: str, workers: int | None) -> None:
    """Refuse what ``open_engine`` would, before anything is made ready.

    Args:
        name: "local" or "ray".
        workers: Jobs at once; None for as many as fit.

    Raises:
        UsageError: If there is no such engine, or fewer than one worker is asked for.
    """
    if name not in ENGINES:
        raise UsageError(nearest(name, ENGINES, what="engine"))
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}; it takes at least one.")


def open_engine(
    name: Literal["local", "ray"] | str,
    data: Mapping[str, Dataset],
    training: Training,
    *,
    jobs: int,
    workers: int | None,
) -> Engine:
    """The engine of that name, ready for jobs.

    Args:
        name: "local" or "ray".
        data: Data sets by name.
        training: Device, and progress within a run, which only runs in this process can tell.
        jobs: How many jobs there are, since more workers would be idle.
        workers: Jobs at once; None for as many as there are cores, but locally not more than one for two jobs. A single
            local worker is this process.

    Raises:
        UsageError: If there is no such engine, or fewer than one worker is asked for.
        MissingExtra: If Ray is asked for and not installed.
    """
    check_engine(name, workers)
    silent = replace(training, progress=None)
    if name == "ray":
        from amodal.benchmark.cluster import Cluster

        return Cluster(data, silent, workers=workers)
    # a process takes some five seconds to load torch, which a single short run would not earn back
    count = min(workers, jobs) if workers is not None else min(cores(), jobs // 2)
    if count <= 1:
        return Here(data, training)
    from amodal.benchmark.processes import Processes

    share = max(1, cores() // count)
    asked = os.environ.get("OMP_NUM_THREADS", "")  # what --threads sets
    return Processes(data, silent, workers=count, threads=min(share, int(asked)) if asked.isdigit() else share)
