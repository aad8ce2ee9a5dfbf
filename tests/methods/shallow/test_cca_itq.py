"""CCA-ITQ: correlations against scikit-learn and against generated truth, constraint, lift, chance where pairs are."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from amodal.codes import Embeddings
from amodal.data import Dataset, Labels, Observations, incomplete, toy
from amodal.errors import MethodError, UsageError
from amodal.methods.shallow.cca_itq import CCAITQ


def correlated(n, rho, seed=0):
    """Views whose canonical correlations are rho: Gaussian pairs, then mixed by a random matrix each."""
    random = np.random.default_rng(seed)
    shared = random.standard_normal((n, len(rho)))
    other = shared * rho + random.standard_normal((n, len(rho))) * np.sqrt(1 - np.square(rho))
    mixed = {
        name: Observations((x @ random.standard_normal((len(rho), len(rho))) + 3).astype(np.float32), np.arange(n))
        for name, x in {"a": shared, "b": other}.items()
    }
    return Dataset(np.arange(n).astype(str), mixed, Labels.from_multihot(np.ones((n, 1))))


def covariance(x):
    x = x - x.mean(axis=0)
    return x.T @ x / len(x)


def test_correlations_are_those_of_the_data():
    rho = np.array([0.95, 0.7, 0.4])
    found = CCAITQ(bits=3, code="real", epsilon=1e-9).fit(correlated(20_000, rho)).correlations_
    np.testing.assert_allclose(found, rho, atol=0.03)


def test_correlations_equal_scikit_learn():
    data = correlated(300, np.array([0.9, 0.6, 0.3]), seed=2)
    x, y = data["a"].read().astype(float), data["b"].read().astype(float)
    u, v = CCA(n_components=3, max_iter=5000, tol=1e-12).fit_transform(x, y)
    expected = [np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(3)]
    found = CCAITQ(bits=3, code="real", epsilon=1e-9).fit(data).correlations_
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("epsilon", [1e-4, 1.0])
def test_directions_are_orthonormal_in_each_modality(epsilon):
    data = correlated(500, np.array([0.9, 0.6, 0.3]))
    method = CCAITQ(bits=2, code="real", power=0.0, epsilon=epsilon).fit(data)
    for name in data.names:
        C = covariance(data[name].read().astype(float))
        C += epsilon * np.trace(C) / len(C) * np.eye(len(C))
        A = method.maps_[name]
        np.testing.assert_allclose(A.T @ C @ A, np.eye(2), atol=1e-8)


def test_correlations_lie_between_0_and_1_and_fall():
    for kind in ("complete", "hard"):
        for cov in ("all", "pairs"):
            found = CCAITQ(bits=12, covariance=cov).fit(incomplete(toy(80), kind)).correlations_
            assert (found > 0).all()
            assert (found <= 1).all()
            assert (np.diff(found) <= 1e-12).all()


def test_three_modalities_reach_the_maximum_variance():
    """Eigenvalues of the sum of projections, an n x n matrix that the method never builds."""
    data = toy(60, {"a": 5, "b": 4, "c": 3}, seed=4)
    projections = np.zeros((60, 60))
    for name in data.names:
        x = data[name].read().astype(float)
        x -= x.mean(axis=0)
        projections += x @ np.linalg.inv(x.T @ x) @ x.T
    values = np.linalg.eigvalsh(projections)[::-1][:3]
    found = CCAITQ(bits=3, code="real", epsilon=1e-10).fit(data).correlations_
    np.testing.assert_allclose(found, (values - 1) / 2, atol=1e-6)


def test_shuffled_pairs_fall_to_chance():
    data, held = toy(400, seed=1), toy(400, seed=1)
    train, test = data.take(np.arange(200)), held.take(np.arange(200, 400))
    text = train["text"]
    wrong = Observations(text.store, np.random.default_rng(0).permutation(200), text.rows)
    shuffled = replace(train, modalities={"image": train["image"], "text": wrong})
    good, bad = (CCAITQ(code="real", bits=4).fit(part).validation_score(test) for part in (train, shuffled))
    labels = test.labels.dense()
    chance = (labels @ labels.T > 0).mean()
    assert good > chance + 0.4
    assert bad < chance + 0.25


def test_wide_features_do_not_correlate_by_themselves():
    random = np.random.default_rng(0)
    x, y = (random.normal(size=(100, 90)).astype(np.float32) for _ in range(2))
    # orthonormal bases of the two column spaces: cosines of the angles between them are the correlations
    bases = [np.linalg.qr(values - values.mean(axis=0))[0] for values in (x, y)]
    assert np.linalg.svd(bases[0].T @ bases[1])[1].max() > 0.99
    tables = {"a": Observations(x, np.arange(100)), "b": Observations(y, np.arange(100))}
    assert CCAITQ(bits=4).fit(Dataset(np.arange(100).astype(str), tables)).correlations_.max() < 0.8


def test_more_bits_than_directions_are_lifted_or_refused():
    data = toy(100, {"image": 6, "text": 4})
    method = CCAITQ(bits=32).fit(data)
    assert len(method.correlations_) <= 4
    assert method.encode(data["text"].read(), "text").bits == 32
    with pytest.raises(MethodError, match="fewer than 32 bits"):
        CCAITQ(bits=32, lift=False).fit(data)
    assert CCAITQ(bits=2, lift=False).fit(data).encode(data["text"].read(), "text").bits == 2


def test_rotation_of_all_modalities_or_of_the_first():
    data = toy(100)
    shared, own = (CCAITQ(bits=6, rotation=kind).fit(data) for kind in ("shared", "own"))
    real = CCAITQ(bits=6, code="real").fit(data)
    for method in (shared, own):
        R = np.linalg.lstsq(real.maps_["image"], method.maps_["image"], rcond=None)[0]
        np.testing.assert_allclose(R.T @ R, np.eye(6), atol=1e-6)
    assert not np.allclose(shared.maps_["image"], own.maps_["image"])


def test_real_directions_are_embeddings():
    data = toy(60)
    found = CCAITQ(bits=4, code="real").fit(data).encode(data["image"].read(), "image")
    assert isinstance(found, Embeddings)
    assert found.dim == 4


def test_unpaired_items_matter_only_if_asked():
    data = incomplete(toy(100), "hard")
    pairs = data.take(data.presence().all(axis=1))
    kept, alone = (CCAITQ(bits=4, code="real").fit(part).maps_["image"] for part in (data, pairs))
    np.testing.assert_array_equal(kept, alone)
    assert not np.allclose(CCAITQ(bits=4, code="real", covariance="all").fit(data).maps_["image"], alone)


def test_bad_arguments_are_named():
    with pytest.raises(UsageError, match='"pairs"'):
        CCAITQ(covariance="pair").fit(toy(20))
