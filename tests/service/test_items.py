"""Writing, showing, imagining and deleting items over HTTP."""

import base64
import errno
import io
import json
import sqlite3
import sys
import threading

import pytest
from PIL import Image

import amodal
from amodal.data import toy as toy_data
from amodal.errors import DataError
from amodal.methods import get
from amodal.reranking import Reranker
from tests.retriever.catalogue import TINY, short
from tests.service.conftest import problem
from tests.service.test_searching import ids, png


def picture(colour="green", shape="square"):
    return {"picture": base64.b64encode(png(colour, shape)).decode()}


def item(**further):
    return {"modalities": {"text": ["a green square"], "image": [picture()]}, **further}


def test_an_item_is_written_shown_found_and_deleted(drawn):
    new = item(labels=["square"], attributes={"year": 2001, "colour": "green"})
    assert drawn.put("/v1/items/new", json=new).json() == {"items": 1, "entries": 2}
    shown = drawn.get("/v1/items/new").json()
    assert shown["labels"] == ["square"] and shown["attributes"] == {"year": 2001, "colour": "green"}
    assert shown["lacks"] == [] and shown["imagined"] is None
    assert sorted((part["modality"], part["content"]["kind"]) for part in shown["parts"]) == [
        ("image", "picture"), ("text", "text")
    ]  # fmt: skip
    twin = drawn.post("/v1/search", json={"by": "picture", **picture(), "into": "image", "radius": 0, "k": 50})
    assert "new" in ids(twin)
    assert drawn.delete("/v1/items/new").json() == {"items": 1}
    problem(drawn.get("/v1/items/new"), 404, "not-found")
    problem(drawn.delete("/v1/items/new"), 404, "not-found")


@pytest.mark.parametrize(
    "id", ["shop/17", "../../etc/passwd", "a b%2Fc?d#e", "ünï☃", "..%2f", "x/picture", '<script>"']
)
def test_any_id_is_one_segment_and_no_path(drawn, id, tmp_path):
    from urllib.parse import quote

    path = "/v1/items/" + quote(id, safe="")
    assert drawn.put(path, json=item()).status_code == 200
    assert drawn.get(path).json()["id"] == id
    assert id in ids(drawn.post("/v1/search", json={"by": "text", "text": "a green square", "k": 60}))
    shown = drawn.get(path).json()["parts"]
    url = next(part["content"]["url"] for part in shown if part["modality"] == "image")
    assert drawn.get(url).headers["content-type"] == "image/jpeg"
    folder = drawn.app.state.service.generation.folder
    names = [file.name for file in (folder / "uploads").rglob("*") if file.is_file()]
    assert len(names) == 1 and len(names[0]) == 64 + len(".png")
    assert not list(tmp_path.rglob("*passwd*"))
    assert drawn.delete(path).status_code == 200
    assert not [file for file in (folder / "uploads").rglob("*") if file.is_file()]


def test_ids_that_cannot_be(drawn):
    problem(drawn.put("/v1/items/a%00b", json=item()), 422, "invalid")
    problem(drawn.put("/v1/items/a%1fb", json=item()), 422, "invalid")
    problem(drawn.put("/v1/items/%ff", json=item()), 422, "invalid")
    problem(drawn.put("/v1/items/" + 600 * "a", json=item()), 422, "invalid")
    problem(drawn.post("/v1/items/delete", json={"ids": [""]}), 422, "invalid")


def test_a_replaced_picture_is_gone(drawn):
    folder = drawn.app.state.service.generation.folder / "uploads"
    drawn.put("/v1/items/new", json=item())
    (before,) = folder.rglob("*.png")
    drawn.put("/v1/items/new", json={"modalities": {"image": [picture("red")]}})
    (after,) = folder.rglob("*.png")
    assert before != after
    assert [part["modality"] for part in drawn.get("/v1/items/new").json()["parts"]] == ["image"]


