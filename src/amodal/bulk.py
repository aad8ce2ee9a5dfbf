"""Encoding many items into any index, here or on a Ray cluster, in parts that are done once.

    with Retriever.load("shop.amodal", readonly=True) as shop:
        encode_into(shop, items, "milvus://host:19530/shop", engine="ray")

A part is some hundred items. The machines of a cluster encode parts, and this process alone writes them, so that any
kind of index will do. Whatever ends a worker costs the part that it had, which another one does again; whatever ends
this process costs the parts under way: the next run passes over those whose entries are all in the index.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from amodal import index as indexes
from amodal.cluster import connect, cores
from amodal.codes import BinaryCodes, Codes, Embeddings
from amodal.data import Dataset
from amodal.encoders.saving import open_encoders, save_encoders
from amodal.entries import Entries, columns_of, entries_of, keys_of, spec_for
from amodal.errors import DataError, MethodError, MissingExtra, UsageError, nearest
from amodal.home import ENCODERS
from amodal.index import Index, IndexSpec, id_of
from amodal.methods import Method
from amodal.progress import Progress
from amodal.retriever import Retriever

__all__ = ["ENGINES", "PART", "Bulk", "encode_into"]

ENGINES = ("local", "ray")
PART = 512  #: items that are encoded between two writes, and that a lost worker costs
_TRIES = 4  # workers that a part may take with it before it is given up


@dataclass(frozen=True)
class Bulk:
    """What was done.

    Attributes:
        written: Entries.
        kept: Entries that were in the index already, with all others of their parts.
        left_out: A sentence for each piece of content that could not be encoded and was skipped.
    """

    written: int
    kept: int
    left_out: list[str]


@dataclass(frozen=True)
class _Task:
    """What encodes, and what: the same for all parts."""

    encoder: Retriever
    items: Dataset
    attributes: Mapping[str, str]
    skip_bad: bool

    def encode(self, rows: NDArray[np.int64]) -> tuple[list[Entries], list[str]]:
        """The entries of some items, and a sentence for each piece of content that was skipped."""
        items, self.encoder.left_out = self.items.take(rows), []
        features = self.encoder.features(items, skip_bad=self.skip_bad)
        columns = columns_of(items, self.attributes)
        return list(entries_of(items, features, self.encoder.method, columns)), self.encoder.left_out


@dataclass(frozen=True)
class _Packed:
    """A task on its way to other machines, which open packaged encoders by name, and refuse another version of one."""

    method: Method
    encoders: Mapping[str, Mapping[str, str]]
    weights: Mapping[str, bytes]
    rest: tuple[Dataset, Mapping[str, str], bool]

    @classmethod
    def of(cls, task: _Task) -> Self:
        with TemporaryDirectory() as folder:
            encoders = save_encoders(task.encoder.encoders_, Path(folder) / ENCODERS)
            weights = {path.name: path.read_bytes() for path in Path(folder).glob(f"{ENCODERS}/*")}
        return cls(task.encoder.method, encoders, weights, (task.items, task.attributes, task.skip_bad))

    def unpacked(self) -> _Task:
        encoder = Retriever(self.method, cache=False)
        with TemporaryDirectory() as folder:
            (Path(folder) / ENCODERS).mkdir()
            for name, content in self.weights.items():
                (Path(folder) / ENCODERS / name).write_bytes(content)
            encoder.encoders_ = open_encoders(self.encoders, Path(folder) / ENCODERS)
        return _Task(encoder, *self.rest)


def encode_into(
    shop: Retriever,
    items: Dataset,
    url: str,
    *,
    engine: str = "local",
    workers: int | None = None,
    progress: Progress | None = None,
    skip_bad: bool = False,
    part: int = PART,
) -> Bulk:
    """Encode items with a model and write them to an index, which is made if it is not there.

    Entries of the same ids are replaced. The codes are those of ``Retriever.add``, whatever the engine.

    Args:
        shop: A fitted or loaded retriever; its own index is left alone.
        items: What to encode. Files that they name must lie where every machine finds them.
        url: Of the index; see ``amodal.index.open``.
        engine: "local", or "ray": the cluster that RAY_ADDRESS names, or one on this machine.
        workers: Parts at once on a cluster; None for one on each of its processors.
        progress: Told how many items are done.
        skip_bad: Leave out content that cannot be encoded.
        part: Items between two writes.

    Raises:
        UsageError: If engine or workers cannot be, cluster or index cannot be opened, or a modality is raw here and was
            learned from bare features.
        MethodError: If the retriever is not fitted.
        IndexMismatch: If the index belongs to another model.
        MissingModality: If the model never learned a modality of the items.
        MissingExtra: If Ray is asked for and not installed.
        DataError: If content or columns do not fit, or a part ended every worker that tried it.
    """
    if engine not in ENGINES:
        raise UsageError(nearest(engine, ENGINES, what="engine"))
    if workers is not None and (workers < 1 or engine == "local"):
        raise UsageError(f"workers is {workers}; it takes at least one, and only a cluster has several.")
    if shop.index_ is None:
        raise MethodError("this retriever is not fitted. Call fit, or load a saved one.")
    encoder = Retriever(shop.method, cache=engine == "local")
    encoder.encoders_ = shop.encoders_
    with _opened(url, spec_for(items, _no_codes(shop.index_.spec), shop.index_.spec.fingerprint)) as index:
        columns_of(items, index.spec.attributes)  # is refused before anything is written
        missing, kept = _missing(items, index, part)
        task = _Task(encoder, items, index.spec.attributes, skip_bad)
        found = _on_cluster(task, missing, workers) if engine == "ray" else _here(task, missing)
        written, left_out, done = 0, list[str](), len(items) - sum(map(len, missing))
        with closing(found):
            for rows, (batches, skipped) in found:
                for batch in batches:
                    index.upsert(batch.keys, batch.codes, batch.attributes)
                    written += len(batch.keys)
                left_out += skipped
                done += len(rows)
                if progress is not None:
                    progress(done, len(items), "encoding")
        index.flush()
    return Bulk(written, kept, left_out)


def _opened(url: str, spec: IndexSpec) -> Index:
    """The index of that address; one that is there may have other columns."""
    try:
        return indexes.open(url, fingerprint=spec.fingerprint)
    except UsageError:  # there is none, or it cannot be opened, which is then said once more
        return indexes.open(url, create=spec)


def _no_codes(spec: IndexSpec) -> Codes:
    """No codes of the kind that an index holds."""
    empty = np.empty((0, spec.width), spec.dtype)
    return Embeddings(empty) if spec.bits is None else BinaryCodes(empty, spec.bits)


def _missing(items: Dataset, index: Index, part: int) -> tuple[list[NDArray[np.int64]], int]:
    """The parts, as rows of items, of which an entry is missing; and how many entries the others have."""
    held, missing, kept = index.ids(), [], 0
    for start in range(0, len(items), part):
        rows = np.arange(start, min(start + part, len(items)))
        wanted = np.array([id_of(key) for key in keys_of(items.take(rows))], np.int64)
        if np.isin(wanted, held).all():
            kept += len(wanted)
        else:
            missing.append(rows)
    return missing, kept


_Found = tuple[NDArray[np.int64], tuple[list[Entries], list[str]]]


def _here(task: _Task, parts: Sequence[NDArray[np.int64]]) -> Generator[_Found, None, None]:
    """The parts encoded in this process."""
    for rows in parts:
        yield rows, task.encode(rows)


def _on_cluster(task: _Task, parts: Sequence[NDArray[np.int64]], workers: int | None) -> Generator[_Found, None, None]:
    """The parts encoded on a cluster, in the order in which they end."""
    try:
        import ray
    except ImportError:
        raise MissingExtra("Ray", "ray") from None
    if ours := not ray.is_initialized():
        connect(ray, cores())
    processors = int(ray.cluster_resources().get("CPU", 0))
    if not processors:
        raise UsageError("the Ray cluster offers no processor. Start one with: ray start --head --num-cpus 8")
    slots = min(workers or processors, processors)
    # Ray gives a task as many threads as processors
    encode = ray.remote(num_cpus=processors // slots, max_retries=_TRIES - 1)(_encode)
    place, waiting = [ray.put(_Packed.of(task))], deque(parts)
    under_way: dict[Any, NDArray[np.int64]] = {}
    try:
        while waiting or under_way:
            while waiting and len(under_way) < 2 * slots:
                rows = waiting.popleft()
                under_way[encode.remote(place, rows)] = rows
            (done,), _ = ray.wait(list(under_way), num_returns=1)
            rows = under_way.pop(done)
            yield rows, _result(ray, done, task.items.ids[rows])
    finally:
        for one in under_way:
            ray.cancel(one, force=True)
        if ours:
            ray.shutdown()


def _result(ray: Any, done: Any, ids: NDArray[Any]) -> Any:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:  # what the part itself raised, as it would have been raised here
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise DataError(
            f'items "{ids[0]}" to "{ids[-1]}" ended {_TRIES} workers of the cluster ({type(error).__name__}). Look '
            "into their logs, give them more memory, or encode these items alone. What was written is kept."
        ) from error


_TASKS: dict[str, _Task] = {}  # in a worker: what its earlier parts brought with them


def _encode(place: Sequence[Any], rows: NDArray[np.int64]) -> tuple[list[Entries], list[str]]:
    """In a worker: encode a part. The place holds a reference, so that networks are loaded once and not for each."""
    import ray

    (reference,) = place
    if reference.hex() not in _TASKS:
        _TASKS.clear()
        _TASKS[reference.hex()] = ray.get(reference).unpacked()
    return _TASKS[reference.hex()].encode(rows)
