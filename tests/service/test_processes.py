"""A real server: killed in mid-import, swapped by a signal, stopped, and asked by the client and the program."""

import random
import shutil
import signal
import threading
import time

import httpx
import numpy as np
import pytest

import amodal
from amodal.client import Client, ServiceError
from amodal.errors import UsageError
from amodal.service.keys import KeyRing
from tests.cli.conftest import amodal as program
from tests.service.processes import running

__all__ = ["program"]

KILLS, IMPORTS, LINES = 3, 4, 300


@pytest.fixture
def model(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "m.amodal")


def new(items, id):
    return {"id": id, "modalities": {"image": [items["image"].read([0])[0]]}}


def test_killed_in_mid_import_every_acknowledged_item_is_there_and_none_twice(model, items, tmp_path):
    random.seed(0)
    accepted, alone = [], []
    for life in range(KILLS + 1):
        with running(model, tmp_path / "state") as process, Client(process.address, retries=0) as client:
            if life == KILLS:
                # of all that arrived, also where the answer did not
                while any(job["finished"] is None for job in client._ask("GET", "/v1/imports")["imports"]):
                    time.sleep(0.05)
                told = [client.job(job) for job in accepted]
                break
            timer = threading.Timer(0.2 + random.random(), process.kill)
            timer.start()
            try:
                for k in range(IMPORTS):
                    lines = [new(items, f"{life}.{k}.{n}") for n in range(LINES)]
                    accepted.append(client.import_items(lines, wait=False).job)
                    client.upsert([new(items, f"alone {life}.{k}")])
                    alone.append(f"alone {life}.{k}")
            except ServiceError:
                pass
            timer.join()
    assert accepted and alone
    assert all((job.state, job.done, job.failed) == ("done", LINES, 0) for job in told)
    with amodal.Retriever.load(model, readonly=True) as shop:
        entries = shop.index_.get(shop.index_.ids())
    found = [entry.attributes["item"] for entry in entries if entry.attributes["item"] not in set(items.ids)]
    # an import that arrived as a whole may have lost only its answer; it counts as accepted or not, never as a part
    sizes = {}
    for one in found:
        if not one.startswith("alone"):
            sizes[one.rpartition(".")[0]] = sizes.get(one.rpartition(".")[0], 0) + 1
    assert set(sizes.values()) == {LINES} and len(sizes) >= len(accepted)
    assert set(alone) <= set(found)
    assert len(found) == len(set(found))