def test_pictures_are_small_jpegs_with_a_tag_and_only_of_what_is_indexed(drawn, catalogue):
    answer = drawn.get("/v1/items/p0/picture?size=32")
    made = Image.open(io.BytesIO(answer.content))
    assert (made.format, max(made.size)) == ("JPEG", 32)
    assert answer.headers["cache-control"] == "private, max-age=3600"
    again = drawn.get("/v1/items/p0/picture?size=32", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    problem(drawn.get("/v1/items/p1/picture"), 404, "not-found")
    problem(drawn.get("/v1/items/nobody/picture"), 404, "not-found")
    problem(drawn.get("/v1/items/p0/picture?number=7"), 404, "not-found")
    problem(drawn.get("/v1/items/p0/picture?size=100000"), 422, "invalid")
    # words that look like a file's name are still words
    path = str(catalogue.parent / "img" / "0.png")
    drawn.put("/v1/items/sly", json={"modalities": {"text": [path]}})
    problem(drawn.get("/v1/items/sly/picture?modality=text"), 404, "not-found")


def test_where_files_lie_is_never_told(drawn, catalogue):
    everything = drawn.post("/v1/search", json={"by": "text", "text": "a red circle", "k": 100}).text
    everything += drawn.get("/v1/items/p0").text + drawn.get("/v1/model").text + drawn.get("/v1/index").text
    assert str(catalogue.parent) not in everything
    assert "content" not in drawn.get("/v1/index").json()["attributes"]


def test_scripts_in_captions_are_data(drawn):
    words = '<script>alert(1)</script><img src=x onerror="1">'
    drawn.put("/v1/items/x", json={"modalities": {"text": [words]}})
    answer = drawn.get("/v1/items/x")
    assert answer.json()["parts"][0]["content"]["text"] == words
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modalities": {}}, "modalities"),
        ({"modalities": {"sound": ["x"]}}, "unknown modality"),
        ({"modalities": {"text": []}}, "text"),
        ({"modalities": {"text": [{"picture": "AAAA"}]}}, "takes text, not picture"),
        ({"modalities": {"text": [{"features": [1.0]}]}}, "takes text, not features"),
        ({"attributes": {"yaer": 1}}, 'Did you mean "year"'),
        ({"attributes": {"year": "late"}}, "type float"),
        ({"attributes": {"year": 10**400}}, "year"),
        ({"labels": ["\x1f"]}, "labels"),
        ({"id": "x"}, "id"),
    ],
)
def test_wrong_items_are_refused_and_nothing_is_written(drawn, change, words):
    document = problem(drawn.put("/v1/items/x", json=item(**change)), 422, "invalid")
    assert words in document["detail"] + str(document.get("errors"))
    problem(drawn.get("/v1/items/x"), 404, "not-found")


def test_columns_keep_their_types(toy, items):
    features = items["image"].read([0])[0].tolist()
    columns = {"year": 2**40, "price": 1.5, "sold": True, "colour": "7"}
    body = {"modalities": {"image": [{"features": features}]}, "attributes": columns}
    assert toy.put("/v1/items/x", json=body).status_code == 200
    told = toy.get("/v1/items/x").json()["attributes"]
    assert told == columns and type(told["sold"]) is bool
    for wrong in ({"year": 1.5}, {"sold": 1}, {"year": 2**63}, {"year": True}):
        problem(toy.put("/v1/items/x", json={**body, "attributes": wrong}), 422, "invalid")
    assert toy.get("/v1/items/x").json()["attributes"] == columns


def test_features_of_a_wrong_width(toy):
    assert "width" in problem(toy.put("/v1/items/x", json={"modalities": {"image": [{"features": [1.0]}]}}), 422,
                              "invalid")["detail"]  # fmt: skip


