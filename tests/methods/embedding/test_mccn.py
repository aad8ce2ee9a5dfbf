"""MCCN: the checks of its section: margins, the graph of a batch, what is generated over it, clusters for labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from amodal.data import Labels, incomplete, toy
from amodal.errors import MethodError, UsageError
from amodal.methods import get
from amodal.methods.embedding.mccn_networks import GraphAttention, graph
from amodal.methods.embedding.transport import transport_plan
from amodal.training import Batches
from tests.methods.embedding.before_learning import drawn, latent, one_batch, taught

QUICK = {"dim": 16, "hidden": 32, "dropout": 0.0, "epochs": 20, "batch_size": 32, "rate": 0.01, "scale": 16.0}


def make(**params):
    return get("mccn").create(**{**QUICK, **params})


def cosines(method, z):
    return F.normalize(z, dim=1) @ F.normalize(method.network_.classes.directions, dim=1).T


def test_without_pairs_and_gaps_it_is_a_prototype_classifier_per_modality():
    data = toy(40, {"a": 5, "b": 6, "c": 7}, classes=3, seed=1)
    method = make(align=0.0, intra=0.0, inter=0.0)
    batch = drawn(method, data)
    losses = method.step(batch, 0)
    expected = sum(
        F.cross_entropy(16 * cosines(method, z), batch.labels.argmax(dim=1)) for z in latent(method, batch).values()
    )
    assert losses["generated"].item() == 0
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_clusters_with_margins_against_loops(several):
    data = toy(30, classes=3, multi_label=several, unlabelled=0.3, seed=1)
    method = make(scale=4.0, intra=0.2, inter=0.3)
    batch = drawn(method, data)
    offsets = torch.tensor([0.5, -0.2, 0.1]) * several
    method.network_.classes.offsets.data = offsets
    expected = 0.0
    for z in latent(method, batch).values():
        rows = []
        for i in batch.known.nonzero().squeeze(1).tolist():
            y = batch.labels[i].bool()
            s = 4 * torch.where(y, cosines(method, z)[i] - 0.2, cosines(method, z)[i] + 0.3)
            likely = F.softplus(torch.where(y, -1, 1) * (s + offsets)).sum() if several else s.logsumexp(0) - s[y][0]
            rows.append(likely)
        expected += torch.stack(rows).mean().item()
    assert 0 < batch.known.sum() < 30
    assert method.step(batch, 0)["classes"].item() == pytest.approx(expected, rel=1e-4)


def test_pairs_find_each_other_both_ways_over_unordered_pairs_of_modalities():
    data = incomplete(toy(30, {"a": 5, "b": 6, "c": 7}, classes=3, seed=1), "easy")
    method = make(tau=0.3)
    batch = drawn(method, data)
    z, expected = {m: F.normalize(x, dim=1) for m, x in latent(method, batch).items()}, 0.0
    for a, b in (("a", "b"), ("a", "c"), ("b", "c")):
        here, there = batch.pairs(a, b)
        logits, own = z[a][here] @ z[b][there].T / 0.3, torch.arange(len(here))
        expected += (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)).item() / 2
    assert method.step(batch, 0)["pairs"].item() == pytest.approx(expected, rel=1e-5)


def test_edges_of_the_graph_are_pairs_classes_and_nearness():
    torch.manual_seed(0)
    z, items = [torch.randn(5, 4), torch.randn(3, 4)], [torch.arange(5), torch.tensor([0, 2, 5])]
    labels = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 0], [0, 1], [1, 1]])
    found = graph(z, items, labels, 2)
    nodes = [(0, i) for i in range(5)] + [(1, i) for i in range(3)]
    unit = [F.normalize(x, dim=1) for x in z]
    nearest = [
        [set((x @ x.T - 9 * torch.eye(len(x)))[i].argsort(descending=True)[:2].tolist()) for i in range(len(x))]
        for x in unit
    ]
    for p, (m, i) in enumerate(nodes):
        for q, (other, j) in enumerate(nodes):
            one, two = int(items[m][i]), int(items[other][j])
            close = m == other and (j in nearest[m][i] or i in nearest[m][j])
            expected = (one == two) + bool((labels[one] * labels[two]).any()) + close
            assert found[p, q] == (0 if p == q else expected)
    assert torch.equal(found, found.T)


def test_attention_is_a_weighted_mean_of_neighbours_and_blind_to_the_scale_of_edges():
    torch.manual_seed(0)
    attention, z, others = GraphAttention(4), torch.randn(3, 4), torch.randn(5, 4)
    weights = torch.tensor([[1.0, 0, 2, 0, 0], [0, 0, 0, 0, 3], [1, 1, 1, 1, 1]])
    found = attention(z, others, weights)
    query, key = attention.query.weight, attention.key.weight
    for i in range(3):
        expected = torch.zeros(4)
        for head in range(len(query)):
            mass = [
                w * torch.exp(F.leaky_relu(query[head] @ z[i] + key[head] @ others[j], 0.2)).item()
                for j, w in enumerate(weights[i].tolist())
            ]
            expected += sum(w / sum(mass) * others[j] for j, w in enumerate(mass)) / len(query)
        torch.testing.assert_close(found[i], expected)
    torch.testing.assert_close(found[1], others[4])
    torch.testing.assert_close(attention(z, others, weights / weights.sum(dim=1, keepdim=True)), found)


def test_missing_sides_are_generated_from_neighbours_that_have_them():
    data = incomplete(toy(24, {"a": 5, "b": 6, "c": 7}, classes=3, unlabelled=0.3, seed=1), "easy")
    method = make(near=2)
    batch = drawn(method, data)
    z = {m: F.normalize(x, dim=1) for m, x in latent(method, batch).items()}
    labels = batch.labels * batch.known[:, None]
    edges = graph(list(z.values()), [batch.rows[m] for m in z], labels, 2)
    nodes = [(m, place, int(i)) for m in z for place, i in enumerate(batch.rows[m])]
    expected = 0.0
    for b in z:
        losses = []
        for p, (a, place, i) in enumerate(nodes):
            if i in batch.rows[b] or not batch.known[i]:
                continue
            weights = torch.zeros(len(z[b]))
            for target, j in enumerate(batch.rows[b].tolist()):
                weights[target] = sum(edges[p, q].item() for q, (_, _, other) in enumerate(nodes) if other == j)
            if not weights.any():
                continue
            found = method.network_.attention(z[a][place][None], z[b], weights[None])
            y = labels[i].bool()
            cosine = cosines(method, found)[0]
            s = 16 * torch.where(y, cosine - 0.1, cosine + 0.1)
            losses.append(s.logsumexp(0) - s[y][0])
        expected += torch.stack(losses).mean().item()
    assert method.step(batch, 0)["generated"].item() == pytest.approx(expected, rel=1e-4)


def test_a_graph_without_edges_generates_nothing():
    data = toy(6, classes=6, seed=1)  # by each class one item
    labels = Labels.from_multihot(np.eye(6, dtype=np.float32))
    data = replace(data.keep(np.array([[True, False]] * 3 + [[False, True]] * 3)), labels=labels)
    method = make(near=0)
    batch = drawn(method, data)
    losses = method.step(batch, 0)
    assert losses["generated"].item() == 0
    assert losses["loss"].isfinite()
    assert make(near=2).fit(data)


def test_who_has_a_side_is_not_asked_to_generate_it():
    data = incomplete(toy(30, classes=3, seed=1), "easy")
    method = make()
    batch = drawn(method, data)
    both = batch.pairs("image", "text")
    x = batch.x["text"].clone().requires_grad_()
    asked, attention = [], method.network_.attention.forward

    def watched(z, others, weights):
        asked.append(z)
        return attention(z, others, weights)

    method.network_.attention.forward = watched
    method.step(replace(batch, x={**batch.x, "text": x}), 0)["generated"].backward()
    z = F.normalize(method.network_.latent(batch.x["image"], 0), dim=1)
    paired = z[both[0]]
    assert len(asked) == 2  # each modality once
    for found in asked:
        assert not (found[:, None] == paired[None]).all(dim=2).any()


def test_who_learns_from_what():
    method = make()
    batch = drawn(method, incomplete(toy(60, classes=3, seed=1), "easy"))
    encoders = {"encoder", "project"}
    assert taught(method, batch, "classes") == encoders | {"classes"}
    assert taught(method, batch, "generated") == encoders | {"classes", "attention"}
    assert taught(method, batch, "pairs") == encoders


def test_embedding_is_the_direction_of_z_before_the_graph():
    data = toy(60, classes=3, seed=1)
    method = make().fit(data)
    for m, z in latent(method, one_batch(data)).items():
        np.testing.assert_allclose(method.encode_table(data[m], m).vectors, F.normalize(z, dim=1).detach(), atol=1e-5)


def test_clusters_have_equal_shares_and_items_with_both_sides_one_cluster():
    data = toy(60, classes=3, seed=1)
    method = make(labels="pseudo", clusters=4, warmup=0)
    batch = drawn(method, data)
    method.between(Batches(method.chosen(data), 32, 0), 0, torch.device("cpu"))
    total = sum(cosines(method, z) for z in latent(method, batch).values()).detach().double().numpy()
    plan = transport_plan(-total, np.full(4, 0.25), epsilon=0.05, steps=100)
    np.testing.assert_allclose(plan.sum(axis=0), 0.25, atol=1e-3)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 60, atol=1e-3)
    assert method._clusters.tolist() == plan.argmax(axis=1).tolist()
    # without equal shares most would go to one
    assert np.bincount(method._clusters, minlength=4).min() >= 8
    assert np.bincount(total.argmax(axis=1), minlength=4).min() < 8


def test_before_clusters_there_are_pairs_alone():
    data = incomplete(toy(60, classes=3, seed=1), "easy")
    method = make(labels="pseudo", clusters=4, warmup=3)
    batch = drawn(method, data)
    batches = Batches(method.chosen(data), 32, 0)
    blind = batches.gather(batch.index.numpy())
    method.between(batches, 2, torch.device("cpu"))
    early = method.step(blind, 2)
    assert early["classes"].item() == early["generated"].item() == 0
    assert early["loss"].item() == early["pairs"].item() > 0
    method.between(batches, 3, torch.device("cpu"))
    late = method.step(blind, 3)
    assert late["classes"].item() > 0
    assert late["generated"].item() > 0


def test_clusters_look_at_no_label():
    data = incomplete(toy(90, classes=3, seed=1), "easy")
    params = {"labels": "pseudo", "clusters": 6, "warmup": 5}
    told, bare = (make(**params).fit(given) for given in (data, replace(data, labels=None)))
    other = toy(90, classes=4, multi_label=True, seed=2).labels
    misled = make(**params).fit(replace(data, labels=other))
    for m in data.names:
        vectors = told.encode_table(data[m], m)
        assert vectors == bare.encode_table(data[m], m) == misled.encode_table(data[m], m)
    assert told.validation_score(data) > 0.6  # chance: a third
    with pytest.raises(MethodError, match="label"):
        make().fit(replace(data, labels=None))


SWITCHES = {
    "as it is": {},
    "nothing generated": {"generate": 0.0},
    "no pairs": {"align": 0.0},
    "no margins": {"intra": 0.0, "inter": 0.0},
    "fewer edges": {"near": 1},
    "semantic": {"embedding": "semantic"},
    "no hidden layer": {"hidden": 0},
    "drop": {"fill": "drop"},
    "mean": {"fill": "mean"},
    "pseudo": {"labels": "pseudo", "clusters": 6, "warmup": 5},
}


def test_every_switch_changes_the_model():
    data = incomplete(toy(90, {"a": 5, "b": 4, "c": 6}, classes=3, unlabelled=0.3, seed=1), "easy")
    prints = set()
    for name, switch in SWITCHES.items():
        method = make(**switch).fit(data)
        prints.add(method.encode_table(data["a"], "a").vectors.tobytes())
        assert method.validation_score(data) > (0.45 if name == "pseudo" else 0.6), name
    assert len(prints) == len(SWITCHES)


def test_wrong_arguments_are_sentences():
    data = toy(40, classes=3, seed=1)
    for wrong, said in (
        ({"labels": "pseudos"}, '"pseudo"'),
        ({"embedding": "features"}, '"feature"'),
        ({"fill": "drob"}, '"drop"'),
    ):
        with pytest.raises(UsageError, match=said):
            make(**wrong).fit(data)
