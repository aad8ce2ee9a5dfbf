"""Adding, replacing and deleting items: what is there afterwards, and that nothing is when something is wrong."""

from dataclasses import replace

import numpy as np
import pytest

import amodal
from amodal.data import Observations, toy
from amodal.errors import AmodalError, DataError, MissingModality, ShapeError, UsageError
from tests.retriever.catalogue import TINY, renamed


def contents(shop):
    """Everything an index holds, comparable."""
    return {e.key: (e.vector.tobytes(), tuple(e.attributes.items())) for e in shop.index_.get(shop.index_.ids())}


def parts_of(shop, item):
    return sorted(e.attributes["modality"] for e in shop.index_.get(shop.index_.ids(f'item == "{item}"')))


def one(items, **modalities):
    """The first item that has everything, with some modalities only."""
    row = np.flatnonzero(items.presence().all(axis=1))[:1]
    return items.take(row).only(**(modalities or {name: name for name in items.names}))


def test_added_items_are_found(mine, items):
    new = renamed(items.take(np.arange(5)), "new ")
    before = len(mine)
    assert mine.add(new) == len(new["image"]) + len(new["text"])
    assert len(mine) == before + len(new["image"]) + len(new["text"])
    twins = {match.item for match in mine.search(id=items.ids[0], radius=0, k=60)}
    assert "new " + items.ids[0] in twins


def test_a_modality_can_be_added_later(mine, items):
    new = renamed(one(items), "new ")
    mine.add(new.only(image="image"))
    assert parts_of(mine, new.ids[0]) == ["image"]
    assert new.ids[0] not in [match.item for match in mine.search(id=items.ids[1], into="text", k=60)]
    mine.add(new.only(text="text"))
    assert parts_of(mine, new.ids[0]) == ["image", "text"]


def test_what_is_there_is_not_added_again(mine, items):
    before = contents(mine)
    new = renamed(items, "new ")
    mixed = replace(new, ids=np.array([*new.ids[:-1], one(items).ids[0]]))  # of many items only the last is known
    with pytest.raises(DataError, match=rf'item "{one(items).ids[0]}" has its \w+ in the index already.*--replace'):
        mine.add(mixed)
    assert contents(mine) == before


def test_upsert_replaces_items_as_a_whole(mine, items):
    known = one(items)
    item = known.ids[0]
    assert mine.upsert(known.only(text="text")) == 1
    assert parts_of(mine, item) == ["text"]
    captions = Observations(np.repeat(known["text"].read(), 3, axis=0), np.zeros(3, np.int64))
    assert mine.upsert(replace(known, modalities={"image": known["image"], "text": captions})) == 4
    assert parts_of(mine, item) == ["image", "text", "text", "text"]
    assert mine.upsert(known) == 2
    assert parts_of(mine, item) == ["image", "text"]
    new = renamed(known, "new ")
    assert mine.upsert(new) == 2
    assert parts_of(mine, new.ids[0]) == ["image", "text"]


def test_upsert_leaves_other_items_alone(mine, items):
    before = contents(mine)
    assert mine.upsert(items) == len(before)
    assert contents(mine) == before


def test_deleted_items_are_gone_and_can_come_back(mine, items):
    before = contents(mine)
    there = one(items)
    item = there.ids[0]
    assert mine.delete([item, item, "nobody"]) == 1
    assert parts_of(mine, item) == []
    assert item not in [match.item for match in mine.search(id=items.ids[-1], k=60)]
    with pytest.raises(DataError, match="is indexed"):
        mine.search(id=item)
    assert mine.delete([item]) == 0
    mine.add(there)
    assert contents(mine) == before
    assert mine.delete(items.ids.tolist()) == int(items.presence().any(axis=1).sum())
    assert len(mine) == 0
    assert mine.search(vector=mine.encode(np.ones(16), "image")) == []


def wider(items):
    return replace(items, modalities={**items.modalities, "text": Observations(np.ones((60, 13)), np.arange(60))})


def with_nan(items):
    features = np.ones((60, 12), np.float32)
    features[41, 3] = np.nan
    return replace(items, modalities={**items.modalities, "text": Observations(features, np.arange(60))})


def with_sound(items):
    return replace(items, modalities={**items.modalities, "sound": Observations(np.ones((60, 2)), np.arange(60))})


def raw(items):
    words = Observations(np.array(["words"] * 60, dtype=object), np.arange(60))
    return replace(items, modalities={**items.modalities, "text": words})


def with_late_text(items):
    years = np.array([*range(59), "later"], dtype=object)
    return replace(items, attributes={**items.attributes, "year": years})


@pytest.mark.parametrize("verb", ["add", "upsert"])
@pytest.mark.parametrize(
    ("spoil", "error", "sentence"),
    [
        (wider, ShapeError, 'modality "text" was learned with features of width 12; these items have width 13'),
        (with_nan, DataError, r'"text": the features of item "new item 41".*NaN.*--skip-bad'),
        (with_sound, MissingModality, 'unknown modality "sound".*never learned'),
        (raw, UsageError, 'modality "text" was learned from bare features'),
        (with_late_text, DataError, 'item "new item 59": "year" is \'later\', but this index holds .*int'),
    ],
)
def test_nothing_is_written_of_items_that_cannot_all_be(mine, items, verb, spoil, error, sentence):
    before = contents(mine)
    with pytest.raises(error, match=sentence):
        getattr(mine, verb)(renamed(spoil(items), "new "))
    assert contents(mine) == before


def test_whole_numbers_beside_gaps_fit_a_column_of_whole_numbers(mine, items):
    years = np.where(np.arange(60) % 2, np.nan, 2000.0)
    mine.add(renamed(replace(items, attributes={"year": years, "unknown": years}), "new "))
    found = {match.item: match.attributes for match in mine.search(id=items.ids[0], where="year == 2000", k=99)}
    assert "new item 00" in found
    assert found["new item 00"] == {"year": 2000, "price": None, "colour": None, "sold": None}
    assert type(found["new item 00"]["year"]) is int


def test_a_refused_fit_leaves_nothing_searchable(items):
    shop = amodal.Retriever("dch", bits=16, **TINY).fit(items)
    with pytest.raises(AmodalError, match="label"):
        shop.fit(replace(toy(20), labels=None))
    assert len(shop) == 0
    shop.fit(toy(20))
    assert len(shop) == 40


def test_only_the_split_train_is_learned_from_and_all_is_indexed():
    data = toy(80, test=0.25)
    shop = amodal.Retriever("dch", bits=16, **TINY).fit(data)
    alone = amodal.Retriever("dch", bits=16, **TINY).fit(data.part("train"))
    assert shop.method.fingerprint() == alone.method.fingerprint()
    assert len(shop) == 160
    assert {match.item for match in shop.search(id=data.ids[0], where='split == "test"', k=80)} == {
        one for one in data.part("test").ids.tolist() if one != data.ids[0]
    }
