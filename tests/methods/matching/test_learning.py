"""How matchers learn: which negatives count, and that hardest ones do not make all scores alike."""

import numpy as np
import pytest
import torch

from amodal.losses.matching import matching_hinge
from amodal.methods import get
from amodal.methods.matching.blocks import Pair, Side
from tests.methods.matching.planted import planted

ITEMS = torch.arange(3)
FAR = torch.tensor([[0.9, 0.1, 0.8], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])
#: its hardest negatives cost more than 2 margins per pair, their mean less
NEAR = torch.tensor([[0.3, 0.1, 0.9], [0.9, 0.3, 0.1], [0.1, 0.9, 0.3]])


def table(scores):
    """Items of one fragment each, whose inner products are these; for ``cosine``."""
    single = torch.ones(len(scores), 1, dtype=torch.bool)
    return Pair(Side(scores[:, None], single), Side(torch.eye(len(scores))[:, None], single))


def cosine(block):
    return block.facing("t2i").s[:, 0, 0]


def contest(scores, epoch, **options):
    method = get("scan")(**options)
    return method.contest(method.scorers()[0], table(scores), ITEMS, epoch, cosine, method.margin).loss


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_negatives_that_would_make_scores_alike_are_averaged(reduction):
    hardest, mean = (
        {
            name: matching_hinge(scores, ITEMS, 0.2, negatives=kind, reduction=reduction)
            for name, scores in (("far", FAR), ("near", NEAR))
        }
        for kind in ("hardest", "mean")
    )
    assert hardest["near"] > 2 * 0.2 * (3 if reduction == "sum" else 1) > hardest["far"]
    options = {"reduction": reduction}
    torch.testing.assert_close(contest(FAR, 0, **options), mean["far"])
    torch.testing.assert_close(contest(FAR, 1, **options), hardest["far"])
    torch.testing.assert_close(contest(NEAR, 5, **options), mean["near"])
    torch.testing.assert_close(contest(NEAR, 0, **options, warm_up=0), hardest["near"])


def test_hardest_negatives_alone_make_scores_alike_and_ours_do_not():
    data = planted(300, noise=0.3, concepts=40, seed=1)
    spread = {}
    for warm_up in (0, 1):
        options = {"modules": "saf", "similarity": 16, "width": 24, "batch_size": 50, "epochs": 12, "rate": 0.01}
        method = get("sgraf")(**options, dropout=0.0, warm_up=warm_up).fit(data)
        scores = method.score(data["image"].read(), data["text"].read(), modalities=("image", "text"))
        spread[warm_up] = float(np.std(scores))
    assert spread[1] > 5 * spread[0]
