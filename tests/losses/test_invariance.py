"""What should hold in every environment: closed forms against finite differences and loops."""

import pytest
import torch

from amodal.losses import (
    attention_spread,
    compactness,
    environment_mean,
    invariance_penalty,
    label_nll,
    scaling_gradient,
)

K, M, C, E = 2, 7, 4, 5


def case(*, single, seed=0):
    torch.manual_seed(seed)
    scores = 2 * torch.randn(K, M, C, dtype=torch.float64)
    labels = torch.eye(C)[torch.arange(M) % C] if single else (torch.rand(M, C) < 0.5).float()
    return scores, labels.double(), torch.rand(M, K, dtype=torch.float64)


def test_environment_mean_equals_the_sum_in_loops():
    losses, weights = torch.rand(K, M, dtype=torch.float64), torch.rand(M, K, dtype=torch.float64)
    expected = 0.0
    for k in range(K):
        expected += sum(weights[i, k] * losses[k, i] for i in range(M)) / sum(weights[i, k] for i in range(M)) / K
    assert environment_mean(losses, weights).item() == pytest.approx(float(expected))


def test_one_environment_in_which_all_count_alike_is_the_plain_mean():
    losses = torch.rand(1, M)
    assert environment_mean(losses, torch.ones(M, 1)).item() == pytest.approx(losses.mean().item())


def test_environment_without_weight_contributes_nothing():
    losses = torch.tensor([[2.0, 4.0], [9.0, 9.0]])
    assert environment_mean(losses, torch.tensor([[1.0, 0.0], [1.0, 0.0]])).item() == pytest.approx(1.5)


@pytest.mark.parametrize("single", [True, False])
def test_invariance_penalty_equals_finite_differences_in_the_factors(single):
    scores, labels, weights = case(single=single)
    step, expected = 1e-6, 0.0
    for k in range(K):
        share = weights[:, k] / weights[:, k].sum()
        for c in range(C):
            risks = []
            for sign in (1, -1):
                factors = torch.ones(C, dtype=torch.float64)
                factors[c] += sign * step
                risks.append((share * label_nll(factors * scores[k], labels, single=single)).sum())
            expected += float((risks[0] - risks[1]) / (2 * step)) ** 2 / K
    assert invariance_penalty(scores, labels, weights, single=single).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("single", [True, False])
def test_scaling_gradient_is_that_of_autograd(single):
    scores, labels, _ = case(single=single)
    factors = torch.ones(M, C, dtype=torch.float64, requires_grad=True)
    loss = label_nll(factors * scores[0], labels, single=single).sum()
    torch.testing.assert_close(
        scaling_gradient(scores[0], labels, single=single), torch.autograd.grad(loss, factors)[0]
    )


def test_invariance_penalty_is_zero_where_no_factor_would_lower_the_risk():
    scores, labels, _ = case(single=True)
    factors = torch.ones(C, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([factors], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def risk():
        optimizer.zero_grad()
        # rows with the wrong label among them, so that the best factors are finite
        loss = label_nll(factors * scores[0], labels, single=True).mean()
        loss.backward()
        return loss

    optimizer.step(risk)
    best = (factors.detach() * scores[0])[None]
    weights = torch.ones(M, 1, dtype=torch.float64)
    assert invariance_penalty(best, labels, weights, single=True).item() < 1e-10
    assert invariance_penalty(scores[:1], labels, weights, single=True).item() > 1e-3


def test_attention_spread_is_zero_for_equal_attentions_and_for_one():
    theta = torch.randn(1, 3, 4)
    assert attention_spread([theta]).item() == 0
    assert attention_spread([theta.expand(3, -1, -1)]).item() == pytest.approx(0, abs=1e-12)


def test_attention_spread_equals_loops_and_has_no_scale():
    layers = [torch.randn(K, 3, 2), torch.randn(K, 2)]
    expected = 0.0
    for theta in layers:
        mean = sum(theta[k] for k in range(K)) / K
        for k in range(K):
            expected += float((theta[k] - mean).norm() / theta[k].abs().sum()) ** 2 / K / len(layers)
    assert attention_spread(layers).item() == pytest.approx(expected, rel=1e-5)
    assert attention_spread([5 * theta for theta in layers]).item() == pytest.approx(expected, rel=1e-5)


def test_compactness_equals_loops():
    torch.manual_seed(1)
    f, weights = torch.randn(K, M, E), torch.rand(M, K)
    labels = (torch.rand(M, C) < 0.5).float()
    labels[0] = 0
    expected = 0.0
    for k in range(K):
        means = [f[k][labels[:, c] > 0].mean(dim=0) for c in range(C)]
        for i in range(1, M):
            own = [means[c] for c in range(C) if labels[i, c]]
            if own:
                apart = float(((f[k, i] - torch.stack(own).mean(dim=0)) ** 2).sum())
                expected += float(weights[i, k] / weights[:, k].sum()) * apart / K
    assert compactness(f, labels, weights).item() == pytest.approx(expected, rel=1e-5)


def test_class_means_get_no_gradient():
    f = torch.tensor([[[1.0], [3.0]]], requires_grad=True)
    compactness(f, torch.ones(2, 1), torch.ones(2, 1)).backward()
    assert f.grad.flatten().tolist() == [-1.0, 1.0]
