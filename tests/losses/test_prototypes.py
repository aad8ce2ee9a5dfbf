"""Scores of prototypes: against loops, digits far from zero, gradients in closed form, margins."""

import math

import pytest
import torch

from amodal.losses import label_nll, margin_scores, prototype_scores, squared_distance


def points(m=6, c=4, e=5, *, seed=0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(m, e, generator=random, dtype=dtype), torch.randn(c, e, generator=random, dtype=dtype)


def test_distance_equals_the_sum_feature_by_feature():
    x, y = points()
    for i, row in enumerate(squared_distance(x, y).tolist()):
        for k, found in enumerate(row):
            expected = sum((a - b) ** 2 for a, b in zip(x[i].tolist(), y[k].tolist(), strict=True))
            assert found == pytest.approx(expected)
            assert prototype_scores(x, y, 0.5)[i, k].item() == pytest.approx(-2 * expected)


def test_distance_keeps_its_digits_far_from_zero():
    x, y = points()
    near = squared_distance(x, y)
    far = squared_distance((x + 1000).float(), (y + 1000).float())
    torch.testing.assert_close(far.double(), near, rtol=1e-3, atol=1e-3)
    plain = ((x + 1000).float() ** 2).sum(1)[:, None] + ((y + 1000).float() ** 2).sum(1)
    plain = plain - 2 * (x + 1000).float() @ (y + 1000).float().T
    assert (plain.double() - near).abs().max() > 0.1  # what the expansion around zero would leave


def test_distance_has_the_gradients_of_a_difference():
    x, y = points(m=1, c=2)
    x.requires_grad_()
    y.requires_grad_()
    squared_distance(x, y)[0, 1].backward()
    torch.testing.assert_close(x.grad[0], 2 * (x[0] - y[1]).detach())
    torch.testing.assert_close(y.grad[1], 2 * (y[1] - x[0]).detach())
    torch.testing.assert_close(y.grad[0], torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)


def test_gradient_of_dce_is_softmax_minus_one_hot_times_the_way_to_the_prototypes():
    z, prototypes = points()
    labels, temperature = torch.eye(4, dtype=torch.float64)[[0, 1, 2, 3, 0, 1]], 0.7
    z.requires_grad_()
    label_nll(prototype_scores(z, prototypes, temperature), labels, single=True).sum().backward()
    for i in range(6):
        scores = [-((z[i] - c) ** 2).sum().item() / temperature for c in prototypes]
        mass = sum(map(math.exp, scores))
        expected = torch.zeros(5, dtype=torch.float64)
        for k, c in enumerate(prototypes):
            share = math.exp(scores[k]) / mass - labels[i, k]
            expected += share * 2 * (c - z[i].detach()) / temperature
        torch.testing.assert_close(z.grad[i], expected)


def test_margins_of_zero_are_the_normalised_softmax():
    torch.manual_seed(0)
    cosine, labels = 2 * torch.rand(5, 3) - 1, torch.eye(3)[[0, 1, 2, 0, 1]]
    found = label_nll(margin_scores(cosine, labels, 16.0, 0.0, 0.0), labels, single=True)
    torch.testing.assert_close(
        found, torch.nn.functional.cross_entropy(16 * cosine, labels.argmax(1), reduction="none")
    )


@pytest.mark.parametrize("several", [False, True])
def test_margins_against_the_formula(several):
    torch.manual_seed(0)
    s, intra, inter = 4.0, 0.2, 0.1
    cosine = 2 * torch.rand(5, 3) - 1
    labels = (torch.rand(5, 3) < 0.5).float() if several else torch.eye(3)[[0, 1, 2, 0, 1]]
    found = label_nll(margin_scores(cosine, labels, s, intra, inter), labels, single=not several)
    for i in range(5):
        own = [k for k in range(3) if labels[i, k]]
        up = {k: math.exp(s * (cosine[i, k].item() - intra)) for k in own}
        down = {k: math.exp(s * (cosine[i, k].item() + inter)) for k in range(3) if k not in own}
        if several:
            expected = sum(math.log1p(1 / e) for e in up.values()) + sum(math.log1p(e) for e in down.values())
        else:
            expected = -math.log(up[own[0]] / (up[own[0]] + sum(down.values())))
        assert found[i].item() == pytest.approx(expected, rel=1e-4)


def test_wider_margins_cost_more():
    cosine, labels = torch.tensor([[0.9, -0.9]]), torch.tensor([[1.0, 0.0]])
    costs = [
        label_nll(margin_scores(cosine, labels, 8.0, intra, inter), labels, single=True).item()
        for intra, inter in ((0.0, 0.0), (0.1, 0.0), (0.1, 0.1), (0.3, 0.3))
    ]
    assert costs == sorted(costs)
    assert len(set(costs)) == 4
