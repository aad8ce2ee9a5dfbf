"""Batches: a pure function of data, size, seed and epoch, that shows every item once and every observation in time."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.data import Dataset, Labels, Observations, incomplete, toy
from amodal.training import Batches


@st.composite
def any_data(draw):
    """Two or three modalities in which each item has 0 to 3 observations; features say which row they are."""
    n = draw(st.integers(1, 12))
    tables = {}
    for name in ("a", "b", "c")[: draw(st.integers(2, 3))]:
        counts = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
        item = np.repeat(np.arange(n), counts)[draw(st.permutations(range(sum(counts))))]
        features = np.stack([np.arange(len(item)), item], axis=1).astype(np.float32)
        tables[name] = Observations(features, item.astype(np.int64))
    known = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    labels = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))[:, None] == np.arange(1, 4)
    return Dataset(np.array([str(i) for i in range(n)]), tables, Labels.from_multihot(labels & known[:, None], known))


def same(one, two):
    return (
        all(torch.equal(one.x[name], two.x[name]) and torch.equal(one.rows[name], two.rows[name]) for name in one.x)
        and torch.equal(one.labels, two.labels)
        and torch.equal(one.index, two.index)
    )


@given(any_data(), st.integers(1, 15), st.integers(0, 3), st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_an_epoch_shows_every_item_once_with_what_it_has(data, size, seed, epoch):
    batches = Batches(data, size, seed)
    seen = list(batches.epoch(epoch))
    assert len(seen) == len(batches)
    assert sorted(torch.cat([batch.index for batch in seen]).tolist()) == list(range(len(data)))
    for batch in seen:
        index = batch.index.numpy()
        assert len(index) <= size
        np.testing.assert_array_equal(batch.labels.numpy(), data.labels.dense(index))
        np.testing.assert_array_equal(batch.known.numpy(), data.labels.known[index] & (data.labels.per_row[index] > 0))
        for name in data.names:
            items = index[batch.rows[name].numpy()]
            np.testing.assert_array_equal(items, index[data.present(name)[index]])  # who has it, in batch order
            np.testing.assert_array_equal(batch.x[name][:, 1].numpy(), items)  # and it is their own
            row = batch.x[name][:, 0].long().numpy()
            np.testing.assert_array_equal(data[name].item[row], items)


@given(any_data())
@settings(max_examples=80, deadline=None)
def test_pairs_equal_the_loop(data):
    for batch in Batches(data, 5, 0).epoch(0):
        for a in data.names:
            for b in data.names:
                wanted = [
                    (i, j)
                    for i, row in enumerate(batch.rows[a].tolist())
                    for j, other in enumerate(batch.rows[b].tolist())
                    if row == other
                ]
                assert list(zip(*(side.tolist() for side in batch.pairs(a, b)), strict=True)) == wanted


def test_same_arguments_same_batches_and_others_differ():
    data = incomplete(toy(60, captions=3), "medium")

    def batches(seed, epoch):
        return list(Batches(data, 16, seed).epoch(epoch))

    assert all(same(*pair) for pair in zip(batches(1, 2), batches(1, 2), strict=True))
    for other in (batches(1, 3), batches(2, 2)):
        assert not all(same(*pair) for pair in zip(batches(1, 2), other, strict=True))


def test_batches_do_not_touch_global_random_state():
    before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    list(Batches(toy(30), 8, 0).epoch(0))
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before  # noqa: NPY002


def test_every_caption_is_drawn_about_equally_often():
    data = toy(20, captions=4)
    stamped = Observations(np.arange(80, dtype=np.float32)[:, None], data["text"].item)
    data = Dataset(data.ids, {"image": data["image"], "text": stamped}, data.labels)
    epochs = 200
    drawn = Counter(
        int(x) for epoch in range(epochs) for batch in Batches(data, 7, 0).epoch(epoch) for x in batch.x["text"]
    )
    assert sum(drawn.values()) == 20 * epochs
    assert sorted(drawn) == list(range(80))
    assert min(drawn.values()) > 0.4 * epochs / 4
    assert max(drawn.values()) < 1.8 * epochs / 4


def test_several_observations_meet_in_every_combination():
    numbers = Observations(np.arange(3, dtype=np.float32)[:, None], np.zeros(3, np.int64))
    data = Dataset(np.array(["x"]), {"a": numbers, "b": numbers})
    batches = Batches(data, 1, 0)
    met = {(int(batch.x["a"]), int(batch.x["b"])) for epoch in range(100) for batch in batches.epoch(epoch)}
    assert len(met) == 9


def test_gather_takes_the_first_observation_unless_told():
    data = toy(6, captions=3)
    batch = Batches(data, 6, 0).gather(np.array([4, 1]))
    np.testing.assert_array_equal(batch.x["text"].numpy(), data["text"].read([12, 3]))
    last = Batches(data, 6, 0).gather(np.array([4, 1]), np.array([[0.5, 0.999], [0.5, 0.5]]))
    np.testing.assert_array_equal(last.x["text"].numpy(), data["text"].read([14, 4]))


@pytest.mark.parametrize(("n", "size"), [(60, 8), (61, 8), (5, 8), (8, 8), (16, 8), (17, 8)])
def test_processes_take_equally_many_and_different_batches(n, size):
    data, world = toy(n), 2
    shares = [list(Batches(data, size, 0, rank=rank, world=world).epoch(3)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    assert all(len(batch.index) for share in shares for batch in share)
    if n >= world * size:
        index = torch.cat([batch.index for share in shares for batch in share]).tolist()
        assert len(index) == len(set(index))
        assert len(index) > n - world * size
    alone = list(Batches(data, size, 0).epoch(3))
    assert same(shares[0][0], alone[0])


def test_data_without_labels_have_labels_of_no_width():
    data = Dataset(np.array(["x", "y"]), {name: toy(2)[name] for name in ("image", "text")})
    (batch,) = Batches(data, 4, 0).epoch(0)
    assert batch.labels.shape == (2, 0)
    assert batch.known.tolist() == [False, False]