def test_some_at_once_and_add_refuses_what_is_there(drawn):
    several = [{"id": f"n{k}", "modalities": {"text": [f"words {k}"]}} for k in range(20)]
    assert drawn.post("/v1/items", json={"items": several}).json() == {"items": 20, "entries": 20}
    problem(drawn.post("/v1/items", json={"mode": "add", "items": [*several[:1]]}), 409, "exists")
    more = {"mode": "add", "items": [{"id": "n0", "modalities": {"image": [picture()]}}]}
    assert drawn.post("/v1/items", json=more).json() == {"items": 1, "entries": 1}
    assert len(drawn.get("/v1/items/n0").json()["parts"]) == 2
    problem(drawn.post("/v1/items", json={"items": [several[0], several[0]]}), 422, "invalid")
    problem(drawn.post("/v1/items", json={"items": several * 20}), 422, "invalid")
    assert drawn.post("/v1/items/delete", json={"ids": ["n1", "n2", "nobody"]}).json() == {"items": 2}


def test_a_repeated_write_is_done_once(drawn):
    body, headers = {"mode": "add", "items": [{"id": "n", "modalities": {"text": ["x"]}}]}, {"idempotency-key": "k1"}
    first = drawn.post("/v1/items", json=body, headers=headers)
    again = drawn.post("/v1/items", json=body, headers=headers)
    assert (first.status_code, first.content) == (again.status_code, again.content) == (200, first.content)
    problem(drawn.post("/v1/items", json={"items": body["items"]}, headers=headers), 422, "key-reused")
    problem(drawn.post("/v1/items", json=body), 409, "exists")
    assert drawn.delete("/v1/items/n", headers=headers | {"idempotency-key": "k2"}).status_code == 200
    assert drawn.delete("/v1/items/n", headers=headers | {"idempotency-key": "k2"}).status_code == 200
    problem(drawn.delete("/v1/items/n", headers={"idempotency-key": "k3"}), 404, "not-found")
    problem(drawn.put("/v1/items/n", json=item(), headers={"idempotency-key": "a b"}), 400, "bad-request")


def test_an_add_that_was_cut_off_is_ended_by_its_repetition(drawn, monkeypatch):
    body, headers = {"mode": "add", "items": [{"id": "n", **item()}]}, {"idempotency-key": "k1"}
    ledger = drawn.app.state.service.ledger
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "end", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("killed")))
        problem(drawn.post("/v1/items", json=body, headers=headers), 503, "unavailable")
    assert drawn.post("/v1/items", json=body, headers=headers).json() == {"items": 1, "entries": 2}
    assert len(drawn.get("/v1/items/n").json()["parts"]) == 2


def test_a_full_disk_and_a_lost_index_are_said_and_survived(drawn, monkeypatch, caplog):
    generation = drawn.app.state.service.generation

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/place")

    def lost(*_, **__):
        raise DataError("/secret/place is gone.") from sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(generation.uploads, "keep", full)
        assert "secret" not in problem(drawn.put("/v1/items/n", json=item()), 507, "disk-full")["detail"]
        patch.setattr(generation.writer, "upsert", lost)
        words = {"modalities": {"text": ["x"]}}
        assert "secret" not in problem(drawn.put("/v1/items/n", json=words), 503, "unavailable")["detail"]
        patch.setattr(generation.reader, "search", lambda **_: 1 / 0)
        problem(drawn.post("/v1/search", json={"by": "id", "id": "p0"}), 500, "internal")
    assert "ZeroDivisionError" in caplog.text
    assert drawn.put("/v1/items/n", json=item()).status_code == 200
    assert drawn.post("/v1/search", json={"by": "id", "id": "p0"}).status_code == 200


def test_slow_work_ends_in_a_timeout_and_too_many_are_refused(serve, saved, monkeypatch):
    service = serve(saved, timeout=1.0, readers=1, waiting=1)
    go, started = threading.Event(), threading.Semaphore(0)
    generation = service.app.state.service.generation
    find = generation.reader.search

    def slow(**query):
        started.release()
        go.wait(10)
        return find(**query)

    query = {"by": "vector", "vector": "a5f0"}
    with monkeypatch.context() as patch:
        patch.setattr(generation.reader, "search", slow)
        problem(service.post("/v1/search", json=query), 504, "timeout")
        service.app.state.service._waiting = 2
        assert problem(service.post("/v1/search", json=query), 503, "unavailable")
        service.app.state.service._waiting = 0
        go.set()
    assert service.post("/v1/search", json=query).status_code == 200


