"""Attention put in place of the learned one: always weights over real keys, and what each kind promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.errors import UsageError
from amodal.methods.matching.interventions import check_intervention, intervene

KINDS = ("random", "uniform", "shuffle", "reverse", "swap")


def attention(p=3, k=5, n=4, q=6, seed=0):
    """Weights over 1 to k real keys, which differ by item."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.arange(k)[None] < torch.randint(1, k + 1, (p, 1), generator=generator)
    logits = torch.randn(p, k, n, q, generator=generator, dtype=torch.float64)
    real = real[:, :, None, None]
    return logits.masked_fill(~real, float("-inf")).softmax(dim=1), real


def put(kind, weights, real, seed=0):
    return intervene(kind, weights, real, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 6), st.integers(1, 3), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_weights_over_real_keys_sum_to_1(kind, seed, p, k, n, q):
    weights, real = attention(p, k, n, q, seed)
    other = put(kind, weights, real, seed)
    assert other.shape == weights.shape
    assert not (other * ~real).any()
    assert (other >= -1e-12).all()
    torch.testing.assert_close(other.sum(dim=1), torch.ones(p, n, q, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_one_key_keeps_all_weight(kind):
    weights = torch.ones(3, 1, 4, 5)
    torch.testing.assert_close(put(kind, weights, torch.ones(3, 1, 1, 1, dtype=torch.bool)), weights)


@pytest.mark.parametrize("kind", KINDS)
def test_chance_is_that_of_the_generator(kind):
    weights, real = attention()
    state = torch.get_rng_state()
    assert torch.equal(put(kind, weights, real, 1), put(kind, weights, real, 1))
    assert torch.equal(torch.get_rng_state(), state)
    differs = any(not torch.equal(put(kind, weights, real, 1), put(kind, weights, real, seed)) for seed in range(2, 7))
    assert differs == (kind not in ("uniform", "reverse"))


def test_uniform_is_one_over_the_keys():
    weights, real = attention()
    found = put("uniform", weights, real)
    torch.testing.assert_close(found, (real / real.sum(dim=1, keepdim=True)).expand_as(weights).double())


def test_random_has_the_mean_of_uniform():
    weights = torch.full((1, 4, 1, 20_000), 0.25, dtype=torch.float64)
    found = put("random", weights, torch.ones(1, 4, 1, 1, dtype=torch.bool))
    torch.testing.assert_close(found.mean(dim=3), torch.full((1, 4, 1), 0.25, dtype=torch.float64), atol=5e-3, rtol=0)
    assert found.std() > 0.05


def test_shuffle_deals_the_same_weights_and_all_ways_alike():
    weights, real = attention(q=400)
    found = put("shuffle", weights, real)
    torch.testing.assert_close(found.sort(dim=1).values, weights.sort(dim=1).values)
    three = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 1, 6000)
    dealt = put("shuffle", three, torch.ones(1, 3, 1, 1, dtype=torch.bool))[0, :, 0].T
    _, counts = torch.unique(dealt, dim=0, return_counts=True)
    assert len(counts) == 6
    assert counts.min() > 850


def test_shuffle_of_padding_between_keys_stays_out_of_it():
    real = torch.tensor([True, False, True, True]).view(1, 4, 1, 1)
    weights = torch.tensor([0.5, 0.0, 0.3, 0.2]).view(1, 4, 1, 1).expand(1, 4, 2, 50)
    found = put("shuffle", weights, real)
    assert not found[:, 1].any()
    torch.testing.assert_close(found.sort(dim=1).values, weights.sort(dim=1).values)


def test_reverse_turns_the_order_round():
    weights = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    found = put("reverse", weights, torch.ones(2, 4, 1, 1, dtype=torch.bool))
    assert torch.equal(found.argsort(dim=1), weights.argsort(dim=1, descending=True))


def test_swap_gives_every_asker_another_ones():
    weights = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    found = put("swap", weights, torch.ones(2, 3, 1, 1, dtype=torch.bool))
    for asker in range(5):
        same = [torch.allclose(found[..., asker], weights[..., other]) for other in range(5)]
        assert sum(same) == 1
        assert not same[asker]


def test_unknown_kind_names_the_nearest():
    with pytest.raises(UsageError, match='Did you mean "random"'):
        check_intervention("randon")
