"""Many runs, each on disk as soon as it is finished; started again, it repeats nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

from amodal.benchmark.engines import Job, Outcome, check_engine, open_engine
from amodal.benchmark.queue import Forecast, Queue
from amodal.benchmark.runs import Run
from amodal.benchmark.store import keep, keep_failure, only_writer, read_results
from amodal.data import Dataset
from amodal.data.settings import resolve
from amodal.errors import UsageError, nearest
from amodal.evaluation import CONTROL, get_protocol
from amodal.methods import get
from amodal.progress import Progress
from amodal.training import Training

__all__ = ["plan", "run_grid"]


def plan(
    dataset: str,
    methods: Sequence[str],
    settings: Sequence[str],
    *,
    modalities: Sequence[str],
    protocol: str = "heldout",
    bits: Sequence[int] = (64,),
    seeds: int = 3,
    params: dict[str, Any] | None = None,
    preset: str | None = None,
) -> list[Run]:
    """The grid of runs; the control comes first on each setting and seed, so that it is fitted once.

    Args:
        dataset: Name of the data.
        methods: Slugs.
        settings: Missing settings.
        modalities: Names of the modalities of the data.
        protocol: Name of the protocol.
        bits: Code lengths; methods without codes run once whatever these are.
        seeds: How many, from 0.
        params: Further arguments, for every method that has them.
        preset: A published configuration, for every method that has it.

    Raises:
        UsageError: If a method, setting, protocol or preset is unknown, or no method has an argument of ``params``.
    """
    get_protocol(protocol)
    for setting in settings:
        resolve(setting, tuple(modalities))
    chosen = {slug: get(slug) for slug in sorted(methods, key=lambda slug: slug != CONTROL)}
    for name in params or {}:
        if not any(method.accepts(name) for method in chosen.values()):
            known = {argument for method in chosen.values() for argument in signature(method).parameters}
            raise UsageError(nearest(name, known, what=f"argument of {' or '.join(chosen)}"))
        if name in ("bits", "seed"):
            raise UsageError(f'"{name}" is a side of the grid. Give {"bits" if name == "bits" else "seeds"} instead.')
    presets = {name for method in chosen.values() for name in method.presets}
    if preset is not None and preset not in presets:
        raise UsageError(nearest(preset, presets, what=f"preset of {' or '.join(chosen)}"))
    runs = []
    for setting, seed, (slug, method) in product(settings, range(seeds), chosen.items()):
        own = {name: value for name, value in (params or {}).items() if method.accepts(name)}
        lengths: list[int | None] = list(bits) if method.card.returns == "codes" else [None]
        named = preset if preset in method.presets else None
        runs += [Run(slug, dataset, setting, protocol, b, seed, own, named) for b in lengths]
    return runs


def run_grid(
    runs: Sequence[Run],
    data: Dataset | Mapping[str, Dataset],
    folder: Path,
    *,
    engine: str = "local",
    workers: int | None = 1,
    training: Training | None = None,
    progress: Progress | None = None,
) -> Iterator[dict[str, Any]]:
    """Carry out runs that are not in ``folder`` yet; yields the record of every run, old or new, in their order.

    ``results.jsonl`` gets a line for each run as soon as it is finished, ``failures.jsonl`` for each that failed; the
    rest goes on, and what failed is tried again next time. Beside the record are kept average precision of each query
    (``per_query/<key>.npz``), codes (``codes/<key>.npz``) and training curves (``logs/<key>.jsonl``).

    Args:
        runs: What to run.
        data: All items; of several data sets by the names that the runs call them.
        folder: Where results are kept; nobody but this process writes there meanwhile.
        engine: "local" for processes of this machine, or "ray" for a Ray cluster.
        workers: Runs at once; None for one on each core, if there are enough. A single local one runs in this process.
        training: Device, and progress within a run.
        progress: Told after each run, with an estimate of the time left.

    Raises:
        UsageError: If there is no such engine, a run names other data, or another process writes to the folder.
        MissingExtra: If Ray is asked for and not installed.
        DataError: If a record in the folder is of another schema.
    """
    check_engine(engine, workers)
    named = data if isinstance(data, Mapping) else {run.dataset: data for run in runs}
    for run in runs:
        if run.dataset not in named:
            raise UsageError(nearest(run.dataset, named, what="data set"))
    prints = {name: dataset.fingerprint() for name, dataset in named.items()}
    jobs = [Job(run, run.key(prints[run.dataset]), prints[run.dataset]) for run in runs]
    total = len({job.key for job in jobs})
    with ExitStack() as stack:
        stack.enter_context(only_writer(folder))
        done = {line["key"]: line for line in read_results(folder)}
        queue = Queue([job for job in jobs if job.key not in done], done.values())
        pool = stack.enter_context(open_engine(engine, named, training or Training(), jobs=len(queue), workers=workers))
        forecast = Forecast(done.values(), pool.slots)

        def tell(*what: str) -> None:
            if progress is not None:
                words = ["runs", *what, forecast.left([*queue.waiting, *queue.flying])]
                progress(total - len(queue), total, " · ".join(filter(None, words)))

        tell()
        for job in jobs:
            while job.key not in done:
                for ready in queue.take(pool.slots):
                    pool.submit(ready)
                ended, outcome = pool.wait()
                line = done[ended.key] = _settle(folder, ended, outcome)
                queue.settle(ended, outcome)
                forecast.learn(line)
                tell(f"{ended.run.method} {ended.run.setting} seed {ended.run.seed}")
            yield done[job.key]


def _settle(folder: Path, job: Job, outcome: Outcome) -> dict[str, Any]:
    """Put the outcome on disk."""
    if outcome.record is None:
        return keep_failure(folder, job.key, job.run, outcome.error)
    keep(folder, outcome.record, outcome.files)
    return outcome.record
