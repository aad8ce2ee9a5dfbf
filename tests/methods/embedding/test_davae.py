"""DA-VAE: the checks of its section: what is aligned and when, generated sides, likelihoods, limits and switches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from amodal.data import Observations, incomplete, toy
from amodal.errors import MissingModality, UsageError
from amodal.losses import gaussian_kl
from amodal.methods.embedding.davae import DAVAE
from amodal.methods.embedding.davae_networks import BOUND
from amodal.methods.networks import Scale
from amodal.training import Batches

QUICK = {"dim": 8, "hidden": 32, "epochs": 12, "batch_size": 32, "rate": 0.01, "beta_epochs": 6, "cross_from": 4}


def prepared(data, **params):
    """A method as it is before its first step."""
    method = DAVAE(**{**QUICK, **params})
    method.meet(data)
    method.network_ = method.draw()
    method.prepare(data)
    return method


def batch_of(data):
    return Batches(data, len(data), 0).gather(np.arange(len(data)))


def twins(n=40):
    """Two modalities with the same features."""
    data = toy(n, {"a": 6, "b": 6}, classes=3, seed=1)
    return data.with_tables({"a": data["a"], "b": Observations(data["a"].read(), data["b"].item)})


def tie(network):
    for part in (network.encoder, network.project, network.decoder):
        part[1].load_state_dict(part[0].state_dict())


def words(n=200, vocabulary=40):
    """Items with dense features, and words that are mostly absent, counted."""
    data, random = toy(n, {"a": 6, "b": 6}, classes=3, seed=1), np.random.default_rng(0)
    classes = data.labels.dense().argmax(axis=1)
    rates = np.where(np.arange(vocabulary)[None, :] % 6 == classes[:, None], 0.8, 0.01)
    counts = (random.poisson(rates) * (1 + np.arange(vocabulary) % 2)).astype(np.float32)
    return data.with_tables({"a": data["a"], "b": Observations(counts, np.arange(n))})


def test_latents_of_identical_modalities_with_tied_weights_are_aligned():
    data = twins()
    method = prepared(data)
    assert method.step(batch_of(data), 0)["distribution"].item() > 0
    tie(method.network_)
    assert method.step(batch_of(data), 0)["distribution"].item() == 0


def test_divergence_is_zero_at_the_prior():
    data = twins()
    method = prepared(data)
    for project in method.network_.project:
        torch.nn.init.zeros_(project.weight)
        torch.nn.init.zeros_(project.bias)
    assert method.step(batch_of(data), 0)["divergence"].item() == 0


def floor(data):
    labels = data.labels.dense()
    return (labels @ labels.T > 0).mean()


def test_without_weights_two_plain_autoencoders_retrieve_nothing():
    data = incomplete(toy(120, classes=4, seed=1), "easy")
    plain = DAVAE(**QUICK, lambda_d=0.0, lambda_x=0.0, lambda_s=0.0, lambda_c=0.0).fit(data)
    assert abs(plain.validation_score(data) - floor(data)) < 0.2
    assert DAVAE(**QUICK).fit(data).validation_score(data) > floor(data) + 0.4
    # each side reads itself all the same
    network, x = plain.network_, torch.from_numpy(data["image"].read())
    assert network.loss(network.posterior(x, 0)[0], x, 0).item() < 0.25


def test_encoding_has_no_noise():
    data = toy(60, classes=3, seed=1)
    method, x = DAVAE(**QUICK).fit(data), data["image"].read()
    torch.manual_seed(1)
    first = method.encode(x, "image")
    torch.manual_seed(2)
    assert method.encode(x, "image") == first
    mean = method.network_.posterior(torch.from_numpy(x), 0)[0].detach().numpy()
    np.testing.assert_allclose(first.vectors, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)


def test_variances_neither_overflow_nor_vanish():
    data = twins()
    method = prepared(data)
    batch = batch_of(data)
    wild = replace(batch, x={m: 1e6 * x for m, x in batch.x.items()})
    losses = method.step(wild, 50)
    losses["loss"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in method.network_.parameters() if p.grad is not None)
    assert method._side(wild, "a").log_variance.abs().max() <= BOUND


def divergence(beta):
    """KL per dimension of narrow features after training."""
    data = toy(120, {"a": 16, "b": 4}, classes=3, seed=2)
    method = DAVAE(**{**QUICK, "epochs": 20}, beta=beta, lambda_s=0.0, lambda_d=0.0).fit(data)
    return gaussian_kl(*method.network_.posterior(torch.from_numpy(data["b"].read()), 1)).item()


def test_latents_collapse_under_a_heavy_divergence_and_not_by_default():
    assert divergence(0.01) > 0.5
    assert divergence(10.0) < 0.05


def test_generated_sides_pass_gradients_to_encoders_only():
    data = incomplete(twins(), "easy")
    method, batch = prepared(data), batch_of(data)
    sides = {m: method._side(batch, m) for m in data.names}
    cycle, generated = method._generated(batch, sides)
    (cycle + sum(latent.sum() for latent, _ in generated.values())).backward()
    network = method.network_
    assert all(parameter.grad is None for parameter in network.decoder.parameters())
    assert all(network.project[k].weight.grad.abs().max() > 0 for k in range(2))


def test_a_missing_side_is_the_mean_of_what_each_other_side_makes():
    data = incomplete(toy(60, {"a": 5, "b": 4, "c": 6}, classes=3, seed=1), "easy")
    method, batch = prepared(data), batch_of(data)
    sides = {m: method._side(batch, m) for m in data.names}
    _, generated = method._generated(batch, sides)
    for k, b in enumerate(data.names):
        latent, places = generated[b]
        assert places.tolist() == np.flatnonzero(~data.present(b) & data.presence().any(axis=1)).tolist()
        for row, place in zip(latent, places.tolist(), strict=True):
            made = [
                method.network_.generated(side.mean[side.rows == place], k)[0]
                for a, side in sides.items()
                if a != b and place in side.rows
            ]
            torch.testing.assert_close(row, torch.stack(made).mean(dim=0), atol=1e-5, rtol=1e-4)


def test_generated_sides_teach_the_classes():
    data = incomplete(twins(), "easy")
    method, batch = prepared(data), batch_of(data)
    sides = {m: method._side(batch, m) for m in data.names}
    _, generated = method._generated(batch, sides)
    alone, with_them = (method._semantic(batch, sides, found) for found in ({}, generated))
    assert with_them["classes"].item() != alone["classes"].item()
    assert with_them["means"].item() != alone["means"].item()


def test_warm_ups():
    data = twins()
    method = prepared(data, beta=1.0)

    def weight(epoch):
        torch.manual_seed(0)
        losses = method.step(batch_of(data), epoch)
        rest = losses["reconstruction"] + losses["distribution"] + losses["classes"] + losses["means"]
        for name, factor in (("cross", 1.0), ("cycle", 0.5)):
            assert (name in losses) == (epoch >= 4)
            rest = rest + factor * losses.get(name, 0)
        return ((losses["loss"] - rest) / losses["divergence"]).item()

    assert [weight(epoch) for epoch in (0, 2, 5, 50)] == pytest.approx([1 / 6, 0.5, 1, 1], abs=1e-3)


def test_pairs_are_aligned_where_there_are_any_else_classes():
    data = twins(60)
    first, second = np.tile([True, False], (60, 1)), np.tile([False, True], (60, 1))
    apart = np.where((np.arange(60) % 2 == 0)[:, None], first, second)
    method = prepared(data)
    tie(method.network_)
    # the classes of tied twins lie where they lie, whichever items show which side, up to chance
    unpaired = method.step(batch_of(data.keep(apart)), 0)["distribution"].item()
    assert unpaired > 0
    one_pair = apart.copy()
    one_pair[0] = True
    assert method.step(batch_of(data.keep(one_pair)), 0)["distribution"].item() == 0
    untold = replace(data.keep(apart), labels=replace_labels(data))
    assert method.step(batch_of(untold), 0)["distribution"].item() == 0


def replace_labels(data):
    return replace(data.labels, known=np.zeros(len(data), bool))


def test_a_class_counts_with_two_rows_of_each_modality_only():
    data = twins()
    method = prepared(data)
    batch = replace(Batches(data, 3, 0).gather(np.arange(3)), labels=torch.eye(3))
    sides = {m: method._side(batch, m) for m in data.names}
    assert method._semantic(batch, sides, {})["means"].item() == 0
    batch = replace(batch, labels=torch.eye(3)[[0, 0, 1]])
    a, b = (side.mean[:2].mean(dim=0) for side in sides.values())
    assert method._semantic(batch, sides, {})["means"].item() == pytest.approx(((a - b) ** 2).mean().item(), rel=1e-5)


def test_words_have_the_bernoulli_likelihood_and_dense_features_the_gaussian():
    data = words()
    method = prepared(data)
    dense, sparse = method.network_.decoder
    assert not dense.bernoulli
    assert sparse.bernoulli
    x = data["b"].read()
    amount = [x[x[:, k] > 0, k].mean() if (x[:, k] > 0).any() else 0 for k in range(x.shape[1])]
    np.testing.assert_allclose(sparse.amount, amount, rtol=1e-5)
    assert not any(decoder.bernoulli for decoder in prepared(data, likelihood="gaussian").network_.decoder)
    negative = data.with_tables({"a": data["a"], "b": Observations(-x, data["b"].item)})
    assert not prepared(negative).network_.decoder[1].bernoulli


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_knowing_nothing_but_the_means_costs_a_half(likelihood):
    data = words()
    network = prepared(data, likelihood=likelihood).network_
    for k, name in enumerate(data.names):
        decoder, x = network.decoder[k], torch.from_numpy(data[name].read())
        torch.nn.init.zeros_(decoder.layers[-1].weight)
        share = (x > 0).float().mean(dim=0).clamp(1e-6, 1 - 1e-6)
        decoder.layers[-1].bias.data = torch.logit(share) if decoder.bernoulli else torch.zeros(x.shape[1])
        assert network.loss(torch.randn(len(x), 8), x, k).item() == pytest.approx(0.5, abs=1e-3)
        if decoder.bernoulli:
            torch.testing.assert_close(network.features(torch.zeros(1, 8), k)[0], x.mean(dim=0), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("negative", [False, True])
def test_scaled_features_find_their_way_back(negative):
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    x = x if negative else np.abs(x)
    scale = Scale(4)
    scale.fit(Observations(x, np.arange(50)))
    assert bool(scale.root) != negative
    torch.testing.assert_close(scale.inverse(scale(torch.from_numpy(x))), torch.from_numpy(x), atol=1e-5, rtol=1e-4)
    assert negative or (scale.inverse(torch.full((1, 4), -9.0)) == 0).all()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_imagined_words_are_counts_and_nearer_than_the_mean(likelihood):
    whole = words()
    data = incomplete(whole, "easy", seed=1)
    found = DAVAE(**{**QUICK, "epochs": 30}, likelihood=likelihood).fit(data).impute(data, "b")
    true, mean = whole["b"].read()[found.items], data["b"].read().mean(axis=0)
    assert (found.values >= 0).all()
    assert np.square(found.values - true).mean() < 0.9 * np.square(mean - true).mean()


def test_imagined_features_are_nearer_than_the_mean_whichever_sides_are_there():
    whole = toy(150, {"a": 8, "b": 6, "c": 5}, classes=3, seed=3)
    whole = whole.with_tables({m: Observations(50 + 9 * whole[m].read(), whole[m].item) for m in whole.names})
    data = incomplete(whole, "easy", seed=1)
    method = DAVAE(**{**QUICK, "epochs": 30}).fit(data)
    for name in data.names:
        found = method.impute(data, name)
        assert found.items.tolist() == np.flatnonzero(~data.present(name)).tolist()
        true, mean = whole[name].read()[found.items], data[name].read().mean(axis=0)
        assert np.square(found.values - true).mean() < 0.7 * np.square(mean - true).mean()
        assert len(set(found.trust.tolist())) > len(found) / 2
    alone = method.impute(data.only(b="b"), "a")
    assert alone.items.tolist() == np.flatnonzero(data.present("b")).tolist()
    one = data.take(alone.items[:1]).only(b="b")
    np.testing.assert_allclose(method.impute(one, "a").values, alone.values[:1], rtol=1e-5)
    assert len(method.impute(data.take(np.flatnonzero(data.present("a"))), "a")) == 0
    with pytest.raises(MissingModality, match='Did you mean "a"'):
        method.impute(data, "aa")


SWITCHES = {
    "all": {},
    "no distribution": {"lambda_d": 0.0},
    "no cross": {"lambda_x": 0.0},
    "no cycle": {"lambda_c": 0.0},
    "half the classes": {"lambda_s": 0.5},
    "no crossing at all": {"cross_from": 99},
    "no divergence": {"beta": 0.0},
    "at once": {"beta_epochs": 0},
    "dropout": {"dropout": 0.3},
    "no hidden layer": {"hidden": 0},
}


def test_every_switch_changes_the_model():
    data = incomplete(toy(60, {"a": 5, "b": 4, "c": 6}, classes=3, unlabelled=0.3, seed=1), "easy")
    fitted = [DAVAE(**{**QUICK, "epochs": 7, **switch}).fit(data) for switch in SWITCHES.values()]
    assert len({method.fingerprint() for method in fitted}) == len(SWITCHES)


def test_unknown_likelihood_names_the_nearest():
    with pytest.raises(UsageError, match='Did you mean "gaussian"'):
        DAVAE(**QUICK, likelihood="gauss").fit(toy(60, classes=3, seed=1))
