"""Partially aligned data: nothing is lost but the knowledge of what belongs together."""

import numpy as np
import pytest

from amodal.data import incomplete, toy, unalign
from amodal.errors import UsageError


def test_every_observation_survives_and_the_truth_says_whose_it_was():
    data = toy(50, captions=3)
    apart, origin = unalign(data, 0.3, seed=2)
    assert len(apart) == 15 + 2 * 35
    row = {key: k for k, key in enumerate(data.ids.tolist())}
    for name in data.names:
        whose = [row[key] for key in origin[apart[name].item].tolist()]
        order = np.argsort(whose, kind="stable")
        np.testing.assert_array_equal(apart[name].read()[order], data[name].read())


def test_the_aligned_share_keeps_ids_and_labels_and_the_rest_loses_them():
    data = toy(50, test=0.2)
    apart, origin = unalign(data, 0.3, seed=2)
    together = apart.presence().all(axis=1)
    assert together.sum() == 15
    np.testing.assert_array_equal(apart.ids[together], origin[together])
    np.testing.assert_array_equal(apart.labels.known, together)
    assert apart.labels.per_row[~together].sum() == 0
    assert not np.isin(apart.ids[~together], data.ids).any()
    np.testing.assert_array_equal(apart.split, data.split[[data.ids.tolist().index(key) for key in origin]])


def test_the_sides_are_shuffled_against_each_other():
    apart, origin = unalign(toy(400), 0.0)
    images, texts = origin[apart.present("image")], origin[apart.present("text")]
    assert sorted(images) == sorted(texts)
    assert (images == texts).mean() < 0.02


def test_only_the_named_split_is_taken_apart():
    data = toy(50, test=0.2)
    apart, _ = unalign(data, 0.5, split="train")
    assert apart.part("test").presence().all()
    assert apart.part("train").presence().all(axis=1).sum() == 20


def test_the_order_of_the_items_does_not_matter_and_shares_are_nested():
    data, order = toy(60), np.random.default_rng(0).permutation(60)
    (one, truth), (other, again) = unalign(data, 0.3, seed=4), unalign(data.take(order), 0.3, seed=4)
    assert sorted(one.ids) == sorted(other.ids)
    assert dict(zip(one.ids, truth, strict=True)) == dict(zip(other.ids, again, strict=True))
    more = unalign(data, 0.5, seed=4)[0]
    assert set(one.ids[one.labels.known]) < set(more.ids[more.labels.known])


def test_gaps_stay_gaps():
    apart, _ = unalign(incomplete(toy(100), "hard"), 0.0)
    assert len(apart) == 110
    assert (apart.presence().sum(axis=1) == 1).all()


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_shares_are_shares(share):
    with pytest.raises(UsageError, match="between 0 and 1"):
        unalign(toy(5), share)
