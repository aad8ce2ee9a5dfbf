"""Another model takes over: no request is dropped, and one that does not fit is refused."""

import shutil
import threading
import time

import pytest

import amodal
from amodal.index import IndexSpec
from amodal.index import open as open_index
from tests.retriever.catalogue import TINY
from tests.service.conftest import problem

QUERY = {"by": "vector", "vector": "a5f0"}


@pytest.fixture(scope="module")
def other(items, tmp_path_factory):
    """A model of 24 bits of the same items."""
    shop = amodal.Retriever("dch", bits=24, **TINY).fit(items)
    return shop.save(tmp_path_factory.mktemp("models") / "other.amodal")


@pytest.fixture
def linked(serve, saved, tmp_path):
    """A service on a symbolic link, and a function that points it elsewhere."""
    link = tmp_path / "current"

    def point(model, name):
        link.unlink(missing_ok=True)
        link.symlink_to(shutil.copytree(model, tmp_path / name))

    point(saved, "one")
    return serve(link, keep=True), point


def test_the_next_model_answers_and_cursors_of_the_last_expire(linked, other):
    service, point = linked
    assert service.post("/v1/admin/swap").json()["swapped"] is False
    cursor = service.post("/v1/search", json={**QUERY, "k": 2}).json()["next"]
    before = service.app.state.service.generation
    point(other, "two")
    assert service.post("/v1/admin/swap").json() == {
        "swapped": True,
        "generation": service.get("/v1/model").json()["generation"],
    }
    assert service.get("/v1/index").json()["bits"] == 24
    assert before.index.closed and before.writer.index_.closed
    problem(service.post("/v1/search", json={"by": "cursor", "cursor": cursor}), 410, "cursor-expired")
    problem(service.post("/v1/search", json=QUERY), 422, "invalid")
    assert service.post("/v1/search", json={"by": "vector", "vector": "a5f0a5"}).status_code == 200


def test_what_cannot_be_opened_is_refused_and_the_old_goes_on(linked, saved, other, tmp_path):
    service, point = linked
    (tmp_path / "current").unlink()
    assert "/" not in problem(service.post("/v1/admin/swap"), 422, "invalid")["detail"]
    point(other, "mixed")
    shutil.rmtree(tmp_path / "mixed" / "index")
    shutil.copytree(saved / "index", tmp_path / "mixed" / "index")
    assert "/" not in problem(service.post("/v1/admin/swap"), 409, "index-mismatch")["detail"]
    assert service.get("/v1/index").json()["bits"] == 16
    assert service.post("/v1/search", json=QUERY).status_code == 200


def test_searches_and_writes_go_on_through_swaps(linked, saved, items):
    service, point = linked
    wrong, stop, written = [], threading.Event(), []
    part = {"modalities": {"image": [{"features": items["image"].read([0])[0].tolist()}]}}

    def search():
        while not stop.is_set():
            answer = service.post("/v1/search", json=QUERY)
            if answer.status_code != 200 or len(answer.json()["matches"]) != 10:
                wrong.append(answer.text)

    def write():
        while not stop.is_set():
            id = f"n{len(written)}"
            answer = service.put(f"/v1/items/{id}", json=part)
            written.append(id)
            if answer.status_code != 200:
                wrong.append(answer.text)

    threads = [threading.Thread(target=one) for one in (search, search, write)]
    for thread in threads:
        thread.start()
    for n in range(4):
        point(saved, f"next-{n}")
        assert service.post("/v1/admin/swap").json()["swapped"] is True
    last = service.put("/v1/items/last", json=part)
    while len(written) < 5 and not wrong:
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == [] and last.status_code == 200
    assert service.get("/v1/items/last").status_code == 200
    assert not service.app.state.service._held or set(service.app.state.service._held.values()) == {0}


def test_an_index_of_its_own(serve, saved, items, tmp_path):
    with amodal.Retriever.load(saved, readonly=True) as shop:
        spec = shop.index_.spec
    with open_index(str(tmp_path / "elsewhere"), create=spec):
        pass
    service = serve(saved, index=str(tmp_path / "elsewhere"))
    assert service.get("/v1/index").json()["entries"] == 0
    assert service.post("/v1/search", json=QUERY).json()["matches"] == []
    part = {"modalities": {"image": [{"features": items["image"].read([0])[0].tolist()}]}}
    service.put("/v1/items/x", json=part)
    assert [one["id"] for one in service.post("/v1/search", json=QUERY).json()["matches"]] == ["x"]
    assert service.post("/v1/admin/swap").json()["swapped"] is False
    strange = IndexSpec("binary", bits=16, attributes=dict(spec.attributes), lookups=("item",), fingerprint="strange")
    with open_index(str(tmp_path / "strange"), create=strange):
        pass
    with pytest.raises(amodal.errors.IndexMismatch, match="fingerprint"):
        serve(saved, index=str(tmp_path / "strange"))
