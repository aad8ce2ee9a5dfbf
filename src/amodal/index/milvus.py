"""The index in a collection of a Milvus server.

The collection is the whole index: an entity per entry, and the specification as its description. The server scans all
codes (BIN_FLAT) or embeddings (FLAT) that the filter leaves. It orders entries of one distance as it pleases and
returns any of those at rank k, so the adapter asks for all at that distance and chooses; of embeddings it compares the
candidates anew, with the scan of the index in a folder, so that both give the same distances.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient, MilvusException

from amodal.errors import DataError, IndexUnavailable, UsageError
from amodal.index.base import Entry, Index
from amodal.index.batch import Batch
from amodal.index.hits import Hits
from amodal.index.milvus_address import Address
from amodal.index.milvus_expression import TEXTS, has, to_expression, value_of
from amodal.index.spec import IndexSpec, Value
from amodal.index.where import Where

__all__ = ["MilvusIndex"]

_FORMAT = 1
_MOST = 16_384  # entries in one answer of the server
_SPARE = 100  # entries asked for beyond k, among which ties mostly end
_ANSWER = 200_000  # entries in all answers of one request
_ROWS = 10_000
_ROUNDING = 1e-5  # by how much the server's distance of embeddings may differ from ours
_LONGEST = 65_535  # bytes of a text
_GREATEST = 2**63 - 1  # as an id the server stores it and does not find it again
_TYPES = {
    "str": DataType.VARCHAR,
    "int": DataType.INT64,
    "float": DataType.DOUBLE,
    "bool": DataType.BOOL,
    "texts": DataType.JSON,
}
_ABSENT: Mapping[str, Any] = {"str": "", "int": 0, "float": 0.0, "bool": False, "texts": {}}

_ABSENCE = (
    *("fail connecting", "unavailable", "retry", "deadline", "should create connect"),
    *("not ready", "not loaded", "not fully loaded", "not available", "offline", "node not found"),  # it starts
)

# It prints a traceback for every error, which is raised as well and becomes a sentence here.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class _Found:
    """Entries near one query: ids, distances as the server rounds them, and vectors where it was asked for them."""

    ids: NDArray[np.int64]
    distances: NDArray[np.float64]
    vectors: NDArray[Any] | None


class MilvusIndex(Index):
    """Exact search over codes or embeddings in one collection.

    Any number of processes may write. Milvus knows no transactions: everything that can be refused is refused before
    anything is written, but a server that goes away in the middle of a large write may keep a part of it, and two
    writers that add one id at one moment both succeed. What others write is seen soon, or at once with
    ``?consistency=strong``, at the price of the server's clock tick (200 ms by default) for each call.

    Args:
        url: ``milvus://host:19530/collection``; see ``Address.parsed`` for what may follow.
        create: Specification of an index that does not exist yet.
        readonly: Refuse to write.

    Raises:
        UsageError: If the address is incomplete, there is no index and none is to be created, or the collection is
            another.
        IndexUnavailable: If the server cannot be reached.
        DataError: If the collection cannot be made.
    """

    def __init__(self, url: str, *, create: IndexSpec | None = None, readonly: bool = False) -> None:
        address = Address.parsed(url)
        self.readonly = readonly
        self._closed = False
        self._place, self._name, self._timeout = address.place, address.collection, address.timeout
        self._strong = address.strong
        self._mutex = threading.Lock()
        self._written, self._seen = 1, 0  # writes so far, those before this handle as one; how many reads surely see
        self._unflushed = False
        with self._sentences():
            self._client = MilvusClient(uri=address.uri, timeout=self._timeout, **address.login)
        try:
            self.spec = self._described() or self._created(None if readonly else create)
            with self._sentences():
                self._client.load_collection(self._name, timeout=self._timeout)
        except BaseException:
            self.close()
            raise

    @property
    def exact(self) -> bool:
        """Always True."""
        return True

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def flush(self) -> None:
        """Let the server seal what was written. It is durable already; the server then starts and searches faster."""
        self._check_writable()
        if self._unflushed:
            with self._sentences():
                self._client.flush(self._name, timeout=self._timeout)
            self._unflushed = False

    def close(self) -> None:
        """Close the connection."""
        if not self._closed:
            self._closed = True
            self._client.close()

    def _described(self) -> IndexSpec | None:
        """The specification in the description of the collection; None if there is no collection."""
        with self._sentences():
            if not self._client.has_collection(self._name, timeout=self._timeout):
                return None
            description = self._client.describe_collection(self._name, timeout=self._timeout)["description"]
        try:
            found = json.loads(description)["amodal"]
            version, text = found["format"], found["spec"]
        except (TypeError, ValueError, KeyError):
            raise UsageError(f"{self._place}: the collection exists and is no index; choose another name.") from None
        if version > _FORMAT:
            raise DataError(
                f"{self._place} was written by a newer amodal (format {version}); update amodal to read it."
            )
        return IndexSpec.from_json(text)

    def _created(self, spec: IndexSpec | None) -> IndexSpec:
        if spec is None:
            raise UsageError(
                f"{self._place} holds no index. To make one, open it for writing with create=IndexSpec(...)."
            )
        for name in spec.attributes:
            if not name.isascii():
                raise UsageError(f'attribute "{name}": Milvus takes names of ASCII letters, digits and _ only.')
        description = json.dumps({"amodal": {"format": _FORMAT, "spec": spec.to_json()}})
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False, description=description)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("key", DataType.VARCHAR, max_length=_LONGEST)
        schema.add_field("has_key", DataType.BOOL)
        for name, kind in spec.attributes.items():
            schema.add_field(value_of(name), _TYPES[kind], **({"max_length": _LONGEST} if kind == "str" else {}))
            schema.add_field(has(name), DataType.BOOL)
        scan = MilvusClient.prepare_index_params()
        if spec.kind == "binary":
            schema.add_field("vector", DataType.BINARY_VECTOR, dim=8 * spec.width)
            scan.add_index("vector", index_type="BIN_FLAT", metric_type="HAMMING")
        else:
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=spec.width)
            scan.add_index("vector", index_type="FLAT", metric_type="COSINE")
        with self._sentences():
            self._client.create_collection(self._name, schema=schema, timeout=self._timeout)
            self._client.create_index(self._name, scan, timeout=self._timeout)
        return spec

    def _write(self, batch: Batch, *, replace: bool) -> None:
        self._check_storable(batch)
        pieces = [batch.piece(start, start + _ROWS) for start in range(0, len(batch.ids), _ROWS)]
        for piece in pieces:
            piece.check_against(self._known(piece.ids), replace=replace)
        for piece in pieces:
            with self._sentences(), self._writing():
                self._client.upsert(self._name, _entities(piece, self.spec), timeout=self._timeout)

    def _check_storable(self, batch: Batch) -> None:
        """Refuse before anything is written what the server would refuse, or lose."""
        if len(batch.ids) and batch.ids.max() == _GREATEST:
            raise DataError(f"{self._place}: id {_GREATEST} cannot be found again in Milvus; use a smaller one.")
        keys: list[Value] = [*batch.keys] if batch.keys else []
        for name, values in {"key": keys, **batch.columns}.items():
            for value in values:
                text = json.dumps(value, ensure_ascii=False) if isinstance(value, tuple) else value
                if isinstance(text, str) and len(text.encode()) > _LONGEST:
                    raise DataError(f'{self._place}: "{name}" holds a text beyond the {_LONGEST} bytes of Milvus.')
                if isinstance(value, float) and math.isinf(value):
                    raise DataError(f'{self._place}: "{name}" holds {value}, which Milvus cannot be asked for.')

    def _known(self, ids: NDArray[np.int64]) -> dict[int, str | None]:
        """The keys of those ids that exist."""
        rows = self._query(_any_of(ids), ["id", "key", "has_key"], strong=True)
        return {row["id"]: row["key"] if row["has_key"] else None for row in rows}

    def _delete(self, ids: NDArray[np.int64]) -> int:
        removed = 0
        for start in range(0, len(ids), _ROWS):
            known = list(self._known(ids[start : start + _ROWS]))
            removed += len(known)
            if known:
                with self._sentences(), self._writing():
                    self._client.delete(self._name, ids=known, timeout=self._timeout)
        return removed

    def _search(self, queries: NDArray[Any], k: int, where: Where | None, radius: float) -> Hits:
        if k > _MOST:
            raise UsageError(f"Milvus answers with at most {_MOST} entries; got k={k}. Ask for fewer.")
        expression = to_expression(where, self.spec.attributes)
        limit = min(_MOST, k + _SPARE)
        binary = self.spec.kind == "binary"
        reach = radius if binary else radius + _ROUNDING
        block = max(1, _ANSWER // limit)
        rows = []
        for start in range(0, len(queries), block):
            some = queries[start : start + block]
            for query, found in zip(some, self._ask(some, limit, expression, reach), strict=True):
                choose = self._nearest_codes if binary else self._nearest_embeddings
                rows.append(choose(query, found, k, limit, expression, radius))
        return Hits.of_rows(rows, k, self.spec)

    def _nearest_codes(
        self, query: NDArray[Any], found: _Found, k: int, limit: int, expression: str, radius: float
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """The k nearest of what was found, after all that tie at rank k were asked for."""
        ids, distances = found.ids, found.distances
        if len(ids) == limit and distances[k - 1] == distances[-1]:
            last = distances[-1]
            nearer = distances < last
            tied: list[NDArray[np.int64]] = []
            for part in self._within(query, last, expression):
                tied.append(np.sort(part.ids[part.distances == last]))
                if nearer.sum() + sum(map(len, tied)) >= k:
                    break
            ids = np.concatenate([ids[nearer], *tied])
            distances = np.concatenate([distances[nearer], np.full(len(ids) - nearer.sum(), last)])
        order = np.lexsort((ids, distances))[:k]
        return ids[order], distances[order]

    def _nearest_embeddings(
        self, query: NDArray[Any], found: _Found, k: int, limit: int, expression: str, radius: float
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """The k nearest of what was found by our own distances, after all that may be among them were asked for."""
        parts = [found]
        if len(found.ids) == limit and found.distances[k - 1] + 2 * _ROUNDING >= found.distances[-1]:
            parts = list(self._within(query, found.distances[k - 1] + 2 * _ROUNDING, expression))
        from amodal.index.scan import nearest

        ids = np.concatenate([part.ids for part in parts])
        order = np.argsort(ids)
        vectors = np.concatenate([part.vectors for part in parts if part.vectors is not None])[order]
        rows, distances = nearest(vectors, query[None], k, radius)
        real = rows[0] >= 0
        return ids[order][rows[0][real]], distances[0][real]

    def _within(
        self, query: NDArray[Any], reach: float, expression: str, low: int = -1, high: int = _GREATEST
    ) -> Iterator[_Found]:
        """Everything at most ``reach`` away with an id above ``low`` and up to ``high``, in blocks of ascending ids."""
        (found,) = self._ask(query[None], _MOST, f"({expression}) and id > {low} and id <= {high}", reach)
        if len(found.ids) < _MOST:
            yield found
        else:
            middle = int(np.partition(found.ids, _MOST // 2)[_MOST // 2])
            yield from self._within(query, reach, expression, low, middle)
            yield from self._within(query, reach, expression, middle, high)

    def _ask(self, queries: NDArray[Any], limit: int, expression: str, reach: float) -> list[_Found]:
        """The server's answers: at most ``limit`` entries for each query, nearest first, at most ``reach`` away."""
        binary = self.spec.kind == "binary"
        ball: dict[str, float] = {}
        if binary and reach < 8 * self.spec.width:
            ball = {"radius": math.floor(reach) + 1}  # the server excludes the radius itself
        elif not binary and reach < 2:
            ball = {"radius": float(1 - reach)}  # it counts similarity
        with self._sentences(), self._reading() as level:
            answers = self._client.search(
                self._name,
                data=[query.tobytes() for query in queries] if binary else list(queries),
                limit=limit,
                filter=expression,
                output_fields=[] if binary else ["vector"],
                search_params={"metric_type": "HAMMING" if binary else "COSINE", "params": ball},
                consistency_level=level,
                timeout=self._timeout,
            )
        return [self._found(list(answer)) for answer in answers]

    def _found(self, answer: list[Any]) -> _Found:
        ids = np.array([hit["id"] for hit in answer], np.int64)
        distances = np.array([hit["distance"] for hit in answer], np.float64)
        if self.spec.kind == "binary":
            return _Found(ids, distances, None)
        vectors = np.array([hit["entity"]["vector"] for hit in answer], np.float32).reshape(-1, self.spec.width)
        return _Found(ids, 1 - distances, vectors)

    def _get(self, ids: NDArray[np.int64]) -> list[Entry]:
        fields = [field for name in self.spec.attributes for field in (value_of(name), has(name))]
        found = []
        for start in range(0, len(ids), _ROWS):
            rows = self._query(_any_of(ids[start : start + _ROWS]), ["id", "key", "has_key", "vector", *fields])
            found += [self._entry(row) for row in rows]
        return found

    def _entry(self, row: Mapping[str, Any]) -> Entry:
        attributes = {name: row[value_of(name)] if row[has(name)] else None for name in self.spec.attributes}
        attributes = {name: tuple(held[TEXTS]) if isinstance(held, dict) else held for name, held in attributes.items()}
        vector = row["vector"]
        if self.spec.kind == "binary":
            return Entry(
                row["id"], row["key"] if row["has_key"] else None, attributes, np.frombuffer(vector[0], np.uint8)
            )
        return Entry(row["id"], row["key"] if row["has_key"] else None, attributes, np.array(vector, np.float32))

    def _ids(self, where: Where | None) -> NDArray[np.int64]:
        expression = to_expression(where, self.spec.attributes)
        pages = [np.empty(0, np.int64)]
        last = -1
        while True:
            rows = self._query(f"({expression}) and id > {last}", ["id"], limit=_MOST)
            pages.append(np.sort(np.array([row["id"] for row in rows], np.int64)))
            if len(rows) < _MOST:
                return np.concatenate(pages)
            last = int(pages[-1][-1])

    def _count(self, where: Where | None) -> int:
        (row,) = self._query(to_expression(where, self.spec.attributes), ["count(*)"])
        return int(row["count(*)"])

    def _query(
        self, expression: str, fields: list[str], *, strong: bool = False, limit: int | None = None
    ) -> list[Any]:
        """Rows for which the expression holds; with ``limit``, those of the smallest ids."""
        with self._sentences(), self._reading(strong=strong) as level:
            return list(
                self._client.query(
                    self._name,
                    filter=expression,
                    output_fields=fields,
                    consistency_level=level,
                    timeout=self._timeout,
                    **({} if limit is None else {"limit": limit}),
                )
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Afterwards the next read waits for the write."""
        try:
            yield
        finally:
            with self._mutex:
                self._written += 1
                self._unflushed = True

    @contextmanager
    def _reading(self, *, strong: bool = False) -> Iterator[str]:
        """The consistency that a read needs to see what this handle wrote; once it has, the next ones need not wait."""
        with self._mutex:
            written = self._written
            level = "Strong" if strong or self._strong or self._seen < written else "Eventually"
        yield level
        if level == "Strong":
            with self._mutex:
                self._seen = max(self._seen, written)

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
            text = " ".join(str(getattr(error, "message", "") or error).split()).removesuffix(".")
            if not isinstance(error, MilvusException) or _is_absence(error):
                raise IndexUnavailable(
                    f"{self._place}: the server cannot be reached, or does not answer: {text}. Check that it runs and "
                    "that host and port are right. If this call was writing, repeat it as an upsert."
                ) from error
            raise DataError(f"{self._place}: {text}.") from error


def _entities(batch: Batch, spec: IndexSpec) -> list[dict[str, Any]]:
    """A batch as the client takes it. No field of the tested servers can be empty, so another says whether it is."""
    keys = batch.keys or [None] * len(batch.ids)  # type: ignore[list-item]
    vectors = [row.tobytes() for row in batch.vectors] if spec.kind == "binary" else list(batch.vectors)
    entities: list[dict[str, Any]] = [
        {"id": number, "key": key or "", "has_key": key is not None, "vector": vector}
        for number, key, vector in zip(batch.ids.tolist(), keys, vectors, strict=True)
    ]
    for name, kind in spec.attributes.items():
        for entity, value in zip(entities, batch.columns[name], strict=True):
            held = {TEXTS: list(value)} if isinstance(value, tuple) else value
            entity[value_of(name)] = _ABSENT[kind] if held is None else held
            entity[has(name)] = value is not None
    return entities


def _any_of(ids: NDArray[np.int64]) -> str:
    return f"id in {ids.tolist()}"


def _is_absence(error: MilvusException) -> bool:
    """Whether the server was not there, or has just come back, by the words that client and server have for it."""
    words = str(error).lower()
    return any(sign in words for sign in _ABSENCE)
