"""Ridge in both forms, nearest orthogonal matrices, iterative quantisation, and coordinate descent on bits."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amodal.methods.shallow.dch import coordinate_descent
from amodal.methods.shallow.solvers import Patterns, Ridge, frame, itq, procrustes, signs
from tests.oracles.shallow import label_fit


def random(seed):
    return np.random.default_rng(seed)


def test_signs_have_no_zero():
    assert signs(np.array([-1e-300, -0.0, 0.0, 2.0])).tolist() == [-1, 1, 1, 1]


@pytest.mark.parametrize(("n", "d"), [(40, 7), (7, 40), (9, 9)])
def test_both_forms_of_ridge_equal_the_formula(n, d):
    x, y = random(n).standard_normal((n, d)), random(d).standard_normal((n, 3))
    wide = np.linalg.inv(x.T @ x + 0.3 * np.eye(d)) @ x.T @ y
    tall = x.T @ np.linalg.inv(x @ x.T + 0.3 * np.eye(n)) @ y
    np.testing.assert_allclose(Ridge(x, 0.3).solve(y), wide, atol=1e-10)
    np.testing.assert_allclose(Ridge(x, 0.3).solve(y), tall, atol=1e-10)


def test_ridge_factors_the_smaller_matrix():
    # 20,000 x 20,000 numbers would be 3.2 GB
    x = np.ones((20_000, 2))
    assert Ridge(x, 1.0).solve(x).shape == (2, 2)
    assert Ridge(x.T.copy(), 1.0).solve(np.ones((2, 1))).shape == (20_000, 1)


def test_procrustes_is_the_best_rotation():
    v, b = random(0).standard_normal((50, 4)), signs(random(1).standard_normal((50, 4)))
    R = procrustes(v.T @ b)
    np.testing.assert_allclose(R.T @ R, np.eye(4), atol=1e-12)
    error = ((b - v @ R) ** 2).sum()
    for seed in range(200):
        assert error <= ((b - v @ frame(4, 4, random(seed))) ** 2).sum()


@pytest.mark.parametrize(("rows", "columns"), [(3, 8), (8, 3), (5, 5)])
def test_frame_is_orthonormal_along_its_shorter_side(rows, columns):
    F = frame(rows, columns, random(2))
    assert F.shape == (rows, columns)
    gram = F @ F.T if rows <= columns else F.T @ F
    np.testing.assert_allclose(gram, np.eye(min(rows, columns)), atol=1e-12)


def test_procrustes_has_a_second_algorithm_where_the_first_does_not_converge(monkeypatch):
    x = np.random.default_rng(0).standard_normal((12, 12))
    expected = procrustes(x)

    def gave_up(*_args, **_kwargs):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", gave_up)
    assert procrustes(x) == pytest.approx(expected, abs=1e-12)


def test_quantisation_error_never_rises():
    v = random(3).standard_normal((200, 8)) * np.linspace(1, 3, 8)
    errors = []
    for steps in range(20):
        R = itq(v, random(4), steps=steps)
        np.testing.assert_allclose(R.T @ R, np.eye(8), atol=1e-10)
        errors.append(((signs(v @ R) - v @ R) ** 2).sum())
    assert all(after <= before + 1e-9 for before, after in pairwise(errors))
    assert errors[-1] < 0.95 * errors[0]


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_coordinate_descent_never_raises_the_objective(seed, bits):
    B, W = signs(random(seed).standard_normal((6, bits))), random(seed + 1).standard_normal((bits, 3))
    Q = random(seed + 2).standard_normal((6, bits))
    found = coordinate_descent(B, W, Q)
    assert set(np.unique(found)) <= {-1.0, 1.0}
    assert label_fit(found, W, Q) <= label_fit(B, W, Q) + 1e-9
    # no single flip makes it better
    for i, k in product(range(6), range(bits)):
        flipped = found.copy()
        flipped[i, k] *= -1
        assert label_fit(found, W, Q) <= label_fit(flipped, W, Q) + 1e-9


def test_coordinate_descent_finds_the_best_of_all_codes_when_bits_do_not_interact():
    W = np.eye(3)
    Q = random(5).standard_normal((4, 3))
    best = min(product([-1.0, 1.0], repeat=12), key=lambda bits: label_fit(np.reshape(bits, (4, 3)), W, Q))
    found = coordinate_descent(np.ones((4, 3)), W, Q)
    np.testing.assert_array_equal(found, np.reshape(best, (4, 3)))


def test_patterns_solve_each_row_by_its_own_terms():
    random = np.random.default_rng(4)
    flags = random.random((30, 3)) < 0.5
    roots = random.standard_normal((3, 4, 4))
    base, grams, target = np.eye(4), [root @ root.T for root in roots], random.standard_normal((30, 4))
    found = Patterns(flags).solve(base, grams, target)
    for v, terms, t in zip(found, flags, target, strict=True):
        gram = base + sum(gram for gram, there in zip(grams, terms, strict=True) if there)
        np.testing.assert_allclose(v @ gram, t, atol=1e-9)
