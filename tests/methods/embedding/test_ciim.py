"""CIIM: every switch, the limits of every part, and what each part teaches whom."""

import os
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from amodal.data import cue_directions, hold_out, incomplete, plant_directions, read, toy
from amodal.errors import UsageError
from amodal.losses import factorisation, kernel, proxy_anchor
from amodal.methods import get
from amodal.methods.embedding.ciim_networks import reversed_gradient, swapped, top_gate
from amodal.training import Batches

QUICK = {"dim": 16, "hidden": 32, "dropout": 0.1, "epochs": 20, "batch_size": 32, "rate": 0.01}
SWITCHES = ("single", "cross", "hybrid", "samples", "swap", "mask", "reconstruction")
EVERYTHING = dict.fromkeys(SWITCHES, True)
LATE = 9  # an epoch in which everything is at its full weight


def only(*names, **params):
    """A method with some switches on and the others off, without dropout."""
    switches = {name: name in names for name in SWITCHES}
    return get("ciim").create(
        **{**QUICK, "dropout": 0.0, "dropout_input": 0.0, "embedding": "feature"} | switches | params
    )


def drawn(method, data):
    """The networks before learning, and the whole data as one batch."""
    method.meet(data)
    method.network_ = method.draw()
    method.prepare(data)
    return Batches(data, len(data), 0).gather(np.arange(len(data)))


def gradients(method, batch, name):
    """Which parameters a term teaches, by the first word of their names."""
    torch.manual_seed(0)
    method.network_.zero_grad(set_to_none=True)
    method.step(batch, LATE)[name].backward()
    return {n.split(".")[0] for n, p in method.network_.named_parameters() if p.grad is not None and p.grad.any()}


