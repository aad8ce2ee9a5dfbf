"""The pair likelihood: against loops, over distinct labels against over all items, and at its edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.data import Labels
from amodal.errors import UsageError
from amodal.losses import pair_likelihood, share_label
from tests.oracles import losses as oracle

FORMS = [(balance, squared) for balance in ("half", "none") for squared in (False, True)]
forms = pytest.mark.parametrize(("balance", "squared"), FORMS)


def draw(seed, m=5, u=7, scale=4.0):
    rng = np.random.default_rng(seed)
    theta = torch.from_numpy(scale * rng.standard_normal((m, u)))
    similar = torch.from_numpy((rng.random((m, u)) < rng.choice([0.0, 0.2, 0.5, 1.0])).astype(float))
    return theta, similar, torch.from_numpy(rng.integers(1, 9, u).astype(float))


@forms
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 8), st.floats(0.1, 30))
@settings(max_examples=30, deadline=None)
def test_equals_the_loop(balance, squared, seed, m, u, scale):
    theta, similar, weights = draw(seed, m, u, scale)
    expected = oracle.pair_likelihood(
        theta.tolist(), similar.tolist(), weights.tolist(), balance=balance, squared=squared
    )
    found = pair_likelihood(theta, similar, weights, balance=balance, squared=squared)
    assert found.shape == ()
    # softplus in torch is linear from 20 on, which costs e^-20
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@forms
@pytest.mark.parametrize("multi", [False, True])
def test_distinct_labels_with_counts_equal_all_items(balance, squared, multi):
    rng = np.random.default_rng(3)
    labels = np.eye(4)[rng.integers(4, size=60)]
    if multi:
        labels = np.maximum(labels, rng.random(labels.shape) < 0.3)
    everyone = torch.from_numpy(labels)
    distinct, counts, _ = Labels.from_multihot(labels).distinct()
    assert len(distinct) < len(labels) / 3
    found = []
    for targets, weights in ((everyone, None), (torch.from_numpy(distinct).double(), torch.from_numpy(counts))):
        prototype = torch.from_numpy(np.random.default_rng(1).standard_normal((8, 4))).requires_grad_()
        codes = torch.from_numpy(np.random.default_rng(2).standard_normal((10, 8))).requires_grad_()
        theta = 0.5 * codes @ (targets @ prototype.T).T
        similar = share_label(everyone[:10], targets)
        loss = pair_likelihood(theta, similar, weights, balance=balance, squared=squared)
        found.append([loss.detach(), *torch.autograd.grad(loss, (prototype, codes))])
    for whole, short in zip(*found, strict=True):
        assert whole.abs().max() > 1e-3
        torch.testing.assert_close(short, whole, rtol=1e-12, atol=1e-12)


def test_zero_codes_cost_log_2_whatever_the_labels():
    for seed in range(4):
        _, similar, weights = draw(seed)
        assert float(pair_likelihood(torch.zeros_like(similar), similar, weights, balance="none")) == pytest.approx(
            np.log(2)
        )


def test_a_side_without_members_contributes_nothing():
    theta = torch.tensor([[3.0, -1.0]])
    softplus = torch.nn.functional.softplus
    assert torch.isclose(pair_likelihood(theta, torch.ones(1, 2)), 0.5 * softplus(-theta).mean())
    assert torch.isclose(pair_likelihood(theta, torch.zeros(1, 2)), 0.5 * softplus(theta).mean())


def test_gradient_of_the_plain_form_is_sigmoid_minus_similarity():
    theta, similar, _ = draw(5, scale=3.0)
    theta.requires_grad_()
    pair_likelihood(theta, similar, balance="none").backward()
    torch.testing.assert_close(theta.grad, (theta.detach().sigmoid() - similar) / theta.numel())


@forms
def test_large_codes_are_finite_and_still_pull(balance, squared):
    theta = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    loss = pair_likelihood(theta, torch.eye(2), balance=balance, squared=squared)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(theta.grad).all()
    assert pair_likelihood(theta, 1 - torch.eye(2), balance=balance, squared=squared).item() > 1e3
    assert loss.item() == 0


@forms
def test_float32_is_near_float64(balance, squared):
    theta, similar, weights = draw(8, 20, 30)
    wide = pair_likelihood(theta, similar, weights, balance=balance, squared=squared)
    narrow = pair_likelihood(theta.float(), similar.float(), weights.float(), balance=balance, squared=squared)
    assert narrow.dtype == torch.float32
    assert float(narrow) == pytest.approx(float(wide), rel=1e-5)


@forms
def test_mixed_precision_counts_items_exactly(balance, squared):
    # 18,015 is no bfloat16: rounded counts would let the dissimilar side weigh less than nothing.
    weights = torch.tensor([18_014.0, 1.0])
    similar = torch.tensor([[1.0, 0.0]])
    theta = torch.tensor([[2.0, 3.0]])
    expected = pair_likelihood(theta, similar, weights, balance=balance, squared=squared)
    with torch.autocast("cpu", torch.bfloat16):
        found = pair_likelihood(theta.bfloat16(), similar, weights, balance=balance, squared=squared)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@forms
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_compare_is_zero_and_has_a_gradient(balance, squared, shape):
    theta = torch.zeros(shape, requires_grad=True)
    loss = pair_likelihood(theta, torch.zeros(shape), torch.ones(shape[1]), balance=balance, squared=squared)
    assert loss.item() == 0
    loss.backward()
    assert theta.grad.shape == shape


def test_unknown_balance_names_the_nearest():
    with pytest.raises(UsageError, match=r'"hlaf".*Did you mean "half"'):
        pair_likelihood(torch.zeros(1, 1), torch.ones(1, 1), balance="hlaf")
