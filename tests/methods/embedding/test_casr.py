"""CASR: the checks of its section: limits of environments, honest imagination, guessed labels, every switch."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from amodal.data import Labels, Observations, incomplete, toy
from amodal.errors import MethodError, MissingExtra, UsageError
from amodal.losses import attention_spread, label_nll
from amodal.methods.embedding.casr import CASR
from amodal.methods.embedding.casr_alignment import Sides, alignment
from amodal.methods.embedding.casr_environments import FLOOR, assigned, floored, patterns, slopes
from amodal.methods.embedding.casr_imagining import Bank, category_prior
from amodal.methods.embedding.casr_networks import Attention, CASRNetwork, Imagination
from amodal.methods.embedding.semantics import share_vectors
from amodal.methods.embedding.transport import confident, transport_plan

QUICK = {"dim": 16, "hidden": 16, "dropout": 0.0, "dropout_input": 0.0, "epochs": 8, "batch_size": 32, "rate": 0.01}


def network(environments=2, *, modalities=2):
    torch.manual_seed(0)
    return CASRNetwork([6] * modalities, 8, (8,), (0.0, 0.0), classes=3, environments=environments, scale=16.0).eval()


def sides(net, rows=12):
    x, labels = torch.randn(rows, 8), torch.eye(3)[torch.arange(rows) % 3]
    return [Sides(k, x + k, labels, torch.ones(rows, net.environments)) for k in range(2)]


def test_one_environment_is_the_plain_loss():
    net = network(environments=1)
    given = sides(net)
    terms = alignment(net, given, contrast=False)
    plain = [label_nll(net.classes(net.causal(s.x, s.modality)), s.labels, single=True).mean() for s in given]
    assert terms["spread"].item() == 0
    assert terms["risk"].item() == pytest.approx(torch.stack(plain).mean().item(), rel=1e-5)


def test_attentions_that_are_equal_are_as_good_as_their_mean():
    gate, x = Attention(8, 3), torch.randn(5, 8)
    for theta in gate.layers():
        theta.data.copy_(theta.data[:1].expand_as(theta))
    assert attention_spread(gate.layers()).item() == pytest.approx(0, abs=1e-12)
    for attended in gate(x):
        torch.testing.assert_close(gate.mean(x), attended)


def test_every_environment_keeps_its_share():
    weights = floored(torch.tensor([[1000.0, 0.0], [-1000.0, 0.0]]))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    assert weights.min().item() == pytest.approx(FLOOR)


def test_rows_move_to_where_attention_holds_least():
    net = network()
    (first, _), found = sides(net), []
    found.append((torch.arange(12), slopes(net, first.x, 0, first.labels)))
    logits = torch.randn(12, 2)

    def gain(weights):
        p = weights / weights.sum(dim=0)
        return (torch.einsum("mk,kmg->kg", p, found[0][1]) ** 2).sum(dim=1).mean().item()

    assert gain(floored(logits)) < gain(assigned(found, logits, 1)) < gain(assigned(found, logits, 5))


def test_slopes_are_the_changes_of_the_loss_with_factors():
    net = network()
    x, labels, step = torch.randn(1, 8), torch.eye(3)[:1], 1e-2
    found = slopes(net, x, 0, labels)[0, 0]
    attended = net.attention[0](x)[0].double()
    net = net.double()
    for i in (0, 5):
        nudge = torch.ones(8, dtype=torch.float64)
        nudge[i] += step
        up = label_nll(net.classes(net.head(attended * nudge)), labels, single=True)
        nudge[i] -= 2 * step
        down = label_nll(net.classes(net.head(attended * nudge)), labels, single=True)
        assert found[3 + i].item() == pytest.approx(((up - down) / (2 * step)).item(), rel=1e-2, abs=1e-4)


def test_patterns_of_presence_are_environments():
    presence = np.array([[True, True], [True, False], [False, True], [False, False]])
    assert patterns(presence).tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_prior_is_that_of_the_label_or_of_the_guess():
    priors = torch.eye(3)
    x = torch.tensor([[0.0, 5.0, 0.0]])
    assert category_prior(x, torch.tensor([[1.0, 0.0, 1.0]]), priors, 0.1).tolist() == [[0.5, 0.0, 0.5]]
    guessed = category_prior(x, torch.zeros(1, 3), priors, 0.1)
    assert guessed[0, 1] > 0.999
    assert guessed.sum().item() == pytest.approx(1)


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
    losses, near, step = [], Bank.near, CASR.step
    if leak:
        monkeypatch.setattr(Bank, "near", lambda bank, x, labels, index, k: near(bank, x, labels, None, k))

    def watched(self, batch, epoch):
        found = step(self, batch, epoch)
        losses.append(found["recovery"].item())
        return found

    monkeypatch.setattr(CASR, "step", watched)
    data, random = toy(160, classes=3, seed=2), np.random.default_rng(0)
    noise = random.standard_normal((160, 12)).astype(np.float32)
    data = data.with_tables({"image": data["image"], "text": Observations(noise, data["text"].item)})
    arguments = {**QUICK, "prior": False, "neighbours": 1, "recover_class": 0.0, "recover_contrast": 0.0}
    CASR(**{**arguments, "epochs": 25}).fit(data)
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
    "all": {},
    "no imagination": {"mmi": False},
    "imagined sides": {"imagined": 0.5},
    "contrast": {"contrast": 1.0},
    "no prior": {"prior": False},
    "no context": {"context": False},
    "no environments": {"eca": False},
    "by pattern": {"env": "pattern"},
    "one environment": {"env": "none"},
    "partly aligned": {"pacmr": True},
    "nearest class": {"pacmr": True, "sinkhorn": False},
    "features": {"embedding": "feature"},
}


def test_every_switch_changes_the_model():
    data = incomplete(toy(90, {"a": 5, "b": 4, "c": 6}, classes=3, unlabelled=0.3, seed=1), "easy")
    prints = {name: CASR(**QUICK, **switch).fit(data).fingerprint() for name, switch in SWITCHES.items()}
    assert len(set(prints.values())) == len(SWITCHES)
    for switch in SWITCHES.values():
        assert CASR(**QUICK, **switch).fit(data).validation_score(data) > 0.5


def test_imagined_features_are_nearer_than_the_mean():
    whole = toy(400, {"a": 8, "b": 6}, classes=3, seed=3)
    data = incomplete(whole, "easy", seed=1)
    method = CASR(**{**QUICK, "epochs": 25}).fit(data)
    for name in data.names:
        found = method.impute(data, name)
        true, mean = whole[name].read()[found.items], data[name].read().mean(axis=0)
        assert np.square(found.values - true).mean() < 0.7 * np.square(mean - true).mean()
        assert method.impute(data, name, what="latent").values.shape == (len(found), 16)
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


def test_unknown_words_name_the_nearest():
    for argument, word in (("env", "learnt"), ("embedding", "semantics")):
        with pytest.raises(UsageError, match="Did you mean"):
            CASR(**QUICK, **{argument: word}).fit(toy(60, classes=3, seed=1))