def test_what_an_item_lacks_is_suggested(drawn):
    shown = drawn.get("/v1/items/p1?imagine=image&k=2").json()
    assert shown["lacks"] == ["image"]
    assert (shown["imagined"]["how"], shown["imagined"]["trust"]) == ("nearest", None)
    assert len(shown["imagined"]["matches"]) == 2
    assert {match["modality"] for match in shown["imagined"]["matches"]} == {"image"}
    problem(drawn.get("/v1/items/p1?imagine=text"), 422, "invalid")
    problem(drawn.get("/v1/items/p1?imagine=sound"), 422, "invalid")
    asked = {"modality": "image", "item": {"modalities": {"text": ["a red circle"]}}}
    assert "dch cannot imagine" in problem(drawn.post("/v1/impute", json=asked), 501, "not-supported")["detail"]
    why = {"query": {"by": "id", "id": "p0"}, "id": "p1"}
    problem(drawn.post("/v1/explain", json=why), 501, "not-supported")


def test_a_model_with_a_matcher_re_ranks_and_says_why(serve, catalogue, tmp_path):
    matcher = Reranker(get("scan").create(epochs=2, width=32, batch_size=16), top=20)
    amodal.Retriever("dch", bits=16, **TINY, rerank=matcher).fit(amodal.read(catalogue)).save(tmp_path / "m.amodal")
    service = serve(tmp_path / "m.amodal", keep=True)
    assert service.get("/v1/model").json()["explains"]
    query = {"by": "text", "text": "a red circle"}
    plain = service.post("/v1/search", json=query | {"k": 20}).json()["matches"]
    assert {match["matched"] for match in plain} == {None}
    found = service.post("/v1/search", json=query | {"k": 20, "rerank": True}).json()
    scores = [match["matched"] for match in found["matches"] if match["matched"] is not None]
    assert scores == sorted(scores, reverse=True) and found["next"] is None
    assert {match["id"] for match in found["matches"]} == {match["id"] for match in plain}
    assert found["notes"] == []
    long = query | {"text": "a red circle " * 20}
    (note,) = service.post("/v1/search", json=long | {"rerank": True}).json()["notes"]
    assert note.startswith("the text of the query has 28 parts more than")
    assert service.post("/v1/search", json=long).json()["notes"] == []  # codes are made of all of it
    assert service.post("/v1/explain", json={"query": long, "id": "p4"}).json()["notes"] == [note]
    why = service.post("/v1/explain", json={"query": query, "id": "p4"}).json()
    assert [seen["word"] for seen in why["words"]] == ["a", "red", "circle"]
    assert (why["regions"], why["words_of"]) == ("image", "text") and len(why["boxes"]) == 25
    picture = base64.b64encode((catalogue.parent / "img" / "4.png").read_bytes()).decode()
    by_picture = {"query": {"by": "picture", "picture": picture}, "id": "p4"}
    assert service.post("/v1/explain", json=by_picture).json()["item"] == "p4"
    problem(service.post("/v1/explain", json={"query": query, "id": "nobody"}), 404, "not-found")
    problem(service.post("/v1/explain", json={"query": {"by": "id", "id": "p0"}, "id": "p4"}), 422, "invalid")
    # what is written can be scored at once
    new = {"modalities": {"text": ["a red circle"], "image": [{"picture": picture}]}}
    assert service.put("/v1/items/new", json=new).status_code == 200
    again = service.post("/v1/search", json=query | {"k": 40, "rerank": True}).json()["matches"]
    assert next(match for match in again if match["id"] == "new")["matched"] is not None
    assert service.post("/v1/search", json={"by": "id", "id": "new", "rerank": True}).status_code == 200


def test_what_the_first_request_needs_is_loaded_before(drawn, monkeypatch):
    def late(encoder):
        raise AssertionError(f"{encoder.name} is loaded by a request")

    for encoder in drawn.app.state.service.generation.reader.encoders_.values():
        monkeypatch.setattr(type(encoder), "load", late)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert drawn.post("/v1/search", json={"by": "text", "text": "a red circle"}).status_code == 200
    assert drawn.get("/v1/items/p1?imagine=image").status_code == 200
    assert drawn.get("/v1/items/p2?imagine=text").status_code == 200