def test_a_signal_swaps_and_another_stops_without_dropping_a_request(model, saved, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(model)
    wrong, answered, stop = [], [], threading.Event()
    with running(link, tmp_path / "state") as process:

        def ask():
            with httpx.Client(base_url=process.address) as http:
                while not stop.is_set():
                    answer = http.post("/v1/search", json={"by": "vector", "vector": "a5f0"})
                    (answered if answer.status_code == 200 else wrong).append(answer)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        loaded = httpx.get(process.address + "/v1/model").json()["loaded"]
        time.sleep(1.1)
        shutil.copytree(saved, tmp_path / "next.amodal")
        link.unlink()
        link.symlink_to(tmp_path / "next.amodal")
        process.child.send_signal(signal.SIGHUP)
        for _ in range(200):
            if httpx.get(process.address + "/v1/model").json()["loaded"] != loaded:
                break
            time.sleep(0.05)
        else:
            pytest.fail("not swapped")
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == [] and len(answered) > 10
        status, said = process.stop()
    assert (status, "Traceback" in said) == (0, False)


def test_the_client_and_the_program_ask_a_service_with_keys(model, items, tmp_path, program, monkeypatch):
    _, secret = KeyRing(tmp_path / "state").add("test", "write")
    with running(model, tmp_path / "state") as process:
        with Client(process.address, key=secret) as client:
            _check_client(client, items, model)
        monkeypatch.setenv("AMODAL_KEY", secret)
        found = program("search", "--server", process.address, "--id", items.ids[0], "-k", 3, "--json").json["matches"]
        with amodal.Retriever.load(model, readonly=True) as shop:
            assert [one["id"] for one in found] == [one.item for one in shop.search(id=items.ids[0], k=3)]
        assert items.ids[0] not in program("search", "--server", process.address, "--id", items.ids[0]).out
        monkeypatch.delenv("AMODAL_KEY")
        refused = program("search", "--server", process.address, "--id", items.ids[0])
        assert (refused.code, refused.out) == (1, "") and "send a key" in refused.err
        assert "exactly one of them" in program("search", model, "--server", process.address, "--id", "x").err
        _, said = process.stop()
        assert secret.rpartition("_")[2] not in said


def _check_client(client, items, model):
    with amodal.Retriever.load(model, readonly=True) as shop:
        expected = [one.item for one in shop.search(id=items.ids[0], k=200, into="text", where="year < 2040")]
    query = {"id": items.ids[0], "into": "text", "where": {"year": {"<": 2040}}}
    assert [one.id for one in client.search(**query, k=200)] == expected
    assert client.upsert([new(items, "a/b"), new(items, "c")]) == 2
    assert client.item("a/b")["lacks"] == ["text"]
    assert client.imagine("a/b", "text", k=2).trust is None
    assert client.search(vector="a5f0", min_score=1.0) == client.search(vector="a5f0", radius=0)
    with pytest.raises(ServiceError, match="use upsert") as refused:
        client.add([new(items, "c")])
    assert (refused.value.status, refused.value.kind) == (409, "exists") and refused.value.request_id
    done = client.import_items([new(items, "d"), {"delete": "c"}, {"id": "e"}])
    assert (done.state, done.written, done.deleted, done.failed) == ("done", 1, 1, 1)
    assert client.delete(["a/b", "d", "nobody"]) == 2
    assert client.swap() is False
    assert client.index()["bits"] == 16 and client.model()["method"] == "dch"
    with pytest.raises(ServiceError, match="no modality takes a picture"):
        client.picture(items.ids[0])
    with pytest.raises(UsageError, match="exactly one"):
        client.search()
    with pytest.raises(UsageError, match="exactly one"):
        client.explain(items.ids[0])
    with pytest.raises(ServiceError, match="only a matcher could"):
        client.explain(items.ids[0], text="red")


def test_pages_of_the_client_are_the_whole_answer(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    calls = []

    def answer(request):
        body = __import__("json").loads(request.content)
        calls.append(body)
        if len(calls) == 1:
            return httpx.Response(503, headers={"Retry-After": "1"})
        start = 0 if body["by"] == "id" else int(body["cursor"])
        ids = np.arange(start, min(start + body["k"], 2500))
        more = None if ids[-1] == 2499 else str(ids[-1] + 1)
        match = {"distance": 0, "score": 1, "modality": "t", "number": 0, "content": {}, "labels": [], "attributes": {}}
        return httpx.Response(200, json={"matches": [{"id": str(k), **match} for k in ids], "next": more})

    client = Client("http://nowhere")
    client._http = httpx.Client(base_url="http://nowhere", transport=httpx.MockTransport(answer))
    assert [one.id for one in client.search(id="x", k=2300)] == [str(k) for k in range(2300)]
    assert [call["k"] for call in calls] == [1000, 1000, 1000, 300]


def test_notes_of_an_answer_are_warnings_of_the_client():
    page = {"matches": [], "next": None, "notes": ["the text of the query has 28 parts more than fit."]}
    client = Client("http://nowhere")
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json=page))
    client._http = httpx.Client(base_url="http://nowhere", transport=answer)
    with pytest.warns(UserWarning, match="28 parts more"):
        assert client.search(text="a red circle " * 20) == []


def test_nobody_there_and_no_address():
    with pytest.raises(UsageError, match="address"):
        Client("localhost")
    with Client("http://127.0.0.1:9", retries=0) as client, pytest.raises(ServiceError, match="cannot be reached"):
        client.model()


def test_starting_what_cannot_start(program, model, tmp_path):
    with running(model, tmp_path / "state") as process:
        port = process.address.rpartition(":")[2]
        assert "another service uses" in program("serve", model, "--state", tmp_path / "state").err
        taken = program("serve", model, "--state", tmp_path / "other", "--port", port, "--read-only")
        assert taken.code == 2 and "cannot listen" in taken.err
        writer = program("serve", model, "--state", tmp_path / "other", "--port", 0)
        assert writer.code == 2 and "one writer at a time" in writer.err
    missing = program("serve", tmp_path / "nothing", "--state", tmp_path / "other")
    assert missing.code == 3 and "no saved retriever" in missing.err
    world = program("serve", model, "--state", tmp_path / "other", "--host", "0.0.0.0")  # noqa: S104 - refused
    assert world.code == 2 and "amodal keys add" in world.err


def test_keys_from_the_command_line(program, tmp_path):
    made = program("keys", "add", "--name", "page", "--state", tmp_path, "--json").json
    assert made["scope"] == "read" and KeyRing(tmp_path).find(made["key"]).name == "page"
    assert "write" in program("keys", "add", "--name", "x", "--scope", "wrte", "--state", tmp_path).err
    assert program("keys", "revoke", made["id"], "--state", tmp_path).code == 0
    (listed,) = program("keys", "list", "--state", tmp_path, "--json").json["keys"]
    assert listed["revoked"] and "hash" not in listed and KeyRing(tmp_path).find(made["key"]) is None
    assert "unknown key" in program("keys", "revoke", "nothing", "--state", tmp_path).err
