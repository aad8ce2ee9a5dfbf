"""SCAN: the fast form against a loop over pairs and words, and everything that has a closed form."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.errors import UsageError
from amodal.methods import get
from amodal.methods.matching.attention import agreement, attend
from amodal.methods.matching.blocks import Pair, Side
from amodal.methods.matching.scan import CrossAttention
from tests.methods.matching.blocks import block, fragments, side
from tests.methods.matching.planted import planted
from tests.oracles import matching as oracle

SHARPNESS, LSE = {"t2i": 9.0, "i2t": 4.0}, {"t2i": 6.0, "i2t": 5.0}


def scorer(direction="t2i", pooling="mean", sharpness=SHARPNESS, lse=LSE, **options):
    return CrossAttention(direction, pooling, sharpness=sharpness, lse=lse, **options)


@pytest.mark.parametrize("pooling", ["mean", "lse"])
@pytest.mark.parametrize("direction", ["t2i", "i2t"])
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.floats(0, 20),
)
@settings(max_examples=25, deadline=None)
def test_equals_the_loop(direction, pooling, regions, words, sharpness):
    pair = block(regions, words)
    found = scorer(direction, pooling, {direction: sharpness})(pair)
    for p, q in itertools.product(range(len(regions)), range(len(words))):
        expected = oracle.scan(
            fragments(pair.regions, p),
            fragments(pair.words, q),
            direction=direction,
            pooling=pooling,
            sharpness=sharpness,
            lse=LSE[direction],
        )
        assert found[p, q].item() == pytest.approx(expected, abs=1e-9)


def test_single_precision_is_near_the_loop():
    wide, narrow = block((9, 30), (12, 25), width=64), block((9, 30), (12, 25), width=64, dtype=torch.float32)
    narrow = Pair(*(Side(one.values.float(), one.real) for one in (wide.regions, wide.words)))
    for direction in ("t2i", "i2t"):
        torch.testing.assert_close(scorer(direction)(narrow).double(), scorer(direction)(wide), atol=1e-6, rtol=0)


def test_gradient_is_that_of_contexts_written_out():
    pair = block((4, 3), (5, 2))
    v, w = pair.regions.values.requires_grad_(), pair.words.values.requires_grad_()
    found = torch.autograd.grad(scorer()(pair).square().sum(), (v, w))
    s = torch.einsum("pkd,qnd->pknq", v, w)
    weights = attend(s, pair.facing("t2i").real, 9.0)
    context = torch.einsum("pknq,pkd->pqnd", weights, v)
    cosines = (F.normalize(context, dim=-1) * w[None]).sum(dim=-1)  # |w| = 1 is known
    expected = torch.autograd.grad(((cosines * pair.words.real).sum(dim=2) / pair.words.counts).square().sum(), (v, w))
    for one, gradient, wanted in zip((pair.regions, pair.words), found, expected, strict=True):
        torch.testing.assert_close(gradient[one.real], wanted[one.real])


def test_both_is_the_mean_of_two():
    pair = block()
    torch.testing.assert_close(scorer("both")(pair), (scorer("t2i")(pair) + scorer("i2t")(pair)) / 2)


def test_one_region_is_all_that_is_attended_to():
    pair = block((1, 1), (3, 5))
    weights = scorer().attend(pair)["t2i"]
    assert torch.equal(weights, torch.ones_like(weights))
    cosines = torch.einsum("pkd,qnd->pqn", pair.regions.values, pair.words.values)
    torch.testing.assert_close(scorer()(pair), cosines.sum(dim=2) / pair.words.counts)


def test_without_sharpness_the_mean_region_is_attended_to():
    pair = block()
    mean = pair.regions.values.sum(dim=1) / pair.regions.counts[:, None]
    cosines = torch.einsum("pd,qnd->pqn", F.normalize(mean, dim=1), pair.words.values)
    torch.testing.assert_close(scorer(sharpness={"t2i": 0.0})(pair), cosines.sum(dim=2) / pair.words.counts)


def test_lse_lies_above_the_maximum_and_tends_to_it():
    pair = block()
    view = pair.facing("t2i")
    cosines = agreement(scorer().attend(pair)["t2i"], view)
    highest = cosines.masked_fill(~pair.words.real.T, -2).amax(dim=1)
    for lse in (1.0, 6.0, 500.0):
        found = scorer(pooling="lse", lse={"t2i": lse})(pair)
        assert (found >= highest - 1e-12).all()
        assert (found <= highest + pair.words.counts.log() / lse + 1e-12).all()
    torch.testing.assert_close(scorer(pooling="lse", lse={"t2i": 1e4})(pair), highest, atol=1e-3, rtol=0)
    assert torch.isfinite(scorer(pooling="lse", lse={"t2i": 1e6})(pair)).all()


def test_longer_captions_raise_lse():
    words = side((1,))
    twice = Side(words.values.repeat(1, 3, 1), words.real.repeat(1, 3))
    regions = side((4,), seed=5)
    short, long = (scorer(pooling="lse")(Pair(regions, one)).item() for one in (words, twice))
    # every word of the long one is the same, and so is its norm over words: 1 / sqrt(3) of the short one's
    assert long > short


def test_padding_takes_no_part():
    pair = block((2, 4), (3, 1))
    padded = Pair(
        *(
            Side(*(F.pad(*x) for x in ((one.values, (0, 0, 0, 3)), (one.real, (0, 3)))))
            for one in (pair.regions, pair.words)
        )
    )
    for direction, pooling in itertools.product(("t2i", "i2t"), ("mean", "lse")):
        torch.testing.assert_close(scorer(direction, pooling)(padded), scorer(direction, pooling)(pair))
    weights = scorer().attend(padded)["t2i"]
    assert not weights[0, 2:].any()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 6, 2, dtype=torch.float64))


def test_order_of_regions_leaves_the_score():
    pair = block((4, 4), (3, 5))
    turned = Pair(Side(pair.regions.values.flip(1), pair.regions.real), pair.words)
    for direction in ("t2i", "i2t"):
        torch.testing.assert_close(scorer(direction)(turned), scorer(direction)(pair))


def test_fragments_that_are_all_alike_score_1_without_nan():
    one = F.normalize(torch.ones(3, 2, 4), dim=-1).requires_grad_()
    scores = scorer("both")(
        Pair(Side(one, torch.ones(3, 2, dtype=torch.bool)), Side(one, torch.ones(3, 2, dtype=torch.bool)))
    )
    torch.testing.assert_close(scores, torch.ones(3, 3))
    scores.sum().backward()
    assert torch.isfinite(one.grad).all()


def test_learned_sharpness_starts_where_it_is_told():
    learned = scorer("both", learn=True).double()
    torch.testing.assert_close(learned(block()), scorer("both")(block()), atol=1e-6, rtol=1e-6)
    assert sum(parameter.numel() for parameter in learned.parameters()) == 2


@pytest.mark.parametrize("options", [{"direction": "t2t"}, {"pooling": "max"}])
def test_unknown_options_name_the_nearest(options):
    with pytest.raises(UsageError, match="Known"):
        get("scan")(**options).fit(planted(12))


def test_regions_that_answer_are_looked_at():
    """Words are copies of some regions: after learning each looks at its own most of all, more often than by chance."""
    data = planted(200, noise=0.1, concepts=20, seed=1)
    method = get("scan")(width=24, epochs=30, batch_size=32, rate=0.02).fit(data)
    regions, words = data["image"].read(), data["text"].read()
    maps = [np.random.default_rng(7).standard_normal((20, d)) for d in (20, 16)]
    right, chance = [], []
    for row in range(40):
        found = method.explain(regions[row], words[row], modalities=("image", "text"))
        named = [np.argmin(((part - maps[1]) ** 2).sum(axis=1)) for part in words[row] if part.any()]
        shown = [np.argmin(((part - maps[0]) ** 2).sum(axis=1)) for part in regions[row] if part.any()]
        right += [shown[found.attention[j].argmax()] == concept for j, concept in enumerate(named)]
        chance += [1 / len(shown)] * len(named)
    assert np.mean(right) > 2 * np.mean(chance)
