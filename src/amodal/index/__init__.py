"""Where codes live: add, upsert, delete, search; chosen by URL.

    spec = IndexSpec("binary", bits=64, attributes={"item": "str", "modality": "str"})
    with amodal.index.open("photos.amodal", create=spec) as index:
        index.add(["p1/image", "p1/text"], codes, {"item": "p1", "modality": ["image", "text"]})
        hits = index.search(queries, k=10, where=Field("modality") == "image")

One index holds codes of several modalities: an item with a picture and words is two entries, told apart by an
attribute. Importing this package loads neither numba nor FAISS.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, unquote

from amodal.errors import IndexMismatch, MissingExtra, UsageError, nearest
from amodal.index.base import Entry, Index
from amodal.index.batch import id_of
from amodal.index.hits import Hits
from amodal.index.spec import IndexSpec
from amodal.index.where import Field, Where

__all__ = [
    "Entry",
    "Field",
    "Hits",
    "Index",
    "IndexSpec",
    "Opener",
    "Where",
    "id_of",
    "open",
    "register",
    "schemes",
]


class Opener(Protocol):
    """What opens the indexes of one scheme."""

    def __call__(self, url: str, *, create: IndexSpec | None, readonly: bool) -> Index:
        """Open an existing index with the specification it was made with, or else make one with ``create``."""


_OPENERS: dict[str, Opener] = {}
_PROBES = 32  # of 4,096 cells: a search of ten million clustered codes then misses seven neighbours in a thousand


def open(  # the name is right behind "amodal.index."
    url: str | os.PathLike[str],
    *,
    create: IndexSpec | None = None,
    readonly: bool = False,
    fingerprint: str | None = None,
) -> Index:
    """Open an index, or make it.

    Args:
        url: A path or ``file:path`` (a folder; ``file:path?ivf=4096`` searches it approximately); ``memory:`` (gone
            when closed); ``postgresql://user@host:5432/database?table=photos``; or ``milvus://host:19530/collection``.
        create: Make the index with this specification if there is none; if there is one, it must have the same.
        readonly: Refuse to write. Any number of readers may be open beside one writer.
        fingerprint: Of the model that will ask; must be that of the index. None asks nothing.

    Returns:
        The index. Use it as a context manager, or close it.

    Raises:
        UsageError: If the scheme is unknown, there is no index and ``create`` is None, or another writer has it open.
        IndexMismatch: If specification or fingerprint differ; says both values.
        DataError: If the index is damaged or cannot be made.
        IndexUnavailable: If the server that keeps it cannot be reached.
        MissingExtra: If the package that reaches the server is not installed.

    Example:
        >>> with open("memory:", create=IndexSpec("binary", bits=64)) as index:
        ...     index.count()
        0
    """
    address = os.fspath(url)
    scheme = _scheme(address)
    if scheme not in _OPENERS:
        raise UsageError(nearest(scheme, _OPENERS, what="kind of index") + " A plain path is a file index.")
    index = _OPENERS[scheme](address, create=create, readonly=readonly)
    try:
        _require_same("specification", index.spec, create, address)
        _require_same("model fingerprint", index.spec.fingerprint, fingerprint, address)
    except IndexMismatch:
        index.close()
        raise
    return index


def register(scheme: str, opener: Opener) -> None:
    """Let ``open`` know a further kind of index.

    Args:
        scheme: What stands before the colon of its URLs.
        opener: Called with the whole URL, ``create`` and ``readonly``.
    """
    _OPENERS[scheme] = opener


def schemes() -> list[str]:
    """The registered kinds of index."""
    return sorted(_OPENERS)


def _scheme(address: str) -> str:
    head, colon, _ = address.partition(":")
    is_url = bool(colon) and len(head) > 1 and head.replace("+", "").isalnum()  # one letter is a Windows drive
    return head.lower() if is_url else "file"


def _require_same(what: str, held: object, wanted: object, address: str) -> None:
    if wanted is not None and held != wanted:
        raise IndexMismatch(
            f"{address}: the index has {what} {held!r}, and what opens it has {wanted!r}. "
            "Use the model and settings it was made with, or make a new index."
        )


def _open_file(url: str, *, create: IndexSpec | None, readonly: bool) -> Index:
    from amodal.index.flat import FlatIndex

    if not url.lower().startswith("file:"):
        return FlatIndex(Path(url), create=create, readonly=readonly)
    path, _, query = url[5:].partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not options:
        return FlatIndex(Path(unquote(path)), create=create, readonly=readonly)
    for name in options:
        if name not in ("ivf", "probes"):
            raise UsageError(f"{url}: " + nearest(name, ("ivf", "probes"), what="option"))
    if not all(value.isdecimal() for value in options.values()) or "ivf" not in options:
        raise UsageError(f"{url}: write it like file:photos.amodal?ivf=4096 or file:photos.amodal?ivf=4096&probes=64.")
    from amodal.index.ivf import IvfIndex

    cells = int(options["ivf"])
    probes = int(options.get("probes", min(_PROBES, cells)))
    return IvfIndex(Path(unquote(path)), cells=cells, probes=probes, create=create, readonly=readonly)


def _open_memory(url: str, *, create: IndexSpec | None, readonly: bool) -> Index:
    from amodal.index.flat import FlatIndex

    if url.lower() != "memory:":
        raise UsageError(f"{url}: an index in memory has no name; its whole address is memory:")
    return FlatIndex(None, create=create, readonly=readonly)


def _open_postgresql(url: str, *, create: IndexSpec | None, readonly: bool) -> Index:
    try:
        from amodal.index.postgres import PostgresIndex
    except ImportError as error:
        raise MissingExtra("psycopg", "postgres") from error
    return PostgresIndex(url, create=create, readonly=readonly)


def _open_milvus(url: str, *, create: IndexSpec | None, readonly: bool) -> Index:
    try:
        from amodal.index.milvus import MilvusIndex
    except ImportError as error:
        raise MissingExtra("pymilvus", "milvus") from error
    return MilvusIndex(url, create=create, readonly=readonly)


register("file", _open_file)
register("memory", _open_memory)
register("milvus", _open_milvus)
register("postgresql", _open_postgresql)
