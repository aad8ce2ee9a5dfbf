"""Divergence and reconstruction: closed forms, sampled truth, and where gradients may go."""

import numpy as np
import pytest
import torch

from amodal.losses import bernoulli_kl, gaussian_kl, reconstruction
from tests.oracles import losses as oracle


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def test_kl_equals_the_loop_and_is_zero_at_the_prior_only():
    mean, log_variance = draw(5, 3), draw(5, 3, seed=1)
    assert float(gaussian_kl(mean, log_variance)) == pytest.approx(
        oracle.gaussian_kl(mean.tolist(), log_variance.tolist()), rel=1e-12
    )
    assert float(gaussian_kl(torch.zeros(4, 6), torch.zeros(4, 6))) == 0
    assert float(gaussian_kl(mean, log_variance)) > 0


def test_kl_equals_what_sampling_gives():
    mean, log_variance = torch.tensor([[0.7]]).double(), torch.tensor([[-0.4]]).double()
    deviation = (log_variance / 2).exp()
    z = mean + deviation * torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0)).double()
    posterior = torch.distributions.Normal(mean, deviation).log_prob(z)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z)
    assert float(gaussian_kl(mean, log_variance)) == pytest.approx(float((posterior - prior).mean()), abs=0.01)


@pytest.mark.parametrize("released", [False, True])
def test_reconstruction_never_moves_its_target(released):
    predicted, target = draw(4, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_()
    reconstruction(predicted, target, released=released).backward()
    assert target.grad is None
    assert predicted.grad.abs().min() > 0


def test_reconstruction_equals_its_formula():
    predicted, target = draw(4, 3), draw(4, 3, seed=1)
    rows = [
        sum((p - t) ** 2 for p, t in zip(*pair, strict=True)) / (2 * 3) for pair in zip(predicted, target, strict=True)
    ]
    assert float(reconstruction(predicted, target)) == pytest.approx(float(sum(rows)) / 4)
    share, guess = target.sigmoid(), predicted.sigmoid()
    entropy = -(share * guess.log() + (1 - share) * (1 - guess).log()).mean()
    assert float(reconstruction(predicted, target, released=True)) == pytest.approx(float(entropy))


def test_released_form_is_best_where_prediction_equals_target():
    target = draw(6, 3)
    exact = float(reconstruction(target, target, released=True))
    for step in (-0.1, 0.1):
        assert float(reconstruction(target + step, target, released=True)) > exact
    assert float(reconstruction(target, target)) == 0


@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_and_one_row(rows):
    x = torch.ones(rows, 3, requires_grad=True)
    for loss in (gaussian_kl(x, x), reconstruction(x, x.detach()), reconstruction(x, x.detach(), released=True)):
        assert loss.shape == ()
        assert torch.isfinite(loss)
        assert rows or loss.item() == 0
        loss.backward()
    assert torch.isfinite(x.grad).all()


def test_large_inputs_are_finite():
    x = torch.full((2, 3), 1e4)
    assert torch.isfinite(gaussian_kl(x, torch.full((2, 3), 8.0)))
    assert torch.isfinite(gaussian_kl(x, torch.full((2, 3), -80.0)))
    for released in (False, True):
        assert torch.isfinite(reconstruction(x, -x, released=released))


def test_float32_is_near_float64():
    a, b = draw(20, 8), draw(20, 8, seed=1)
    assert float(gaussian_kl(a.float(), b.float())) == pytest.approx(float(gaussian_kl(a, b)), rel=1e-5)
    for released in (False, True):
        wide = float(reconstruction(a, b, released=released))
        assert float(reconstruction(a.float(), b.float(), released=released)) == pytest.approx(wide, rel=1e-5)


def test_kl_of_bits_equals_the_loop_and_is_zero_for_the_same_bits_only():
    a, b = 3 * draw(5, 3), 3 * draw(5, 3, seed=1)
    assert float(bernoulli_kl(a, b)) == pytest.approx(oracle.bernoulli_kl(a.tolist(), b.tolist()), rel=1e-12)
    assert bernoulli_kl(a, a).item() == 0
    near = a.clone()
    near[2, 1] += 0.01
    assert float(bernoulli_kl(a, near)) > 0


def test_kl_of_bits_is_pytorchs():
    a, b = draw(4, 6), draw(4, 6, seed=1)
    p, q = (torch.distributions.Bernoulli(logits=x) for x in (a, b))
    torch.testing.assert_close(bernoulli_kl(a, b), torch.distributions.kl_divergence(p, q).sum(dim=1).mean())


def test_kl_of_certain_bits_is_finite():
    a = torch.full((2, 3), 1e4, requires_grad=True)
    loss = bernoulli_kl(a, -a.detach())
    loss.backward()
    assert torch.isfinite(a.grad).all()
    assert loss.item() == pytest.approx(3e4)
    assert bernoulli_kl(a, a).item() == 0
    empty = torch.zeros(0, 3, requires_grad=True)
    assert bernoulli_kl(empty, empty).item() == 0
