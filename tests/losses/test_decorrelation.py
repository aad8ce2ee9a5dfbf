"""Factorisation: against loops, and where it vanishes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.losses import factorisation
from tests.oracles import losses as oracle


def views(seed, m, e):
    random = torch.Generator().manual_seed(seed)
    a = torch.randn(m, e, generator=random, dtype=torch.float64)
    return a, a + torch.randn(m, e, generator=random, dtype=torch.float64)


@given(st.integers(0, 2**32 - 1), st.integers(3, 9), st.integers(1, 5), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_equals_loops(seed, m, e, redundancy):
    a, b = views(seed, m, e)
    expected = oracle.factorisation(a.tolist(), b.tolist(), redundancy)
    assert factorisation(a, b, redundancy).item() == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_is_zero_for_identical_whitened_views():
    a, _ = views(0, 50, 6)
    white = torch.linalg.qr(a - a.mean(dim=0)).Q
    assert factorisation(white, white).item() < 1e-12


def test_equal_views_agree_whatever_their_scale():
    a, _ = views(1, 20, 5)
    assert factorisation(a, 3 * a + 7, redundancy=0.0).item() < 1e-12
    assert factorisation(a, a).item() > 1e-5  # features that say the same


def test_constant_feature_has_a_finite_gradient():
    a, b = views(2, 8, 3)
    a[:, 1] = 2.0
    a.requires_grad_()
    factorisation(a, b).backward()
    assert torch.isfinite(a.grad).all()


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_too_few_rows_tell_nothing(rows):
    a = torch.ones(rows, 4, requires_grad=True)
    loss = factorisation(a, a)
    loss.backward()
    assert loss.item() == 0
