"""Searching items of which each may have several entries, over columns with gaps; against loops over all of them."""

from itertools import product

import numpy as np
import pytest

import amodal
from amodal.codes import BinaryCodes, Embeddings
from amodal.data import toy
from amodal.entries import OWN, nearest_items
from amodal.errors import DataError, MissingModality, ShapeError, UsageError
from amodal.index import IndexSpec
from tests.retriever.catalogue import TINY, renamed, short


def distances(shop, items, codes, into):
    """Distance of each item to the nearest of some codes, by loops over all observations."""
    best = {}
    for name in [into] if into else items.names:
        table = items[name]
        stored = shop.method.encode_table(table, name)
        for row, owner in enumerate(table.item):
            code = stored[row : row + 1]
            for query in (codes[k : k + 1] for k in range(len(codes))):
                away = _between(query, code)
                item = str(items.ids[owner])
                best[item] = min(away, best.get(item, np.inf))
    return best


def _between(a, b):
    if isinstance(a, BinaryCodes):
        return sum(int(x ^ y).bit_count() for x, y in zip(a.packed[0].tolist(), b.packed[0].tolist(), strict=True))
    return 1 - float(a.vectors[0].astype(float) @ b.vectors[0].astype(float))


@pytest.fixture(scope="module", params=["dch", "label_regression"])
def any_shop(request):
    """Codes and embeddings, one-to-many: items have three captions."""
    items = amodal.incomplete(toy(40, captions=3), "easy")
    params = {"bits": 16, **TINY} if request.param == "dch" else {"C": 1.0}
    return amodal.Retriever(request.param, **params).fit(items), items


@pytest.mark.parametrize(("asked", "into"), list(product(["image", "text"], ["image", "text", None])))
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_answers_equal_a_loop_over_all(any_shop, asked, into, k):
    shop, items = any_shop
    query = items[asked].read([2])
    expected = distances(shop, items, shop.method.encode(query, asked), into)
    found = shop.search(**{asked: query[0]}, into=into, k=k)
    assert len({match.item for match in found}) == len(found) == min(k, len(expected))
    for match in found:
        assert match.distance == pytest.approx(expected[match.item], abs=1e-6)
        assert into in (None, match.modality)
    np.testing.assert_allclose([m.distance for m in found], sorted(expected.values())[:k], atol=1e-6)


def test_more_answers_begin_with_the_fewer(any_shop):
    shop, items = any_shop
    many = shop.search(id=items.ids[0], k=40)
    assert [match.item for match in many].count(items.ids[0]) == 0
    assert len(many) == 39
    for k in (1, 2, 5, 20):
        assert shop.search(id=items.ids[0], k=k) == many[:k]


def test_an_item_behind_many_captions_of_another_is_not_lost():
    """Two codes ask; one sees nothing but captions of one item, among which the next nearest must not be forgotten."""
    spec = IndexSpec("binary", bits=16, attributes=OWN)
    near, next_nearest, other = 0b1, 0b11, 0b1111111111100000
    with amodal.index.open("memory:", create=spec) as index:
        packed = [near] * 30 + [next_nearest] + [other] * 12
        ids = ["captioned"] * 30 + ["next"] + [f"other {k}" for k in range(12)]
        codes = BinaryCodes(np.array(packed, dtype=">u2").view(np.uint8).reshape(-1, 2), 16)
        index.add(range(43), codes, {"item": ids, "modality": "text", "number": 0})
        asked = BinaryCodes(np.array([[0, 0], [255, 255]], dtype=np.uint8), 16)
        found = nearest_items(index, asked, 3, where=None, radius=None, without=None)
        assert [(m.item, m.distance) for m in found] == [("captioned", 1), ("next", 2), ("other 0", 5)]
        found = nearest_items(index, asked, 1, where=None, radius=None, without="captioned")
        assert [m.item for m in found] == ["next"]


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ("year >= 2000 and year < 2010", lambda k: 10 <= k < 20),
        ("price > 20", lambda k: k % 3 != 0 and k / 2 > 20),
        ("price == None", lambda k: k % 3 == 0),
        ("not price > 20", lambda k: k % 3 == 0 or k / 2 <= 20),
        ('colour in ["colour 1", "colour 3"]', lambda k: k % 4 in (1, 3)),
        ("colour == None", lambda k: k % 4 == 0),
        ("sold == True", lambda k: k % 5 != 0 and k % 2 == 1),
        ({"sold": False, "year": {">": 2000}}, lambda k: k % 5 != 0 and k % 2 == 0 and k > 10),
    ],
)
def test_filters_on_columns_of_every_type(shop, items, where, holds):
    expected = {str(items.ids[k]) for k in range(60) if holds(k)}
    assert {match.item for match in shop.search(vector=one_code(), where=where, k=60)} == expected
    for match in shop.search(vector=one_code(), where=where, into="text", k=60):
        assert match.item in expected
        assert match.modality == "text"


def one_code():
    return BinaryCodes(np.array([[85, 85]], dtype=np.uint8), 16)


