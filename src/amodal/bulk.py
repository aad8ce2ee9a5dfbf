"""Encoding many items into any index, here or on a Ray cluster, in parts that are done once.

    with Retriever.load("shop.amodal", readonly=True) as shop:
        encode_into(shop, items, "milvus://host:19530/shop", engine="ray")

A part is some hundred items. The machines of a cluster encode parts, and this process alone writes them, so that any
kind of index will do. What a model that re-ranks needs of them goes into the model's own folder before the entries go
into the index. Whatever ends a worker costs the part that it had, which another one does again; whatever ends this
process costs the parts under way: the next run passes over those of which everything is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from amodal import index as indexes
from amodal.cluster import connect, cores
from amodal.codes import BinaryCodes, Codes, Embeddings
from amodal.data import Dataset
from amodal.encoders import Encoder
from amodal.encoders.saving import open_encoders, save_encoders
from amodal.entries import Entries, columns_of, entries_of, keys_of, spec_for
from amodal.errors import DataError, MethodError, MissingExtra, UsageError, nearest
from amodal.home import ENCODERS
from amodal.index import Index, IndexSpec, id_of
from amodal.methods import Method
from amodal.progress import Progress
from amodal.reranking import FragmentStore, Kept, Reranker
from amodal.retriever import Retriever

if TYPE_CHECKING:
    from amodal.methods.matching import Matcher

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
class _Part:
    """A part, encoded: its entries, what is kept for re-ranking, and a sentence for each piece that was skipped."""

    entries: list[Entries]
    fragments: list[Kept]
    left_out: list[str]


@dataclass(frozen=True)
class _Task:
    """What encodes, and what: the same for all parts."""

    encoder: Retriever
    items: Dataset
    attributes: Mapping[str, str]
    skip_bad: bool

    def encode(self, rows: NDArray[np.int64]) -> _Part:
        """Some items, encoded."""
        items, left_out = self.items.take(rows), list[str]()
        self.encoder.left_out = left_out
        features = self.encoder.features(items, skip_bad=self.skip_bad)
        entries = list(entries_of(items, features, self.encoder.method, columns_of(items, self.attributes)))
        reranker = self.encoder.reranker
        found = reranker.fragments(items, skip_bad=self.skip_bad, problems=left_out) if reranker is not None else ()
        return _Part(entries, list(found), left_out)


@dataclass(frozen=True)
class _PackedEncoders:
    """Encoders on their way to other machines, which open packaged ones by name, and refuse another version of one."""

    facts: Mapping[str, Mapping[str, str]]
    weights: Mapping[str, bytes]

    @classmethod
    def of(cls, encoders: Mapping[str, Encoder]) -> Self:
        with TemporaryDirectory() as folder:
            facts = save_encoders(encoders, Path(folder) / ENCODERS)
            return cls(facts, {path.name: path.read_bytes() for path in Path(folder).glob(f"{ENCODERS}/*")})

    def unpacked(self) -> dict[str, Encoder]:
        with TemporaryDirectory() as folder:
            (Path(folder) / ENCODERS).mkdir()
            for name, content in self.weights.items():
                (Path(folder) / ENCODERS / name).write_bytes(content)
            return open_encoders(self.facts, Path(folder) / ENCODERS)


@dataclass(frozen=True)
class _Packed:
    """A task on its way to other machines."""

    method: Method
    encoders: _PackedEncoders
    matching: tuple[Matcher, _PackedEncoders] | None
    rest: tuple[Dataset, Mapping[str, str], bool]

    @classmethod
    def of(cls, task: _Task) -> Self:
        shop, reranker = task.encoder, task.encoder.reranker
        matching = None if reranker is None else (reranker.matcher, _PackedEncoders.of(reranker.encoders_))
        rest = (task.items, task.attributes, task.skip_bad)
        return cls(shop.method, _PackedEncoders.of(shop.encoders_), matching, rest)

    def unpacked(self) -> _Task:
        matching = None if self.matching is None else (self.matching[0], self.matching[1].unpacked())
        return _Task(_encoder(self.method, self.encoders.unpacked(), matching, cache=False), *self.rest)


def _encoder(
    method: Method,
    encoders: Mapping[str, Encoder],
    matching: tuple[Matcher, Mapping[str, Encoder]] | None,
    *,
    cache: bool,
) -> Retriever:
    """A retriever that only encodes, with what another one learned."""
    found = Retriever(method, cache=cache)
    found.encoders_ = dict(encoders)
    if matching is not None:
        matcher, part_encoders = matching
        found.reranker = Reranker(matcher, cache=cache)
        found.reranker.encoders_ = dict(part_encoders)
    return found


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
        shop: A fitted or loaded retriever; its own index is left alone. One that re-ranks keeps the fragments of these
            items beside those of its own.
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
    matching = None if shop.reranker is None else (shop.reranker.matcher, shop.reranker.encoders_)
    encoder = _encoder(shop.method, shop.encoders_, matching, cache=engine == "local")
    scored = () if shop.reranker is None else tuple(shop.reranker.matcher.widths_)
    spec = spec_for(items, _no_codes(shop.index_.spec), shop.index_.spec.fingerprint)
    with _fragments_of(shop) as store, _opened(url, spec) as index:
        columns_of(items, index.spec.attributes)  # is refused before anything is written
        missing, kept = _missing(items, index, store, scored, part)
        task = _Task(encoder, items, index.spec.attributes, skip_bad)
        found = _on_cluster(task, missing, workers) if engine == "ray" else _here(task, missing)
        written, left_out, done = 0, list[str](), len(items) - sum(map(len, missing))
        with closing(found):
            for rows, one in found:
                for fragments in one.fragments:  # first, so that whatever is found can be scored
                    store.put(fragments)
                for batch in one.entries:
                    index.upsert(batch.keys, batch.codes, batch.attributes)
                    written += len(batch.keys)
                left_out += one.left_out
                done += len(rows)
                if progress is not None:
                    progress(done, len(items), "encoding")
        index.flush()
    return Bulk(written, kept, left_out)


@contextmanager
def _fragments_of(shop: Retriever) -> Iterator[FragmentStore]:
    """Where a retriever keeps fragments, to write to even if it was opened to read only; nowhere without a matcher."""
    store = FragmentStore(None) if shop.reranker is None else shop.reranker.writing().store
    try:
        yield store
    finally:
        if shop.reranker is None or store is not shop.reranker.store:
            store.close()


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


def _missing(
    items: Dataset, index: Index, store: FragmentStore, scored: Sequence[str], part: int
) -> tuple[list[NDArray[np.int64]], int]:
    """The parts, as rows of items, of which something is missing; and how many entries the others have."""
    held, missing, kept = index.ids(), [], 0
    for start in range(0, len(items), part):
        rows = np.arange(start, min(start + part, len(items)))
        some = items.take(rows)
        wanted = np.array([id_of(key) for key in keys_of(some)], np.int64)
        fragments = sum(len(some[name]) for name in scored if name in some.modalities)
        if np.isin(wanted, held).all() and store.count(some.ids.tolist()) >= fragments:
            kept += len(wanted)
        else:
            missing.append(rows)
    return missing, kept


_Found = tuple[NDArray[np.int64], _Part]


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


def _encode(place: Sequence[Any], rows: NDArray[np.int64]) -> _Part:
    """In a worker: encode a part. The place holds a reference, so that networks are loaded once and not for each."""
    import ray

    (reference,) = place
    if reference.hex() not in _TASKS:
        _TASKS.clear()
        _TASKS[reference.hex()] = ray.get(reference).unpacked()
    return _TASKS[reference.hex()].encode(rows)
