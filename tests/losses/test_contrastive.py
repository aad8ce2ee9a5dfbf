"""Contrasts with and without labels, and their kernels: against a loop, within their bounds, and at their edges."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.errors import UsageError
from amodal.losses import kernel, nt_xent, supervised_contrastive
from tests.oracles import losses as oracle


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_equals_the_loop(seed, m, n, hidden):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(5 * rng.standard_normal((m, n)))
    positives = torch.from_numpy((rng.random((m, n)) < 0.3) * rng.uniform(0.5, 2, (m, n)))
    columns = torch.from_numpy(rng.random((m, n)) < 0.7) if hidden else None
    seen = torch.ones(m, n, dtype=torch.bool) if columns is None else columns
    expected = oracle.supervised_contrastive(logits.tolist(), positives.tolist(), seen.tolist())
    found = supervised_contrastive(logits, positives, columns)
    assert found.shape == ()
    assert float(found) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 37])
def test_equal_logits_cost_log_n(n):
    positives = torch.zeros(3, n, dtype=torch.float64)
    positives[:, 0] = 1
    assert float(supervised_contrastive(torch.full((3, n), 2.5), positives)) == pytest.approx(math.log(n), abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["sigmoid", "cosine"]), st.floats(0.05, 1.0), st.floats(0.01, 20))
@settings(max_examples=60, deadline=None)
def test_within_bounds(seed, kind, tau, scale):
    """log(P + (N - P) e^-w) <= L <= log N + w, where logits lie in an interval of width w: 1/tau or 2/tau."""
    rng = np.random.default_rng(seed)
    N, P = 12, int(rng.integers(1, 13))
    a, b = (torch.from_numpy(scale * rng.standard_normal((size, 6))) for size in (1, N))
    positives = torch.zeros(1, N, dtype=torch.float64)
    positives[0, rng.permutation(N)[:P]] = 1
    loss = float(supervised_contrastive(kernel(a, b, kind) / tau, positives))
    width = {"sigmoid": 1, "cosine": 2}[kind] / tau
    assert math.log(P + (N - P) * math.exp(-width)) - 1e-9 <= loss <= math.log(N) + width + 1e-9


@pytest.mark.parametrize("kind", ["sigmoid", "cosine"])
def test_zero_codes_cost_exactly_log_n(kind):
    logits = kernel(torch.zeros(4, 8), torch.zeros(10, 8), kind) / 0.2
    assert float(supervised_contrastive(logits, torch.ones(4, 10))) == pytest.approx(math.log(10), rel=1e-6)


def test_hidden_columns_are_as_if_they_were_not_there():
    rng = np.random.default_rng(0)
    logits, positives = (torch.from_numpy(rng.random((4, 6))) for _ in range(2))
    columns = torch.ones(4, 6, dtype=torch.bool)
    columns[:, [1, 4]] = False
    left = [0, 2, 3, 5]
    torch.testing.assert_close(
        supervised_contrastive(logits, positives, columns),
        supervised_contrastive(logits[:, left], positives[:, left]),
    )


@pytest.mark.parametrize(
    ("logits", "positives", "columns"),
    [
        (torch.randn(3, 4), torch.zeros(3, 4), None),
        (torch.randn(1, 1), torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.bool)),  # a batch of one, itself hidden
        (torch.zeros(0, 4), torch.zeros(0, 4), None),
        (torch.zeros(3, 0), torch.zeros(3, 0), None),
    ],
    ids=["no positive", "batch of one", "no anchor", "no column"],
)
def test_nothing_to_find_is_zero(logits, positives, columns):
    loss = supervised_contrastive(logits, positives, columns)
    assert loss.shape == ()
    assert loss.item() == 0


def test_hidden_and_lonely_anchors_leave_no_nan_in_the_gradient():
    logits = torch.randn(3, 3, requires_grad=True)
    positives = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    columns = torch.tensor([[False, True, True], [True, False, True], [False, False, False]])
    supervised_contrastive(logits, positives, columns).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 1:].abs().min() > 0
    assert logits.grad[1:].abs().max() == 0
    assert logits.grad[0, 0] == 0


def test_large_logits_are_finite():
    logits = torch.tensor([[1e5, -1e5]], requires_grad=True)
    loss = supervised_contrastive(logits, torch.tensor([[0.0, 1.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(2e5)
    assert torch.isfinite(logits.grad).all()


def test_float32_is_near_float64_and_half_precision_is_widened():
    rng = np.random.default_rng(4)
    logits, positives = (torch.from_numpy(rng.random((20, 50))) for _ in range(2))
    wide = float(supervised_contrastive(logits, positives))
    assert float(supervised_contrastive(logits.float(), positives.float())) == pytest.approx(wide, rel=1e-5)
    half = supervised_contrastive(logits.bfloat16(), positives.float())
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(wide, rel=1e-3)


def test_kernels_are_what_their_names_say():
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((3, 5)), rng.standard_normal((4, 5))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            cosine, sigmoid = (kernel(torch.from_numpy(a), torch.from_numpy(b), kind) for kind in ("cosine", "sigmoid"))
            assert float(cosine[i, j]) == pytest.approx(x @ y / np.sqrt((x @ x) * (y @ y)))
            assert float(sigmoid[i, j]) == pytest.approx(1 / (1 + np.exp(-0.5 * x @ y)))


def test_unknown_kernel_names_the_nearest():
    with pytest.raises(UsageError, match=r'"sigmod".*Did you mean "sigmoid"'):
        kernel(torch.ones(1, 1), torch.ones(1, 1), "sigmod")


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0.05, 2.0))
@settings(max_examples=60, deadline=None)
def test_nt_xent_equals_the_loop(seed, items, tau):
    rng = np.random.default_rng(seed)
    a, b = (torch.from_numpy(rng.standard_normal((items, 5))) for _ in range(2))
    expected = oracle.nt_xent(a.tolist(), b.tolist(), tau)
    assert float(nt_xent(a, b, tau)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_nt_xent_of_random_codes_is_about_log_of_the_others():
    a, b = (torch.from_numpy(np.random.default_rng(seed).choice([-1.0, 1.0], (200, 4096))) for seed in (0, 1))
    assert float(nt_xent(a, b, 0.3)) == pytest.approx(math.log(2 * 200 - 1), abs=0.01)


def test_nt_xent_of_identical_inputs():
    """-1 / tau + log sum: the partner is at cosine 1, and so is part of the sum."""
    a = torch.eye(5, dtype=torch.float64)  # every other view is at cosine 0
    assert float(nt_xent(a, a, 0.3)) == pytest.approx(-1 / 0.3 + math.log(math.exp(1 / 0.3) + 8))
    same = torch.ones(5, 3, dtype=torch.float64)
    assert float(nt_xent(same, same, 0.3)) == pytest.approx(math.log(9))


@pytest.mark.parametrize("items", [0, 1])
def test_nt_xent_without_others_is_zero(items):
    a, b = torch.randn(items, 3, requires_grad=True), torch.randn(items, 3)
    loss = nt_xent(a, b, 0.3)
    assert loss.shape == ()
    assert loss.item() == 0


def test_nt_xent_pulls_partners_together():
    a, b = torch.randn(6, 8, requires_grad=True), torch.randn(6, 8)
    (gradient,) = torch.autograd.grad(nt_xent(a, b, 0.3), a)
    assert torch.isfinite(gradient).all()
    assert nt_xent(a - 0.1 * gradient, b, 0.3) < nt_xent(a, b, 0.3)
