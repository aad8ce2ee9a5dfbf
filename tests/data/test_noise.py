"""Wrong labels: exactly as many as asked, nobody else touched, and two people have the same ones."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.data import WrongLabels, toy
from amodal.errors import DataError, UsageError

DATA = toy(80, test=0.25)


def changed(data, noisy):
    return np.asarray((data.labels.matrix != noisy.labels.matrix).sum(axis=1)).ravel() > 0


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 60),
    percent=st.integers(0, 100),
    classes=st.integers(2, 6),
    multi=st.booleans(),
    seed=st.integers(0, 99),
)
def test_exactly_the_share_of_able_items_is_wrong_and_keeps_its_number_of_classes(n, percent, classes, multi, seed):
    data = toy(n, classes=classes, multi_label=multi, unlabelled=0.2, seed=seed)
    noisy = WrongLabels.draw(data, percent / 100, seed=seed).apply(data)
    able = data.labels.known & (data.labels.per_row > 0) & (data.labels.per_row < classes)
    assert changed(data, noisy).sum() == math.floor(percent * int(able.sum()) / 100)
    assert not changed(data, noisy)[~able].any()
    np.testing.assert_array_equal(noisy.labels.per_row, data.labels.per_row)
    np.testing.assert_array_equal(noisy.labels.known, data.labels.known)


def test_a_wrong_label_shares_nothing_with_the_true_one_where_it_can():
    data = toy(200, classes=8, multi_label=True)
    noisy = WrongLabels.draw(data, 1.0).apply(data)
    few = data.labels.per_row <= 4
    assert not (data.labels.dense() * noisy.labels.dense())[few].any()


def test_other_classes_are_equally_likely():
    data = toy(3000, classes=4)
    noisy = WrongLabels.draw(data, 1.0).apply(data)
    counts = data.labels.dense().T @ noisy.labels.dense()
    expected = counts.sum(axis=1, keepdims=True) / 3 * (1 - np.eye(4))
    assert (np.abs(counts - expected) <= 4 * np.sqrt(expected)).all()


def test_test_rows_are_not_touched_when_only_training_is_asked():
    noisy = WrongLabels.draw(DATA, 0.5, split="train").apply(DATA)
    assert changed(DATA, noisy)[DATA.split == "test"].sum() == 0
    assert changed(DATA, noisy).sum() == 30


def test_the_order_of_the_items_does_not_matter_and_rates_are_nested():
    order = np.random.default_rng(0).permutation(len(DATA))
    noise = WrongLabels.draw(DATA, 0.4, seed=3)
    assert WrongLabels.draw(DATA.take(order), 0.4, seed=3).classes == noise.classes
    np.testing.assert_array_equal(noise.apply(DATA.take(order)).labels.dense(), noise.apply(DATA).labels.dense(order))
    less = WrongLabels.draw(DATA, 0.2, seed=3)
    assert (
        dict(zip(less.ids, less.classes, strict=True)).items()
        <= dict(zip(noise.ids, noise.classes, strict=True)).items()
    )
    assert WrongLabels.draw(DATA, 0.4, seed=4).sha256 != noise.sha256


def test_a_loaded_file_does_the_same_and_a_changed_one_is_refused(tmp_path):
    noise, path = WrongLabels.draw(DATA, 0.3, seed=1, split="train"), tmp_path / "noise.json"
    noise.save(path)
    loaded = WrongLabels.load(path)
    assert loaded.sha256 == noise.sha256
    np.testing.assert_array_equal(loaded.apply(DATA).labels.dense(), noise.apply(DATA).labels.dense())
    content = json.loads(path.read_text())
    content["rate"] = 0.2
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="hash does not fit"):
        WrongLabels.load(path)
    path.write_text("{}")
    with pytest.raises(DataError, match=r"is not a file of wrong labels; those begin with"):
        WrongLabels.load(path)


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match=r"rate of wrong labels is 1\.5; it must be between 0 and 1"):
        WrongLabels.draw(DATA, 1.5)
    with pytest.raises(UsageError, match='unknown split "tran"'):
        WrongLabels.draw(DATA, 0.5, split="tran")
    with pytest.raises(DataError, match="has no labels that could be wrong"):
        WrongLabels.draw(type(DATA)(DATA.ids, DATA.modalities), 0.5)
    noise = WrongLabels.draw(DATA, 1.0)
    with pytest.raises(DataError, match=r"drawn for other data: toy lacks 20 of their items"):
        noise.apply(DATA.part("train"))
    with pytest.raises(DataError, match="unknown class"):
        noise.apply(DATA.with_classes(DATA.labels.names[:2]))
