import shutil

import pytest
from starlette.testclient import TestClient

from amodal.service.app import create_app
from amodal.service.house import Service
from amodal.service.settings import Settings
from tests.retriever.conftest import catalogue, items, saved, shapes

__all__ = ["catalogue", "items", "saved", "shapes"]


@pytest.fixture
def serve(tmp_path):
    """Starts a service on a copy of a model, without a network; all are stopped at the end."""
    started = []

    def start(model, keep=False, **settings):
        mine = model if keep else shutil.copytree(model, tmp_path / f"model-{len(started)}.amodal")
        service = Service(
            Settings(model=mine, state=tmp_path / settings.pop("state", f"state-{len(started)}"), **settings)
        )
        client = TestClient(create_app(service), base_url="http://127.0.0.1:8765")
        started.append(client.__enter__())
        return client

    yield start
    for client in started:
        client.__exit__(None, None, None)


@pytest.fixture
def toy(serve, saved):
    """A service on features of two modalities."""
    return serve(saved)


@pytest.fixture
def drawn(serve, shapes):
    """A service on drawn shapes and words about them."""
    return serve(shapes)


def problem(response, status, kind):
    """The document of a refusal, checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert (document["status"], document["type"]) == (status, f"urn:amodal:problem:{kind}")
    assert document["request_id"] == response.headers["x-request-id"]
    assert document["detail"].endswith(".")
    return document
