"""The margin distance: against a loop, at its limits, and where points coincide."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.errors import UsageError
from amodal.losses import margin_distance
from tests.oracles import losses as oracle


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.floats(0, 4), st.sampled_from(["half", "none"])
)
@settings(max_examples=60, deadline=None)
def test_equals_the_loop(seed, m, n, margin, balance):
    rng = np.random.default_rng(seed)
    x, y = (torch.from_numpy(rng.standard_normal((size, 3))) for size in (m, n))
    similar = torch.from_numpy((rng.random((m, n)) < 0.4).astype(np.float64))
    expected = oracle.margin_distance(x.tolist(), y.tolist(), similar.tolist(), margin, balance=balance)
    assert float(margin_distance(x, y, similar, margin, balance=balance)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bits", range(5))
def test_one_hot_codes_are_apart_by_the_root_of_twice_their_hamming_distance(bits):
    x, y = torch.zeros(1, 8), torch.zeros(1, 8)
    x[0, ::2] = 1
    y[0, ::2] = torch.tensor([0.0] * bits + [1.0] * (4 - bits))
    y[0, 1::2] = 1 - y[0, ::2]
    pulled = margin_distance(x, y, torch.ones(1, 1), 0.0, balance="none")
    assert float(pulled) == pytest.approx(2 * bits, abs=1e-5)
    just_there = math.sqrt(2 * bits)
    assert float(margin_distance(x, y, torch.zeros(1, 1), just_there, balance="none")) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("balance", ["half", "none"])
def test_without_margin_only_similar_pairs_matter(balance):
    x, y = torch.randn(5, 4), torch.randn(6, 4)
    assert float(margin_distance(x, y, torch.zeros(5, 6), 0.0, balance=balance)) == 0
    similar = torch.eye(5, 6)
    moved = y.clone()
    moved[5] += 3  # has no similar partner
    first = margin_distance(x, y, similar, 0.0, balance=balance)
    assert float(margin_distance(x, moved, similar, 0.0, balance=balance)) == float(first) > 0


@pytest.mark.parametrize("balance", ["half", "none"])
def test_equal_points_cost_nothing_if_all_are_similar_and_have_a_gradient(balance):
    x = (100 + torch.rand(1, 6)).expand(4, 6).clone().requires_grad_()
    loss = margin_distance(x, x.detach(), torch.ones(4, 4), 3.0, balance=balance)
    assert loss.item() == 0
    margin_distance(x, x, torch.eye(4), 3.0, balance=balance).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
@pytest.mark.parametrize("balance", ["half", "none"])
def test_nothing_is_zero(shape, balance):
    x, y = torch.randn(shape[0], 2, requires_grad=True), torch.randn(shape[1], 2, requires_grad=True)
    loss = margin_distance(x, y, torch.zeros(shape), 1.0, balance=balance)
    loss.backward()
    assert loss.shape == ()
    assert loss.item() == 0


def test_balance_gives_rare_similar_pairs_the_same_say():
    x, y = torch.zeros(1, 1), torch.ones(100, 1)
    similar = torch.zeros(1, 100)
    similar[0, 0] = 1
    assert float(margin_distance(x, y, similar, 3.0, balance="half")) == pytest.approx(0.5 * 1 + 0.5 * 4)
    assert float(margin_distance(x, y, similar, 3.0, balance="none")) == pytest.approx((1 + 99 * 4) / 100)
    with pytest.raises(UsageError, match=r'"hlf".*Did you mean "half"'):
        margin_distance(x, y, similar, 3.0, balance="hlf")
