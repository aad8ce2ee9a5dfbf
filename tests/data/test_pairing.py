"""Wrong pairs: as many as asked, nothing lost, and both noise files of the literature."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.data import WrongPairs, incomplete, toy
from amodal.errors import DataError, UsageError

DATA = toy(60, captions=5, test=0.2)


def truth(data, noisy, modality="text"):
    """For each observation, by its place in the store: the item it has and the item it is given."""
    mine = {row: data.ids[item] for row, item in zip(data[modality].rows, data[modality].item, strict=True)}
    given_to = {row: noisy.ids[item] for row, item in zip(noisy[modality].rows, noisy[modality].item, strict=True)}
    assert mine.keys() == given_to.keys()
    return mine, given_to


def moved(data, noisy):
    mine, given_to = truth(data, noisy)
    return sum(mine[row] != given_to[row] for row in mine)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(8, 40),
    percent=st.sampled_from([0, 20, 40, 60, 80, 100]),
    unit=st.sampled_from(["item", "observation"]),
    captions=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_exactly_the_share_has_a_wrong_partner_and_nothing_is_lost(n, percent, unit, captions, seed):
    data = toy(n, captions=captions, seed=seed)
    units = n if unit == "item" else n * captions
    chosen = math.floor(percent * units / 100)
    try:
        noise = WrongPairs.draw(data, percent / 100, unit=unit, seed=seed)
    except UsageError as error:
        assert "not all of them can be wrong" in str(error)
        assert chosen < 2 * captions
        return
    noisy = noise.apply(data)
    assert moved(data, noisy) == chosen * (captions if unit == "item" else 1) == len(noise.ids)
    assert noise.effective == pytest.approx(chosen / units)
    np.testing.assert_array_equal(np.bincount(noisy["text"].item), np.bincount(data["text"].item))
    np.testing.assert_array_equal(noisy["image"].read(), data["image"].read())
    assert noisy.labels is data.labels
    assert (np.diff(noisy["text"].item) >= 0).all()


def test_all_captions_of_an_item_move_together_or_each_for_itself():
    for unit, homes in (("item", 1), ("observation", 4)):
        _, given_to = truth(DATA, WrongPairs.draw(DATA, 1.0, unit=unit).apply(DATA))
        groups = [len({given_to[5 * k + j] for j in range(5)}) for k in range(60)]
        assert min(groups) >= homes - (unit == "observation") and (max(groups) == 1) == (unit == "item")


def test_a_plain_permutation_leaves_some_right_and_says_how_many():
    data = toy(30)
    rates = [WrongPairs.draw(data, 1.0, derange=False, seed=seed) for seed in range(40)]
    kept = 30 * (1 - np.mean([noise.effective for noise in rates]))
    assert 0.4 < kept < 1.8  # one fixed point on average
    assert rates[0].effective == moved(data, rates[0].apply(data)) / 30


def test_only_the_named_split_and_only_pairs_get_wrong_partners():
    noisy = WrongPairs.draw(DATA, 0.8, split="train").apply(DATA)
    np.testing.assert_array_equal(noisy.part("test")["text"].read(), DATA.part("test")["text"].read())
    gaps = incomplete(toy(100), "hard")
    noise = WrongPairs.draw(gaps, 1.0)
    assert set(noise.ids) == set(noise.targets) == set(gaps.ids[gaps.presence().all(axis=1)])


def test_the_order_of_the_items_does_not_matter(tmp_path):
    order = np.random.default_rng(0).permutation(len(DATA))
    noise = WrongPairs.draw(DATA, 0.4, seed=3, unit="observation")
    assert WrongPairs.draw(DATA.take(order), 0.4, seed=3, unit="observation").targets.tolist() == noise.targets.tolist()
    assert truth(DATA, noise.apply(DATA)) == truth(DATA, noise.apply(DATA.take(order)))
    noise.save(tmp_path / "noise.json")
    loaded = WrongPairs.load(tmp_path / "noise.json")
    assert loaded.sha256 == noise.sha256
    assert truth(DATA, loaded.apply(DATA)) == truth(DATA, noise.apply(DATA))


def by_caption(n, captions, rate):
    """As NCR makes its files: the picture of each caption, shuffled among a share of the captions."""
    index, chosen = np.arange(n * captions) // captions, np.arange(n * captions)
    np.random.RandomState(0).shuffle(chosen)
    chosen = chosen[: int(rate * n * captions)]
    shuffled = index[chosen]
    np.random.RandomState(1).shuffle(shuffled)
    index[chosen] = shuffled
    return index


def by_picture(n, rate):
    """As DECL makes its files: the picture shown in place of each picture."""
    index, chosen = np.arange(n), np.arange(n)
    np.random.RandomState(0).shuffle(chosen)
    chosen = chosen[: int(rate * n)]
    shuffled = chosen.copy()
    np.random.RandomState(1).shuffle(shuffled)
    index[chosen] = shuffled
    return index


@pytest.mark.parametrize(("unit", "index"), [("observation", by_caption(48, 5, 0.4)), ("item", by_picture(48, 0.4))])
def test_both_noise_files_of_the_field_are_imported(tmp_path, unit, index):
    np.save(tmp_path / "index.npy", index)
    noise = WrongPairs.from_index(tmp_path / "index.npy", DATA)
    assert (noise.unit, noise.rate, noise.seed, noise.split) == (unit, None, None, "train")
    train, noisy = DATA.part("train"), noise.apply(DATA).part("train")
    _, given_to = truth(train, noisy)
    for caption, row in enumerate(train["text"].rows.tolist()):
        shown_with = index[caption] if unit == "observation" else index[caption // 5]
        assert given_to[row] == train.ids[shown_with]
    assert noise.effective == pytest.approx(moved(train, noisy) / 240)
    assert 0.3 < noise.effective <= 0.4


def test_with_one_caption_each_the_two_conventions_are_one(tmp_path):
    data = toy(20)
    np.save(tmp_path / "index.npy", index := by_picture(20, 0.5))
    _, given_to = truth(data, WrongPairs.from_index(tmp_path / "index.npy", data, split=None).apply(data))
    assert [given_to[k] for k in range(20)] == data.ids[index].tolist()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (np.arange(60), r"holds 60 numbers, but toy has 48 items with \"text\" in split train and 240 observations"),
        (np.arange(240), r"entry 48: is 48, but there are only items 0 to 47\. .*RDE"),
        (np.arange(48) - 1, r"entry 0: is -1"),
        (np.arange(48.0), "holds float64 of shape"),
        (np.zeros((2, 48), int), "one vector of whole numbers"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, index, message):
    np.save(tmp_path / "index.npy", index)
    with pytest.raises(DataError, match=message):
        WrongPairs.from_index(tmp_path / "index.npy", DATA)


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(UsageError, match="the rate chooses 1 pairs, of which 1 belong to one item"):
        WrongPairs.draw(toy(5), 0.2)
    with pytest.raises(UsageError, match='unknown unit "caption"'):
        WrongPairs.draw(DATA, 0.2, unit="caption")
    noise = WrongPairs.draw(DATA, 1.0)
    with pytest.raises(DataError, match="lacks 12 of their items"):
        noise.apply(DATA.part("train"))
    with pytest.raises(DataError, match=r'has no observation 0 of "text".* before anything is removed'):
        noise.apply(incomplete(DATA, "hard"))
    with pytest.raises(DataError, match="cannot be read as a NumPy file"):
        WrongPairs.from_index(tmp_path / "absent.npy", DATA)
    with pytest.raises(UsageError, match='unknown split "train"'):
        WrongPairs.from_index(tmp_path / "absent.npy", toy(4))
