import pytest

import amodal
from tests.retriever.catalogue import TINY, with_columns, write_catalogue


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory):
    return write_catalogue(tmp_path_factory.mktemp("catalogue"))


@pytest.fixture(scope="session")
def shapes(catalogue, tmp_path_factory):
    """A folder with a retriever of the drawn shapes, learned through the packaged encoders."""
    items = amodal.read(catalogue)
    shop = amodal.Retriever("dch", bits=16, **TINY).fit(items)
    return shop.save(tmp_path_factory.mktemp("models") / "shapes.amodal")


@pytest.fixture(scope="session")
def items():
    return amodal.incomplete(with_columns(), "medium")


@pytest.fixture(scope="session")
def saved(items, tmp_path_factory):
    """A folder with a retriever of ``items``."""
    return amodal.Retriever("dch", bits=16, **TINY).fit(items).save(tmp_path_factory.mktemp("models") / "toy.amodal")


@pytest.fixture
def shop(saved):
    """That retriever, to search in."""
    opened = amodal.Retriever.load(saved, readonly=True)
    yield opened
    opened.close()


@pytest.fixture
def mine(items):
    """A retriever of ``items`` in memory, to write to."""
    return amodal.Retriever("dch", bits=16, **TINY).fit(items)
