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
#: its hardest negatives cost more than 2 margins per pair, the next ones less
NEAR = torch.tensor([[0.3, 0.1, 0.9], [0.9, 0.3, 0.1], [0.1, 0.9, 0.3]])


def table(scores):
    """Items of one fragment each, whose inner products are these; for ``cosine``."""
    single = torch.ones(len(scores), 1, dtype=torch.bool)
    return Pair(Side(scores[:, None], single), Side(torch.eye(len(scores))[:, None], single))


def cosine(block):
    return block.facing("t2i").s[:, 0, 0]


def contest(scores, **options):
    method = get("scan")(**options)
    return method.contest(method.scorers()[0], table(scores), ITEMS, cosine, method.margin).loss


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_negatives_that_would_make_scores_alike_give_way_to_the_next(reduction):
    hardest = [matching_hinge(scores, ITEMS, 0.2, reduction=reduction) for scores in (FAR, NEAR)]
    assert hardest[1] > 2 * 0.2 * (3 if reduction == "sum" else 1) > hardest[0]
    torch.testing.assert_close(contest(FAR, reduction=reduction), hardest[0])
    assert contest(NEAR, reduction=reduction) == 0  # .1 is all of a margin below .3
    torch.testing.assert_close(contest(NEAR, reduction=reduction, negatives="hardest"), hardest[1])


def test_hardest_negatives_alone_make_scores_alike_and_ours_do_not():
    data = planted(300, noise=0.3, concepts=40, seed=1)
    spread = {}
    for negatives in ("hardest", "bearable"):
        options = {"modules": "saf", "similarity": 16, "width": 24, "batch_size": 50, "epochs": 12, "rate": 0.01}
        method = get("sgraf")(**options, dropout=0.0, negatives=negatives, start="random").fit(data)
        scores = method.score(data["image"].read(), data["text"].read(), modalities=("image", "text"))
        spread[negatives] = float(np.std(scores))
    assert spread["bearable"] > 5 * spread["hardest"]


@pytest.mark.parametrize("slug", ["scan", "sgraf"])
def test_without_learning_partners_are_near_by_correlation(slug):
    train, test = planted(400, noise=0.3, concepts=20, seed=1), planted(100, noise=0.3, concepts=20, seed=2)
    found = {
        start: get(slug)(width=24, epochs=1, rate=1e-9, start=start).fit(train).score(
            test["image"].read(), test["text"].read(), modalities=("image", "text")
        )
        for start in ("correlations", "random")
    }  # fmt: skip
    ranks = {start: np.mean(scores > scores.diagonal()[:, None]) for start, scores in found.items()}
    assert ranks["random"] > 0.35
    if slug == "scan":
        assert ranks["correlations"] < 0.15
