"""What is still to be run: in which order, and how long it may take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from amodal.benchmark.engines import Job, Outcome
from amodal.evaluation import get_protocol

__all__ = ["Forecast", "Queue"]

Gaps = tuple[str, str, str, int]


class Queue:
    """Jobs in order, except that the control on the same gaps is never fitted twice at once.

    The first run on some gaps finds the metrics of the control out, by being it or beside its own; the others on those
    gaps are held back until they are known.

    Args:
        jobs: What is to be run; the same run named twice is run once.
        records: Of finished runs, which know the control on their gaps.

    Attributes:
        waiting: Not begun.
        flying: Under way.
    """

    def __init__(self, jobs: Iterable[Job], records: Iterable[dict[str, Any]]) -> None:
        self.waiting: list[Job] = list({job.key: job for job in jobs}.values())
        self.flying: list[Job] = []
        self._controls = {_recorded_gaps(line): line["control"]["metrics"] for line in records}

    def __len__(self) -> int:
        return len(self.waiting) + len(self.flying)

    def take(self, slots: int) -> list[Job]:
        """Jobs to begin now, so that ``slots`` are under way if there are so many."""
        taken: list[Job] = []
        asked = {_gaps(job) for job in self.flying}
        for job in self.waiting:
            if len(self.flying) + len(taken) == slots:
                break
            gaps = _gaps(job)
            if gaps in self._controls:
                taken.append(replace(job, control=self._controls[gaps]))
            elif gaps not in asked:
                taken.append(job)
                asked.add(gaps)
        begun = {job.key for job in taken}
        self.waiting = [job for job in self.waiting if job.key not in begun]
        self.flying += taken
        return taken

    def settle(self, job: Job, outcome: Outcome) -> None:
        """Take note of how a job ended."""
        self.flying = [other for other in self.flying if other.key != job.key]
        if outcome.record is not None:
            self._controls[_gaps(job)] = outcome.record["control"]["metrics"]


def _gaps(job: Job) -> Gaps:
    """What the control depends on."""
    return job.fingerprint, get_protocol(job.run.protocol).sha256, job.run.setting, job.run.seed


def _recorded_gaps(line: dict[str, Any]) -> Gaps:
    return line["hashes"]["data"], line["hashes"]["protocol"], line["setting"], line["seed"]


class Forecast:
    """Time left, from how long runs of the same kind took.

    Args:
        records: Of finished runs.
        slots: Runs at once.
    """

    def __init__(self, records: Iterable[dict[str, Any]], slots: int) -> None:
        self._slots = slots
        self._seconds: dict[tuple[str | None, str | None], list[float]] = {}
        for line in records:
            self.learn(line)

    def learn(self, line: dict[str, Any]) -> None:
        """Take note of a run; failed ones say nothing."""
        if "error" in line:
            return
        method, dataset = line["method"], line["dataset"]
        for kind in ((method, dataset), (method, None), (None, dataset), (None, None)):
            self._seconds.setdefault(kind, []).append(line["seconds"])

    def left(self, jobs: Sequence[Job]) -> str:
        """In words how long these jobs will take, or nothing while nothing is known or there are none."""
        if not (jobs and self._seconds):
            return ""
        seconds = sum(self._expected(job) for job in jobs) / min(self._slots, len(jobs))
        minutes = round(seconds / 60)
        if minutes < 1:
            return f"about {max(round(seconds), 1)} s left"
        return f"about {minutes} min left" if minutes < 120 else f"about {seconds / 3600:.1f} h left"

    def _expected(self, job: Job) -> float:
        """The mean over the nearest kind of run that has been seen."""
        method, dataset = job.run.method, job.run.dataset
        kinds = ((method, dataset), (method, None), (None, dataset), (None, None))
        return float(np.mean(next(self._seconds[kind] for kind in kinds if kind in self._seconds)))
