"""Guessed similarity: against a loop, its limits, and the Gaussians that it rests on."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.losses import HalfGaussians, guessed_similarity, weighted_agreement
from tests.oracles import losses as oracle

HALVES = HalfGaussians(mode=0.9, left=0.2, right=0.1)


def guess(distance, same, halves=HALVES, threshold=0.75):
    return guessed_similarity(torch.as_tensor(distance, dtype=torch.float64), torch.as_tensor(same), halves, threshold)


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 1.2), st.floats(0.15, 0.5), st.floats(0.15, 0.5))
@settings(max_examples=40, deadline=None)
def test_equals_the_published_formula_and_stays_within_bounds(seed, threshold, left, right):
    rng = np.random.default_rng(seed)
    distance, same = rng.uniform(0, 2, (4, 5)), rng.random((4, 5)) < 0.4
    halves = HalfGaussians(0.9, left, right)
    similar, weights = guess(distance, same, halves, threshold)
    assert ((weights >= 0) & (weights <= 1)).all()
    for i in range(4):
        for j in range(5):
            expected = oracle.guessed_similarity(distance[i, j], bool(same[i, j]), 0.9, left, right, threshold)
            assert similar[i, j] == expected[0]
            # as printed, small numbers are differences of numbers near 1
            assert float(weights[i, j]) == pytest.approx(expected[1], abs=1e-5)


def test_nothing_is_sure_at_the_threshold_from_either_side():
    similar, weights = guess([[0.75, 0.75 + 1e-9]], [[True, False]])
    assert similar.tolist() == [[1, -1]]
    assert weights.abs().max() < 1e-6
    _, far = guess([[-5.0, 9.0]], [[True, False]])
    assert far.tolist() == [[1, 1]]


def test_clusters_that_disagree_leave_no_weight():
    distance = [[0.1, 0.1, 1.8, 1.8]]
    _, agreed = guess(distance, [[True, False, True, False]])
    assert (agreed > 0).tolist() == [[True, False, False, True]]
    similar, one_cluster = guess([[0.1, 0.4]], [[True, True]])
    assert similar.tolist() == [[1, 1]]
    assert (one_cluster > 0).all()


@pytest.mark.parametrize("threshold", [0.05, 2.0])
def test_a_threshold_far_out_overflows_nothing(threshold):
    sharp = HalfGaussians(0.9, 1e-3, 1e-3)
    distance = torch.linspace(0, 2, 21)[None]
    _, weights = guessed_similarity(distance, distance <= threshold, sharp, threshold)
    assert torch.isfinite(weights).all()
    assert ((weights >= 0) & (weights <= 1)).all()


def test_halves_of_a_known_mixture():
    rng = np.random.default_rng(0)
    z = np.abs(rng.standard_normal(200_000))
    distances = np.where(rng.random(200_000) < 2 / 3, 0.8 - 0.2 * z, 0.8 + 0.1 * z)  # continuous at its mode
    found = HalfGaussians.fit(distances)
    assert found.mode == pytest.approx(0.8, abs=0.03)
    assert found.left == pytest.approx(0.2, abs=0.02)
    assert found.right == pytest.approx(0.1, abs=0.02)


def test_densities_meet_at_the_crossing():
    for left, right in ((0.2, 0.1), (0.1, 0.3), (0.15, 0.15001)):
        halves = HalfGaussians(0.9, left, right)
        t = halves.crossing
        densities = [math.exp(-(((t - 0.9) / sd) ** 2) / 2) / sd for sd in (left, right)]
        assert densities[0] == pytest.approx(densities[1], rel=1e-3)
        assert t < 0.9
    assert HalfGaussians(0.9, 0.2, 0.2).crossing == pytest.approx(0.7)


@pytest.mark.parametrize("distances", [np.full(50, 0.4), np.concatenate([np.full(99, 1.0), [0.2]])])
def test_a_histogram_with_one_side_has_deviations_all_the_same(distances):
    halves = HalfGaussians.fit(distances)
    assert halves.left >= 1e-3
    assert halves.right >= 1e-3
    assert math.isfinite(halves.crossing)
    assert halves.crossing < halves.mode


def test_agreement_by_hand_and_without_rows():
    H = torch.tensor([[0.5, -1.0], [0.0, 1.0]])
    S = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    W = torch.tensor([[1.0, 1.0], [0.5, 0.0]])
    assert float(weighted_agreement(H, S, W)) == pytest.approx((0.25 + 0 + 0.5 + 0) / 4)
    assert float(weighted_agreement(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, 3))) == 0