def test_single_alone_is_proxy_anchor_per_modality():
    data = incomplete(toy(60, classes=3, unlabelled=0.3, seed=1), "hard")
    method = only("single", scale=12.0, margin=0.2)
    batch = drawn(method, data)
    losses = method.step(batch, LATE)
    assert losses.keys() == {"loss", "single", "calibration"}
    expected = 0.0
    for k, name in enumerate(data.names):
        rows = data[name].item[data.labels.known[data[name].item]]
        x = torch.from_numpy(data[name].read(np.flatnonzero(np.isin(data[name].item, rows))))
        cosine = kernel(method.network_.latent(x, k), method.network_.proxies[k])
        labels = torch.from_numpy(data.labels.dense(rows))
        expected += proxy_anchor(cosine, labels, scale=12.0, margin=0.2).item()
    assert losses["single"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_cross_and_hybrid_take_all_modalities_and_each_label(several):
    data = toy(40, {"a": 5, "b": 6, "c": 7}, classes=3, multi_label=several, seed=1)
    method = only("cross", "hybrid")
    batch = drawn(method, data)
    losses, network, labels = method.step(batch, LATE), method.network_, batch.labels[batch.known]
    assert (labels.sum(dim=1).max() > 1) == several
    z = [network.latent(batch.x[m], k)[batch.known] for k, m in enumerate(data.names)]
    cross = [proxy_anchor(kernel(z[a], network.proxies[b]), labels, scale=8.0) for a, b in permutations(range(3), 2)]
    hybrid = proxy_anchor(kernel(torch.cat(z), network.free), labels.repeat(3, 1), scale=8.0)
    assert losses["cross"].item() == pytest.approx(sum(cross).item(), rel=1e-5)
    assert losses["hybrid"].item() == pytest.approx(hybrid.item(), rel=1e-5)


def test_swapping_statistics_with_oneself_changes_nothing_and_with_another_gives_its_own():
    random = torch.Generator().manual_seed(0)
    z, other = (torch.randn(30, 4, generator=random, dtype=torch.float64) for _ in range(2))
    own, others = (((x + 2).mean(dim=0), x.std(dim=0, correction=0)) for x in (z, 5 * other))
    own = (z.mean(dim=0), own[1])
    torch.testing.assert_close(swapped(z, own, own), z)
    assert factorisation(z, swapped(z, own, own), redundancy=0.0).item() < 1e-12
    changed = swapped(z, own, others)
    torch.testing.assert_close(changed.mean(dim=0), others[0])
    torch.testing.assert_close(changed.std(dim=0, correction=0), others[1])


def test_swap_is_nothing_where_modalities_have_the_same_statistics():
    data = toy(40, {"a": 5, "b": 5}, classes=3, seed=1)
    method = only("single", "swap")
    batch = drawn(method, data)
    batch.x["b"] = batch.x["a"]
    network = method.network_
    for part in (network.encoder, network.project):
        part[1].load_state_dict(part[0].state_dict())
    z = torch.cat([network.latent(batch.x["a"], 0)] * 2)
    same = factorisation(z, z).item()
    assert method.step(batch, LATE)["swap"].item() == pytest.approx(same, abs=1e-6)
    network.project[1].bias.data += 1
    assert method.step(batch, LATE)["swap"].item() > same + 0.1


def test_swap_rises_and_is_passed_over_without_a_second_modality():
    data = toy(40, classes=3, seed=1)
    method = only("hybrid", "swap", lambda_f=2.0)
    batch = drawn(method, data)
    for epoch, share in ((1, np.exp(-3.2)), (5, 1.0), (LATE, 1.0)):
        losses = method.step(batch, epoch)
        weight = (losses["loss"] - losses["hybrid"] - losses["calibration"]) / losses["swap"]
        assert weight.item() == pytest.approx(2.0 * share, rel=1e-3)
    one = Batches(data.keep(np.tile([True, False], (40, 1))), 40, 0).gather(np.arange(40))
    assert method.step(one, LATE)["swap"].item() == 0
    assert torch.isfinite(method.step(Batches(data, 1, 0).gather(np.arange(1)), LATE)["loss"])


def test_a_full_mask_leaves_nothing_out_and_its_rest_has_a_constant_loss():
    method = only("mask", keep=1.0)
    batch = drawn(method, toy(40, classes=3, seed=1))
    rest = proxy_anchor(torch.zeros(80, 3), batch.labels.repeat(2, 1), scale=8.0).item() / 2
    network = method.network_
    z = torch.cat([network.latent(batch.x[m], k) for k, m in enumerate(batch.x)])
    causal = proxy_anchor(kernel(z, network.free), batch.labels.repeat(2, 1), scale=8.0).item() / 2
    losses = method.step(batch, LATE)
    assert losses["parts"].item() == pytest.approx(causal + rest, rel=1e-5)
    assert losses["masker"].item() == pytest.approx(causal - rest, rel=1e-5)


def test_mask_opens_after_five_epochs():
    method = only("single", "mask")
    batch = drawn(method, toy(40, classes=3, seed=1))
    assert "parts" not in method.step(batch, 4)
    assert method.step(batch, 5).keys() == {"loss", "single", "parts", "masker", "bias", "calibration"}


def test_who_learns_from_what():
    method = only(*SWITCHES)
    batch = drawn(method, toy(60, classes=3, seed=1))
    encoders = {"encoder", "project"}
    assert gradients(method, batch, "single") == encoders | {"proxies"}
    assert gradients(method, batch, "hybrid") == encoders | {"free"}
    assert gradients(method, batch, "samples") == encoders
    assert gradients(method, batch, "swap") == encoders
    assert gradients(method, batch, "parts") == encoders | {"free", "rest"}
    assert gradients(method, batch, "masker") == {"masker"}
    assert gradients(method, batch, "bias") == encoders | {"judges"}
    assert gradients(method, batch, "reconstruction") == encoders | {"decoder"}
    assert gradients(method, batch, "calibration") == {"slope", "offset"}


def test_first_epoch_teaches_proxies_only():
    method = only("single", "hybrid", "swap", "reconstruction")
    batch = drawn(method, toy(40, classes=3, seed=1))
    method.step(batch, 0)["loss"].backward()
    taught = {n.split(".")[0] for n, p in method.network_.named_parameters() if p.grad is not None and p.grad.any()}
    assert taught == {"proxies", "free", "decoder", "slope", "offset"}


def test_reversed_gradient():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    (reversed_gradient(x) * torch.tensor([3.0, 4.0])).sum().backward()
    assert reversed_gradient(x).tolist() == x.tolist()
    assert x.grad.tolist() == [-3, -4]


@pytest.mark.parametrize("noise", [False, True])
def test_gate_takes_as_many_as_asked_for(noise):
    torch.manual_seed(0)
    logits = torch.randn(50, 9, requires_grad=True)
    gate = top_gate(logits, 4, noise=noise)
    assert set(gate.unique().tolist()) == {0.0, 1.0}
    assert (gate.sum(dim=1) == 4).all()
    (gate[:, 0].sum()).backward()
    assert (logits.grad[:, 0] > 0).all()
    assert not logits.grad[:, 1:].any()
    assert (top_gate(logits, 9, noise=noise) == 1).all()


def test_gate_without_noise_takes_the_largest_and_with_noise_draws_by_softmax():
    logits = torch.tensor([[0.0, 2.0, 1.0]])
    assert top_gate(logits, 2, noise=False).tolist() == [[0, 1, 1]]
    torch.manual_seed(0)
    drawn_once = top_gate(logits.expand(20_000, 3), 1, noise=True).mean(dim=0)
    torch.testing.assert_close(drawn_once, logits.softmax(dim=1)[0], atol=0.01, rtol=0)


def test_embedding_is_the_causal_part_or_everything():
    data = toy(60, classes=3, seed=1)
    x = data["image"].read()
    causal = get("ciim").create(**QUICK, embedding="feature", mask=True).fit(data)
    everything = get("ciim").create(**QUICK, embedding="feature", mask=True, use_mask=False)
    everything.meet(data)
    everything.restore(causal.state())
    v, w = (method.encode(x, "image").vectors for method in (causal, everything))
    assert ((v != 0).sum(axis=1) <= 10).all()  # round(.6 * 16)
    assert ((w != 0).sum(axis=1) == 16).all()
    kept = np.where(v != 0, w, 0)
    np.testing.assert_allclose(v, kept / np.linalg.norm(kept, axis=1, keepdims=True), atol=1e-5)


def test_semantic_embedding_says_how_probably_two_items_share_a_class():
    data = toy(60, classes=3, seed=1)
    method = get("ciim").create(**QUICK).fit(data)
    network = method.network_
    p, vectors = [], []
    for k, name in enumerate(data.names):
        x = torch.from_numpy(data[name].read())
        with torch.no_grad():
            scores = network.slope * kernel(network.latent(x, k), network.free) + network.offset
            p.append(torch.softmax(scores, dim=1).numpy())
        vectors.append(method.encode(x, name).vectors)
    np.testing.assert_allclose(vectors[0] @ vectors[1].T, p[0] @ p[1].T, atol=1e-5)


@pytest.fixture(scope="module")
def three():
    """Incomplete data of three modalities, and the method with every switch on, fitted to them."""
    data = incomplete(toy(80, {"a": 8, "b": 6, "c": 10}, classes=4, seed=1), "easy")
    return data, get("ciim").create(**QUICK | EVERYTHING).fit(data)


@pytest.mark.parametrize("off", [*SWITCHES, "hybrid_proxies"])
def test_every_switch_can_be_off(off, three):
    data, whole = three
    change = {off: "mean"} if off == "hybrid_proxies" else {off: False}
    method = get("ciim").create(**QUICK | EVERYTHING | change).fit(data)
    assert method.validation_score(data) > 0.7
    assert whole.encode(data["a"].read(), "a") != method.encode(data["a"].read(), "a")


def test_mean_hybrid_proxies_are_the_direction_of_the_sum():
    method = only("hybrid", hybrid_proxies="mean")
    drawn(method, toy(40, classes=3, seed=1))
    network = method.network_
    total = network.proxies.sum(dim=0)
    torch.testing.assert_close(network.hybrid, total / total.norm(dim=1, keepdim=True))
    assert "free" not in dict(network.named_parameters())


def test_rows_without_labels_teach_what_needs_none():
    data = toy(60, classes=3, unlabelled=0.5, seed=1)
    method = only(*SWITCHES)
    batch = drawn(method, data)
    changed = replace(batch, x={m: x.clone() for m, x in batch.x.items()})
    for x in changed.x.values():
        x[~batch.known] += 3
    torch.manual_seed(0)
    before = method.step(batch, LATE)
    torch.manual_seed(0)
    after = method.step(changed, LATE)
    for name in ("single", "cross", "hybrid", "samples", "parts"):
        assert before[name].item() == pytest.approx(after[name].item(), rel=1e-5), name
    for name in ("swap", "bias", "reconstruction"):
        assert before[name].item() != pytest.approx(after[name].item(), rel=1e-3), name


def test_wrong_arguments_are_sentences():
    data = toy(40, classes=3, seed=1)
    for wrong, said in (
        ({"embedding": "features"}, '"feature"'),
        ({"hybrid_proxies": "means"}, '"mean"'),
        ({"keep": 0.0}, "keep of ciim"),
        ({"hybrid": False, "mask": False}, "hybrid proxies"),
        ({"erase": False, "environment": "cue"}, "erase is off"),
        ({"fill": "drob"}, '"drop"'),
    ):
        with pytest.raises(UsageError, match=said):
            get("ciim").create(**QUICK, **wrong).fit(data)
    with pytest.raises(UsageError, match="set one of them"):
        only("swap", "reconstruction").fit(data)


def test_paper_has_every_switch_on_and_nothing_of_ours():
    paper = get("ciim").create("paper")
    assert all(paper.params()[name] for name in SWITCHES)
    assert (paper.erase, paper.embedding) == (False, "feature")


def test_what_environments_given_shift_is_erased():
    data = plant_directions(in_halves(), {"train": 0.9, "test": 0.1}, {"image": 4.0}, seed=3)
    train = data.part("train")
    method, blind = (
        get("ciim").create(**QUICK | {"epochs": 1}, **how).fit(train)
        for how in ({"environment": "cue"}, {"erase": False})
    )
    assert not blind.network_.erase[0].directions.any()
    shift = cue_directions(in_halves(), "image", seed=3)
    shift = shift - shift.mean(axis=0)
    x = data["image"].read()[:5]
    moved = [
        method.network_.erase[0](torch.from_numpy((x + step).astype(np.float32))) for step in (0 * shift[0], shift[0])
    ]
    assert (moved[0] - moved[1]).norm() < 0.5 * np.linalg.norm(shift[0]) * len(x) ** 0.5
    assert method.balance_.std() > 0.5  # rows that break the rule teach more
    assert blind.balance_.eq(1).all()
    with pytest.raises(UsageError, match='"cue"'):
        get("ciim").create(**QUICK, environment="cues").fit(train)


def in_halves():
    data = toy(400, {"image": 40, "text": 12}, classes=4, seed=1)
    return replace(data, split=np.where(np.arange(400) % 2, "test", "train"))


@pytest.mark.skipif("AMODAL_DATA" not in os.environ, reason="AMODAL_DATA is not set")
def test_sketches_and_photographs_of_one_class_find_each_other():
    data = read(Path(os.environ["AMODAL_DATA"]) / "pacs").part("train")
    train, held = hold_out(data, 0.2)
    method = get("ciim").create(epochs=6, hidden=128, dim=64, rate=0.003).fit(train)
    assert method.validation_score(held) > 0.6
