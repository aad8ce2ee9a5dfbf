import numpy as np
import pytest

from amodal import metrics


def test_sign_flip_counts_all_patterns():
    differences = np.array([0.3, -0.1, 0.25, 0.05])
    patterns = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T
    sums = np.abs(patterns @ differences)
    assert metrics.sign_flip_test(differences) == np.mean(sums >= abs(differences.sum()) - 1e-12)


def test_randomisation_comes_to_the_exact_test():
    differences = np.random.default_rng(0).normal(0.3, 1, 12)
    exact = metrics.sign_flip_test(differences)
    assert metrics.randomisation_test(differences, flips=40_000) == pytest.approx(exact, abs=0.01)


def test_randomisation_never_says_zero():
    assert metrics.randomisation_test(np.ones(500), flips=99) == 0.01


def test_no_difference_is_no_evidence():
    assert metrics.sign_flip_test([0.0, 0.0]) == 1.0
    assert metrics.randomisation_test([0.0, 0.0], flips=9) == 1.0


def test_holm_by_hand():
    assert metrics.holm([0.04, 0.01, 0.02]).tolist() == pytest.approx([0.04, 0.03, 0.04])
    assert metrics.holm([0.9, 0.8]).tolist() == [1.0, 1.0]
