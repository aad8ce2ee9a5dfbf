import pytest

import amodal
from tests.retriever.catalogue import write_catalogue


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory):
    """Drawn shapes with words; p1, p5, ... have no picture, p2, p6, ... no words."""
    return amodal.read(write_catalogue(tmp_path_factory.mktemp("shapes")))
