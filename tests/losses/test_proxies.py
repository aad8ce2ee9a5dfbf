"""Proxy-Anchor: against the sum pair by pair, its limits, and extremes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.losses import proxy_anchor
from tests.oracles import losses as oracle


def draw(seed, m, c):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(-1, 1, (m, c))), torch.from_numpy((rng.random((m, c)) < 0.4).astype(float))


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 5), st.floats(0.5, 32), st.floats(0, 0.5))
@settings(max_examples=40, deadline=None)
def test_equals_the_sum_pair_by_pair(seed, m, c, scale, margin):
    similarity, positives = draw(seed, m, c)
    expected = oracle.proxy_anchor(similarity.tolist(), positives.tolist(), scale=scale, margin=margin)
    found = proxy_anchor(similarity, positives, scale=scale, margin=margin)
    assert found.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_one_perfect_sample_per_class_tends_to_zero_as_the_scale_grows():
    similarity, positives = 2 * torch.eye(4) - 1, torch.eye(4)
    values = [proxy_anchor(similarity, positives, scale=scale).item() for scale in (2, 8, 32, 128)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 1e-9


def test_rises_as_the_worst_violation():
    similarity = torch.tensor([[0.5], [-0.7]], dtype=torch.float64)
    found = proxy_anchor(similarity, torch.ones(2, 1), scale=1e4, margin=0.1)
    assert found.item() == pytest.approx(1e4 * 0.8)


def test_gradient_is_that_of_a_weighted_sum_and_finite_where_a_class_has_no_sample():
    similarity, _ = draw(0, 5, 3)
    similarity.requires_grad_()
    positives = torch.tensor([[1.0, 0, 0]] * 5)
    proxy_anchor(similarity, positives, scale=4.0, margin=0.1).backward()
    pull, push = (torch.exp(sign * 4 * (similarity.detach() + sign * 0.1)) for sign in (-1, 1))
    expected = torch.stack(
        [
            -4 * pull[:, 0] / (1 + pull[:, 0].sum()),
            *(4 / 3 * push[:, k] / (1 + push[:, k].sum()) for k in (1, 2)),
        ],
        dim=1,
    )
    torch.testing.assert_close(similarity.grad, expected)


def test_half_precision_does_not_overflow():
    similarity = torch.tensor([[-1.0, 1.0]], dtype=torch.bfloat16)
    found = proxy_anchor(similarity, torch.tensor([[1.0, 0.0]]), scale=500.0)
    assert found.item() == pytest.approx(500 * 1.1 + 500 * 1.1 / 2, rel=1e-3)


def test_no_samples_is_zero():
    similarity = torch.zeros(0, 3, requires_grad=True)
    loss = proxy_anchor(similarity, torch.zeros(0, 3))
    loss.backward()
    assert loss.item() == 0


def test_a_weight_of_two_is_the_sample_twice():
    similarity, positives = torch.rand(4, 3) - 0.5, torch.eye(3)[[0, 1, 1, 2]]
    found = proxy_anchor(similarity, positives, scale=4.0, weights=torch.tensor([1.0, 2.0, 1.0, 1.0]))
    twice = [0, 1, 1, 2, 3]
    assert found.item() == pytest.approx(proxy_anchor(similarity[twice], positives[twice], scale=4.0).item())
