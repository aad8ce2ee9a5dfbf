"""How matchers learn: which negatives count, and that hardest ones do not make all scores alike."""

import numpy as np
import pytest
import torch

from amodal.losses.matching import matching_hinge
from amodal.methods import get
from tests.methods.matching.planted import planted

ITEMS = torch.arange(3)
FAR = torch.tensor([[0.9, 0.1, 0.8], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])
#: its hardest negatives cost more than 2 margins per pair, their mean less
NEAR = torch.tensor([[0.3, 0.1, 0.9], [0.9, 0.3, 0.1], [0.1, 0.9, 0.3]])


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
    method = get("scan")(reduction=reduction)
    assert method.hinge(FAR, ITEMS, 0) == mean["far"]
    assert method.hinge(FAR, ITEMS, 1) == hardest["far"]
    assert method.hinge(NEAR, ITEMS, 5) == mean["near"]
    assert get("scan")(reduction=reduction, warm_up=0).hinge(NEAR, ITEMS, 0) == hardest["near"]


def test_hardest_negatives_alone_make_scores_alike_and_ours_do_not():
    data = planted(300, noise=0.3, concepts=40, seed=1)
    spread = {}
    for warm_up in (0, 1):
        options = {"modules": "saf", "similarity": 16, "width": 24, "batch_size": 50, "epochs": 12, "rate": 0.01}
        method = get("sgraf")(**options, dropout=0.0, warm_up=warm_up).fit(data)
        scores = method.score(data["image"].read(), data["text"].read(), modalities=("image", "text"))
        spread[warm_up] = float(np.std(scores))
    assert spread[1] > 5 * spread[0]
