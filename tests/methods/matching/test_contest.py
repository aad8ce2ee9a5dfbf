"""Learning from the hardest: a list of pairs scores as the block it is taken from, and so does its gradient."""

import numpy as np
import pytest
import torch

from amodal.losses.matching import matching_hinge
from amodal.methods.matching.blocks import Couples, Pair
from amodal.methods.matching.contest import glance, rivalry
from amodal.methods.matching.scan import CrossAttention
from amodal.methods.matching.sgraf import alignment_scorer
from tests.methods.matching.blocks import block, side

MAKE = {
    "t2i": lambda: scan("t2i"),
    "i2t, lse": lambda: scan("i2t", "lse"),
    "both": lambda: scan("both"),
    "saf": lambda: alignment_scorer("saf", 8, 6, 9.0, 3),
    "sgr": lambda: alignment_scorer("sgr", 8, 6, 9.0, 3),
}


def scan(direction, pooling="mean"):
    return CrossAttention(direction, pooling, sharpness={"t2i": 9.0, "i2t": 4.0}, lse={"t2i": 6.0, "i2t": 5.0})


@pytest.fixture(params=MAKE)
def scorer(request):
    torch.manual_seed(0)
    return MAKE[request.param]().double().eval()


def couples(pair, rows, columns):
    return Couples(pair.regions.take(torch.tensor(rows)), pair.words.take(torch.tensor(columns)))


def batch(n=7, *, seed=0):
    """As many texts as pictures, of all lengths."""
    rng = np.random.default_rng(seed)
    return Pair(side(rng.integers(1, 6, n).tolist(), seed=1), side(rng.integers(1, 7, n).tolist(), seed=2))


def test_a_list_of_pairs_scores_as_the_block(scorer):
    pair, rows, columns = block(), [0, 2, 2, 1, 0], [3, 0, 1, 1, 3]
    listed = couples(pair, rows, columns)
    torch.testing.assert_close(scorer(listed)[0], scorer(pair)[rows, columns])
    torch.testing.assert_close(scorer.effect(listed)[0], scorer.effect(pair)[rows, columns])


@pytest.mark.parametrize("kind", ["random", "shuffle", "swap", "reverse"])
def test_another_attention_of_a_list_lies_on_real_keys(scorer, kind):
    listed = couples(block(), [0, 2, 2, 1], [3, 0, 1, 1])
    generator = torch.Generator().manual_seed(0)
    for direction, weights in scorer.instead(kind, listed, scorer.attend(listed), generator).items():
        real = listed.facing(direction).real.expand_as(weights)
        assert not weights[~real].any()
        torch.testing.assert_close(weights.sum(dim=1), torch.ones_like(weights[:, 0]))


def test_swapped_attention_of_a_list_is_that_of_another_text_to_the_same_regions():
    scorer, pair = scan("t2i").double(), block()
    listed = couples(pair, [0, 2, 1], [3, 0, 1])
    found = scorer.instead("swap", listed, scorer.attend(listed), torch.Generator().manual_seed(0))["t2i"]
    every = scorer.attend(pair)["t2i"]
    n = found.shape[2]
    possible = [[1, 3, 0], [0, 1, 3]]  # by one place or by two
    assert any(
        all(
            torch.allclose(found[0, :4, :, k], every[p, :, :n, q])
            for k, (p, q) in enumerate(zip([0, 2, 1], turned, strict=True))
        )
        for turned in possible
    )


@pytest.mark.parametrize("at_once", [2**21, 60])
def test_a_glance_sees_all_pairs_and_leaves_the_statistics(scorer, at_once, monkeypatch):
    monkeypatch.setattr("amodal.methods.matching.tiles.AT_ONCE", at_once)
    pair = batch()
    expected = scorer(pair).detach()
    before = {name: value.clone() for name, value in scorer.state_dict().items()}
    found = glance(scorer.train(), pair, scorer)
    torch.testing.assert_close(found, expected)
    assert scorer.training and not found.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in scorer.state_dict().items())


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_gradient_of_the_hardest_is_that_of_all_pairs(scorer, reduction):
    pair, items = batch(), torch.tensor([0, 1, 2, 2, 3, 4, 5])
    inputs = [*scorer.parameters()]
    for one in (pair.regions, pair.words):
        inputs += [one.values.requires_grad_(), one.whole.requires_grad_()]
    whole = matching_hinge(scorer(Pair(pair.regions, pair.words)), items, 0.2, reduction=reduction)
    found = rivalry(pair, glance(scorer, pair, scorer), items, scorer, 0.2, reduction=reduction)
    torch.testing.assert_close(found.loss, whole)
    gradients = [torch.autograd.grad(loss, inputs, allow_unused=True) for loss in (found.loss, whole)]
    masks = {id(one.values): one.real[..., None] for one in (pair.regions, pair.words)}
    assert sum(one is not None for one in gradients[0]) > 1
    for value, one, other in zip(inputs, *gradients, strict=True):
        real = masks.get(id(value), True)  # what flows into padding ends there
        torch.testing.assert_close(one if one is None else one * real, other if other is None else other * real)


def test_items_of_one_batch_that_are_all_the_same_have_no_rivals():
    scorer, pair = scan("t2i").double(), batch(3)
    found = rivalry(pair, glance(scorer, pair, scorer), torch.zeros(3), scorer, 0.2, reduction="sum")
    assert found.loss == 0
