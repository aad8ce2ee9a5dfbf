"""SSAH: the gradient of the released form, whom the adversary reaches, common codes, and presets."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from amodal.data import incomplete, toy
from amodal.methods import get
from amodal.methods.hashing.feature_hash import signs
from amodal.training import Batches

QUICK = {"bits": 8, "hidden": 16, "latent": 12, "epochs": 1, "batch_size": 32, "rate": 0.01}
RELEASED = {
    "beta": 1.0,
    "balance": "none",
    "pair_loss": "squared",
    "label_loss": "squared",
    "quant_target": "self",
    "reduction": "sum",
    "adversary": "released",
}


def prepared(data, **params):
    """A method after an epoch, about to begin the next one, and a batch."""
    method = get("ssah").create(**{**QUICK, **params}).fit(data)
    batches = Batches(data, 32, 0)
    method.network_.zero_grad(set_to_none=True)
    method.between(batches, 1, torch.device("cpu"))
    return method, batches.gather(np.arange(5, 37))


def gaps(**more):
    return incomplete(toy(100, multi_label=True, classes=4, seed=1, **more), "easy")


def test_released_form_gives_the_encoders_the_released_gradient():
    data = gaps()
    method, batch = prepared(data, **RELEASED)
    method.step(batch, 1)["loss"].backward()
    network, n = method.network_, len(data)
    labels = torch.from_numpy(data.labels.dense())
    with torch.no_grad():
        features, codes = network.label_outputs(labels)  # of all n items, not of distinct vectors
    for k, m in enumerate(data.names):
        rows = batch.index[batch.rows[m]]
        similar = (labels[rows] @ labels.T > 0).float()
        f = network.feature(batch.x[m], k)
        h = network.code(f, k)
        expected = ((h - signs(h.detach())) ** 2).sum()
        expected = expected + ((torch.sigmoid(network.classes[k](f)) - labels[rows]) ** 2).sum()
        for own, targets in ((f, features), (h, codes)):
            theta = 0.5 * own @ targets.T
            expected = expected + 0.5 * ((similar * theta - F.softplus(theta)) ** 2).sum()
        weight = network.encoder[k].layers[0].weight
        gradient = torch.autograd.grad(expected, weight)[0] / (len(rows) * n)
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-3, atol=1e-6)


def test_distinct_labels_stand_for_all_items():
    data = gaps()
    method, batch = prepared(data)
    assert len(method._distinct) < len(data) / 3
    found = method.step(batch, 1)
    method._distinct = torch.from_numpy(data.labels.dense())
    method._counts, method._which = torch.ones(len(data)), torch.arange(len(data))
    with torch.no_grad():
        method._features, method._codes = method.network_.label_outputs(method._distinct)
    dense = method.step(batch, 1)
    for name in ("features", "codes"):
        torch.testing.assert_close(found[name], dense[name])


@pytest.mark.parametrize(("adversary", "reached", "judge"), [("encoders", True, False), ("released", False, True)])
def test_adversary_reaches_the_encoders_alone(adversary, reached, judge):
    method, batch = prepared(gaps(), adversary=adversary)
    network = method.network_
    loss = method.step(batch, 1)["adversary"]
    encoders = list(network.encoder.parameters())
    judges = list(network.discriminator.parameters())
    found = torch.autograd.grad(loss, encoders + judges, allow_unused=True)
    assert any(g is not None and g.abs().max() > 0 for g in found[: len(encoders)]) == reached
    assert any(g is not None and g.abs().max() > 0 for g in found[len(encoders) :]) == judge


def test_discriminators_learn_without_touching_anything_else():
    method, batch = prepared(gaps())
    method.step(batch, 1)["discriminators"].backward()
    for name, parameter in method.network_.named_parameters():
        assert (parameter.grad is not None) == name.startswith("discriminator"), name


def test_common_code_is_of_labels_and_of_what_is_there():
    data = incomplete(toy(60, unlabelled=0.4, seed=1), "hard")
    method, _ = prepared(data)
    network, method_codes = method.network_.eval(), torch.zeros(60, 8)
    with torch.no_grad():
        for k, m in enumerate(data.names):
            x = torch.from_numpy(data[m].read())
            method_codes[data[m].item] += network.code(network.feature(x, k), k)
        of_labels = network.label_outputs(torch.from_numpy(data.labels.dense()))[1]
    known = torch.from_numpy(data.labels.known)
    expected = signs(method_codes + of_labels * known[:, None])
    assert not known.all()
    assert torch.equal(method._common, expected)


def test_released_preset_learns():
    data = toy(200, classes=4, seed=1)
    quick = {**QUICK, "hidden": 32, "epochs": 30, "rate_discriminator": 1e-3}
    assert get("ssah").create("released", **quick).fit(data).validation_score(data) > 0.6
