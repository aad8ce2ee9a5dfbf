"""Losses on the scores of a batch: against loops, in gradient, and where there is nothing to tell apart."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.errors import UsageError
from amodal.losses import matching_hinge, pair_contrast, preference
from amodal.losses.matching import bearable, rival_hinge, rivals
from tests.oracles import matching as oracle


def draw(seed, m, repeated):
    rng = np.random.default_rng(seed)
    items = rng.integers(0, max(m // 2, 1), m) if repeated else rng.permutation(m)
    return torch.from_numpy(rng.uniform(-1, 1, (m, m))), torch.from_numpy(items)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("negatives", ["hardest", "mean"])
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.floats(0, 1), st.booleans())
@settings(max_examples=30, deadline=None)
def test_hinge_equals_the_loop(negatives, reduction, seed, m, margin, repeated):
    scores, items = draw(seed, m, repeated)
    expected = oracle.hinge(scores.tolist(), items.tolist(), margin, negatives=negatives, reduction=reduction)
    found = matching_hinge(scores, items, margin, negatives=negatives, reduction=reduction)
    assert found.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.floats(0, 1), st.booleans())
@settings(max_examples=30, deadline=None)
def test_hinge_of_the_rivals_equals_the_loop(reduction, seed, m, margin, repeated):
    scores, items = draw(seed, m, repeated)
    beside, below, real = rivals(scores, items)
    rows = torch.arange(m)
    found = torch.stack([scores[rows, beside], scores[below, rows]])
    loss = rival_hinge(scores.diagonal(), found, real, margin, reduction=reduction)
    expected = oracle.hinge(scores.tolist(), items.tolist(), margin, negatives="hardest", reduction=reduction)
    assert loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(0, 6), st.booleans())
@settings(max_examples=50, deadline=None)
def test_rivals_of_a_rank_equal_the_sorted_negatives(seed, m, rank, repeated):
    scores, items = draw(seed, m, repeated)
    beside, below, real = rivals(scores, items, min(rank, m - 1))
    for p in range(m):
        others = [q for q in range(m) if items[q] != items[p]]
        assert bool(real[p]) == (len(others) > min(rank, m - 1))
        if real[p]:
            assert scores[p, beside[p]] == sorted((float(scores[p, q]) for q in others), reverse=True)[rank]
            assert scores[below[p], p] == sorted((float(scores[q, p]) for q in others), reverse=True)[rank]


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.floats(0.01, 1), st.booleans())
@settings(max_examples=50, deadline=None)
def test_the_bearable_rank_is_the_first_that_costs_little(seed, m, margin, repeated):
    scores, items = draw(seed, m, repeated)
    fewest = min(sum(bool(items[q] != items[p]) for q in range(m)) for p in range(m))
    costs, rows = [], torch.arange(m)
    for rank in range(fewest):
        beside, below, real = rivals(scores, items, rank)
        found = torch.stack([scores[rows, beside], scores[below, rows]])
        costs.append(float(rival_hinge(scores.diagonal(), found, real, margin, reduction="mean")))
    borne = [rank for rank, cost in enumerate(costs) if cost <= 0.9 * 2 * margin]
    assert bearable(scores, items, margin) == (borne[0] if borne else max(fewest - 1, 0))


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.floats(0.05, 2), st.booleans())
@settings(max_examples=30, deadline=None)
def test_contrast_equals_the_loop(seed, m, tau, repeated):
    scores, items = draw(seed, m, repeated)
    expected = oracle.contrast(scores.tolist(), items.tolist(), tau)
    assert pair_contrast(scores.float(), items, tau).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_hardest_pushes_one_rival_each_way():
    scores = torch.tensor([[0.5, 0.4, 0.45], [0.0, 0.9, 0.0], [0.0, 0.0, 0.9]], requires_grad=True)
    matching_hinge(scores, torch.arange(3), 0.2).backward()
    assert scores.grad.tolist() == [[-1, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_captions_of_one_picture_are_no_negatives():
    scores = torch.tensor([[0.5, 0.9], [0.9, 0.5]], requires_grad=True)
    for negatives in ("hardest", "mean"):
        loss = matching_hinge(scores, torch.tensor([4, 4]), 0.2, negatives=negatives)
        loss.backward()
        assert loss.item() == 0
        assert not scores.grad.any()
    assert matching_hinge(scores, torch.tensor([4, 5]), 0.2).item() == pytest.approx(4 * 0.6)


@pytest.mark.parametrize("m", [0, 1])
def test_nothing_to_tell_apart_is_zero(m):
    scores = torch.rand(m, m, requires_grad=True)
    for negatives in ("hardest", "mean"):
        loss = matching_hinge(scores, torch.arange(m), 0.2, negatives=negatives)
        loss.backward()
        assert loss.item() == 0
        assert not scores.grad.any()


def test_a_collapsed_batch_costs_two_margins_per_pair():
    assert matching_hinge(torch.full((5, 5), 0.3), torch.arange(5), 0.2, reduction="mean").item() == pytest.approx(0.4)


@pytest.mark.parametrize("options", [{"reduction": "sun"}, {"negatives": "hardst"}])
def test_unknown_options_name_the_nearest(options):
    with pytest.raises(UsageError, match=r"sum|hardest"):
        matching_hinge(torch.zeros(2, 2), torch.arange(2), 0.2, **options)


def test_preference_is_log_2_without_effect_and_falls_with_it():
    scores = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([0.1, 0.9], dtype=torch.float64, requires_grad=True)
    expected = np.mean([math.log1p(math.exp(-0.2 / 0.1)), math.log1p(math.exp(0.1 / 0.1))])
    assert preference(scores, other, 0.1).item() == pytest.approx(expected)
    preference(scores, other, 0.1).backward()
    assert (scores.grad < 0).all()
    assert (other.grad > 0).all()
    assert preference(scores, scores, 0.1).item() == pytest.approx(math.log(2))
    assert torch.isfinite(preference(torch.full((2,), -1e4), torch.full((2,), 1e4), 0.1))
