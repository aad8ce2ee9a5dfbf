"""Splits: exact sizes, disjoint, mixed, the same whatever the order of storage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.data import hold_out, incomplete, random_split, toy
from amodal.errors import UsageError


@given(st.integers(2, 80), st.floats(0.01, 0.99), st.integers(0, 5), st.booleans())
@settings(max_examples=50, deadline=None)
def test_held_out_items_are_disjoint_and_as_many_as_asked(n, share, seed, stratify):
    data = toy(n)
    train, held = hold_out(data, share, seed=seed, stratify=stratify)
    assert sorted([*train.ids, *held.ids]) == sorted(data.ids)
    assert abs(len(held) - min(max(share * n, 1), n - 1)) <= 0.51


def test_held_out_items_do_not_depend_on_the_order_of_storage():
    data = incomplete(toy(90, multi_label=True), "hard")
    order = np.random.default_rng(0).permutation(90)
    for stratify in (True, False):
        one = hold_out(data, 0.2, seed=3, stratify=stratify)[1].ids
        two = hold_out(data.take(order), 0.2, seed=3, stratify=stratify)[1].ids
        assert set(one) == set(two)
        assert set(one) != set(hold_out(data, 0.2, seed=4, stratify=stratify)[1].ids)


def test_held_out_items_have_the_mix_of_the_rest():
    data = incomplete(toy(1_000, classes=5), "hard")
    _, held = hold_out(data, 0.1)
    assert held.presence().all(axis=1).sum() == 10
    np.testing.assert_allclose(held.labels.dense().mean(axis=0), data.labels.dense().mean(axis=0), atol=0.02)


@pytest.mark.parametrize("share", [0, 1, -1])
def test_shares_outside_are_refused(share):
    with pytest.raises(UsageError, match="cannot hold out"):
        hold_out(toy(10), share)


def test_random_split_has_exact_sizes_and_even_classes():
    data = random_split(toy(1_000, classes=4), {"train": 0.7, "dev": 0.1, "test": 0.2}, seed=1)
    assert [len(data.part(name)) for name in ("train", "dev", "test")] == [700, 100, 200]
    classes = data.labels.dense().argmax(axis=1)
    for k in range(4):
        assert abs((data.split[classes == k] == "test").mean() - 0.2) < 0.02


def test_random_split_does_not_depend_on_the_order_of_storage():
    data, order = toy(100), np.random.default_rng(0).permutation(100)
    np.testing.assert_array_equal(random_split(data).split[order], random_split(data.take(order)).split)


def test_shares_of_splits_must_sum_to_one():
    with pytest.raises(UsageError, match=r"sum to 0\.9"):
        random_split(toy(10), {"train": 0.7, "test": 0.2})
