"""UCMFH: what attention over one token is, what fusion does to codes, and what splitting it mends."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from amodal.data import incomplete, toy
from amodal.errors import UsageError
from amodal.losses import nt_xent
from amodal.methods import get
from amodal.training import Batches

QUICK = {"bits": 16, "width": 16, "feedforward": 32, "hidden": 32, "epochs": 1, "batch_size": 32}


def begun(data, **params):
    """A method as it is before its first step."""
    method = get("ucmfh").create(**{**QUICK, **params})
    method.meet(data)
    method.network_ = method.draw()
    method.prepare(data)
    method.network_.eval()
    return method


@pytest.fixture(scope="module")
def items():
    return toy(100, classes=4, seed=1)


@pytest.fixture(scope="module")
def x(items):
    return {name: items[name].read() for name in items.names}


def changed(a, b):
    """Share of bits that differ."""
    return float((a.signs() != b.signs()).mean())


def test_another_text_changes_bits_of_the_image_unless_they_are_split(items, x):
    """Why it has no place in cross-modal tables: the code of an image holds the text."""
    swapped = {"image": x["image"], "text": x["text"][::-1].copy()}
    fused, split = begun(items), begun(items, split=True)
    assert 0.02 < changed(fused.encode_items(x)["image"], fused.encode_items(swapped)["image"]) < 0.5
    assert split.encode_items(x)["image"] == split.encode_items(swapped)["image"]
    assert split.encode_items(x)["image"] == split.encode(x["image"], "image")


def test_attention_over_one_token_is_its_value_projection(items):
    layer = begun(items).network_.transformer.layers[0].self_attn
    token = torch.randn(5, 1, 32, generator=torch.Generator().manual_seed(0))
    value = token @ layer.in_proj_weight[64:].T + layer.in_proj_bias[64:]
    expected = value @ layer.out_proj.weight.T + layer.out_proj.bias
    torch.testing.assert_close(layer(token, token, token)[0], expected, rtol=1e-5, atol=1e-6)


def test_released_attention_over_the_batch_depends_on_companions(items, x):
    method = begun(items, eval_attention="batch")
    together = method.encode_items(x)["text"]
    alone = method.encode_items({m: rows[:7] for m, rows in x.items()})["text"]
    assert changed(alone, together[np.arange(7)]) > 0
    assert changed(together, begun(items).encode_items(x)["text"]) > 0


def test_a_batch_of_one_attends_to_itself_alone(items, x):
    one = {m: rows[:1] for m, rows in x.items()}
    assert begun(items, eval_attention="batch").encode_items(one) == begun(items).encode_items(one)


@pytest.mark.parametrize("split", [False, True])
def test_objective_by_hand(items, split):
    method = begun(items, split=split, tau=0.3, weight=0.7)
    batch = Batches(items, 20, 0).gather(np.arange(20))
    network = method.network_
    tokens = [network.token(batch.x[m], k) for k, m in enumerate(items.names)]
    if split:
        parts = [network.transformer(token[:, None])[:, 0] for token in tokens]
    else:
        whole = network.transformer(torch.cat(tokens, dim=1)[:, None])[:, 0]
        whole = normalize(whole, dim=1)  # released; a part's own length takes it back
        parts = [whole[:, :16], whole[:, 16:]]
    parts = [normalize(part, dim=1) for part in parts]
    codes = [head(part) for head, part in zip(network.head, parts, strict=True)]
    losses = method.step(batch, 0)
    assert losses["fusion"].item() == pytest.approx(nt_xent(*parts, 0.3).item(), rel=1e-5)
    assert losses["hashing"].item() == pytest.approx(nt_xent(*codes, 0.3).item(), rel=1e-5)
    assert losses["loss"].item() == pytest.approx((nt_xent(*parts, 0.3) + 0.7 * nt_xent(*codes, 0.3)).item(), rel=1e-5)


def test_three_modalities_are_contrasted_pair_by_pair():
    data = toy(30, {"a": 4, "b": 6, "c": 5}, classes=3, seed=0)
    method = begun(data)
    batch = Batches(data, 30, 0).gather(np.arange(30))
    a, b, c = method.network_.parts([batch.x[m] for m in data.names])
    expected = nt_xent(a, b, 0.5) + nt_xent(a, c, 0.5) + nt_xent(b, c, 0.5)
    assert method.step(batch, 0)["fusion"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_split_learns_from_complete_items_and_then_stands_gaps(items):
    gaps = incomplete(items, "easy")
    method = get("ucmfh").create(**QUICK, split=True).fit(gaps)
    whole = gaps.take(np.flatnonzero(gaps.presence().all(axis=1)))
    assert method.fingerprint() == get("ucmfh").create(**QUICK, split=True).fit(whole).fingerprint()
    alone = np.flatnonzero(~gaps.present("text"))
    assert len(method.encode_table(gaps.take(alone)["image"], "image")) == len(alone)


def test_heads_and_what_is_before_them_have_rates_of_their_own(items):
    groups = begun(items, rate=0.3, rate_fusion=0.2).groups()
    assert [group["lr"] for group in groups] == [0.3, 0.2]
    method = begun(items)
    assert sum(len(group["params"]) for group in method.groups()) == len(list(method.network_.parameters()))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"heads": 5}, "heads is 5, which does not divide the width of a token, 32"),
        ({"heads": 32, "split": True}, "width of a token, 16"),
        ({"eval_attention": "batc"}, 'Did you mean "batch"'),
        ({"eval_attention": "batch", "split": True}, "one modality of one item at a time"),
    ],
)
def test_arguments_that_cannot_be(items, wrong, sentence):
    with pytest.raises(UsageError, match=sentence):
        get("ucmfh").create(**{**QUICK, **wrong}).fit(items)


def test_released_preset_has_the_released_sizes(items):
    method = get("ucmfh").create(preset="released")
    method.meet(items)
    network = method.build()
    assert network.transformer.layers[0].linear1.weight.shape == (2048, 1024)
    assert len(network.transformer.layers) == 2
    assert network.head[0][0].weight.shape == (4096, 512)
