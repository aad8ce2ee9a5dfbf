"""Imports: what is accepted is written, once, whatever happens in between."""

import json
import sqlite3
import time

import pytest

from tests.service.conftest import problem

LINES = {"content-type": "application/x-ndjson"}


def lines(*items):
    return "".join(json.dumps(one) + "\n" for one in items)


def ended(service, job, seconds=20):
    """The import once it has ended."""
    for _ in range(int(seconds / 0.02)):
        told = service.get(f"/v1/imports/{job}").json()
        if told["finished"]:
            return told
        time.sleep(0.02)
    return pytest.fail(f"not ended: {told}")


@pytest.fixture
def part(items):
    """Features of an item."""
    return {"modalities": {"image": [{"features": items["image"].read([0])[0].tolist()}]}}


def count(service):
    return service.get("/v1/index").json()["entries"]


def test_items_and_deletions_in_the_order_in_which_they_come(toy, part):
    before = count(toy)
    body = lines(
        *({"id": f"n{k}", **part} for k in range(150)), {"delete": "n7"}, {"id": "n7", **part}, {"delete": "n8"}
    )
    answer = toy.post("/v1/imports", content=body, headers=LINES)
    assert answer.status_code == 202
    told = ended(toy, answer.json()["job"])
    assert toy.get(answer.headers["location"]).json() == told
    assert {name: told[name] for name in ("state", "lines", "done", "written", "deleted", "failed")} == {
        "state": "done", "lines": 153, "done": 153, "written": 151, "deleted": 2, "failed": 0
    }  # fmt: skip
    assert count(toy) == before + 149
    assert toy.get("/v1/items/n7").status_code == 200
    problem(toy.get("/v1/items/n8"), 404, "not-found")
    assert not list(toy.app.state.service.jobs.iterdir())
    assert [one["job"] for one in toy.get("/v1/imports").json()["imports"]] == [told["job"]]


def test_wrong_lines_are_told_and_the_others_go_on(toy, part):
    features = part["modalities"]["image"]
    body = lines({"id": "a", **part}) + "no json\n\n" + lines(
        {"id": "b", **part, "attributes": {"yaer": 1}},
        {"id": "c", **part},
        {"id": "d", **part, "attributes": {"year": "late"}},
        {"id": "e"},
        {"id": "f", "modalities": {"image": [{"features": [1.0]}]}},
        {"id": "g", "modalities": {"image": [{"features": [3e38] * len(features[0]["features"])}] }},
        {"delete": ""},
    ) + json.dumps({"id": "h", **part})  # fmt: skip
    told = ended(toy, toy.post("/v1/imports", content=body, headers=LINES).json()["job"])
    assert (told["lines"], told["done"]) == (11, 11)
    assert {"a", "c", "h"} <= {id for id in "abcdefgh" if toy.get(f"/v1/items/{id}").status_code == 200}
    failed = {error["line"]: error["what"] for error in told["errors"]}
    assert {2, 4, 6, 7, 8, 10} <= set(failed) and not {1, 3, 5, 11} & set(failed)
    assert 'Did you mean "year"' in failed[4] and "type int" in failed[6]
    assert told["failed"] == len(failed) and told["written"] + told["failed"] == 10


def test_nothing_is_accepted_that_is_none(toy):
    problem(toy.post("/v1/imports", content="", headers=LINES), 422, "invalid")
    problem(toy.post("/v1/imports", json={}), 415, "wrong-media-type")
    problem(toy.get("/v1/imports/nothing"), 404, "not-found")
    problem(toy.delete("/v1/imports/nothing"), 404, "not-found")
    problem(toy.get("/v1/imports/..%2f..%2fkeys"), 404, "not-found")


def test_a_repeated_import_is_the_same_one(toy, part):
    body, headers = lines({"id": "n", **part}), {**LINES, "idempotency-key": "k"}
    jobs = {toy.post("/v1/imports", content=body, headers=headers).json()["job"] for _ in range(3)}
    assert len(jobs) == 1 and len(toy.get("/v1/imports").json()["imports"]) == 1
    problem(toy.post("/v1/imports", content=body * 2, headers=headers), 422, "key-reused")
    ended(toy, jobs.pop())
    assert not list(toy.app.state.service.jobs.iterdir())


def test_an_import_waits_while_the_index_does_not_answer(toy, part, monkeypatch):
    monkeypatch.setattr("amodal.service.imports.PAUSE", (0.01, 0.02))
    writer, calls = toy.app.state.service.generation.writer, []
    upsert = writer.upsert

    def flaky(*args, **how):
        calls.append(1)
        if len(calls) < 4:
            raise sqlite3.OperationalError("database or disk is full")
        return upsert(*args, **how)

    monkeypatch.setattr(writer, "upsert", flaky)
    told = ended(toy, toy.post("/v1/imports", content=lines({"id": "n", **part}), headers=LINES).json()["job"])
    assert (told["written"], told["failed"], len(calls)) == (1, 0, 4)


def test_an_import_can_be_stopped(toy, part, monkeypatch):
    writer = toy.app.state.service.generation.writer
    upsert = writer.upsert
    monkeypatch.setattr(writer, "upsert", lambda *args, **how: (time.sleep(0.02), upsert(*args, **how))[1])
    body = lines(*({"id": f"n{k}", **part} for k in range(5000)))
    job = toy.post("/v1/imports", content=body, headers=LINES).json()["job"]
    stopped = toy.delete(f"/v1/imports/{job}").json()
    assert stopped["state"] == "cancelled" and stopped["finished"]
    time.sleep(0.3)
    told = toy.get(f"/v1/imports/{job}").json()
    assert told["state"] == "cancelled" and told["done"] < 5000
    assert toy.delete(f"/v1/imports/{job}").json()["state"] == "cancelled"


def test_a_line_that_breaks_our_own_code_does_not_stop_the_others(toy, part, monkeypatch):
    writer = toy.app.state.service.generation.writer
    upsert = writer.upsert

    def broken(items, **how):
        if "n3" in items.ids:
            raise ZeroDivisionError("not a sentence for clients")
        return upsert(items, **how)

    monkeypatch.setattr(writer, "upsert", broken)
    body = lines(*({"id": f"n{k}", **part} for k in range(6)))
    told = ended(toy, toy.post("/v1/imports", content=body, headers=LINES).json()["job"])
    assert (told["written"], told["failed"]) == (5, 1)
    assert told["errors"][0]["line"] == 4 and "sentence" not in told["errors"][0]["what"]
