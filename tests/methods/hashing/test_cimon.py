"""CIMON: guesses of a batch against dense matrices, the objective by hand, gaps, and clusters."""

from itertools import product

import numpy as np
import pytest
import torch

from amodal.data import incomplete, toy
from amodal.errors import MethodError, UsageError
from amodal.losses import nt_xent
from amodal.methods import get
from amodal.methods.hashing import cimon
from amodal.training import Batches, Training
from tests.oracles import losses as oracle

QUICK = {"bits": 8, "hidden": 16, "latent": 16, "epochs": 2, "batch_size": 32, "rate": 0.01}


def begun(data, **params):
    """A method as it is before its first step."""
    method = get("cimon").create(**{**QUICK, **params})
    method.meet(data)
    method.network_ = method.draw()
    method.prepare(data)
    return method


def dense(method, data, name):
    """S and W of all items that have a modality, by loops; NaN elsewhere."""
    guide, x = method.guidance_[name], dict(zip(data[name].item.tolist(), data[name].read().tolist(), strict=True))
    S, W = np.full((2, len(data), len(data)), np.nan)
    for i, j in product(x, x):
        same = bool(guide.clusters[i] == guide.clusters[j])
        distance = 1 - oracle.cosine(x[i], x[j])
        halves = guide.halves
        S[i, j], W[i, j] = oracle.guessed_similarity(
            distance, same, halves.mode, halves.left, halves.right, guide.threshold
        )
    return S, W


@pytest.fixture(scope="module")
def gaps():
    return incomplete(toy(120, classes=4, seed=1), "hard")


def test_guesses_of_a_batch_are_those_of_the_dense_matrices(gaps):
    method = begun(gaps)
    batch = Batches(gaps, 40, 0).gather(np.random.default_rng(0).permutation(120)[:40])
    for name in gaps.names:
        S, W = dense(method, gaps, name)
        rows = batch.index[batch.rows[name]]
        similar, weights = method.guidance_[name](batch.x[name], rows)
        block = np.ix_(rows, rows)
        np.testing.assert_array_equal(similar, S[block])
        np.testing.assert_allclose(weights, W[block], atol=2e-4)
        assert 0 < (similar > 0).float().mean() < 0.6


@pytest.mark.parametrize("crossed", [True, False])
def test_objective_by_loops(gaps, crossed):
    method = begun(gaps, crossed=crossed, eta=0.7, tau=0.4)
    index = np.random.default_rng(1).permutation(120)[:30]
    batch = Batches(gaps, 30, 0).gather(index)
    method.network_.eval()
    h = {m: {} for m in gaps.names}
    for m in gaps.names:
        codes = method.output(batch.x[m], m).detach().double()
        h[m] = dict(zip(batch.index[batch.rows[m]].tolist(), codes, strict=True))
    terms = [("image", "image"), ("text", "text")] + [("image", "text")] * crossed
    semantic = 0.0
    for (a, b), m in product(terms, gaps.names):
        S, W = dense(method, gaps, m)
        found = [
            W[i, j] * (float(h[a][i] @ h[b][j]) / 8 - S[i, j]) ** 2
            for i, j in product(h[a], h[b])
            if i in h[m] and j in h[m]
        ]
        semantic += np.mean(found)
    both = [i for i in h["image"] if i in h["text"]]
    contrast = nt_xent(*(torch.stack([h[m][i] for i in both]) for m in gaps.names), 0.4)
    losses = method.step(batch, 0)
    assert losses["semantic"].item() == pytest.approx(semantic, rel=1e-4)
    assert losses["contrast"].item() == pytest.approx(contrast.item(), rel=1e-5)
    assert losses["loss"].item() == pytest.approx(semantic + 0.7 * contrast.item(), rel=1e-4)


def test_single_rows_teach_their_own_modality(gaps):
    method = begun(gaps)
    alone = np.flatnonzero(gaps.present("text") & ~gaps.present("image"))[:20]
    losses = method.step(Batches(gaps, 20, 0).gather(alone), 0)
    losses["loss"].backward()
    assert losses["contrast"].item() == 0
    assert losses["semantic"].item() > 0
    gradients = [
        None if part.weight.grad is None else float(part.weight.grad.abs().max()) for part in method.network_.head
    ]
    assert gradients[gaps.names.index("text")] > 0
    assert not gradients[gaps.names.index("image")]


def test_guesses_are_of_observed_features_even_where_the_absent_are_filled(gaps):
    method = begun(gaps, fill="mean")
    batch = Batches(gaps, 30, 0).gather(np.arange(30))
    similar, _ = method.guidance_["text"](batch.x["text"], batch.index[batch.rows["text"]])
    assert len(similar) == len(batch.rows["text"]) < 30
    assert torch.isfinite(method.step(batch, 0)["loss"])


def test_guidance_is_a_function_of_data_and_seed(gaps):
    first, second, other = begun(gaps), begun(gaps), begun(gaps, seed=3)
    for name in gaps.names:
        assert first.guidance_[name].halves == second.guidance_[name].halves
        assert torch.equal(first.guidance_[name].clusters, second.guidance_[name].clusters)
    assert first.guidance_["image"].halves != other.guidance_["image"].halves


def test_absent_rows_are_in_no_cluster_and_others_in_one(gaps):
    clusters = begun(gaps).guidance_["image"].clusters
    assert ((clusters >= 0).numpy() == gaps.present("image")).all()
    count = (gaps.present("image").sum()) // 50
    assert set(clusters.tolist()) == {-1, *range(count)}


def test_few_items_make_one_cluster(gaps):
    clusters = begun(gaps.take(np.arange(40))).guidance_["text"].clusters
    assert set(clusters.tolist()) == {-1, 0}


def test_the_threshold_is_where_gaussians_cross_unless_it_is_given(gaps):
    guide = begun(gaps).guidance_["image"]
    assert guide.threshold == guide.halves.crossing
    assert begun(gaps, threshold=0.1).guidance_["image"].threshold == 0.1


def test_released_form_learns():
    data = toy(200, classes=4, seed=1)
    method = get("cimon").create(preset="released", **{**QUICK, "epochs": 40, "batch_size": 24, "threshold": 0.5})
    method.fit(data)
    assert method.validation_score(data) > 0.4


def test_clusters_of_many_items_are_found_on_a_sample(gaps, monkeypatch):
    monkeypatch.setattr(cimon, "SAMPLE", 60)
    clusters = begun(toy(300, classes=4, seed=1), clusters=4).guidance_["image"].clusters
    assert set(clusters.tolist()) == {0, 1, 2, 3}


def test_spectral_clusters_stop_where_neighbours_are_too_many(gaps, monkeypatch):
    begun(gaps, clustering="spectral")
    monkeypatch.setattr(cimon, "SPECTRAL", 50)
    with pytest.raises(MethodError, match=r"stops at 50.*kmeans"):
        begun(gaps, clustering="spectral")
    with pytest.raises(UsageError, match='Did you mean "kmeans"'):
        begun(gaps, clustering="kmean")


def test_labels_change_nothing(gaps):
    shuffled = gaps.labels.dense()[::-1].copy()
    other = type(gaps)(**{**vars(gaps), "labels": type(gaps.labels).from_multihot(shuffled)})
    one, two = (get("cimon").create(**QUICK).fit(data, training=Training()) for data in (gaps, other))
    x = gaps["text"].read()
    assert one.encode(x, "text") == two.encode(x, "text")
