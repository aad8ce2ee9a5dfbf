"""Both players' losses: closed forms, edges, and which parameters get gradients."""

import math

import pytest
import torch
from torch import nn

from amodal.losses import (
    discriminator_loss,
    fooling_loss,
    gradient_penalty,
    least_squares_discriminator,
    least_squares_fooling,
    wasserstein_gap,
)
from tests.oracles.losses import softplus


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_logistic_losses_equal_the_loop():
    real, fake = 3 * draw(5), 3 * draw(7, seed=1)
    expected = sum(softplus(-x) for x in real.tolist()) / 5 + sum(softplus(x) for x in fake.tolist()) / 7
    assert discriminator_loss(real, fake).item() == pytest.approx(expected)
    assert fooling_loss(fake).item() == pytest.approx(sum(softplus(-x) for x in fake.tolist()) / 7)
    assert discriminator_loss(0 * real, 0 * fake).item() == pytest.approx(2 * math.log(2))


def test_players_pull_apart():
    real, fake = draw(5).requires_grad_(), draw(5, seed=1).requires_grad_()
    by_real, by_fake = torch.autograd.grad(discriminator_loss(real, fake), (real, fake))
    assert (by_real < 0).all()
    assert (by_fake > 0).all()
    assert (torch.autograd.grad(fooling_loss(fake), fake)[0] < 0).all()


def test_large_logits_are_finite():
    for loss in (discriminator_loss(-torch.ones(1) * 1e4, torch.ones(1) * 1e4), fooling_loss(torch.ones(1) * -1e4)):
        assert loss.item() == pytest.approx(1e4, rel=1.1)
        assert torch.isfinite(loss)


def test_a_side_without_rows_is_left_out():
    none, some = torch.zeros(0, requires_grad=True), draw(4)
    assert discriminator_loss(none, some).item() == pytest.approx(discriminator_loss(some[:0], some).item())
    assert fooling_loss(none).item() == 0
    for loss in (wasserstein_gap(none, some), wasserstein_gap(some, none), wasserstein_gap(none, none)):
        assert loss.item() == 0
        loss.backward()
    assert gradient_penalty(lambda x: x.sum(dim=1), draw(0, 3), draw(4, 3), draw(0, 1)).item() == 0


def test_wasserstein_gap_is_a_difference_of_means():
    assert wasserstein_gap(torch.tensor([1.0, 3.0]), torch.tensor([5.0])).item() == 3


def test_penalty_of_a_linear_critic_is_its_norm_less_one_squared():
    weight = draw(3).requires_grad_()
    penalty = gradient_penalty(lambda x: x @ weight, draw(4, 3), draw(6, 3, seed=1), torch.rand(4, 1).double())
    assert penalty.item() == pytest.approx((weight.norm().item() - 1) ** 2)
    found = torch.autograd.grad(penalty, weight)[0]
    torch.testing.assert_close(found, 2 * (weight.norm() - 1) * weight.detach() / weight.norm())


def test_penalty_is_taken_between_the_rows():
    real, fake, share = draw(5, 2), draw(5, 2, seed=1), torch.tensor([[0.0], [0.25], [0.5], [0.75], [1.0]]).double()
    seen = share * real + (1 - share) * fake
    penalty = gradient_penalty(lambda x: 0.5 * (x**2).sum(dim=1), real, fake, share)  # the slope is x itself
    assert penalty.item() == pytest.approx(((seen.norm(dim=1) - 1) ** 2).mean().item())


def test_penalty_teaches_the_critic_and_not_the_features():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))
    real, fake = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    gradient_penalty(critic, real, fake, torch.rand(4, 1)).backward()
    assert critic[0].weight.grad.abs().max() > 0
    assert real.grad is None
    assert fake.grad is None
    flat = nn.Linear(3, 1)
    nn.init.zeros_(flat.weight)
    gradient_penalty(lambda x: flat(x).squeeze(1), real, fake, torch.rand(4, 1)).backward()
    assert torch.isfinite(flat.weight.grad).all()


def test_squared_losses_equal_the_loop():
    real, fake = 3 * draw(5), 3 * draw(7, seed=1)
    expected = sum((x - 1) ** 2 for x in real.tolist()) / 5 + sum(x**2 for x in fake.tolist()) / 7
    assert least_squares_discriminator(real, fake).item() == pytest.approx(expected)
    assert least_squares_fooling(fake).item() == pytest.approx(sum((x - 1) ** 2 for x in fake.tolist()) / 7)


def test_squared_losses_are_least_where_each_player_wants_to_be():
    assert least_squares_discriminator(torch.ones(3), torch.zeros(2)).item() == 0
    assert least_squares_fooling(torch.ones(2)).item() == 0
    # knowing nothing, the best answer to both kinds of rows is one half
    answers = torch.linspace(0, 1, 11)[:, None].expand(-1, 4)
    losses = [least_squares_discriminator(answer, answer).item() for answer in answers]
    assert losses.index(min(losses)) == 5
    none = torch.zeros(0, requires_grad=True)
    assert least_squares_discriminator(none, torch.ones(2)).item() == 1
    assert least_squares_discriminator(torch.zeros(2), none).item() == 1
    least_squares_fooling(none).backward()
    assert none.grad.shape == (0,)
