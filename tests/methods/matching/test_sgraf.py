"""SAF and SGR: against loops over pairs and words, and what their formulas say in special cases."""

import itertools

import numpy as np
import pytest
import torch

from amodal.errors import ShapeError, UsageError
from amodal.methods import get, load, save
from amodal.methods.matching import sgraf
from amodal.methods.matching.blocks import Pair, Side
from amodal.methods.matching.sgraf import SGRAF, Filtration, Reasoning, Whole
from tests.methods.matching.blocks import block, fragments, side
from tests.methods.matching.planted import planted
from tests.oracles import matching as oracle


def weights(layer):
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def randomised(scorer, seed=0):
    """With offsets and a gate that says something."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in scorer.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return scorer.double().eval()


def filtration(**options):
    return randomised(Filtration(8, 6, 9.0), **options)


def reasoning(steps=3, **options):
    return randomised(Reasoning(8, 6, 9.0, steps=steps), **options)


def sigmas(scorer, pair, p, q):
    wholes = pair.regions.whole[p].numpy(), pair.words.whole[q].numpy()
    layers = weights(scorer.globe), weights(scorer.local)
    return oracle.alignments(fragments(pair.regions, p), fragments(pair.words, q), wholes, layers, 9.0)


def pairs(pair):
    return itertools.product(range(len(pair.regions)), range(len(pair.words)))


def test_saf_equals_the_loop():
    scorer, pair = filtration(), block()
    scorer.norm.running_mean += 0.3
    scorer.norm.running_var *= 2
    found = scorer(pair)
    scale = scorer.norm.weight.item() / np.sqrt(scorer.norm.running_var.item() + scorer.norm.eps)
    gate, offset = weights(scorer.gate)
    shift = scale * (offset[0] - scorer.norm.running_mean.item()) + scorer.norm.bias.item()
    final, final_offset = weights(scorer.final)
    for p, q in pairs(pair):
        expected = oracle.saf(sigmas(scorer, pair, p, q), scale * gate[0], shift, final[0], final_offset[0])
        assert found[p, q].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_sgr_equals_the_loop(steps):
    scorer, pair = reasoning(steps), block()
    found = scorer(pair)
    layers = [[weights(step[name]) for name in ("query", "key", "read")] for step in scorer.graph]
    final, offset = weights(scorer.final)
    for p, q in pairs(pair):
        expected = oracle.sgr(sigmas(scorer, pair, p, q), layers, final[0], offset[0])
        assert found[p, q].item() == pytest.approx(expected, abs=1e-9)


def test_without_steps_only_wholes_count():
    scorer, pair = reasoning(steps=0), block()
    other = Pair(Side(side((4, 2, 3), seed=9).values, pair.regions.real, pair.regions.whole), pair.words)
    torch.testing.assert_close(scorer(other), scorer(pair))
    turned = Pair(Side(pair.regions.values, pair.regions.real, -pair.regions.whole), pair.words)
    assert not torch.allclose(scorer(turned), scorer(pair))


def test_a_gate_that_says_nothing_weighs_alike():
    scorer, pair = filtration(), block()
    scorer.gate.weight.data.zero_()
    final, offset = weights(scorer.final)
    for p, q in pairs(pair):
        expected = oracle.saf(sigmas(scorer, pair, p, q), np.zeros(6), 0.0, final[0], offset[0])
        assert scorer(pair)[p, q].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("make", [filtration, reasoning])
def test_scores_lie_between_0_and_1(make):
    scores = make()(block())
    assert ((scores > 0) & (scores < 1)).all()


@pytest.mark.parametrize("kind", ["saf", "sgr"])
def test_wholes_that_are_alike_stay_finite(kind):
    """As drawn, layers have no offset: then sigma_0 is unit(0)."""
    scorer = sgraf.alignment_scorer(kind, 8, 6, 9.0, 3).double()
    pair = block((2, 3), (2, 4))
    whole = pair.regions.whole.requires_grad_()
    scores = scorer(Pair(pair.regions, Side(pair.words.values, pair.words.real, whole)))
    scores.sum().backward()
    assert torch.isfinite(scores).all()
    assert torch.isfinite(whole.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in scorer.parameters() if p.grad is not None)


def test_batch_norm_of_the_gate_sees_words_that_are_there_only():
    scorer, pair = filtration().train(), block()
    scorer(pair)
    gate, offset = weights(scorer.gate)
    logits = [gate[0] @ sigma + offset[0] for p, q in pairs(pair) for sigma in sigmas(scorer, pair, p, q)]
    assert scorer.norm.running_mean.item() == pytest.approx(0.1 * np.mean(logits), abs=1e-9)


def test_whole_ignores_padding_and_is_unit():
    torch.manual_seed(0)
    whole = Whole(8, 0.4).double().eval()
    one = side((3, 5), whole=False)
    found = whole(one.values, one.real)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(whole(one.values[:1, :3], one.real[:1, :3]), found[:1])


def test_batch_norm_over_places_needs_all_of_them():
    data = planted(40, regions=6)
    with pytest.raises(ShapeError, match=r'regions=6\).*Set regions, or take norm="layer"'):
        get("sgraf")(modules="saf", norm="batch", regions=6, width=8, epochs=1).fit(data)
    full = data["image"].read()
    full[:] = np.where(full == 0, 1.0, full)
    data["image"].store[:] = full
    method = get("sgraf")(modules="saf", norm="batch", regions=7, width=8, epochs=1).fit(data)
    assert any("local.1.running_mean" in name and array.shape == (7,) for name, array in method.state().items())


def test_both_is_the_mean_of_two_networks():
    data = planted(40)
    method = get("sgraf")(width=8, similarity=6, epochs=2, batch_size=20).fit(data)
    saf, sgr = method.network_
    assert not {id(p) for p in saf.parameters()} & {id(p) for p in sgr.parameters()}
    parts = [data[name].read() for name in ("image", "text")]
    together = method.score(*parts, modalities=("image", "text"))
    halves = []
    for kind, network in (("saf", saf), ("sgr", sgr)):
        alone = get("sgraf")(modules=kind, width=8, similarity=6)
        alone.meet(data)
        alone.network_ = torch.nn.ModuleList([network])
        halves.append(alone.score(*parts, modalities=("image", "text")))
    np.testing.assert_allclose(together, np.mean(halves, axis=0), atol=1e-6)


def test_two_that_learned_apart_become_one(tmp_path):
    data, shape = planted(40), {"width": 8, "similarity": 6, "epochs": 1, "batch_size": 20}
    saf, sgr, small = (
        get("sgraf")(**shape | own).fit(data)
        for own in ({"modules": "saf"}, {"modules": "sgr", "rate": 1e-3, "seed": 4}, {"modules": "sgr", "width": 4})
    )
    parts, names = [data[name].read() for name in ("image", "text")], ("image", "text")
    apart = [model.score(*parts, modalities=names) for model in (saf, sgr)]
    both = load(save(SGRAF.of(saf, sgr), tmp_path / "both"))
    np.testing.assert_allclose(both.score(*parts, modalities=names), np.mean(apart, axis=0), atol=1e-6)
    with pytest.raises(UsageError, match="differ in width"):
        SGRAF.of(saf, small)
    with pytest.raises(UsageError, match='modules="saf"'):
        SGRAF.of(sgr, saf)


@pytest.mark.parametrize("options", [{"modules": "sag"}, {"norm": "lawyer"}])
def test_unknown_options_name_the_nearest(options):
    with pytest.raises(UsageError, match="Did you mean"):
        get("sgraf")(**options).fit(planted(12))
