"""Planted confounders: exact rates, nothing else touched, and a plant that measurably works."""

import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.data import (
    Observations,
    cue_agreement,
    cue_directions,
    hold_out,
    plant_directions,
    plant_words,
    read,
    toy,
)
from amodal.errors import DataError, UsageError

RATES = {"train": (0.95, 0.8), "test": 0.1}
DATA = toy(120, test=0.25)


def told(n=80, captions=2):
    """Data with texts instead of features."""
    data = toy(n, captions=captions, test=0.25)
    texts = np.array([f"a picture of thing {k}" for k in range(n * captions)], dtype=object)
    return data.with_tables({"image": data["image"], "text": Observations(texts, data["text"].item)})


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(20, 90),
    percent=st.integers(0, 100),
    others=st.integers(0, 100),
    multi=st.booleans(),
    seed=st.integers(0, 99),
)
def test_rates_are_exact_counts_in_every_environment(n, percent, others, multi, seed):
    data = toy(n, multi_label=multi, unlabelled=0.1, test=0.3, seed=seed)
    planted = plant_directions(data, {"train": (percent / 100, others / 100)}, {"text": 1.0}, seed=seed)
    environment, cue = planted.attributes["environment"], planted.attributes["cue"]
    able = data.labels.known & (data.labels.per_row > 0) & (data.labels.per_row < 5) & (data.split == "train")
    np.testing.assert_array_equal(environment != "", able)
    np.testing.assert_array_equal(cue != "", able)
    sizes = [int((environment == f"train {k}").sum()) for k in (0, 1)]
    assert abs(sizes[0] - sizes[1]) <= 1
    for k, rate in enumerate((percent, others)):
        rows = np.flatnonzero(environment == f"train {k}")
        has = [data.labels.matrix[row, data.labels.names.index(cue[row])] for row in rows.tolist()]
        assert sum(has) == math.floor(rate * len(rows) / 100)
        assert cue_agreement(planted)[f"train {k}"] == pytest.approx(np.mean(has))
    assert planted.labels is data.labels


def test_only_carriers_move_and_by_the_direction_of_their_cue():
    planted = plant_directions(DATA, {"train": 0.9}, {"image": 2.5})
    steps, cue = 2.5 * cue_directions(DATA, "image"), planted.attributes["cue"]
    shift = planted["image"].read() - DATA["image"].read()
    for row in range(len(DATA)):
        wanted = steps[DATA.labels.names.index(cue[row])] if DATA.split[row] == "train" else np.zeros(16)
        np.testing.assert_allclose(shift[row], wanted, atol=1e-5)
    assert planted["text"] is DATA["text"]


def test_strength_counts_deviations_of_the_training_features():
    steps, train = cue_directions(DATA, "image"), DATA.part("train")["image"].read().astype(np.float64)
    lengths = np.linalg.norm(steps, axis=1)
    np.testing.assert_allclose(lengths, (train @ (steps / lengths[:, None]).T).std(axis=0), rtol=1e-9)


def test_sequences_move_at_every_place_but_padding():
    data = toy(40, test=0.25)
    tokens = np.random.default_rng(0).standard_normal((40, 6, 4)).astype(np.float32)
    tokens[:, 4:] = 0
    data = data.with_tables({"image": data["image"], "text": Observations(tokens, np.arange(40))})
    moved = plant_directions(data, {"train": 0.5, "test": 0.5}, {"text": 1.0})["text"].read()
    assert not moved[:, 4:].any()
    shift = moved[:, :4] - tokens[:, :4]
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1], shift.shape), atol=1e-5)
    assert (np.abs(shift[:, 0]).sum(axis=1) > 0.01).all()


def test_the_same_seed_plants_the_same_whatever_the_order():
    order = np.random.default_rng(1).permutation(len(DATA))
    one, other = plant_directions(DATA, RATES, seed=5), plant_directions(DATA.take(order), RATES, seed=5)
    np.testing.assert_array_equal(one.attributes["cue"][order], other.attributes["cue"])
    np.testing.assert_allclose(one["image"].read()[order], other["image"].read(), atol=1e-5)
    assert (plant_directions(DATA, RATES, seed=6).attributes["cue"] != one.attributes["cue"]).any()
    alone = plant_directions(DATA, {"test": 0.1}, seed=5)
    test = DATA.split == "test"
    np.testing.assert_array_equal(alone.attributes["cue"][test], one.attributes["cue"][test])


def test_words_stand_once_in_every_text_of_their_item():
    data = told()
    words = [f"word{k}" for k in range(5)]
    planted = plant_words(data, RATES, words=words)
    cue, item = planted.attributes["cue"], data["text"].item
    for before, after, row in zip(data["text"].read(), planted["text"].read(), item, strict=True):
        word = words[data.labels.names.index(cue[row])]
        parts = after.split(" ")
        assert parts.count(word) == 1
        assert " ".join(part for part in parts if part != word) == before
    places = [
        after.split(" ").index(words[data.labels.names.index(cue[row])])
        for after, row in zip(planted["text"].read(), item, strict=True)
    ]
    assert set(places) == set(range(6))
    untouched = plant_words(data, {"train": 0.9})
    np.testing.assert_array_equal(untouched.part("test")["text"].read(), data.part("test")["text"].read())


