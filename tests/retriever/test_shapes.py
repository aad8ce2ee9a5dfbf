"""The five lines of the README on drawn pictures and words: searched by everything, in every direction."""

import numpy as np
import pytest
from PIL import Image

import amodal
from amodal.errors import DataError, IndexMismatch, MissingModality, UsageError
from tests.retriever.catalogue import TINY, draw, write_catalogue


@pytest.fixture(scope="module")
def opened(shapes):
    shop = amodal.Retriever.load(shapes, readonly=True)
    yield shop
    shop.close()


def test_all_that_was_observed_is_indexed(opened, catalogue):
    items = amodal.read(catalogue)
    assert len(opened) == len(items["image"]) + len(items["text"]) == 48
    assert {name: encoder.name for name, encoder in opened.encoders_.items()} == {
        "image": "efficientnet-lite0",
        "text": "minilm",
    }


@pytest.mark.parametrize("into", ["image", "text", None])
def test_a_picture_is_the_same_query_as_path_bytes_and_object(opened, catalogue, into):
    path = catalogue.parent / "img" / "3.png"
    answers = [
        opened.search(image=content, into=into, k=5)
        for content in (str(path), path, path.read_bytes(), Image.open(path))
    ]
    assert len(answers[0]) == 5
    assert all(answer == answers[0] for answer in answers)
    if into is not None:
        assert {match.modality for match in answers[0]} == {into}
    if into != "text":
        assert answers[0][0].distance == 0


@pytest.mark.parametrize("into", ["image", "text"])
def test_words_find_what_they_name(opened, into):
    found = opened.search(text="a red circle of size 1", into=into, k=6)
    assert [match.labels for match in found].count(("circle",)) >= 4
    content = found[0].content
    assert content.startswith("a ") if into == "text" else content.endswith(".png")


def test_features_and_codes_are_queries_too(opened):
    words = "a blue square of size 2"
    expected = opened.search(text=words)
    features = opened.encoders_["text"].encode([words])[0]
    assert opened.search(text=features) == expected
    assert opened.search(vector=opened.encode(words, "text")) == expected


def test_an_item_is_a_query_by_all_that_it_has(opened):
    found = opened.search(id="p3", k=40)
    assert "p3" not in [match.item for match in found]
    assert len(found) == 31
    parts = [opened.search(id=None, k=40, **{name: content}) for name, content in _content_of(opened, "p3").items()]
    nearest = {}
    for match in (match for part in parts for match in part):
        nearest[match.item] = min(match.distance, nearest.get(match.item, np.inf))
    assert {match.item: match.distance for match in found} == {k: v for k, v in nearest.items() if k != "p3"}


def _content_of(shop, item):
    found = shop.index_.get(shop.index_.ids(f'item == "{item}"'))
    return {entry.attributes["modality"]: entry.attributes["content"] for entry in found}


def test_years_from_csv_can_be_missing(opened):
    late = opened.search(text="a circle", where="year >= 2000", k=40)
    assert {match.item for match in late} == {f"p{n}" for n in range(20, 32) if n % 5}
    unknown = opened.search(text="a circle", where={"year": None}, k=40)
    assert {match.item for match in unknown} == {f"p{n}" for n in range(0, 32, 5)}
    assert unknown[0].attributes["year"] is None


def test_new_items_of_one_modality_are_found_from_the_other(shapes, tmp_path):
    shop = amodal.Retriever.load(shapes, readonly=True)
    copy = amodal.Retriever.load(shop.save(tmp_path / "copy.amodal"))
    draw("red", "circle").save(tmp_path / "new.png")
    (tmp_path / "new.csv").write_text("id,image,text\nnew,new.png,\n")
    assert copy.add(amodal.read(tmp_path / "new.csv")) == 1  # the empty column of words is no obstacle
    assert copy.search(image=str(tmp_path / "new.png"), k=1)[0].item == "new"
    assert "new" in [match.item for match in copy.search(text="a red circle of size 0", into="image", k=12)]


def test_an_unreadable_picture_stops_everything_or_is_listed(tmp_path):
    path = write_catalogue(tmp_path / "data")
    (tmp_path / "data" / "img" / "4.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    items = amodal.read(path)
    shop = amodal.Retriever("dch", bits=16, **TINY)
    with pytest.raises(DataError, match=r'"image", item "p4".*4\.png.*skip-bad'):
        shop.fit(items)
    assert len(shop) == 0
    shop.fit(items, skip_bad=True)
    assert len(shop) == 47
    assert len(shop.left_out) == 1 and "4.png" in shop.left_out[0]
    with pytest.raises(DataError, match=r"4\.png"):
        shop.upsert(items)
    assert len(shop) == 47
    assert shop.upsert(items, skip_bad=True) == 47


def test_another_encoder_than_the_one_learned_with_is_refused(shapes, monkeypatch):
    from amodal.encoders.minilm import MiniLM

    monkeypatch.setattr(MiniLM, "fingerprint", "another")
    with pytest.raises(IndexMismatch, match=r'modality "text" was encoded by minilm .* another'):
        amodal.Retriever.load(shapes)


def test_queries_that_cannot_be(opened, tmp_path):
    with pytest.raises(MissingModality, match=r'unknown modality "txt"\. Did you mean "text".*never learned'):
        opened.search(txt="a circle")
    with pytest.raises(MissingModality, match="never learned"):
        opened.search(text="a circle", into="sound")
    with pytest.raises(DataError, match=r"none\.png"):
        opened.search(image=str(tmp_path / "none.png"))
    with pytest.raises(UsageError, match=r"exactly one .*got nothing"):
        opened.search()
    with pytest.raises(UsageError, match=r"exactly one .*got id, text"):
        opened.search(id="p1", text="a circle")
