"""DCMH: the published gradient, its limits, and its fill policies."""

import numpy as np
import pytest
import torch

from amodal.data import incomplete, toy
from amodal.errors import MethodError, UsageError
from amodal.methods import get
from amodal.methods.hashing.feature_hash import Memory, signs
from amodal.training import Batch, Batches

QUICK = {"bits": 8, "hidden": 16, "epochs": 5, "batch_size": 32, "rate": 0.01}


class Straight(get("dcmh")):
    """Outputs are the features themselves, so that gradients with respect to codes can be read off."""

    def output(self, x, modality):
        return x


def one_batch(**params):
    """A method, and a batch of 5 images out of 12 items with codes and labels in memory; one text is absent."""
    random = np.random.default_rng(0)
    labels = torch.from_numpy((random.random((12, 4)) < 0.4).astype(np.float64))
    labels[:, 0] = torch.where(labels.any(dim=1), labels[:, 0], torch.ones(12, dtype=torch.float64))
    codes = {name: torch.from_numpy(random.standard_normal((12, 6))) for name in ("image", "text")}
    method = Straight(bits=6, **params)
    method.widths_, method.classes_ = {"text": 6, "image": 6}, ("a", "b", "c", "d")
    method._memory = Memory(labels, dict.fromkeys(codes, torch.arange(12)), {m: c.clone() for m, c in codes.items()})
    method._common = signs(codes["image"] + codes["text"])
    index = torch.tensor([1, 3, 4, 8, 10])
    f = codes["image"][index].clone().requires_grad_()
    batch = Batch(
        {"image": f, "text": codes["text"][index]},
        {"image": torch.arange(5), "text": torch.arange(5)},
        labels[index],
        torch.ones(5, dtype=torch.bool),
        index,
    )
    return method, batch, f, codes, labels


def test_gradient_of_the_sum_form_is_the_published_one():
    method, batch, f, codes, labels = one_batch(balance="none", reduction="sum", joint=False, gamma=1.3, eta=0.7)
    method.step(batch, epoch=0)["loss"].backward()  # the last modality, image, has its turn
    g, n = codes["text"], 12
    theta = 0.5 * f.detach() @ g.T
    similar = (labels[batch.index] @ labels.T > 0).double()
    expected = 0.5 * (torch.sigmoid(theta) - similar) @ g
    expected += 2 * 1.3 * (f.detach() - method._common[batch.index])
    expected += 2 * 0.7 * codes["image"].sum(dim=0)
    torch.testing.assert_close(f.grad, expected / (5 * n), rtol=1e-9, atol=1e-12)


def test_mean_form_of_one_batch_by_hand():
    method, batch, f, codes, _ = one_batch(gamma=1.0, eta=1.0, joint=False)
    losses = method.step(batch, epoch=0)
    expected = ((f - method._common[batch.index]) ** 2).sum(dim=1).mean() / 6
    assert losses["distance"].item() == pytest.approx(expected.item())
    assert losses["evenness"].item() == pytest.approx((codes["image"].mean(dim=0) ** 2).sum().item() / 6)


def test_modalities_take_turns_last_one_first():
    method, batch, f, *_ = one_batch(joint=False)
    loss = method.step(batch, epoch=1)["loss"]
    assert not loss.requires_grad
    batch.x["text"].requires_grad_()
    method.step(batch, epoch=1)["loss"].backward()
    assert f.grad is None
    assert batch.x["text"].grad.abs().max() > 0


def test_loss_vanishes_for_one_class_as_codes_grow():
    method, batch, *_ = one_batch(gamma=0.0, eta=0.0)
    method._memory.labels[:] = 1
    batch.labels[:] = 1
    for m in ("image", "text"):
        method._memory.values[m][:] = 10
        batch.x[m] = torch.full((5, 6), 10.0, dtype=torch.float64)
    assert method.step(batch, epoch=0)["loss"].item() < 1e-9


@pytest.mark.parametrize("preset", ["matlab", "tf"])
def test_presets_learn(preset):
    data = toy(200, classes=4, seed=1)
    method = get("dcmh").create(preset=preset, **{**QUICK, "epochs": 60, "rate": 0.1}).fit(data)
    assert method.validation_score(data) > 0.6


def test_drop_learns_from_pairs_alone_and_mean_makes_every_item_whole():
    gaps = incomplete(toy(100, seed=1), "hard")
    paired = gaps.take(np.flatnonzero(gaps.presence().all(axis=1)))
    dropped = get("dcmh").create(**QUICK, fill="drop").fit(gaps)
    assert dropped.fingerprint() != get("dcmh").create(**QUICK, fill="mask").fit(gaps).fingerprint()
    whole = get("dcmh").create(**QUICK, fill="drop").fit(paired)
    assert dropped.fingerprint() == whole.fingerprint()

    method = get("dcmh").create(**QUICK, fill="mean").fit(gaps)
    batch = method.received(Batches(gaps, 100, 0).gather(np.arange(100)))
    for k, name in enumerate(gaps.names):
        assert len(batch.x[name]) == 100
        absent = np.flatnonzero(~gaps.present(name))
        standardised = method.network_.encoder[k].standardise(batch.x[name])
        assert standardised[absent].abs().max() < 1e-6
        assert standardised[np.flatnonzero(gaps.present(name))].abs().max() > 1


def test_drop_without_pairs_is_refused():
    with pytest.raises(MethodError, match="no item has every modality"):
        get("dcmh").create(**QUICK, fill="drop").fit(incomplete(toy(50), presence={"image": 0.5, "text": 0.5}))
    with pytest.raises(UsageError, match=r'"maks".*"mask"'):
        get("dcmh").create(**QUICK, fill="maks").fit(toy(50))
