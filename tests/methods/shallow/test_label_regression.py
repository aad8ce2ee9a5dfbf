"""Label regression: fits against scikit-learn, rows of length one that rank as probabilities do, choice of C."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from amodal.codes import BinaryCodes
from amodal.data import Labels, incomplete, toy
from amodal.errors import MethodError, UsageError
from amodal.methods.shallow.label_regression import FALLBACK, GRID, LabelRegression
from amodal.methods.shallow.logistic import logistic_path
from tests.oracles.shallow import logistic_objective

SINGLE, SEVERAL = toy(200, seed=3), toy(200, multi_label=True, seed=3)
DATA = pytest.mark.parametrize("data", [SINGLE, SEVERAL], ids=["single", "several"])


def standard(data, name):
    x = data[name].read().astype(np.float64)
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)


@DATA
@pytest.mark.parametrize("rows", [200, 12])
def test_path_reaches_the_least_loss(data, rows):
    single = data.labels.single
    x, y = standard(data, "image")[:rows], data.labels.dense(slice(rows))
    y = y[:, y.any(axis=0) & ~y.all(axis=0)]
    for C, (W, a) in zip((0.01, 0.1, 1.0), logistic_path(x, y, (0.01, 0.1, 1.0), single=single), strict=True):
        found = logistic_objective(W, a, x, y, C, single)
        if single:
            best = LogisticRegression(C=C, tol=1e-8, max_iter=5000).fit(x, y.argmax(axis=1))
            weights, offsets = best.coef_.T, best.intercept_
        else:
            models = [LogisticRegression(C=C, tol=1e-8, max_iter=5000).fit(x, column) for column in y.T]
            weights = np.hstack([model.coef_.T for model in models])
            offsets = np.hstack([model.intercept_ for model in models])
        least = logistic_objective(weights, offsets, x, y, C, single)
        assert least * (1 - 1e-6) <= found <= least * (1 + 1e-3)


@DATA
def test_probabilities_are_those_of_scikit_learn(data):
    method = LabelRegression(C=0.1).fit(data)
    for name in data.names:
        p = method.probabilities(data[name].read(), name)
        x, y = standard(data, name), data.labels.dense()
        if data.labels.single:
            expected = LogisticRegression(C=0.1, tol=1e-8).fit(x, y.argmax(axis=1)).predict_proba(x)
            np.testing.assert_allclose(p.sum(axis=1), 1)
        else:
            models = [LogisticRegression(C=0.1, tol=1e-8).fit(x, column) for column in y.T]
            expected = np.stack([model.predict_proba(x)[:, 1] for model in models], axis=1)
        np.testing.assert_allclose(p, expected, atol=0.02)


def test_embeddings_of_two_modalities_multiply_to_the_agreement_of_probabilities():
    data = toy(100, {"a": 6, "b": 5, "c": 7}, seed=1)
    method = LabelRegression(C=0.1).fit(data)
    found = {name: method.encode(data[name].read(), name).vectors for name in data.names}
    p = {name: method.probabilities(data[name].read(), name) for name in data.names}
    for a in data.names:
        assert found[a].shape == (100, 5 + 3)
        for b in data.names:
            same = np.allclose(found[a] @ found[b].T, p[a] @ p[b].T, atol=1e-6)
            assert same == (a != b)


def test_several_labels_compare_by_cosine():
    method = LabelRegression(C=0.1).fit(SEVERAL)
    p = method.probabilities(SEVERAL["text"].read(), "text")
    found = method.encode(SEVERAL["text"].read(), "text").vectors
    np.testing.assert_allclose(found, p / np.linalg.norm(p, axis=1, keepdims=True), atol=1e-6)


def test_a_class_known_for_some_items_only_still_counts_one_each():
    labels = SINGLE.labels.dense()
    labels[:50] = 0
    data = replace(SINGLE, labels=Labels.from_multihot(labels))
    assert LabelRegression(C=0.1).fit(data).single_
    left = LabelRegression(C=0.1).fit(data.take(np.arange(50, 200)))
    x = data["image"].read()[50:]
    # rows without a class teach nothing but the scale of features
    np.testing.assert_allclose(
        LabelRegression(C=0.1).fit(data).probabilities(x, "image"), left.probabilities(x, "image"), atol=0.05
    )


def test_no_pair_is_ever_used():
    text = SINGLE["text"]
    items = np.random.default_rng(0).permutation(400)
    apart = replace(
        SINGLE,
        ids=np.arange(400).astype(str),
        labels=SINGLE.labels.take(np.concatenate([np.arange(200)] * 2)),
        modalities={"image": SINGLE["image"], "text": type(text)(text.store, np.arange(200, 400))},
    ).take(items)
    together, separate = (LabelRegression(C=0.1).fit(data) for data in (SINGLE, apart))
    for name in SINGLE.names:
        x = SINGLE[name].read()
        np.testing.assert_allclose(together.probabilities(x, name), separate.probabilities(x, name), atol=0.01)


@pytest.mark.parametrize("code", ["itq", "srp", "srp-sqrt"])
@pytest.mark.parametrize("bits", [3, 40])
@DATA
def test_codes_keep_what_probabilities_know(data, code, bits):
    method = LabelRegression(C=0.1, code=code, bits=bits).fit(data)
    found = method.encode(data["image"].read(), "image")
    assert isinstance(found, BinaryCodes)
    assert found.bits == bits
    labels = data.labels.dense()
    chance = (labels @ labels.T > 0).mean()
    assert method.validation_score(data) > chance + (0.3 if bits == 40 else 0.1) * (1 - chance)


def test_quantised_directions_are_orthonormal():
    for bits in (3, 40):
        G = LabelRegression(C=0.1, code="itq", bits=bits).fit(SINGLE).projection_
        gram = G.T @ G if bits == 3 else G @ G.T
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-10)


def test_c_is_the_best_on_validation_items():
    data = incomplete(toy(300, seed=5, test=0.4), "hard", split="train")
    train, validation = data.part("train"), data.part("test")
    chosen = LabelRegression().fit(train, validation=validation).strength_
    scores = [LabelRegression(C=C).fit(train).validation_score(validation) for C in GRID]
    # the search ends early and starts each fit from the last: what it finds is as good, if not the same
    assert scores[GRID.index(chosen)] > max(scores) - 0.01


def test_c_is_chosen_without_validation_items_and_in_any_order():
    data = incomplete(SINGLE, "hard")
    method = LabelRegression().fit(data)
    assert method.strength_ in GRID
    order = np.random.default_rng(1).permutation(len(data))
    assert LabelRegression().fit(data.take(order)).strength_ == method.strength_


def test_c_falls_back_where_nothing_can_be_measured():
    first, second = (np.flatnonzero(SINGLE.labels.dense()[:, k]) for k in (0, 1))
    apart = np.zeros((200, 2), dtype=bool)
    apart[first, 0] = apart[second, 1] = True  # pictures of one class, texts of another
    validation = SINGLE.keep(apart).take(np.concatenate([first, second]))
    assert LabelRegression().fit(SINGLE, validation=validation).strength_ == FALLBACK


def test_unlabelled_modality_is_a_sentence():
    data = incomplete(SINGLE, presence={"image": 0.5, "text": 0.5})
    known = data.present("image")
    labels = Labels.from_multihot(SINGLE.labels.dense() * known[:, None], known)
    with pytest.raises(MethodError, match='"text" belongs to an item with labels'):
        LabelRegression().fit(replace(data, labels=labels))


@pytest.mark.parametrize(
    ("wrong", "words"), [({"C": "best"}, "C of label_regression"), ({"code": "srp_sqrt"}, '"srp-sqrt"')]
)
def test_bad_arguments_are_named(wrong, words):
    with pytest.raises(UsageError, match=words):
        LabelRegression(**wrong).fit(SINGLE)
