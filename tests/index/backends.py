"""Every kind of index: how tests reach an empty place for one, and in what it may differ."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.index.servers import drop_collections

__all__ = ["BACKENDS", "Backend", "backend", "durable"]


@dataclass(frozen=True)
class Backend:
    """A kind of index.

    Attributes:
        url: Address of an index that belongs to a folder.
        durable: Whether it outlives its handle.
        server: Fixture of the server that it needs, which gives the beginning of its addresses. A server takes several
            writers, a file one.
        fresh: What makes an address show at once what others wrote.
        clean: Called with the beginning of its addresses after each test.
        histories: How many examples a test of random histories takes.
        kills: How often a writer is killed in the test of that.
    """

    url: Callable[[Path], str]
    durable: bool = True
    server: str | None = None
    fresh: str = ""
    clean: Callable[[str], None] = lambda base: None
    histories: int = 25
    kills: int = 3


def _named(folder):
    return "t" + hashlib.blake2b(bytes(folder), digest_size=8).hexdigest()


BACKENDS = {
    "file": Backend(lambda folder: str(folder / "codes.amodal"), kills=10),
    "memory": Backend(lambda folder: "memory:", durable=False),
    "milvus": Backend(_named, server="milvus", fresh="?consistency=strong", clean=drop_collections, histories=8),
    "postgresql": Backend(_named, server="postgres"),
}


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.service] if row.server else []) for name, row in BACKENDS.items()]
)
def backend(request):
    """Each kind of index in turn; those with servers under the mark ``service``."""
    row = BACKENDS[request.param]
    base = request.getfixturevalue(row.server) if row.server else ""
    yield replace(row, url=lambda folder: base + row.url(folder))
    row.clean(base)


@pytest.fixture
def durable(backend):
    """Each kind of index that can be opened again."""
    return backend if backend.durable else pytest.skip("this kind of index does not outlive its handle")
