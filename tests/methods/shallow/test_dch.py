"""DCH: its objective, what unlabelled items and absent modalities do to it."""

from itertools import pairwise

import numpy as np
import pytest

from amodal.data import incomplete, toy
from amodal.errors import MethodError, UsageError
from amodal.methods.features import item_means
from amodal.methods.shallow.dch import DCH
from tests.oracles.shallow import dch_objective

DATA = toy(90, classes=4, multi_label=True, seed=2)
HARD = incomplete(DATA, "hard")


def objective(method, data):
    labelled = np.flatnonzero(data.labels.known)
    blocks = []
    for name in data.names:
        items, x = item_means(data[name])
        blocks.append((items, method.kernels_[name](x)))
    weights = {name: getattr(method, name) for name in ("penalty", "hash_penalty", "mu")}
    B = method.training_codes_.signs().astype(float)
    return dch_objective(B, data.labels.dense(labelled), labelled, blocks, **weights)


@pytest.mark.parametrize("mu", [0.0, 1e-5, 0.5])
@pytest.mark.parametrize("unlabelled", [0.0, 0.4])
def test_objective_never_rises(mu, unlabelled):
    data = incomplete(toy(90, classes=4, multi_label=True, unlabelled=unlabelled, seed=2), "hard")
    values = [objective(DCH(bits=8, anchors=20, mu=mu, iterations=i).fit(data), data) for i in range(1, 7)]
    assert all(after <= before + 1e-8 for before, after in pairwise(values))


def test_presence_does_not_change_codes_without_features():
    codes = [DCH(bits=8, anchors=20, mu=0.0).fit(data).training_codes_ for data in (DATA, HARD)]
    assert codes[0] == codes[1]
    pulled = [DCH(bits=8, anchors=20, mu=10.0).fit(data).training_codes_ for data in (DATA, HARD)]
    assert pulled[0] != pulled[1]


def test_masking_equals_zeros():
    mask, zero = (DCH(bits=8, anchors=20, fill=fill).fit(HARD) for fill in ("mask", "zero"))
    for name in HARD.names:
        np.testing.assert_allclose(mask.maps_[name], zero.maps_[name], atol=1e-8)


def test_dropping_equals_learning_from_pairs():
    paired = HARD.take(HARD.presence().all(axis=1))
    drop, pairs = (DCH(bits=8, anchors=5, fill=fill).fit(data) for fill, data in (("drop", HARD), ("mask", paired)))
    for name in HARD.names:
        np.testing.assert_array_equal(drop.maps_[name], pairs.maps_[name])
    assert len(drop.training_codes_) == len(HARD)
    rows = np.flatnonzero(HARD.presence().all(axis=1))
    assert drop.training_codes_[rows] == pairs.training_codes_


def test_dropping_everything_is_a_sentence():
    unpaired = incomplete(DATA, presence={"image": 0.5, "text": 0.5})
    with pytest.raises(MethodError, match="no item has every modality"):
        DCH(fill="drop").fit(unpaired)


def test_items_left_out_have_the_code_of_their_hash():
    unlabelled = toy(60, unlabelled=0.5, seed=3)
    method = DCH(bits=8, anchors=20, semi=False).fit(unlabelled.keep(np.tile([True, False], (60, 1)) | [[True, True]]))
    out = np.flatnonzero(~unlabelled.labels.known)
    sums = 0
    for name in unlabelled.names:
        sums = sums + method.kernels_[name](unlabelled[name].read()[out]) @ method.maps_[name]
    np.testing.assert_array_equal(method.training_codes_[out].signs(), np.where(sums >= 0, 1, -1))


def test_unlabelled_items_teach_only_if_asked():
    data = toy(60, unlabelled=0.5, seed=3)
    labelled = data.take(data.labels.known)
    alone, without = DCH(bits=8, anchors=0).fit(labelled), DCH(bits=8, anchors=0, semi=False).fit(data)
    assert alone.encode(data["image"].read(), "image") == without.encode(data["image"].read(), "image")
    assert DCH(bits=8, anchors=0).fit(data).encode(data["image"].read(), "image") != without.encode(
        data["image"].read(), "image"
    )


@pytest.mark.parametrize("variant", ["dcc", "relaxed"])
def test_items_of_one_class_get_one_code_when_bits_follow_labels(variant):
    data = toy(200, classes=4, seed=5)
    method = DCH(bits=16, variant=variant, anchors=0, mu=0.0, iterations=10).fit(data)
    codes, classes = method.training_codes_.signs(), data.labels.dense().argmax(axis=1)
    agreement = np.mean([np.abs(codes[classes == k].mean(axis=0)).mean() for k in range(4)])
    assert agreement > 0.95


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"variant": "relax"}, '"relaxed"'), ({"penalty": 0.0}, "penalty of dch"), ({"bits": 0}, "bits of dch")],
)
def test_bad_arguments_are_named(wrong, words):
    with pytest.raises(UsageError, match=words):
        DCH(**wrong).fit(DATA)
