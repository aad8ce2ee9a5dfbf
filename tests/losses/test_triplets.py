"""Triplets without a cube: against three loops, in value and in gradient, and where there are none."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.errors import UsageError
from amodal.losses import graded_relevance, hardest_triplet, triplet_loss
from tests.oracles import losses as oracle

reductions = pytest.mark.parametrize("reduction", ["mean", "sum"])


def draw(seed, m=6, n=9):
    rng = np.random.default_rng(seed)
    distance = torch.from_numpy(rng.uniform(0, 2, (m, n)))
    positives = torch.from_numpy((rng.random((m, n)) < rng.choice([0.0, 0.3, 1.0])) * rng.uniform(0.1, 3, (m, n)))
    return distance, positives


def cube(distance, positives, margin):
    """The sum as the papers' codes have it, m x n x n, for its gradient."""
    chosen = positives[:, :, None] * (positives == 0)[:, None, :]
    return (chosen * (distance[:, :, None] - distance[:, None, :] + margin).clamp_min(0)).sum()


@reductions
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 8), st.floats(0, 3))
@settings(max_examples=40, deadline=None)
def test_equals_three_loops(reduction, seed, m, n, margin):
    distance, positives = draw(seed, m, n)
    expected = oracle.triplet_loss(distance.tolist(), positives.tolist(), margin, reduction=reduction)
    found = triplet_loss(distance, positives, margin, reduction=reduction)
    assert found.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_gradient_is_that_of_the_cube(seed):
    distance, positives = draw(seed, 20, 30)
    distance.requires_grad_()
    found = torch.autograd.grad(triplet_loss(distance, positives, 0.4, reduction="sum"), distance)
    expected = torch.autograd.grad(cube(distance, positives, 0.4), distance)
    torch.testing.assert_close(found, expected)


@reductions
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_no_triplet_is_zero_with_zero_gradient(reduction, weight):
    distance = torch.rand(4, 5, requires_grad=True)
    loss = triplet_loss(distance, torch.full((4, 5), weight), 0.3, reduction=reduction)
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(distance.grad, torch.zeros(4, 5))


def test_no_rows_is_zero():
    distance = torch.zeros(0, 5, requires_grad=True)
    loss = triplet_loss(distance, torch.zeros(0, 5), 0.3)
    loss.backward()
    assert loss.item() == 0


def test_float32_is_near_float64_for_a_large_batch():
    distance, positives = draw(3, 300, 400)
    positives[:, :20] = 1
    wide = triplet_loss(distance, positives, 0.3)
    narrow = triplet_loss(distance.float(), positives.float(), 0.3)
    assert narrow.dtype == torch.float32
    assert wide.item() > 0.1
    assert narrow.item() == pytest.approx(wide.item(), rel=1e-4)


def test_mixed_precision_takes_that_of_the_weights():
    distance, positives = draw(0)
    assert triplet_loss(distance.bfloat16(), positives.float(), 0.3).dtype == torch.float32


def test_unknown_reduction_names_the_nearest():
    with pytest.raises(UsageError, match=r'"sun".*"sum"'):
        triplet_loss(torch.zeros(1, 1), torch.zeros(1, 1), 0.3, reduction="sun")


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 7), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_relevance_equals_the_loop(seed, m, n, classes):
    rng = np.random.default_rng(seed)
    a, b = (torch.from_numpy((rng.random((rows, classes)) < 0.4).astype(float)) for rows in (m, n))
    np.testing.assert_allclose(
        graded_relevance(a, b), oracle.graded_relevance(a.int().tolist(), b.int().tolist()), rtol=1e-12
    )


def test_single_labels_weigh_all_positives_of_an_anchor_alike():
    labels = torch.eye(3)[torch.tensor([0, 0, 1, 1, 1, 2, 0])].double()
    weights = graded_relevance(labels[:4], labels)
    distance, _ = draw(0, 4, 7)
    for i in range(4):
        share = weights[i][weights[i] > 0]
        assert share.max() == share.min()
        plain = triplet_loss(distance[i : i + 1], (weights[i : i + 1] > 0).double(), 0.4, reduction="sum")
        graded = triplet_loss(distance[i : i + 1], weights[i : i + 1], 0.4, reduction="sum")
        assert graded.item() == pytest.approx(plain.item() * share[0].item())


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.floats(0, 2))
@settings(max_examples=40, deadline=None)
def test_hardest_equals_the_loop(seed, m, margin):
    rng = np.random.default_rng(seed)
    distance, classes = torch.from_numpy(rng.uniform(0, 2, (m, m))), rng.integers(0, 3, m)
    similar = torch.from_numpy(classes[:, None] == classes[None, :])
    expected = oracle.hardest_triplet(distance.tolist(), similar.tolist(), margin)
    assert hardest_triplet(distance, similar, margin).item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("similar", [torch.ones(3, 3), torch.eye(3), torch.zeros(0, 0)])
def test_hardest_without_a_triplet_is_zero(similar):
    distance = torch.rand(similar.shape, requires_grad=True)
    loss = hardest_triplet(distance, similar, 0.3)
    loss.backward()
    assert loss.item() == 0
    assert not distance.grad.any()


def test_hardest_pulls_and_pushes_one_row_each():
    distance = torch.tensor([[0.0, 0.5, 0.9, 0.6, 0.8]] * 5, requires_grad=True)
    similar = torch.zeros(5, 5)
    similar[0, :3] = 1
    hardest_triplet(distance, similar, 0.3).backward()
    assert distance.grad[0].tolist() == [0, 0, 1, -1, 0]
