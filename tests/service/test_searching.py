"""Searching over HTTP: the same answers as in Python, in pages, with filters; and every wrong request refused."""

import base64
import io

import pytest

import amodal
from amodal.service.uploads import MOST_PIXELS
from tests.retriever.catalogue import draw
from tests.service.conftest import problem


def ids(answer):
    return [match["id"] for match in answer.json()["matches"]]


def png(colour="red", shape="circle", form="PNG"):
    buffer = io.BytesIO()
    draw(colour, shape).save(buffer, form)
    return buffer.getvalue()


def test_answers_are_those_of_the_retriever(toy, saved, items):
    with amodal.Retriever.load(saved, readonly=True) as shop:
        for into in (None, "text"):
            expected = shop.search(id=items.ids[0], k=10, into=into)
            got = toy.post("/v1/search", json={"by": "id", "id": items.ids[0], "k": 10, "into": into}).json()
            assert [(one["id"], one["distance"], one["modality"]) for one in got["matches"]] == [
                (one.item, one.distance, one.modality) for one in expected
            ]
            assert got["matches"][0]["score"] == 1 - expected[0].distance / 16
            assert got["matches"][0]["attributes"] == expected[0].attributes


def test_words_pictures_codes_and_features_find(drawn, toy, items):
    words = drawn.post("/v1/search", json={"by": "text", "text": "a red circle of size 1", "into": "text", "k": 1})
    assert words.json()["matches"][0]["content"]["kind"] == "text"
    picture = {"by": "picture", "picture": base64.b64encode(png()).decode(), "k": 5}
    found = drawn.post("/v1/search", json=picture)
    form = drawn.post("/v1/search", files={"picture": ("x.png", png())}, data={"request": '{"k": 5}'})
    assert ids(found) == ids(form) and len(ids(form)) == 5
    code = toy.post("/v1/search", json={"by": "vector", "vector": "a5f0", "k": 3, "radius": 16})
    assert len(ids(code)) == 3
    features = items["image"].read([0])[0].tolist()
    twin = toy.post("/v1/search", json={"by": "features", "modality": "image", "features": features, "k": 60})
    assert items.ids[items["image"].item[0]] in ids(twin)
    assert twin.json()["matches"][0]["distance"] == 0


def test_filters_in_both_forms_and_scores(toy):
    as_text = {
        "by": "vector",
        "vector": "a5f0",
        "where": "year >= 2000 and colour in ['colour 1', 'colour 2']",
        "k": 100,
    }
    as_tree = {**as_text, "where": {"year": {">=": 2000}, "colour": ["colour 1", "colour 2"]}}
    found = toy.post("/v1/search", json=as_text)
    assert ids(found) == ids(toy.post("/v1/search", json=as_tree))
    assert ids(found)
    assert all(match["attributes"]["year"] >= 2000 for match in found.json()["matches"])
    near = toy.post("/v1/search", json={**as_text, "min_score": 0.5}).json()["matches"]
    assert near == [match for match in found.json()["matches"] if match["score"] >= 0.5]
    assert ids(toy.post("/v1/search", json={**as_text, "where": {"year": {"in": []}}})) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"by": "smell"}, "by"),
        ({"k": 0}, "k"),
        ({"k": 10**9}, "k"),
        ({"k": True}, "k"),
        ({"extra": 1}, "extra"),
        ({"vector": "a5f"}, "vector"),
        ({"vector": "a5f0a5"}, "16 bits"),
        ({"vector": [1.0, 0.5]}, "16 bits"),
        ({"into": "sound"}, 'unknown modality "sound"'),
        ({"where": "colur == 'red'"}, 'Did you mean "colour"'),
        ({"where": "content >= '/'"}, 'unknown attribute "content"'),
        ({"where": "year >"}, "cannot read the filter"),
        ({"where": "(" * 1500}, "cannot read the filter"),
        ({"where": "not " * 900 + "year == 1"}, "filter"),
        ({"where": {}}, "where"),
        ({"where": {"year": {}}}, "where"),
        ({"where": {"year": {"in": 5}}}, "where"),
        ({"where": {"year": "late"}}, "type int"),
        ({"where": f"year == {2**70}"}, "64 bits"),
        ({"radius": -1}, "radius"),
        ({"min_score": 2}, "min_score"),
    ],
)
def test_wrong_searches_are_refused_with_a_sentence(toy, change, words):
    answer = toy.post("/v1/search", json={"by": "vector", "vector": "a5f0", **change})
    document = problem(answer, 422, "invalid")
    assert words in document["detail"] + str(document.get("errors"))