def test_matches_carry_columns_in_their_types(shop, items):
    found = {match.item: match for match in shop.search(vector=one_code(), k=60)}
    ids = items.ids.tolist()
    assert found[ids[1]].attributes == {"year": 1991, "price": 0.5, "colour": "colour 1", "sold": True}
    assert found[ids[0]].attributes == {"year": 1990, "price": None, "colour": None, "sold": None}
    assert found[ids[0]].labels == (items.labels.names[int(items.labels.dense()[0].argmax())],)
    assert found[ids[0]].content is None


def test_radius_is_inclusive(shop):
    everything = shop.search(vector=one_code(), k=60)
    reach = everything[20].distance
    assert shop.search(vector=one_code(), radius=reach, k=60) == [m for m in everything if m.distance <= reach]
    assert shop.search(vector=one_code(), radius=reach, k=3) == everything[:3]


def test_class_names_may_hold_any_sign():
    from dataclasses import replace

    from amodal.data import Labels

    data = toy(30, classes=2)
    names = ("rock|pop", "a;b, c")
    shop = amodal.Retriever("label_regression", C=1.0).fit(
        replace(data, labels=Labels(data.labels.matrix, data.labels.known, names))
    )
    assert {match.labels for match in shop.search(id=data.ids[0], k=30)} == {(name,) for name in names}


@pytest.mark.parametrize(
    ("query", "error", "sentence"),
    [
        ({"id": "nobody"}, DataError, 'no item "nobody" is indexed'),
        ({"vector": BinaryCodes(np.zeros((1, 4), np.uint8), 32)}, ShapeError, "16 bits; got 32"),
        ({"vector": Embeddings(np.ones((1, 1), np.float32))}, ShapeError, "Embeddings"),
        ({"image": np.ones(15)}, ShapeError, "width 16"),
        ({"image": np.full(16, np.nan)}, DataError, "NaN"),
        ({"image": "shoe.jpg"}, UsageError, "bare features"),
        ({"sound": np.ones(16)}, MissingModality, "never learned"),
        ({"id": "item 01", "k": 0}, UsageError, "at least 1; got 0"),
        ({"id": "item 01", "k": -3}, UsageError, "at least 1; got -3"),
        ({"id": "item 01", "k": "3"}, UsageError, "at least 1; got '3'"),
        ({"id": "item 01", "radius": -1}, UsageError, "radius"),
        ({"id": "item 01", "where": "yaer > 3"}, UsageError, 'Did you mean "year"'),
        ({"id": "item 01", "where": "year > 'x'"}, UsageError, "type int"),
        ({"id": "item 01", "where": "year >"}, UsageError, "cannot read the filter"),
        ({"id": "item 01", "into": "imag"}, MissingModality, 'Did you mean "image"'),
    ],
)
def test_queries_that_cannot_be(shop, query, error, sentence):
    with pytest.raises(error, match=sentence):
        shop.search(**query)


def test_nothing_can_be_asked_before_fit():
    empty = amodal.Retriever("cich")
    assert len(empty) == 0
    for act in (lambda: empty.search(text="x"), lambda: empty.add(toy(3)), lambda: empty.delete(["x"])):
        with pytest.raises(amodal.errors.MethodError, match="Call fit"):
            act()


def test_arguments_that_do_not_exist_name_the_nearest():
    with pytest.raises(UsageError, match='Did you mean "cich"'):
        amodal.Retriever("cihc")
    with pytest.raises(UsageError, match='Did you mean "anchors"'):
        amodal.Retriever("dch", anchor=3)
    with pytest.raises(UsageError, match="bits: arguments belong to a method given by name"):
        amodal.Retriever(amodal.methods.get("cich")(), bits=32)


def test_what_items_lack_can_be_imagined(items):
    shop = amodal.Retriever("cich", bits=16, **short()).fit(items)
    imagined = shop.impute(items, "text")
    lacking = ~items.present("text") & items.present("image")
    assert sorted(imagined.items.tolist()) == np.flatnonzero(lacking).tolist()
    assert imagined.values.shape == (len(imagined), 12)
    with pytest.raises(MissingModality):
        shop.impute(items, "sound")
    other = amodal.Retriever("label_regression", C=1.0).fit(items)
    with pytest.raises(amodal.errors.MethodError, match=r"label_regression cannot imagine.*cich"):
        other.impute(items, "text")


@pytest.mark.parametrize("into", [None, "text"])
def test_pages_are_the_whole_answer(mine, items, into):
    whole = mine.search(id=items.ids[0], k=200, into=into)
    pages, after = [], None
    while page := mine.search(id=items.ids[0], k=7, into=into, after=after):
        pages += page
        after = page[-1].place
    assert pages == whole


def test_what_is_added_meanwhile_neither_repeats_nor_pushes_out(mine, items):
    before = [match.item for match in mine.search(id=items.ids[0], k=200)]
    pages, after = [], None
    while page := mine.search(id=items.ids[0], k=7, after=after):
        pages += [match.item for match in page]
        after = page[-1].place
        if len(pages) < 20:
            mine.upsert(renamed(items.take(np.arange(10)), f"{len(pages)} "))
    assert len(set(pages)) == len(pages)
    assert [one for one in pages if one in set(before)] == before
