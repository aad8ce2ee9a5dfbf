"""Runs in processes of this machine, each with its share of the cores and its own view of the data."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BytesIO
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from amodal.benchmark.engines import Engine, Job, Outcome, attempt
from amodal.data import Dataset
from amodal.training import Training

__all__ = ["Processes", "packed"]

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class Processes(Engine):
    """Several jobs at once, each in a fresh interpreter that stays for the next.

    A process that dies takes its own job with it and is replaced. When this process ends, however it ends, so do they.

    Args:
        data: Data sets by name; each process gets them once, and maps those that are files.
        training: Device.
        workers: Number of processes.
        threads: Threads of each for numerical work.
    """

    def __init__(self, data: Mapping[str, Dataset], training: Training, *, workers: int, threads: int) -> None:
        self.slots = workers
        self._threads = threads
        # through a file, and not the pipe: nobody waits for an interpreter that is still loading torch
        self._folder = tempfile.TemporaryDirectory(prefix="amodal-grid-")
        self._luggage = Path(self._folder.name) / "data.pickle"
        self._luggage.write_bytes(packed((dict(data), training)))
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, Job] = {}

    def submit(self, job: Job) -> None:
        """Give the job to an idle process, or to a new one."""
        worker = self._idle.pop() if self._idle else _Worker(self._luggage, self._threads)
        self._busy[worker] = job
        worker.send(job)

    def wait(self) -> tuple[Job, Outcome]:
        """Wait for an answer, or for a death."""
        ready = wait([handle for worker in self._busy for handle in worker.handles])
        worker = next(worker for worker in self._busy if not set(worker.handles).isdisjoint(ready))
        job = self._busy.pop(worker)
        outcome = worker.answer()
        if outcome is None:
            return job, Outcome(error=worker.obituary())
        self._idle.append(worker)
        return job, outcome

    def close(self) -> None:
        """End all processes, at once."""
        for worker in (*self._idle, *self._busy):
            worker.end()
        self._idle.clear()
        self._busy.clear()
        self._folder.cleanup()


class _Worker:
    """One process, seen from outside."""

    def __init__(self, luggage: Path, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(other, luggage, threads), daemon=True)
        with _inherited(dict.fromkeys(THREADS, str(threads))):
            self._process.start()
        other.close()

    @property
    def handles(self) -> tuple[Connection, int]:
        """What becomes ready when the process has answered, or died."""
        return self._pipe, self._process.sentinel

    def send(self, job: Job) -> None:
        """Hand it a job; that it has died already is found out by whoever waits for it."""
        with suppress(OSError):
            self._pipe.send(job)

    def answer(self) -> Outcome | None:
        """The outcome of its job, or None if it has died over it."""
        try:
            outcome: Outcome | None = self._pipe.recv() if self._pipe.poll() else None
        except (EOFError, OSError):
            outcome = None
        if outcome is None:
            self.end()
        return outcome

    def obituary(self) -> str:
        """How it died."""
        code = self._process.exitcode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        hint = " The system does that when memory runs out; fewer workers need less." if code == -signal.SIGKILL else ""
        return f"the process of this run {how}.{hint}"

    def end(self) -> None:
        """Kill it if it lives."""
        self._pipe.close()
        self._process.kill()
        self._process.join()


@contextmanager
def _inherited(variables: Mapping[str, str]) -> Iterator[None]:
    """What a process started now inherits: variables, and deafness to Ctrl-C, which is the parent's to answer."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection, luggage: Path, threads: int) -> None:
    """The life of a worker."""
    import torch

    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")  # records hold them
    with luggage.open("rb") as file:
        data, training = pickle.load(file)  # noqa: S301 - the parent's own
    try:
        while True:
            job = pipe.recv()
            pipe.send(attempt(job, data[job.run.dataset], training))
    except (EOFError, OSError):
        return  # the parent has closed the pipe


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - this is a child
    parent.join()
    os._exit(1)


class _ByPath(pickle.Pickler):
    """Pickles memory maps as the files that they show, so that data larger than memory can be handed on."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap) and value.flags.c_contiguous:
            return np.memmap, (value.filename, value.dtype, "r", value.offset, value.shape)
        return NotImplemented


def packed(value: Any) -> bytes:
    """Pickled, memory maps as the files that they show.

    Args:
        value: Data sets, mostly.
    """
    file = BytesIO()
    _ByPath(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()