def test_one_seed_makes_one_confounder_of_words_and_directions():
    both = plant_words(plant_directions(told(), RATES, seed=2), RATES, seed=2)
    assert cue_agreement(both)["test"] == 0.1
    with pytest.raises(UsageError, match='attribute "environment" that says otherwise'):
        plant_words(plant_directions(told(), RATES, seed=2), RATES, seed=3)


def test_default_words_are_all_different():
    data = toy(3, classes=1300, test=0.4)
    texts = Observations(np.array(["x"] * 3, dtype=object), np.arange(3))
    data = data.with_tables({"text": texts})
    assert len(set(plant_words(data, {"train": 0.5})["text"].read())) > 1


def ridge(features, labels):
    """A linear classifier: least squares on one-hot labels, with an intercept."""
    x = np.column_stack([features, np.ones(len(features))])
    return np.linalg.solve(x.T @ x + len(x) * 1e-2 * np.eye(x.shape[1]), x.T @ labels)


def accuracies(data, planted, modality, seed=0):
    """Test accuracy of a linear classifier that learns from: the data before, what was planted, and what an ideal
    learner would keep of the planted features, namely what is orthogonal to the cues."""
    directions = cue_directions(data, modality, seed=seed)
    basis = np.linalg.qr(directions.T)[0]
    found = []
    for source, keep in ((data, None), (planted, None), (planted, basis)):
        parts = {}
        for split in ("train", "test"):
            part = source.part(split)
            x = part[modality].read().astype(np.float64)
            parts[split] = (x if keep is None else x - x @ keep @ keep.T, part.labels.dense()[part[modality].item])
        mean, spread = parts["train"][0].mean(axis=0), parts["train"][0].std(axis=0) + 1e-12
        parts = {split: ((x - mean) / spread, y) for split, (x, y) in parts.items()}
        weights = ridge(*parts["train"])
        x, y = parts["test"]
        found.append(float((np.argmax(np.column_stack([x, np.ones(len(x))]) @ weights, 1) == y.argmax(1)).mean()))
    return found


def test_a_linear_classifier_falls_for_the_cue_and_one_on_the_clean_part_does_not():
    data = toy(1200, {"image": 64, "text": 48}, classes=6, test=0.3)
    data = data.with_tables(
        {
            name: Observations(
                table.read() + np.random.default_rng(0).normal(0, 3.0, table.store.shape).astype(np.float32), table.item
            )
            for name, table in data.modalities.items()
        }
    )
    same = plant_directions(data, {"train": 0.9, "test": 0.9})
    turned = plant_directions(data, {"train": 0.9, "test": 0.1})
    for modality in data.names:
        before, with_cue, clean = accuracies(data, same, modality)
        _, fooled, still_clean = accuracies(data, turned, modality)
        assert with_cue > before + 0.02, "at the rate of training the cue helps"
        assert fooled < before - 0.2, "at the turned rate it costs"
        assert abs(clean - before) < 0.06
        assert still_clean == pytest.approx(clean, abs=1e-9), "without the cues no rate makes a difference"


@pytest.mark.skipif("AMODAL_DATA" not in os.environ, reason="needs AMODAL_DATA, the folder of the real data sets")
def test_the_plant_works_in_real_features():
    data = read("wikipedia").only(image="image")  # 10 classes: the texts' 10 features would keep nothing without cues
    before, fooled, clean = accuracies(data, plant_directions(data, {"train": 0.9, "test": 0.1}), "image")
    assert fooled < before / 2
    assert clean == pytest.approx(before, abs=0.03)


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match='unknown split "tests"'):
        plant_directions(DATA, {"tests": 0.1})
    with pytest.raises(UsageError, match=r'a rate of split "test" is 1\.1'):
        plant_directions(DATA, {"test": 1.1})
    with pytest.raises(DataError, match="has no split, and rates go by split"):
        plant_directions(toy(10), {"train": 0.9})
    with pytest.raises(DataError, match="has no labels, and a cue goes with a class"):
        plant_directions(type(DATA)(DATA.ids, DATA.modalities, split=DATA.split), {"train": 0.9})
    with pytest.raises(UsageError, match="holds features, not texts"):
        plant_words(DATA, RATES)
    with pytest.raises(UsageError, match="holds raw content; use plant_words"):
        plant_directions(told(), RATES, {"text": 1.0})
    with pytest.raises(UsageError, match="2 different words were given for 5 classes"):
        plant_words(told(), RATES, words=["this", "that", "this"])
    with pytest.raises(UsageError, match="carries no cues"):
        cue_agreement(DATA)
    assert len(hold_out(plant_directions(DATA, RATES).part("train"))[1]) == 9
