"""CASR: the checks of its section: limits of environments, honest imagination, guessed labels, every switch."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from amodal.data import Labels, Observations, cue_directions, incomplete, plant_directions, random_split, toy
from amodal.errors import MethodError, MissingExtra, UsageError
from amodal.losses import attention_spread, label_nll
from amodal.methods.embedding.casr import CASR
from amodal.methods.embedding.casr_alignment import Sides, alignment
from amodal.methods.embedding.casr_environments import FLOOR, assigned, floored, patterns, slopes
from amodal.methods.embedding.casr_imagining import Bank, ImaginationStage, category_prior
from amodal.methods.embedding.casr_networks import Attention, CASRNetwork, Imagination, Pooling
from amodal.methods.embedding.semantics import share_vectors
from amodal.methods.embedding.transport import confident, transport_plan

QUICK = {
    "members": 2, "dim": 16, "hidden": 16, "dropout": 0.0, "dropout_input": 0.0, "epochs": 8, "batch_size": 32,
    "rate": 0.01, "imagination_steps": 40,
}  # fmt: skip


def network(environments=2, *, modalities=2):
    torch.manual_seed(0)
    return CASRNetwork(
        [6] * modalities, [False] * modalities, members=2, hidden=8, width=8, dropout=(0.0, 0.0), classes=3,
        environments=environments, scale=16.0,
    ).eval()  # fmt: skip


def sides(net, rows=12):
    x, labels = torch.randn(2, rows, 8), torch.eye(3)[torch.arange(rows) % 3]
    seen = x.expand(net.environments, 2, rows, 8)
    return [Sides(k, seen + k, labels, torch.ones(rows, net.environments, 2)) for k in range(2)]


def test_one_environment_is_the_plain_loss():
    net = network(environments=1)
    given = sides(net)
    terms = alignment(net, given, contrast=False)
    plain = [label_nll(net.classes(net.causal(s.seen[0], s.modality)), s.labels, single=True).mean() for s in given]
    assert terms["spread"].item() == 0
    assert terms["risk"].item() == pytest.approx(torch.stack(plain).mean().item(), rel=1e-5)


def test_attentions_that_are_equal_are_as_good_as_their_mean():
    gate, x = Attention(3, 2, 8), torch.randn(2, 5, 8)
    for theta in gate.layers():
        theta.data.copy_(theta.data[:1].expand_as(theta))
    assert attention_spread(gate.layers()).item() == pytest.approx(0, abs=1e-12)
    for attended in gate(x.expand(3, 2, 5, 8)):
        torch.testing.assert_close(gate.mean(x), attended)


def test_every_environment_keeps_its_share():
    weights = floored(torch.tensor([[1000.0, 0.0], [-1000.0, 0.0]]))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    assert weights.min().item() == pytest.approx(FLOOR)


def test_rows_move_to_where_attention_holds_least():
    net = network()
    (first, _), found = sides(net), []
    found.append((torch.arange(12), slopes(net, first.seen, 0, first.labels, torch.ones(12, 2))))
    logits = torch.randn(12, 2)

    def gain(weights):
        p = weights / weights.sum(dim=0)
        return (torch.einsum("mk,kmg->kg", p, found[0][1]) ** 2).sum(dim=1).mean().item()

    assert gain(floored(logits)) < gain(assigned(found, logits, 1)) < gain(assigned(found, logits, 5))


def test_slopes_are_the_changes_of_the_loss_with_factors():
    net, step = network().double(), 1e-4
    seen, labels = torch.randn(2, 2, 1, 8, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[:1]
    found = slopes(net, seen, 0, labels, torch.tensor([[1.0, 0.0]]))[0, 0]
    assert not found[11:].any(), "the second member does not learn from the row"
    attended = net.attention[0](seen)[0]

    def loss(factors):
        projected = (attended * factors) @ net.head + net.head_offset
        return label_nll(net.classes(projected)[0], labels, single=True).item()

    for i in (0, 5):
        nudge = torch.zeros(8, dtype=torch.float64)
        nudge[i] = step
        assert found[3 + i].item() == pytest.approx((loss(1 + nudge) - loss(1 - nudge)) / (2 * step), rel=1e-4)


def test_patterns_of_presence_are_environments():
    presence = np.array([[True, True], [True, False], [False, True], [False, False]])
    assert patterns(presence).tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_prior_is_that_of_the_label_or_of_what_is_said():
    priors, p = torch.eye(3), torch.tensor([[0.1, 0.8, 0.1]])
    assert category_prior(p, torch.tensor([[1.0, 0.0, 1.0]]), priors).tolist() == [[0.5, 0.0, 0.5]]
    torch.testing.assert_close(category_prior(p, torch.zeros(1, 3), priors), p)


def test_context_leaves_out_the_row_itself_and_other_classes():
    source, target = torch.eye(4), torch.arange(4.0)[:, None].expand(-1, 4)
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    bank = Bank(torch.tensor([10, 11, 12, 13]), labels, source, target)
    x = source[:1] + 0.1 * source[2:3]
    context, there = bank.near(x, torch.zeros(1, 2), None, 2)
    assert context[0, :, 0].tolist() == [0, 2]
    assert there.all()
    context, there = bank.near(x, torch.zeros(1, 2), torch.tensor([10]), 1)
    assert context[0, 0, 0] == 2
    context, there = bank.near(x, labels[:1], torch.tensor([10]), 3)
    assert there.sum() == 1
    assert context[0, there[0], 0].tolist() == [1]


def test_without_prior_and_context_imagination_is_a_function_of_the_side_that_is_there():
    torch.manual_seed(0)
    imagine, x = Imagination(8).eval(), torch.randn(3, 8)
    nothing, none_there = torch.zeros(3, 0, 8), torch.zeros(3, 0, dtype=torch.bool)
    alone, _ = imagine(x, None, nothing, none_there)
    strange, _ = imagine(x, None, torch.randn(3, 5, 8), torch.zeros(3, 5, dtype=torch.bool))
    torch.testing.assert_close(alone, strange)
    with_context, _ = imagine(x, None, torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
    assert (with_context - alone).abs().max() > 1e-3
    torch.testing.assert_close(imagine(x[:1], None, nothing[:1], none_there[:1])[0], alone[:1])


def recovery(monkeypatch, *, leak):
    """The last losses of imagination where it can see the hidden side, or cannot; nothing else tells of it."""
    losses, near, step = [], Bank.near, ImaginationStage.step
    if leak:
        monkeypatch.setattr(Bank, "near", lambda bank, x, labels, index, k: near(bank, x, labels, None, k))

    def watched(self, batch, epoch):
        found = step(self, batch, epoch)
        losses.append(found["recovery"].item())
        return found

    monkeypatch.setattr(ImaginationStage, "step", watched)
    data, random = toy(160, classes=3, seed=2), np.random.default_rng(0)
    noise = random.standard_normal((160, 12)).astype(np.float32)
    data = data.with_tables({"image": data["image"], "text": Observations(noise, data["text"].item)})
    arguments = {**QUICK, "prior": False, "neighbours": 1, "recover_class": 0.0, "recover_contrast": 0.0}
    CASR(**{**arguments, "imagination_steps": 400}).fit(data)
    monkeypatch.undo()
    return np.mean(losses[-5:])


def test_no_row_sees_its_own_hidden_side(monkeypatch):
    honest, leaking = (recovery(monkeypatch, leak=leak) for leak in (False, True))
    assert leaking < 0.7 * honest


@pytest.mark.parametrize("single", [True, False])
def test_semantic_embeddings_rank_by_the_probability_of_a_shared_label(single):
    torch.manual_seed(0)
    a, b = (torch.softmax(2 * torch.randn(6, 5), dim=1) for _ in range(2))
    if not single:
        a, b = 0.6 * a, 0.6 * b  # where three terms of the series are right
    reach = 3.0
    v, w = (share_vectors(p, m, 2, single=single, reach=reach) for m, p in enumerate((a, b)))
    torch.testing.assert_close(v.norm(dim=1), torch.ones(6))
    for i in range(6):
        for j in range(6):
            if single:
                expected = float(sum(a[i, k] * b[j, k] for k in range(5)))
            else:
                never = torch.prod(torch.stack([1 - a[i, k] * b[j, k] for k in range(5)]))
                expected = float(-torch.log(never)) / reach
            assert float(v[i] @ w[j]) == pytest.approx(expected, rel=0.02)


def test_transport_keeps_the_shares_of_the_classes():
    random = np.random.default_rng(0)
    shares = np.array([0.5, 0.3, 0.2])
    plan = transport_plan(random.random((40, 3)) * 2, shares)
    np.testing.assert_allclose(plan.sum(axis=0), shares, atol=1e-6)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 40, atol=1e-6)


def test_the_surest_of_each_class_are_taken():
    plan = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9]])
    items, classes = confident(plan, 0.5)
    assert items.tolist() == [0, 2, 4]
    assert classes.tolist() == [0, 0, 1]


def test_transport_asks_for_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(MissingExtra, match=r"amodal\[transport\]"):
        transport_plan(np.ones((2, 2)), np.array([0.5, 0.5]))


def partly_labelled(share=0.1):
    """Some labelled pairs; the rest unlabelled, and without partners."""
    data = toy(300, classes=3, seed=4)
    told = np.arange(len(data)) % round(1 / share) == 0
    mask = np.ones((len(data), 2), bool)
    mask[~told & (np.arange(len(data)) % 2 == 0), 0] = False
    mask[~told & (np.arange(len(data)) % 2 == 1), 1] = False
    return replace(data, labels=Labels.from_multihot(data.labels.dense(), told)).keep(mask), data


def guesses(method):
    """Share of the guessed labels that are right, and how many there are."""
    partly, data = partly_labelled()
    method.fit(partly)
    guess = method.network_.rows.guess.numpy()
    rows = np.flatnonzero(guess.any(axis=1))
    assert not partly.labels.known[rows].any()
    return (guess[rows] == data.labels.dense()[rows]).all(axis=1).mean(), len(rows)


@pytest.mark.parametrize("sinkhorn", [True, False])
def test_unlabelled_rows_learn_along_with_guessed_labels(sinkhorn):
    right, count = guesses(CASR(**{**QUICK, "epochs": 12}, pacmr=True, sinkhorn=sinkhorn))
    assert count == pytest.approx(0.3 * 270, abs=4)
    assert right > 0.8


SWITCHES = {
    "none": {},
    "no imagination": {"mmi": False},
    "no like items": {"likeness": False},
    "environments": {"eca": True},
    "contrast": {"contrast": 1.0},
    "no prior": {"prior": False},
    "no context": {"context": False},
    "by pattern": {"eca": True, "env": "pattern"},
    "one environment": {"eca": True, "env": "none"},
    "nothing erased": {"eca": True, "erase": False},
    "partly aligned": {"pacmr": True},
    "nearest class": {"pacmr": True, "sinkhorn": False},
    "features": {"embedding": "feature"},
}


def test_every_switch_changes_the_model():
    data = incomplete(toy(90, {"a": 5, "b": 4, "c": 6}, classes=3, unlabelled=0.3, seed=1), "easy")
    fitted = [
        CASR(**{**QUICK, "epochs": 4, "imagination_steps": 6}, **switch).fit(data) for switch in SWITCHES.values()
    ]
    assert len({method.fingerprint() for method in fitted}) == len(SWITCHES)
    for method in fitted:
        assert method.validation_score(data) > 0.5


def test_imagined_features_are_nearer_than_the_mean():
    whole = toy(400, {"a": 8, "b": 6}, classes=3, seed=3)
    data = incomplete(whole, "easy", seed=1)
    method = CASR(**{**QUICK, "epochs": 25}).fit(data)
    for name in data.names:
        found = method.impute(data, name)
        true, mean = whole[name].read()[found.items], data[name].read().mean(axis=0)
        assert np.square(found.values - true).mean() < 0.7 * np.square(mean - true).mean()
        assert method.impute(data, name, what="latent").values.shape == (len(found), 32)
        embedded = method.impute(data, name, what="embedding").values
        np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, rtol=1e-5)
        told = method.impute(data, name, labels=True)
        assert np.square(told.values - true).mean() < np.square(mean - true).mean()
        assert (told.values != found.values).any()


def test_imagination_is_refused_where_there_is_none():
    data = incomplete(toy(60, classes=3, seed=1), "easy")
    with pytest.raises(MethodError, match="mmi=False"):
        CASR(**QUICK, mmi=False).fit(data).impute(data, "text")
    with pytest.raises(UsageError, match="labels=True"):
        CASR(**QUICK).fit(data).impute(replace(data, labels=None), "text", labels=True)


def test_one_member_is_refused():
    with pytest.raises(UsageError, match="takes two"):
        CASR(**{**QUICK, "members": 1}).fit(toy(60, classes=3, seed=1))


def in_parts(data, name, length=5, seed=0):
    """The features of a modality in one part of several, which holds all; others are noise, and some are padding."""
    random, x = np.random.default_rng(seed), data[name].read()
    parts = 0.3 * random.standard_normal((len(x), length, x.shape[1])).astype(np.float32)
    parts[np.arange(len(x)), random.integers(0, 3, len(x))] = 2 * x
    parts[:, 4] = 0
    return data.with_tables({**data.modalities, name: Observations(parts, data[name].item)})


@pytest.mark.parametrize("eca", [False, True])
def test_parts_are_pooled_and_padding_is_nothing(eca):
    whole = in_parts(toy(150, {"a": 6, "b": 5}, classes=3, seed=1), "a")
    method = CASR(**{**QUICK, "epochs": 15}, eca=eca).fit(incomplete(whole, "easy"))
    assert method.validation_score(whole) > 0.7
    x = whole["a"].read()
    padded = np.concatenate([x[:, [4, 1, 0]], x[:, [2, 4, 3, 4]]], axis=1)
    codes, other = (method.encode(some, "a").vectors for some in (x, padded))
    np.testing.assert_allclose(codes, other, atol=1e-4)
    assert method.impute(incomplete(whole, "hard", seed=2), "a").values.shape[1:] == (1, 6)


def test_environments_given_are_erased_from_what_all_voices_hear():
    data = random_split(toy(400, {"image": 12, "text": 8}, classes=4, seed=2))
    planted = plant_directions(data, {"train": 0.7, "test": 0.7}, {"image": 6.0, "text": 6.0}, seed=3)
    shift = cue_directions(data, "image", seed=3)
    shift = (shift - shift.mean(axis=0))[0]
    x = torch.from_numpy(data["image"].read(np.arange(5)))
    moved = {}
    for switch in ({}, {"erase": False}, {"environment": "cue"}):
        model = CASR(**{**QUICK, "epochs": 2, "mmi": False}, eca=True, **switch).fit(planted.part("train"))
        both = [model._scaled(some, 0) for some in (x, x + 6 * torch.from_numpy(shift).float())]
        moved[str(switch)] = float((both[1] - both[0]).norm() / both[0].norm())
        assert model.judges_["image"].machine.anchors.shape[1] == 12
    assert moved["{'environment': 'cue'}"] < 0.3 * moved["{'erase': False}"]


def test_attention_on_parts_finds_the_one_that_tells():
    torch.manual_seed(0)
    pooling, x = Pooling(2, 3, 4), torch.randn(3, 5, 6, 4)
    there = torch.ones(5, 6, dtype=torch.bool)
    there[:, 3:] = False
    there[4] = False
    pooled = pooling(x, there)
    torch.testing.assert_close(pooled, pooling(torch.cat([x[:, :, :3], 9 * x[:, :, 3:]], dim=2), there))
    assert not pooled[:, :, 4].any()
    for q in range(2):
        scores = torch.tanh(x[1, 0, :3] @ pooling.inner[q, 1]) @ pooling.outer[q, 1, :, 0]
        torch.testing.assert_close(pooled[q, 1, 0], torch.softmax(scores, dim=0) @ x[1, 0, :3])


def test_unknown_words_name_the_nearest():
    for argument, word in (("env", "learnt"), ("embedding", "semantics")):
        with pytest.raises(UsageError, match="Did you mean"):
            CASR(**QUICK, **{argument: word}).fit(toy(60, classes=3, seed=1))
