"""DADH: discrete codes of labels, whom the adversaries reach, the weights of triplets, and the preset."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from amodal.data import incomplete, toy
from amodal.methods import get
from amodal.methods.hashing.dadh import label_projection
from amodal.training import Batches

QUICK = {"bits": 8, "hidden": 16, "latent": 12, "epochs": 1, "batch_size": 32, "rate": 0.01}


def prepared(data, **params):
    """A method after an epoch, about to begin the next one, and a batch."""
    method = get("dadh").create(**{**QUICK, **params}).fit(data)
    batches = Batches(data, 32, 0)
    method.network_.zero_grad(set_to_none=True)
    method.between(batches, 1, torch.device("cpu"))
    return method, batches.gather(np.arange(5, 37))


def gaps(**more):
    return incomplete(toy(100, multi_label=True, classes=4, seed=1, **more), "easy")


def test_projection_is_ridge_regression():
    rng = np.random.default_rng(0)
    labels, codes = (rng.random((50, 4)) < 0.4).astype(float), np.sign(rng.standard_normal((50, 6)))
    expected = Ridge(alpha=2.5, fit_intercept=False).fit(labels, codes).coef_.T
    found = label_projection(torch.from_numpy(labels), torch.from_numpy(codes), 2.5)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


def test_without_mu_equal_labels_have_equal_codes():
    data = gaps()
    method, _ = prepared(data, mu=0.0)
    codes = method._discrete.numpy()
    _, which = np.unique(data.labels.dense(), axis=0, return_inverse=True)
    assert len(set(which)) > 4
    for one in set(which):
        assert len(np.unique(codes[which == one], axis=0)) == 1
    assert len(np.unique(codes, axis=0)) > 4


def test_mu_lets_the_networks_speak_and_alone_where_there_is_no_label():
    data = gaps(unlabelled=0.3)
    method, _ = prepared(data, mu=1e-5)
    network, total = method.network_.eval(), torch.zeros(len(data), 8)
    with torch.no_grad():
        for k, m in enumerate(data.names):
            total[data[m].item] += network.code(network.feature(torch.from_numpy(data[m].read()), k), k)
    unknown = ~data.labels.known
    assert unknown.any()
    assert torch.equal(method._discrete[unknown], torch.where(total[unknown] >= 0, 1.0, -1.0))
    loud, _ = prepared(data, mu=1e5)
    assert not torch.equal(loud._discrete[~unknown], method._discrete[~unknown])


@pytest.mark.parametrize("scope", ["encoder", "head"])
def test_first_modality_is_real_and_the_others_learn_to_pass(scope):
    method, batch = prepared(gaps(), adv_scope=scope, latent=64)
    first, other = range(2)
    network = method.network_
    features = [network.feature(batch.x[m], k) for k, m in enumerate(method.widths_)]
    loss = method.step(batch, 1)["adversary"]
    loss.backward()
    assert list(method.widths_)[first] == "image"
    for part in (network.encoder, network.head):
        assert all(p.grad is None for p in part[first].parameters())
        assert any(p.grad.abs().max() > 0 for p in part[other].parameters())
    assert all(p.grad is None for p in network.discriminator.parameters())
    by_features = method._opposed("feature", features)[0]
    alone = torch.autograd.grad(by_features, network.encoder[other].layers[0].weight)[0]
    both = network.encoder[other].layers[0].weight.grad
    assert torch.allclose(alone, both, atol=1e-8) == (scope == "head")


def test_discriminators_learn_without_touching_anything_else():
    method, batch = prepared(gaps())
    method.step(batch, 1)["discriminators"].backward()
    for name, parameter in method.network_.named_parameters():
        assert (parameter.grad is not None) == name.startswith("discriminator"), name


def test_grading_matters_where_items_share_several_labels():
    method, batch = prepared(gaps())
    found = {}
    for graded in (True, False):
        method.graded = graded
        found[graded] = method.step(batch, 1)["triplets"].item()
    assert found[True] != pytest.approx(found[False], rel=1e-6)


def test_released_reduction_is_the_sum_with_its_constants():
    method, batch = prepared(gaps(), graded=False)
    mean = method.step(batch, 1)["triplets"].item()
    method.reduction = "released"
    total = method.step(batch, 1)["triplets"].item()
    known = {m: batch.labels[batch.rows[m]] for m in method.widths_}
    similar = (known["image"] @ known["text"].T > 0).float()
    counts = [(s.sum(dim=1) * (1 - s).sum(dim=1)).sum().item() for s in (similar, similar.T)]
    # both directions have about the same hinge: the released sum lies between the two counts
    assert 12.1 * min(counts) * mean * 0.5 < total < 12.1 * max(counts) * mean


def test_batch_of_one_modality_is_learned_from():
    data = gaps()
    method, _ = prepared(data)
    for name, other in (("image", "text"), ("text", "image")):
        alone = np.flatnonzero(data.present(name) & ~data.present(other))[:1]
        losses = method.step(Batches(data, 32, 0).gather(alone), 1)
        losses["loss"].backward()
        assert losses["triplets"].item() == 0
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in method.network_.parameters())


def test_released_preset_learns():
    data = toy(200, classes=4, seed=1)
    quick = {**QUICK, "hidden": 32, "latent": 16, "epochs": 30}
    assert get("dadh").create("released", **quick).fit(data).validation_score(data) > 0.6