def test_numbers_that_no_feature_is_are_refused(toy):
    body = {"by": "features", "modality": "image", "features": [1e200]}
    assert "1000000000000000" in problem(toy.post("/v1/search", json=body), 422, "invalid")["detail"]


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '{"by": "vector", "vector": [NaN]}', '{"by":' * 5000, '"\\ud800"']
)
def test_what_is_no_json_is_refused(toy, body):
    problem(toy.post("/v1/search", content=body, headers={"content-type": "application/json"}), 422, "invalid")


def test_other_media_types_are_refused(toy):
    # a page elsewhere may send text/plain without asking first
    problem(toy.post("/v1/search", content='{"by": "id", "id": "x"}', headers={"content-type": "text/plain"}), 415,
            "wrong-media-type")  # fmt: skip
    problem(toy.post("/v1/search", content="--x", headers={"content-type": "multipart/form-data"}), 400, "bad-request")
    form = toy.post("/v1/search", files={"picture": ("x", b"no")}, data={"request": '{"by": "text"}'})
    problem(form, 422, "invalid")


def test_an_unknown_item_and_an_unknown_address(toy):
    problem(toy.post("/v1/search", json={"by": "id", "id": "nobody"}), 404, "not-found")
    problem(toy.get("/v1/nothing"), 404, "not-found")
    problem(toy.get("/v1/search"), 405, "method-not-allowed")


def test_words_never_reach_what_reads_files(drawn, catalogue):
    path = str(catalogue.parent / "img" / "0.png")
    answer = drawn.post("/v1/search", json={"by": "text", "text": path, "modality": "image"})
    assert "takes picture, not text" in problem(answer, 422, "invalid")["detail"]
    item = {"modalities": {"image": [path]}}
    problem(drawn.put("/v1/items/x", json=item), 422, "invalid")
    problem(drawn.post("/v1/impute", json={"modality": "text", "item": item}), 422, "invalid")


def _bomb():
    """A picture of 100,000 x 100,000 pixels in a few bytes."""
    content = bytearray(png())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        b"no picture",
        png()[:100],
        png()[:-30],
        png(form="JPEG")[:600],
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        b"GIF89a" + b"\xff" * 200,
        _bomb(),
    ],
    ids=["words", "head", "truncated", "half a JPEG", "PostScript", "SVG", "GIF", "bomb"],
)
def test_hostile_pictures_are_refused(drawn, content):
    assert MOST_PIXELS < 100_000**2
    sent = base64.b64encode(content).decode()
    detail = problem(drawn.post("/v1/search", json={"by": "picture", "picture": sent}), 422, "invalid")["detail"]
    assert "picture" in detail or "pixels" in detail
    item = {"modalities": {"image": [{"picture": sent}]}}
    problem(drawn.put("/v1/items/hostile", json=item), 422, "invalid")
    problem(drawn.get("/v1/items/hostile"), 404, "not-found")


def test_pages_are_the_whole_answer_and_stable_while_items_are_added(toy, items):
    query = {"by": "id", "id": items.ids[0], "k": 200}
    whole = ids(toy.post("/v1/search", json=query))
    answer = toy.post("/v1/search", json={**query, "k": 9})
    pages, n = ids(answer), 0
    while following := answer.json()["next"]:
        if n < 3:
            part = {"features": items["image"].read([n])[0].tolist()}
            added = {"items": [{"id": f"new {n} {i}", "modalities": {"image": [part]}} for i in range(5)]}
            assert toy.post("/v1/items", json=added).status_code == 200
        n += 1
        answer = toy.post("/v1/search", json={"by": "cursor", "cursor": following, "k": 9})
        pages += ids(answer)
    assert n > 3
    assert len(set(pages)) == len(pages)
    assert [one for one in pages if not one.startswith("new")] == whole


def test_a_cursor_keeps_filter_and_target(toy):
    query = {"by": "vector", "vector": "a5f0", "into": "text", "where": "year < 2020", "radius": 12}
    whole = ids(toy.post("/v1/search", json={**query, "k": 100}))
    answer = toy.post("/v1/search", json={**query, "k": 4})
    pages = ids(answer)
    while following := answer.json()["next"]:
        answer = toy.post("/v1/search", json={"by": "cursor", "cursor": following, "k": 4})
        pages += ids(answer)
    assert pages == whole and len(whole) > 4


def test_cursors_that_were_not_made_here_or_are_old(toy, monkeypatch):
    cursor = toy.post("/v1/search", json={"by": "vector", "vector": "a5f0", "k": 2}).json()["next"]
    for wrong in ("x", "AAAA", cursor[:-6], cursor[:40] + "Z" + cursor[41:], cursor + "é"):
        problem(toy.post("/v1/search", json={"by": "cursor", "cursor": wrong}), 400, "cursor-invalid")
    cursors = toy.app.state.service.cursors
    monkeypatch.setattr(cursors, "_clock", lambda: 10**10)
    problem(toy.post("/v1/search", json={"by": "cursor", "cursor": cursor}), 410, "cursor-expired")
