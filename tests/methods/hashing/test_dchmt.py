"""DCHMT: its distance is that of one-hot choices, its code the larger logit, and what both hash layers learn."""

import math

import pytest
import torch

from amodal.data import incomplete, toy
from amodal.errors import UsageError
from amodal.losses import margin_distance
from amodal.methods import get
from amodal.training import Batch, Batches

QUICK = {"bits": 8, "hidden": 16, "epochs": 5, "batch_size": 32, "rate": 0.01}


class Straight(get("dchmt")):
    """Relaxed codes are the features themselves."""

    def output(self, x, modality):
        return x


def one_batch(**params):
    """A method, and a batch of 6 items with codes, of which one has no text and one no label."""
    generator = torch.Generator().manual_seed(0)
    method = Straight(bits=4, **params)
    method.widths_, method.classes_ = {"image": 4, "text": 4}, ("a", "b", "c")
    codes = {name: torch.tanh(torch.randn(6, 4, generator=generator)) for name in method.widths_}
    labels = torch.eye(3)[[0, 1, 0, 2, 1, 0]]
    labels[5] = 0
    batch = Batch(
        {"image": codes["image"], "text": codes["text"][:5]},
        {"image": torch.arange(6), "text": torch.arange(5)},
        labels,
        torch.tensor([True] * 5 + [False]),
        torch.arange(6),
    )
    return method, batch


@pytest.mark.parametrize("balance", ["half", "none"])
def test_loss_is_the_distance_of_one_hot_choices_within_and_across(balance):
    method, batch = one_batch(balance=balance, margin=0.75)
    chosen = {m: torch.stack([(1 + h) / 2, (1 - h) / 2], dim=2).flatten(1) for m, h in batch.x.items()}
    image, text = chosen["image"][:5], chosen["text"]
    similar = (batch.labels[:5] @ batch.labels[:5].T > 0).float()
    expected = sum(
        margin_distance(a, b, similar, math.sqrt(2 * 4 * 0.75), balance=balance)
        for a, b in ((image, text), (image, image), (text, text))
    )
    losses = method.step(batch, epoch=0)
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["loss"].item() == pytest.approx((losses["within"] + losses["across"]).item())


@pytest.mark.parametrize(("differing", "free"), [(1, False), (2, True), (3, True)])
def test_half_of_the_bits_is_far_enough(differing, free):
    method, batch = one_batch(margin=0.5)
    code = torch.ones(4)
    other = torch.cat([-torch.ones(differing), torch.ones(4 - differing)])
    batch.x = {"image": code.repeat(1, 1), "text": other.repeat(1, 1)}
    batch.rows = {"image": torch.tensor([0]), "text": torch.tensor([1])}  # classes "a" and "b"
    assert (method.step(batch, epoch=0)["loss"].item() < 1e-6) == free


def test_equal_outputs_of_one_class_cost_nothing_and_leave_finite_gradients():
    method, batch = one_batch()
    batch.labels[:] = torch.tensor([1.0, 0.0, 0.0])
    same = torch.full((6, 4), 0.3, requires_grad=True)
    batch.x = {"image": same, "text": same[:5]}
    assert method.step(batch, epoch=0)["loss"].item() == 0
    batch.labels[::2] = torch.tensor([0.0, 1.0, 0.0])  # coincide, and should not
    method.step(batch, epoch=0)["loss"].backward()
    assert torch.isfinite(same.grad).all()


def test_code_is_the_larger_of_two_logits():
    data = toy(60, classes=4, seed=1)
    method = get("dchmt")(**QUICK).fit(data)
    x = torch.from_numpy(data["image"].read())
    with torch.inference_mode():
        logits = method.network_.code(method.network_.feature(x, 0), 0).view(-1, 8, 2)
        torch.testing.assert_close(method.output(x, "image"), logits.softmax(2)[..., 1] * 2 - 1, rtol=1e-4, atol=1e-5)
        flat = torch.zeros_like(logits)
        method.network_.code = lambda feature, position: flat.flatten(1)
        assert (method._encode(x.numpy(), "image").signs() == 1).all()  # a tie is +1


def test_linear_hash_layer_learns_with_dropout_on_its_outputs():
    data = incomplete(toy(200, classes=4, seed=1), "hard")
    method = get("dchmt")(**{**QUICK, "hash_layer": "linear", "dropout": 0.5, "epochs": 40}).fit(data)
    assert method.validation_score(toy(200, classes=4, seed=1)) > 0.6
    x = Batches(data, 32, 0).gather(torch.arange(32).numpy()).x["image"]
    assert torch.equal(method.output(x, "image"), method.output(x, "image"))
    method.network_.train()
    assert (method.output(x, "image") == 0).float().mean() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("preset", ["released", "released_coco"])
def test_presets_learn(preset):
    data = toy(200, classes=4, seed=1)
    params = {**QUICK, "epochs": 40, "weight_decay": 0.01}
    assert get("dchmt").create(preset=preset, **params).fit(data).validation_score(data) > 0.6


def test_unknown_hash_layer_names_the_nearest():
    with pytest.raises(UsageError, match=r'"liner".*"linear"'):
        get("dchmt")(**QUICK, hash_layer="liner").fit(toy(50))