def test_a_model_without_matcher_does_not_re_rank(drawn):
    query = {"by": "text", "text": "a red circle", "rerank": True}
    problem(drawn.post("/v1/search", json=query), 501, "not-supported")


def test_a_model_that_imagines(serve, tmp_path):
    data = amodal.incomplete(toy_data(80), "easy")
    amodal.Retriever("cich", bits=16, **short()).fit(data).save(tmp_path / "m.amodal")
    service = serve(tmp_path / "m.amodal", keep=True)
    features = data["text"].read([0])[0].tolist()
    asked = {"modality": "image", "item": {"modalities": {"text": [{"features": features}]}}, "k": 4}
    found = service.post("/v1/impute", json=asked).json()
    assert 0 <= found["trust"] <= 1 and len(found["features"]) == data["image"].dim
    assert {match["modality"] for match in found["matches"]} == {"image"} and len(found["matches"]) == 4
    lacks = data.ids[~data.present("image")][0]
    # features were not recorded, so nothing can be imagined of them again
    assert service.get(f"/v1/items/{lacks}?imagine=image").json()["imagined"]["how"] == "nearest"


def test_model_and_index_are_described(drawn):
    model = drawn.get("/v1/model").json()
    assert model["method"] == "dch" and model["imputes"] is False
    assert model["modalities"] == {
        "image": {"kind": "picture", "width": 1280}, "text": {"kind": "text", "width": 384}
    }  # fmt: skip
    index = drawn.get("/v1/index").json()
    assert (index["kind"], index["bits"], index["exact"], index["writable"]) == ("binary", 16, True, True)
    assert index["attributes"]["year"] == "float"


def test_json_is_what_is_said_it_is(drawn):
    assert json.loads(drawn.get("/openapi.json").content)["paths"]["/v1/search"]["post"]["requestBody"]


def test_one_of_several_labels_finds(toy, items):
    features = {"features": items["image"].read([0])[0].tolist()}
    for id, labels in (("both", ["cat", "dog"]), ("one", ["cat"]), ("other", ["catalogue"]), ("none", [])):
        toy.put(f"/v1/items/{id}", json={"modalities": {"image": [features]}, "labels": labels})
    assert toy.get("/v1/index").json()["attributes"]["labels"] == "texts"
    for where, expected in (
        ('"cat" in labels', {"both", "one"}),
        ({"labels": {"has": "dog"}}, {"both"}),
        ({"labels": {"has": ["dog", "catalogue"]}}, {"both", "other"}),
        ('"cat" in labels and "dog" not in labels', {"one"}),
    ):
        answer = toy.post("/v1/search", json={"by": "vector", "vector": "a5f0", "k": 500, "where": where})
        assert {match["id"] for match in answer.json()["matches"]} == expected
    assert toy.get("/v1/items/both").json()["labels"] == ["cat", "dog"]
    refused = toy.post("/v1/search", json={"by": "vector", "vector": "a5f0", "where": {"labels": "cat"}})
    assert '"..." in labels' in problem(refused, 422, "invalid")["detail"]


def test_a_database_that_has_no_room_left_says_so_and_goes_on(toy, items):
    """SQLite itself runs out of pages, as it does on a full disk."""
    features = {"features": items["image"].read([0])[0].tolist()}
    many = [{"id": f"n{k}", "modalities": {"image": [features] * 60}} for k in range(100)]
    database = toy.app.state.service.generation.writer.index_._catalogue._db
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    before = toy.get("/v1/index").json()["entries"]
    problem(toy.post("/v1/items", json={"items": many}), 507, "disk-full")
    assert toy.get("/v1/index").json()["entries"] == before
    assert toy.post("/v1/search", json={"by": "vector", "vector": "a5f0"}).status_code == 200
    database.execute("PRAGMA max_page_count = 1000000")
    assert toy.post("/v1/items", json={"items": many}).json() == {"items": 100, "entries": 6000}
