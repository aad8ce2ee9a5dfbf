"""Incompleteness: exact shares, nested settings, nothing ever left empty, no dependence on storage order."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.data import Mask, incomplete, toy
from amodal.data.settings import resolve
from amodal.errors import DataError, UsageError

TWO = ("image", "text")
SIZES = st.integers(2, 60)
SEEDS = st.integers(0, 5)
MECHANISM = st.sampled_from(["random", "class", "observed", "content"])


def counts(data, *args, **kwargs):
    return Mask.draw(data, *args, **kwargs).counts()


@pytest.mark.parametrize(
    ("setting", "paired", "image", "text"),
    [
        ("easy", 9_007, 4_504, 4_504),
        ("medium", 5_404, 6_305, 6_306),
        ("hard", 1_801, 8_107, 8_107),
        ("one-sided-text-missing-30", 5_404, 12_611, 0),
        ("one-sided-image-missing-10", 1_801, 0, 16_214),
        ("pdr-0.4", 10_809, 3_603, 3_603),
        ("complete", 18_015, 0, 0),
    ],
)
def test_published_counts(setting, paired, image, text):
    wanted = resolve(setting, TWO)
    numbers = dict(zip(wanted.partial, wanted.counts(18_015), strict=True))
    assert numbers.get(("image",), 0) == image
    assert numbers.get(("text",), 0) == text
    assert 18_015 - sum(numbers.values()) == paired


def test_the_counts_are_those_of_the_data():
    assert counts(toy(1_000), "hard") == {"image+text": 100, "image": 450, "text": 450}


def test_free_rates_equal_the_setting_of_the_same_shares():
    data = toy(500)
    rates = incomplete(data, rates={"image": 0.45, "text": 0.45}, seed=3)
    np.testing.assert_array_equal(rates.presence(), incomplete(data, "hard", seed=3).presence())


def test_arbitrary_shares():
    shares = {"image+text": 0.4, "image": 0.5, "text": 0.1}
    assert counts(toy(1_001), presence=shares) == {"image+text": 400, "image": 501, "text": 100}


def test_three_modalities_keep_one_each():
    data = toy(1_000, {"a": 3, "b": 3, "c": 3})
    assert counts(data, "hard") == {"a+b+c": 100, "a": 300, "b": 300, "c": 300}
    assert counts(data, "one-sided-b-missing-50") == {"a+b+c": 500, "a+c": 500}


@given(st.lists(st.integers(0, 20), min_size=2, max_size=4), st.integers(20, 60))
@settings(max_examples=60, deadline=None)
def test_rates_are_met_and_overlap_as_little_as_possible(twentieths, n):
    rates = {f"m{k}": value / 20 for k, value in enumerate(twentieths)}
    if sum(twentieths) > 20 * (len(rates) - 1):
        with pytest.raises(UsageError, match="lose everything"):
            resolve(None, tuple(rates), rates=rates)
        return
    wanted = resolve(None, tuple(rates), rates=rates)
    losses = {name: sum(share for kept, share in wanted.partial.items() if name not in kept) for name in rates}
    assert all(abs(float(losses[name]) - rate) < 1e-12 for name, rate in rates.items())
    lost = [len(rates) - len(kept) for kept in wanted.partial] + [0] * (wanted.complete > 0)
    assert max(lost) - min(lost) <= 1
    data = toy(n, dict.fromkeys(rates, 2))
    absent = 1 - incomplete(data, rates=rates).presence().mean(axis=0)
    assert all(abs(absent[k] - rate) * n < len(wanted.partial) + 1 for k, rate in enumerate(rates.values()))


@given(SIZES, SEEDS, MECHANISM, st.booleans())
@settings(max_examples=40, deadline=None)
def test_milder_settings_keep_all_that_harsher_ones_keep(n, seed, mechanism, stratified):
    data = toy(n, seed=1)
    options = {"seed": seed, "mechanism": mechanism, "stratify": "label" if stratified else None}
    kept = [incomplete(data, name, **options).presence() for name in ("hard", "pdr-0.8", "medium", "easy", "complete")]
    for harsher, milder in itertools.pairwise(kept):
        assert (harsher <= milder).all()


@given(SIZES, SEEDS, MECHANISM, st.sampled_from(["easy", "hard", "pdr-1", "one-sided-text-missing-0"]))
@settings(max_examples=40, deadline=None)
def test_shares_hold_exactly_and_no_item_is_emptied(n, seed, mechanism, setting):
    data = toy(n)
    presence = incomplete(data, setting, seed=seed, mechanism=mechanism).presence()
    assert presence.any(axis=1).all()
    wanted = resolve(setting, TWO)
    for pattern, number in zip(wanted.partial, wanted.counts(n), strict=True):
        assert (presence == [name in pattern for name in TWO]).all(axis=1).sum() == number


@given(SEEDS, MECHANISM, st.booleans())
@settings(max_examples=20, deadline=None)
def test_the_order_of_storage_does_not_matter(seed, mechanism, stratified):
    data = toy(40, multi_label=True)
    order = np.random.default_rng(seed).permutation(40)
    options = {"seed": seed, "mechanism": mechanism, "stratify": "label" if stratified else None}
    there = incomplete(data, "medium", **options).presence()[order]
    np.testing.assert_array_equal(incomplete(data.take(order), "medium", **options).presence(), there)


def test_seeds_repeat_and_differ():
    data = toy(100)
    first = incomplete(data, "hard", seed=1).presence()
    np.testing.assert_array_equal(first, incomplete(data, "hard", seed=1).presence())
    assert (first != incomplete(data, "hard", seed=2).presence()).any()


def test_only_the_named_split_loses_anything():
    data = toy(100, test=0.3)
    gaps = incomplete(data, "hard", split="train")
    assert gaps.part("test").presence().all()
    assert Mask.draw(data.part("train"), "hard").counts() == Mask.draw(gaps.part("train"), "complete").counts()


def test_items_that_already_lack_something_are_left_alone():
    data = toy(100)
    holes = np.ones((100, 2), dtype=bool)
    holes[:30, 0] = False
    partial = data.keep(holes)
    presence = incomplete(partial, "hard").presence()
    np.testing.assert_array_equal(presence[:30], holes[:30])
    assert (presence[30:].sum(axis=1) == 2).sum() == 7
    assert presence.any(axis=1).all()


def test_all_observations_of_a_lost_modality_go():
    gaps = incomplete(toy(100, captions=5), "hard")
    per_item = np.bincount(gaps["text"].item, minlength=100)
    assert set(per_item.tolist()) == {0, 5}


def test_stratified_shares_are_even_over_classes():
    data = toy(1_000, classes=5)
    classes = data.labels.dense().argmax(axis=1)

    def spread(stratify):
        paired = incomplete(data, "medium", stratify=stratify).presence().all(axis=1)
        return np.ptp([paired[classes == k].mean() for k in range(5)])

    assert spread("label") < 0.025
    assert spread("label") < spread(None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"setting": "hrd"}, 'Did you mean "hard"'),
        ({"setting": "one-sided-txt-missing-50"}, 'Did you mean "text"'),
        ({"setting": "one-sided-text-missing-150"}, "outside 0 to 1"),
        ({"setting": "pdr-1.5"}, "outside 0 to 1"),
        ({}, "exactly one way"),
        ({"setting": "hard", "rates": {"text": 0.1}}, "exactly one way"),
        ({"rates": {"image": 0.6, "text": 0.6}}, "sum to 1.2"),
        ({"rates": {"image": 1.2}}, "between 0 and 1"),
        ({"rates": {"imag": 0.2}}, 'Did you mean "image"'),
        ({"presence": {"image+text": 0.4, "image": 0.5}}, "sum to 0.9"),
        ({"presence": {"image+words": 1.0}}, 'unknown modality "words"'),
        ({"setting": "hard", "mechanism": "contents"}, 'Did you mean "content"'),
        ({"setting": "hard", "stratify": "class"}, 'it is "label" or None'),
        ({"setting": "hard", "split": "train"}, 'unknown split "train"'),
    ],
)
def test_nonsense_is_refused_with_a_sentence(arguments, message):
    with pytest.raises(UsageError, match=message):
        incomplete(toy(10), **arguments)


def test_data_without_any_complete_item_are_refused():
    data = toy(4)
    with pytest.raises(DataError, match="no item has all of image, text"):
        incomplete(data.keep(np.array([[True, False]] * 4)), "hard")


def test_one_modality_cannot_be_made_incomplete():
    with pytest.raises(UsageError, match="at least two modalities"):
        incomplete(toy(10, {"image": 3}), "hard")
