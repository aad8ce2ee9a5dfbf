"""Every kind of index: how tests reach an empty place for one, and in what it may differ."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

__all__ = ["BACKENDS", "Backend", "backend", "durable"]


@dataclass(frozen=True)
class Backend:
    """A kind of index.

    Attributes:
        url: Address of an index that belongs to a folder.
        durable: Whether it outlives its handle.
        server: Fixture of the server that it needs, which gives the beginning of its addresses. A server takes several
            writers, a file one.
        kills: How often a writer is killed in the test of that.
    """

    url: Callable[[Path], str]
    durable: bool = True
    server: str | None = None
    kills: int = 3


BACKENDS = {
    "file": Backend(lambda folder: str(folder / "codes.amodal"), kills=10),
    "memory": Backend(lambda folder: "memory:", durable=False),
    "postgresql": Backend(
        lambda folder: "t" + hashlib.blake2b(bytes(folder), digest_size=8).hexdigest(), server="postgres"
    ),
}


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.service] if row.server else []) for name, row in BACKENDS.items()]
)
def backend(request):
    """Each kind of index in turn; those with servers under the mark ``service``."""
    row = BACKENDS[request.param]
    if row.server is None:
        return row
    base = request.getfixturevalue(row.server)
    return replace(row, url=lambda folder: base + row.url(folder))


@pytest.fixture
def durable(backend):
    """Each kind of index that can be opened again."""
    return backend if backend.durable else pytest.skip("this kind of index does not outlive its handle")
