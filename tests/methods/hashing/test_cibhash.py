"""CIBHash across modalities: its losses at closed forms, straight-through bits, and who may take part."""

import math

import numpy as np
import pytest
import torch

from amodal.data import incomplete, toy
from amodal.errors import MethodError
from amodal.losses import bernoulli_kl, nt_xent
from amodal.methods import get
from amodal.methods.hashing.cibhash import _bits
from amodal.training import Batch, Batches

QUICK = {"bits": 8, "hidden": 16, "epochs": 5, "batch_size": 32, "rate": 0.01}


class Straight(get("cibhash")):
    """Logits are the features themselves."""

    def output(self, x, modality):
        return x


def stepped(x, rows, **params):
    method = Straight(**params)
    method.widths_ = {m: v.shape[1] for m, v in x.items()}
    count = 1 + max(int(r.max()) for r in rows.values())
    batch = Batch(x, rows, torch.zeros(count, 0), torch.zeros(count, dtype=torch.bool), torch.arange(count))
    return method.step(batch, epoch=0)


def logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_loss_of_pairs_is_contrast_of_signs_and_divergence_of_probabilities():
    a, b = logits(6, 8), logits(6, 8, seed=1)
    rows = {"image": torch.tensor([0, 1, 2, 3, 4, 5]), "text": torch.tensor([1, 2, 4, 5, 6, 7])}
    losses = stepped({"image": a, "text": b}, rows, tau=0.3, compression=0.01)
    left, right = a[[1, 2, 4, 5]], b[[0, 1, 2, 3]]
    contrast = nt_xent(left.sign(), right.sign(), 0.3)
    divergence = (bernoulli_kl(left, right) + bernoulli_kl(right, left)) / 2
    assert losses["contrast"].item() == pytest.approx(contrast.item(), rel=1e-5)
    assert losses["divergence"].item() == pytest.approx(divergence.item(), rel=1e-5)
    assert losses["loss"].item() == pytest.approx(contrast.item() + 0.01 * divergence.item(), rel=1e-5)


def test_random_codes_cost_log_of_the_others_and_equal_sides_have_no_divergence():
    everybody = {m: torch.arange(200) for m in ("image", "text")}
    losses = stepped({"image": logits(200, 4096), "text": logits(200, 4096, seed=1)}, everybody)
    assert losses["contrast"].item() == pytest.approx(math.log(399), abs=0.01)
    assert losses["divergence"].item() > 0.1
    same = logits(200, 64)
    assert stepped({"image": same, "text": same}, everybody)["divergence"].item() == 0


def test_three_modalities_count_every_pair_of_sides_alike():
    x = {m: logits(5, 16, seed=k) for k, m in enumerate(("photo", "sketch", "words"))}
    rows = {"photo": torch.arange(5), "sketch": torch.arange(5), "words": torch.arange(1, 6)}
    found = stepped(x, rows)["contrast"].item()
    signs = {m: v.sign() for m, v in x.items()}
    expected = 5 * nt_xent(signs["photo"], signs["sketch"], 0.3)
    for m in ("photo", "sketch"):
        expected = expected + 4 * nt_xent(signs[m][1:], signs["words"][:4], 0.3)
    assert found == pytest.approx(expected.item() / 13, rel=1e-5)


def test_bits_are_signs_with_the_gradient_of_probabilities():
    x = torch.tensor([[-2.0, 0.0, 0.5]], requires_grad=True)
    z = _bits(x)
    assert z.tolist() == [[-1.0, 1.0, 1.0]]
    (gradient,) = torch.autograd.grad(z.sum(), x)
    p = torch.sigmoid(x)
    torch.testing.assert_close(gradient, p * (1 - p))


def test_divergence_moves_each_side_towards_a_fixed_other():
    a, b = logits(4, 8).requires_grad_(), logits(4, 8, seed=1).requires_grad_()
    everybody = {m: torch.arange(4) for m in ("image", "text")}
    (found,) = torch.autograd.grad(stepped({"image": a, "text": b}, everybody)["divergence"], a)
    (expected,) = torch.autograd.grad(bernoulli_kl(a, b.detach()) / 2, a)
    torch.testing.assert_close(found, expected)


def test_items_with_one_modality_are_left_out_unless_they_have_views_of_their_own():
    gaps = incomplete(toy(100, seed=1), "hard")
    paired = gaps.take(np.flatnonzero(gaps.presence().all(axis=1)))
    left_out = get("cibhash").create(**QUICK).fit(gaps)
    assert left_out.fingerprint() == get("cibhash").create(**QUICK).fit(paired).fingerprint()
    with_views = get("cibhash").create(**QUICK, self_views=True).fit(gaps)
    assert with_views.fingerprint() != get("cibhash").create(**QUICK, self_views=True).fit(paired).fingerprint()
    one, other = (with_views._view(torch.zeros(50, gaps["image"].dim), "image") for _ in range(2))
    mean = with_views.network_.encoder[0].standardise.mean
    assert (one == mean).float().mean() == pytest.approx(0.2, abs=0.05)
    assert not torch.equal(one, other)


def test_views_of_their_own_are_for_items_alone():
    data = toy(40, seed=1)
    method = get("cibhash").create(**QUICK).fit(data)
    method.self_views = True
    batch = Batches(data, 40, 0).gather(np.arange(40))
    with_views = method.step(batch, epoch=0)["loss"].item()
    method.self_views = False
    assert method.step(batch, epoch=0)["loss"].item() == with_views


def test_without_pairs_it_says_what_could_learn():
    alone = incomplete(toy(50), presence={"image": 0.5, "text": 0.5})
    with pytest.raises(MethodError, match=r'"image" has another one.*label_contrastive.*self_views=True'):
        get("cibhash").create(**QUICK).fit(alone)
    with pytest.warns(UserWarning, match="nothing ties its codes"):
        get("cibhash").create(**QUICK, self_views=True).fit(alone)


def test_a_third_modality_that_nothing_ties_is_named():
    data = toy(60, {"photo": 8, "sketch": 6, "words": 10}, seed=1)
    presence = np.ones((60, 3), bool)
    presence[:30, 2] = False
    presence[30:, :2] = False
    with pytest.raises(MethodError, match='"words" has another one'):
        get("cibhash").create(**QUICK).fit(data.keep(presence))


@pytest.mark.parametrize("preset", ["released", "released_16bit"])
def test_presets_learn_without_labels(preset):
    data = toy(200, classes=4, seed=1)
    method = get("cibhash").create(preset=preset, hidden=16, epochs=30).fit(data)
    assert method.bits == (16 if preset == "released_16bit" else 64)
    assert method.validation_score(data) > 0.5
