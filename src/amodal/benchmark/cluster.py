"""Runs on a Ray cluster: the one that RAY_ADDRESS names, or one on this machine."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from amodal.benchmark.engines import Engine, Job, Outcome, attempt
from amodal.cluster import connect, cores
from amodal.data import Dataset
from amodal.errors import MissingExtra, UsageError
from amodal.training import Training

__all__ = ["Cluster"]


class Cluster(Engine):
    """Jobs as Ray tasks. A computer of the cluster needs amodal installed, and none of our files.

    Data sets are put into Ray's object store once, from where every worker of a machine reads the same copy. Records
    and files come back as values. A task whose worker dies is tried once more.

    Args:
        data: Data sets by name.
        training: Device.
        workers: Tasks at once, which share the processors of the cluster; None for one on each.

    Raises:
        MissingExtra: If Ray is not installed.
        UsageError: If the cluster cannot be reached, or has no processor for us.
    """

    def __init__(self, data: Mapping[str, Dataset], training: Training, *, workers: int | None) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtra("Ray", "ray") from None
        self._ray, self._ours = ray, not ray.is_initialized()
        if self._ours:
            connect(ray, cores())
        processors = int(ray.cluster_resources().get("CPU", 0))
        if not processors:
            raise UsageError("the Ray cluster offers no processor. Start one with: ray start --head --num-cpus 8")
        self.slots = min(workers or processors, processors)
        # Ray gives a task as many threads as processors
        needs = {"num_cpus": processors // self.slots, "num_gpus": int(training.device in ("cuda", "gpu"))}
        self._task = ray.remote(max_retries=1, **needs)(_attempt)
        self._data = {name: ray.put(dataset) for name, dataset in data.items()}
        self._training = ray.put(training)
        self._jobs: dict[Any, Job] = {}

    def submit(self, job: Job) -> None:
        """Begin a task."""
        self._jobs[self._task.remote(job, self._data[job.run.dataset], self._training)] = job

    def wait(self) -> tuple[Job, Outcome]:
        """Wait for a task; of one that died twice nothing but an error is left."""
        (done,), _ = self._ray.wait(list(self._jobs), num_returns=1)
        job = self._jobs.pop(done)
        try:
            outcome: Outcome = self._ray.get(done)
        except self._ray.exceptions.RayError as error:
            said = str(error).strip().partition("\n")[0]
            return job, Outcome(error=f"the Ray worker of this run was lost twice ({type(error).__name__}: {said})")
        return job, outcome

    def close(self) -> None:
        """Cancel what is under way; a cluster that was started for us ends."""
        for task in self._jobs:
            self._ray.cancel(task, force=True)
        self._jobs.clear()
        if self._ours:
            self._ray.shutdown()


def _attempt(job: Job, dataset: Dataset, training: Training) -> Outcome:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # records hold them
        return attempt(job, dataset, training)
