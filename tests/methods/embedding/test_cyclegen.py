"""Cyclic generators: the checks of their section: who moves whom, what reaches 0, what pairs and labels add, codes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from amodal.codes import BinaryCodes
from amodal.data import Observations, incomplete, toy
from amodal.methods import load, save
from amodal.methods.embedding.cyclegen import CycleGen
from amodal.methods.embedding.cyclegen_networks import SpectralDiscriminator
from amodal.training import Batches

QUICK = {"dim": 8, "hidden": 32, "epochs": 12, "batch_size": 32, "rate": 0.01, "adversary_from": 4}


def prepared(data, **params):
    """A method as it is before its first step, and the data as one batch."""
    method = CycleGen(**{**QUICK, **params})
    method.meet(data)
    method.network_ = method.draw()
    method.prepare(data)
    return method, Batches(data, len(data), 0).gather(np.arange(len(data)))


def taught(method, batch, term):
    """Which parts of the networks a term moves, as (part, position)."""
    method.network_.zero_grad(set_to_none=True)
    method.step(batch, 10)[term].backward()
    named = method.network_.named_parameters()
    return {tuple(name.split(".")[:2]) for name, p in named if p.grad is not None and p.grad.abs().max() > 0}


def gaps(n=90, **params):
    return incomplete(toy(n, classes=3, seed=1, **params), "easy")


def twins(n=128):
    """Two modalities with the same features, all on a plane that a bottleneck can hold."""
    random = np.random.default_rng(0)
    x = (random.standard_normal((n, 2)) @ random.standard_normal((2, 6))).astype(np.float32)
    data = toy(n, {"a": 6, "b": 6}, classes=3, seed=1)
    return data.with_tables({m: Observations(x, data[m].item) for m in data.names})


def test_discriminators_step_alone_and_fooling_moves_none_of_them():
    method, batch = prepared(gaps())
    assert {part for part, _ in taught(method, batch, "judging")} == {"discriminator"}
    fooling = {part for part, _ in taught(method, batch, "fooling")}
    assert fooling == {"encoder", "project", "decoder"}
    for term in ("reconstruction", "cycle", "latent", "pairs", "classes"):
        assert "discriminator" not in {part for part, _ in taught(method, batch, term)}


def test_one_step_of_the_discriminators_leaves_generators_where_they_are():
    method, batch = prepared(gaps())
    before = {name: value.clone() for name, value in method.network_.named_parameters()}
    optimizer = method.optimizer()
    method.step(batch, 10)["judging"].backward()
    optimizer.step()
    moved = {name.split(".")[0] for name, p in method.network_.named_parameters() if (p != before[name]).any()}
    assert moved == {"discriminator"}


def test_there_is_no_adversary_before_its_epoch_or_without_weight():
    method, batch = prepared(gaps())
    for epoch in (0, 3, 4, 9):
        assert ("fooling" in method.step(batch, epoch)) == ("judging" in method.step(batch, epoch)) == (epoch >= 4)
    assert "judging" not in prepared(gaps(), lambda_a=0.0)[0].step(batch, 9)


def test_spectral_norms_are_one():
    torch.manual_seed(0)
    judge, x = SpectralDiscriminator(20), torch.randn(50, 20)
    for _ in range(50):
        judge(x)
    for layer in judge.layers[::2]:
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=0.05)
    near = judge.eval()(x), judge(x + 0.01 * torch.nn.functional.normalize(torch.randn(50, 20), dim=1))
    assert (near[0] - near[1]).abs().max() < 0.0115


def test_judging_is_the_squared_loss_over_every_translation():
    data = incomplete(toy(60, {"a": 5, "b": 4, "c": 6}, classes=3, seed=1), "easy")
    method, batch = prepared(data, noise=0.0)
    method.network_.eval()
    losses, network, names = method.step(batch, 10), method.network_, list(data.names)
    scaled = {m: network.scale(k)(batch.x[m]) for k, m in enumerate(names)}
    judging = fooling = 0.0
    for b, target in enumerate(names):
        fakes = [network.decoded(network.latent(batch.x[a], names.index(a)), b) for a in names if a != target]
        answers = [network.judge(b)(fake) for fake in fakes]
        judging += ((network.judge(b)(scaled[target]) - 1) ** 2).mean() + (torch.cat(answers) ** 2).mean()
        fooling += sum(((answer - 1) ** 2).mean() for answer in answers)
    torch.testing.assert_close(losses["judging"], judging, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["fooling"], fooling, rtol=1e-4, atol=1e-5)


def test_terms_equal_the_formula():
    method, batch = prepared(gaps(), noise=0.0, hash=True)
    losses, network = method.step(batch, 0), method.network_
    x = [network.scale(k)(batch.x[m]) for k, m in enumerate(batch.x)]
    z = [network.encoded(x[k], k) for k in range(2)]
    expected = {
        "reconstruction": sum(((x[k] - network.decoded(z[k], k)) ** 2).mean() for k in range(2)),
        "cycle": 0.0,
        "latent": 0.0,
        "hash": sum(((z[k].tanh() - z[k].sign()) ** 2).mean() for k in range(2)),
        "pairs": 0.0,
    }
    here = dict(zip((0, 1), batch.pairs("image", "text"), strict=True))
    assert 0 < len(here[0]) < len(batch.index)
    for a, b in ((0, 1), (1, 0)):
        made = network.decoded(z[a], b)
        again = network.encoded(made, b)
        expected["cycle"] += (x[a] - network.decoded(again, a)).abs().mean()
        expected["latent"] += ((z[a] - again) ** 2).mean()
        expected["pairs"] += ((x[b][here[b]] - made[here[a]]) ** 2).mean()
    expected["pairs"] += ((z[0][here[0]] - z[1][here[1]]) ** 2).mean()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5)
    weights = {"reconstruction": 1, "cycle": 10, "latent": 1, "hash": 0.1, "pairs": 1, "classes": 1}
    total = sum(weight * losses[name] for name, weight in weights.items())
    torch.testing.assert_close(losses["loss"], total, rtol=1e-4, atol=1e-4)


def test_generated_features_are_read_with_noise():
    data = gaps()
    method, batch = prepared(data)
    first, second = (method.step(batch, 0) for _ in range(2))
    assert first["cycle"] != second["cycle"]
    assert first["latent"] != second["latent"]
    assert first["reconstruction"] == second["reconstruction"]
    quiet, batch = prepared(data, noise=0.0)
    assert quiet.step(batch, 0)["cycle"] == quiet.step(batch, 0)["cycle"]


def test_between_identical_modalities_everything_reaches_zero():
    data = twins()
    arguments = {**QUICK, "hidden": 0, "epochs": 120, "rate": 0.02}
    method = CycleGen(**arguments, noise=0.0, lambda_a=0.0, lambda_s=0.0).fit(data)
    batch = Batches(data, len(data), 0).gather(np.arange(len(data)))
    losses = method.step(batch, 0)
    for name in ("reconstruction", "cycle", "latent", "pairs"):
        assert losses[name].item() < 0.02, name


def test_without_pairs_and_labels_classes_cannot_be_told_apart_as_with_them():
    whole = toy(120, classes=4, seed=1)
    data = incomplete(whole, presence={"image": 0.5, "text": 0.5})
    arguments = {**QUICK, "epochs": 30, "lambda_c": 1.0}
    free, told = (CycleGen(**arguments, unsupervised=free).fit(data).validation_score(whole) for free in (True, False))
    assert free < 0.6 < 0.9 < told


def test_unsupervised_looks_at_neither_pairs_nor_labels():
    data = gaps()
    method, batch = prepared(data, unsupervised=True)
    assert not {"pairs", "classes"} & set(method.step(batch, 10))
    assert method.network_.classes is None
    bare = replace(data, labels=None)
    both = [CycleGen(**QUICK, unsupervised=True).fit(some) for some in (data, bare)]
    for name in data.names:
        assert both[0].encode_table(data[name], name) == both[1].encode_table(data[name], name)


def test_pairs_teach_without_labels_and_labels_without_pairs():
    data = gaps()
    method, batch = prepared(replace(data, labels=None))
    assert {"pairs", "classes"} & set(method.step(batch, 10)) == {"pairs"}
    apart = incomplete(toy(90, classes=3, seed=1), presence={"image": 0.5, "text": 0.5})
    method, batch = prepared(apart)
    losses = method.step(batch, 10)
    assert losses["pairs"].item() == 0
    assert losses["classes"].item() > 0


def test_codes_are_the_signs_of_the_bottleneck(tmp_path):
    data = gaps()
    method = CycleGen(**QUICK, hash=True).fit(data)
    for k, name in enumerate(data.names):
        x = data[name].read()
        codes = method.encode(x, name)
        assert isinstance(codes, BinaryCodes)
        z = method.network_.latent(torch.from_numpy(x), k).detach().numpy()
        sure = np.abs(z) > 1e-4
        assert (codes.signs() == np.where(z >= 0, 1, -1))[sure].all()
        assert load(save(method, tmp_path / name)).encode(x, name) == codes
    assert method.validation_score(data) > 0.75


def test_codes_lose_less_when_asked_for_in_training():
    data = gaps()

    def distance(eta):
        method = CycleGen(**QUICK, hash=True, eta=eta).fit(data)
        z = method.network_.latent(torch.from_numpy(data["text"].read()), 1)
        return ((z.tanh().abs() - 1) ** 2).mean().item()

    assert distance(3.0) < 0.7 * distance(0.0)


def test_imagined_features_are_nearer_than_the_mean_in_their_own_scale():
    whole = toy(200, {"a": 8, "b": 6, "c": 5}, classes=3, seed=3)
    whole = whole.with_tables({m: Observations(50 + 9 * whole[m].read(), whole[m].item) for m in whole.names})
    data = incomplete(whole, "easy", seed=1)
    method = CycleGen(**{**QUICK, "epochs": 30}, lambda_c=1.0, lambda_a=0.0).fit(data)
    for name in data.names:
        found = method.impute(data, name)
        true, mean = whole[name].read()[found.items], data[name].read().mean(axis=0)
        assert np.square(found.values - true).mean() < 0.97 * np.square(mean - true).mean()
    alone = method.impute(data.only(b="b"), "a")
    x = torch.from_numpy(data["b"].read())
    torch.testing.assert_close(
        torch.from_numpy(alone.values), method.translated(x, "b", "a").detach(), rtol=1e-4, atol=1e-3
    )


def test_what_is_imagined_of_words_is_never_negative():
    whole, random = toy(120, {"a": 6, "b": 6}, classes=3, seed=1), np.random.default_rng(0)
    rates = np.where(np.arange(40)[None, :] % 6 == whole.labels.dense().argmax(axis=1)[:, None], 0.8, 0.01)
    counts = random.poisson(rates).astype(np.float32)
    data = incomplete(whole.with_tables({"a": whole["a"], "b": Observations(counts, np.arange(120))}), "easy")
    found = CycleGen(**QUICK).fit(data).impute(data, "b")
    assert (found.values >= 0).all()
    assert found.values.max() < 2 * counts.max()


SWITCHES = {
    "all": {},
    "no cycle": {"lambda_c": 0.0},
    "no adversary": {"lambda_a": 0.0},
    "adversary later": {"adversary_from": 5},
    "no agreement": {"lambda_l": 0.0},
    "no pairs": {"lambda_p": 0.0},
    "more of classes": {"lambda_s": 3.0},
    "no noise": {"noise": 0.0},
    "codes": {"hash": True},
    "other codes": {"hash": True, "eta": 1.0},
    "dropout": {"dropout": 0.3},
    "no hidden layer": {"hidden": 0},
}


def test_every_switch_changes_the_model():
    data = incomplete(toy(60, {"a": 5, "b": 4, "c": 6}, classes=3, unlabelled=0.3, seed=1), "easy")
    fitted = [CycleGen(**{**QUICK, "epochs": 6, **switch}).fit(data) for switch in SWITCHES.values()]
    assert len({method.fingerprint() for method in fitted}) == len(SWITCHES)
