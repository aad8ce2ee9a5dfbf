"""SePH: its divergence and gradient, its samples, its predictors."""

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize

from amodal.data import incomplete, toy
from amodal.errors import MethodError, UsageError
from amodal.methods.features import Kernel
from amodal.methods.shallow import seph
from amodal.methods.shallow.seph import Divergence, SePH, lbfgs, predictors, tsne
from tests.oracles.shallow import kernel_logistic_objective, seph_affinity, seph_divergence

DATA = toy(80, classes=4, multi_label=True, seed=2)
HARD = incomplete(DATA, "hard")
UNPAIRED = incomplete(DATA, presence={"image": 0.5, "text": 0.5})
RANDOM = np.random.default_rng(0)
VECTORS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 1, 1]], dtype=float)
INDEX = RANDOM.integers(0, 5, 23)
H = RANDOM.standard_normal((23, 4))


@pytest.fixture(params=[1, 60, 2**20], ids=["row by row", "blocks", "one block"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(seph, "BLOCK", request.param)


@pytest.mark.usefixtures("_blocks")
def test_divergence_is_that_of_all_pairs():
    P = seph_affinity(VECTORS[INDEX])
    assert P.sum() == pytest.approx(1)
    assert (np.diag(P) == 0).all()
    value, _ = Divergence(VECTORS, INDEX, 0.7)(H)
    assert value == pytest.approx(seph_divergence(H, P, 0.7), rel=1e-12)
    single, _ = Divergence(VECTORS, INDEX, 0.7)(H.astype(np.float32))
    assert single == pytest.approx(value, rel=1e-5)


@pytest.mark.usefixtures("_blocks")
def test_gradient_is_that_of_finite_differences():
    loss, numeric = Divergence(VECTORS, INDEX, 0.7), np.empty_like(H)
    for place in np.ndindex(H.shape):
        step = np.zeros_like(H)
        step[place] = 1e-6
        numeric[place] = (loss(H + step)[0] - loss(H - step)[0]) / 2e-6
    np.testing.assert_allclose(loss(H)[1], numeric, atol=1e-6 * np.abs(numeric).max())


def test_equal_labels_do_not_make_equal_codes():
    _, gradient = Divergence(VECTORS, np.zeros(5, dtype=int), 0.0)(H[:5])
    assert len(np.unique(gradient.round(6), axis=0)) == 5


@pytest.mark.parametrize("solve", [lbfgs, tsne])
def test_solvers_bring_items_of_one_class_together(solve):
    index = np.repeat([0, 3], 20)
    loss, start = Divergence(VECTORS, index, 0.01), 0.5 * np.random.default_rng(1).standard_normal((40, 8))
    found = solve(loss, start, 100)
    assert loss(found)[0] < 0.8 * loss(start)[0]
    codes = np.where(found >= 0, 1, -1)
    distance = (8 - codes @ codes.T) / 2
    within = index[:, None] == index
    assert distance[within].mean() + 2 < distance[~within].mean()


def test_best_codes_are_kept():
    loss, start = Divergence(VECTORS, INDEX, 0.01), 0.5 * np.random.default_rng(1).standard_normal(H.shape)
    values = [loss(tsne(loss, start, steps).astype(np.float32))[0] for steps in range(1, 40)]
    assert values == sorted(values, reverse=True)


def test_nothing_in_common_is_a_sentence():
    data = toy(4, classes=4, seed=0)
    one_each = data.labels.from_multihot(np.eye(4))
    with pytest.raises(MethodError, match="no two have"):
        SePH(bits=4).fit(type(data)(data.ids, data.modalities, one_each))


def test_predictors_minimise_the_regularised_loss():
    x = np.random.default_rng(3).standard_normal((60, 5))
    kernel = Kernel.fit(x, 12, np.random.default_rng(0))
    k, K = kernel(x), kernel(kernel.anchors) + kernel.mean
    bits = np.where(x[:, :2] + 0.3 * np.random.default_rng(4).standard_normal((60, 2)) >= 0, 1.0, -1.0)
    w, a = predictors(kernel, k, bits, 0.05)
    for bit in range(2):

        def loss(p, bit=bit):
            return kernel_logistic_objective(p[:-1], p[-1], k, K, bits[:, bit], 0.05)

        best = minimize(loss, np.zeros(13), options={"maxiter": 500}).fun
        assert loss(np.append(w[:, bit], a[bit])) == pytest.approx(best, rel=1e-3)


def test_constant_bit_is_predicted_to_be_constant():
    x = np.random.default_rng(3).standard_normal((60, 5))
    kernel = Kernel.fit(x, 12, np.random.default_rng(0))
    bits = np.ones((60, 2))
    bits[:, 1] = -1
    w, a = predictors(kernel, kernel(x), bits, 0.01)
    far = 10 * np.random.default_rng(5).standard_normal((200, 5))
    np.testing.assert_array_equal(np.sign(kernel(far) @ w + a), np.tile([1, -1], (200, 1)))


def test_pairs_are_never_used():
    apart, name = SePH(bits=8, anchors=20).fit(UNPAIRED), "text"
    image = UNPAIRED.present("image")
    order = np.arange(80)
    order[image] = np.random.default_rng(0).permutation(np.flatnonzero(image))
    x = UNPAIRED[name].read()
    assert apart.encode(x, name) == SePH(bits=8, anchors=20).fit(UNPAIRED).encode(x, name)
    assert SePH(bits=8, anchors=20).fit(DATA).training_codes_ == apart.training_codes_


def test_of_many_items_a_sample_is_learned_from():
    with pytest.warns(UserWarning, match="40 of 80 labelled items"):
        some = SePH(bits=8, anchors=20, rows=40).fit(DATA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SePH(bits=8, anchors=20, rows=80).fit(DATA)
    predicted = (some.training_codes_.signs() == some.fused_codes(DATA).signs()).all(axis=1)
    assert 40 <= predicted.sum() < 80


def test_items_without_labels_get_predicted_codes():
    data = toy(80, classes=4, unlabelled=0.5, seed=2)
    method, unknown = SePH(bits=8, anchors=20).fit(data), ~data.labels.known
    assert method.training_codes_[unknown] == method.fused_codes(data)[unknown]
    alone = SePH(bits=8, anchors=20).fit(data.take(~unknown))
    assert alone.encode(data["image"].read(), "image") == method.encode(data["image"].read(), "image")


def test_fused_codes_are_signs_of_the_sum_of_logits():
    method = SePH(bits=8, anchors=20).fit(HARD)
    fused, logits = method.fused_codes(HARD).signs(), np.zeros((80, 8))
    for name in HARD.names:
        x = HARD[name].read().astype(float)
        logits[HARD[name].item] += method.kernels_[name](x) @ method.maps_[name] + method.offsets_[name]
    np.testing.assert_array_equal(fused, np.where(logits >= 0, 1, -1))
    for name in HARD.names:
        alone = HARD.present(name) & (HARD.presence().sum(axis=1) == 1)
        rows = alone[HARD[name].item]
        np.testing.assert_array_equal(method.encode(HARD[name].read()[rows], name).signs(), fused[alone])


def test_released_variants():
    authors = SePH.create("authors", bits=8, anchors=20).fit(DATA)
    rows = {tuple(row) for row in DATA["image"].read().astype(float)}
    # a centre of a single row is that row
    assert not all(tuple(anchor) in rows for anchor in authors.kernels_["image"].anchors)
    plain = SePH(bits=8, anchors=20).fit(DATA)
    assert all(tuple(anchor) in rows for anchor in plain.kernels_["image"].anchors)
    roph = SePH.create("roph", bits=8, anchors=20).fit(HARD)
    assert roph.training_codes_ != plain.training_codes_
    with pytest.raises(MethodError, match="pairs"):
        SePH.create("roph", bits=8).fit(UNPAIRED)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"solver": "lbgfs"}, '"lbfgs"'),
        ({"start": "cca"}, '"cca_itq"'),
        ({"anchor_choice": "kmean"}, '"kmeans"'),
        ({"penalty": 0.0}, "penalty of seph"),
        ({"rows": 0}, "rows of seph"),
    ],
)
def test_bad_arguments_are_named(wrong, words):
    with pytest.raises(UsageError, match=words):
        SePH(**wrong).fit(DATA)


def test_half_the_width_squares_the_kernel():
    x, random = np.random.default_rng(3).standard_normal((60, 5)), np.random.default_rng
    wide, narrow = (Kernel.fit(x, 12, random(0), width=width) for width in (2.0, 1.0))
    np.testing.assert_allclose(narrow(x) + narrow.mean, (wide(x) + wide.mean) ** 2)
