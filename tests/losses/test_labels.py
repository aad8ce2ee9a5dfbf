"""The likelihood of labels, class by class."""

import math

import pytest
import torch

from amodal.losses import label_nll


@pytest.mark.parametrize("single", [True, False])
def test_equals_the_sum_over_classes(single):
    torch.manual_seed(0)
    scores = 3 * torch.randn(2, 5, 4)
    labels = torch.eye(4)[torch.tensor([0, 3, 1, 1, 2])] if single else (torch.rand(5, 4) < 0.5).float()
    found = label_nll(scores, labels, single=single)
    for k in range(2):
        for i in range(5):
            s, y = scores[k, i].tolist(), labels[i].tolist()
            if single:
                expected = -math.log(math.exp(s[y.index(1)]) / sum(map(math.exp, s)))
            else:
                p = [1 / (1 + math.exp(-v)) for v in s]
                expected = -sum(math.log(q if here else 1 - q) for q, here in zip(p, y, strict=True))
            assert found[k, i].item() == pytest.approx(expected, abs=1e-4)
