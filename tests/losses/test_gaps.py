"""Distances between views: loops, closed forms, and when they vanish."""

import numpy as np
import pytest
import torch

from amodal.losses import absolute_gap, class_gaussians, gaussian_gap, squared_gap
from tests.oracles import losses as oracle


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def gaussians(seed):
    return draw(5, 3, seed=seed), draw(5, 3, seed=seed + 100).exp()


def test_gaps_equal_the_loop():
    a, b = draw(5, 3), draw(5, 3, seed=1)
    differences = [x - y for rows in zip(a.tolist(), b.tolist(), strict=True) for x, y in zip(*rows, strict=True)]
    assert float(squared_gap(a, b)) == pytest.approx(sum(x**2 for x in differences) / 15)
    assert float(absolute_gap(a, b)) == pytest.approx(sum(abs(x) for x in differences) / 15)


def test_wasserstein_equals_the_loop_and_is_zero_for_equal_gaussians_only():
    (mean, deviation), (other, spread) = gaussians(0), gaussians(1)
    assert float(gaussian_gap(mean, deviation, other, spread)) == pytest.approx(
        oracle.gaussian_gap(*(x.tolist() for x in (mean, deviation, other, spread)))
    )
    assert float(gaussian_gap(mean, deviation, mean, deviation)) == 0
    for moved in ((mean + 1e-3, deviation), (mean, 1.001 * deviation)):
        assert float(gaussian_gap(mean, deviation, *moved)) > 0


def test_wasserstein_is_the_cost_of_the_best_plan():
    # in one dimension the best plan takes sorted draws to sorted draws
    random = np.random.default_rng(0)
    a, b = (np.sort(mean + spread * random.standard_normal(200_000)) for mean, spread in ((0.3, 0.5), (-0.4, 1.2)))
    found = gaussian_gap(*(torch.tensor([[x]]) for x in (0.3, 0.5, -0.4, 1.2)))
    assert float(found) == pytest.approx(float(((a - b) ** 2).mean()), abs=0.01)


def test_gaussians_of_classes_have_the_moments_of_their_rows():
    mean, deviation = draw(6, 2), draw(6, 2, seed=1).exp()
    labels = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]]).double()
    count, centre, spread = class_gaussians(mean, deviation**2, labels)
    assert count.tolist() == [3, 3, 0]
    noise = draw(200_000, 2, seed=2)
    for k, rows in enumerate(([0, 1, 2], [2, 3, 4])):
        draws = torch.cat([mean[i] + deviation[i] * noise for i in rows])
        torch.testing.assert_close(centre[k], draws.mean(dim=0), atol=0.02, rtol=0.02)
        torch.testing.assert_close(spread[k], draws.std(dim=0), atol=0.02, rtol=0.02)
    assert centre[2].abs().max() == 0
    assert spread[2].max() < 1e-5


@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_and_one_row(rows):
    x, y = torch.ones(rows, 3, requires_grad=True), torch.zeros(rows, 3, requires_grad=True)
    for loss in (squared_gap(x, y), absolute_gap(x, y), gaussian_gap(x, x, y, x)):
        assert loss.item() == rows
        loss.backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(y.grad).all()
    for moment in class_gaussians(x, y, torch.ones(rows, 2)):
        assert torch.isfinite(moment).all()


def test_large_inputs_are_finite_and_float32_is_near_float64():
    x = torch.full((2, 3), 1e4)
    assert torch.isfinite(gaussian_gap(x, x, -x, x))
    (mean, deviation), (other, spread) = gaussians(0), gaussians(1)
    wide, narrow = (mean, deviation, other, spread), [y.float() for y in (mean, deviation, other, spread)]
    assert float(gaussian_gap(*narrow)) == pytest.approx(float(gaussian_gap(*wide)), rel=1e-5)
