"""PAN: the checks of its section: prototypes, what is rebuilt from them, and Euclidean order told by cosines."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from amodal.data import incomplete, toy
from amodal.errors import UsageError
from amodal.losses import prototype_scores
from amodal.methods import get
from amodal.methods.embedding.pan_networks import Paired, PANNetwork, lifted
from amodal.training import Batches
from tests.methods.embedding.before_learning import drawn, latent, one_batch, taught

QUICK = {"dim": 16, "hidden": 32, "dropout": 0.0, "epochs": 20, "batch_size": 32, "rate": 0.01}
QUICK |= {"metric": "euclidean", "temperature": 1.0}


def make(**params):
    return get("pan").create(**{**QUICK, **params})


def spread(method, data):
    """Mean squared distance of z to the mean of its class, over that to the mean of all."""
    labels = data.labels.dense().argmax(axis=1)
    z = torch.cat(list(latent(method, one_batch(data)).values()))
    z, classes = z.detach().numpy(), np.concatenate([labels[data[m].item] for m in data.names])
    within = sum(((z[classes == k] - z[classes == k].mean(axis=0)) ** 2).sum() for k in np.unique(classes))
    return within / ((z - z.mean(axis=0)) ** 2).sum()


def test_with_a_heavy_regulariser_items_of_one_class_coincide():
    data = toy(120, classes=3, seed=1)
    loose, heavy = (make(compact=weight, propagate=0.0, epochs=40).fit(data) for weight in (0.0, 1e3))
    assert spread(heavy, data) < 0.01
    assert spread(heavy, data) < spread(loose, data) / 2


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_without_residuals_the_rebuilt_side_is_the_prototype_of_the_label(metric):
    data = toy(30, classes=3, seed=1)
    method = make(metric=metric)
    batch = drawn(method, data)
    c = method.network_.prototypes
    c = c / c.norm(dim=1, keepdim=True) if metric == "cosine" else c
    rebuilt = method._rebuilt(torch.randn(30, 16), batch.labels, "image", "text")
    torch.testing.assert_close(rebuilt, c[batch.labels.argmax(dim=1)])


def test_residuals_follow_the_mean_of_each_class_and_rebuild_the_side():
    torch.manual_seed(0)
    network, labels = PANNetwork([4, 4], 5, (), 0.0, classes=3), torch.eye(3)[[0, 0, 1]]
    z = torch.randn(3, 5)
    network.follow(z, labels, network.prototypes.detach(), 1)
    means = torch.stack([z[:2].mean(dim=0), z[2]]) - network.prototypes.detach()[:2]
    torch.testing.assert_close(network.residuals[1, :2], 0.1 * means)
    assert not network.residuals[0].any()
    assert not network.residuals[1, 2].any()  # a class that no row has stays where it was
    for _ in range(200):
        network.follow(z, labels, network.prototypes.detach(), 1)
    torch.testing.assert_close(network.residuals[1, :2], means)


def test_complete_data_have_nothing_to_rebuild():
    method = make(propagate=7.0)
    batch = drawn(method, toy(40, {"a": 5, "b": 6, "c": 7}, classes=3, seed=1))
    losses = method.step(batch, 0)
    assert losses["propagated"].item() == 0
    expected = losses["classes"] + 0.1 * losses["compact"] + 0.1 * losses["pairs"]
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_terms_against_loops():
    data = incomplete(toy(40, {"a": 5, "b": 6, "c": 7}, classes=3, unlabelled=0.3, seed=1), "easy")
    method = make(temperature=0.3)
    batch = drawn(method, data)
    network = method.network_
    network.residuals.normal_(generator=torch.Generator().manual_seed(1))
    before = network.residuals.clone()
    z, c = latent(method, batch), network.prototypes
    losses = method.step(batch, 0)
    where = {m: {int(i): z[m][place] for place, i in enumerate(batch.rows[m])} for m in z}

    def dce(point, i):
        scores = torch.stack([-((point - p) ** 2).sum() / (0.3 * 16) for p in c])
        return -torch.log_softmax(scores, dim=0)[batch.labels[i].argmax()]

    def mean(values):
        return torch.stack(values).mean().item()

    assert 0 < batch.known.sum() < 40
    classes = compact = propagated = pairs = 0.0
    after = network.residuals  # residuals follow first
    assert (after != before).any()
    for k, b in enumerate(z):
        own = {i: point for i, point in where[b].items() if batch.known[i]}
        classes += mean([dce(point, i) for i, point in own.items()])
        compact += mean([((p - c[batch.labels[i].argmax()]) ** 2).sum() / 16 for i, p in own.items()])
        likelihoods, gaps = [], []
        for a in z:
            for i, point in where[a].items():
                if i in where[b]:
                    continue
                shares = torch.softmax(prototype_scores(point[None], c, 0.3 * 16)[0], dim=0)
                shares = batch.labels[i] if batch.known[i] else shares
                rebuilt = sum(share * (c[q] + after[k, q]) for q, share in enumerate(shares))
                gaps.append(((rebuilt - point) ** 2).sum() / 16)
                if batch.known[i]:
                    likelihoods.append(dce(rebuilt, i))
        propagated += mean(likelihoods) + mean(gaps)
    for a, b in (("a", "b"), ("a", "c"), ("b", "c")):
        pairs += mean([((where[a][i] - where[b][i]) ** 2).sum() / 16 for i in where[a].keys() & where[b].keys()])
    for name, expected in (("classes", classes), ("compact", compact), ("propagated", propagated), ("pairs", pairs)):
        assert losses[name].item() == pytest.approx(expected, rel=1e-4), name
    total = classes + 0.1 * compact + 0.5 * propagated + 0.1 * pairs
    assert losses["loss"].item() == pytest.approx(total, rel=1e-4)


def test_several_labels_are_independent_with_an_offset_each():
    data = toy(40, classes=4, multi_label=True, seed=1)
    method = make(temperature=0.5)
    batch = drawn(method, data)
    method.network_.offsets.data = torch.tensor([0.5, -1.0, 2.0, 0.0])
    z, expected = latent(method, batch), 0.0
    for m in z:
        for point, y in zip(z[m], batch.labels, strict=True):
            for k in range(4):
                s = -((point - method.network_.prototypes[k]) ** 2).sum() / 8 + method.network_.offsets[k]
                expected += torch.nn.functional.softplus(-s if y[k] else s).item() / 40
    assert (batch.labels.sum(dim=1) > 1).any()
    assert method.step(batch, 0)["classes"].item() == pytest.approx(expected, rel=1e-4)
    rebuilt = method._rebuilt(z["image"], batch.labels, "image", "text")
    shares = batch.labels / batch.labels.sum(dim=1, keepdim=True)
    torch.testing.assert_close(rebuilt, shares @ (method.network_.prototypes + method.network_.residuals[1]))


def test_assignment_looks_at_no_label():
    data = incomplete(toy(60, classes=3, seed=1), "hard")
    found = {}
    for propagation in ("label", "assignment"):
        method = make(propagation=propagation)
        batch = drawn(method, data)
        z = latent(method, batch)["image"]
        labels = batch.labels[batch.rows["image"]]
        found[propagation] = method._rebuilt(z, labels, "image", "text")
        bare = method._rebuilt(z, torch.zeros_like(labels), "image", "text")
        assert torch.equal(bare, found[propagation]) == (propagation == "assignment")
        shares = torch.softmax(prototype_scores(z, method.network_.prototypes, 16.0), dim=1)
        torch.testing.assert_close(bare, shares @ method.network_.prototypes)


def test_neighbours_are_the_nearest_paired_rows_weighted_by_distance():
    torch.manual_seed(0)
    paired, z = Paired(torch.randn(9, 4), torch.randn(9, 4)), torch.randn(3, 4)
    found = paired.near(z, 2, 0.7)
    for i in range(3):
        distance = ((paired.source - z[i]) ** 2).sum(dim=1)
        nearest = distance.argsort()[:2]
        weights = torch.softmax(-distance[nearest] / 0.7, dim=0)
        torch.testing.assert_close(found[i], weights @ paired.target[nearest])
    torch.testing.assert_close(
        Paired(paired.source[:1], paired.target[:1]).near(z, 5, 1.0), paired.target[:1].expand(3, 4)
    )


def test_neighbours_have_half_a_say_and_none_where_there_is_no_pair():
    data = incomplete(toy(60, classes=3, seed=1), "hard")
    method = make(neighbours=3)
    batch = drawn(method, data)
    z, labels = latent(method, batch)["image"], batch.labels[batch.rows["image"]]
    alone = method._rebuilt(z, labels, "image", "text")
    method.between(Batches(data, 32, 0), 0, torch.device("cpu"))
    paired = method._paired["image", "text"]
    both = data.presence().all(axis=1)
    assert len(paired.source) == both.sum() == len(method._paired["text", "image"].target)
    torch.testing.assert_close(
        method._rebuilt(z, labels, "image", "text"), (alone + paired.near(z, 3, method.temperature * 16)) / 2
    )
    unpaired = incomplete(toy(60, classes=3, seed=1), presence={"image": 0.5, "text": 0.5})
    method.prepare(unpaired)
    method.between(Batches(unpaired, 32, 0), 0, torch.device("cpu"))
    assert method._paired == {}


def test_memory_bounds_the_paired_rows():
    data = toy(60, classes=3, seed=1)
    method = make(neighbours=3, memory=10)
    drawn(method, data)
    method.between(Batches(data, 32, 0), 0, torch.device("cpu"))
    assert len(method._paired["image", "text"].source) == 10


def test_who_learns_from_what():
    method = make()
    batch = drawn(method, incomplete(toy(60, classes=3, seed=1), "easy"))
    encoders = {"encoder", "project"}
    assert taught(method, batch, "classes") == encoders | {"prototypes"}
    assert taught(method, batch, "compact") == encoders | {"prototypes"}
    assert taught(method, batch, "propagated") == encoders | {"prototypes"}
    assert taught(method, batch, "pairs") == encoders


def test_rows_without_labels_teach_what_needs_none():
    method = make()
    batch = drawn(method, incomplete(toy(60, classes=3, unlabelled=0.5, seed=1), "easy"))
    moved = replace(batch, x={m: x + 3 * ~batch.known[batch.rows[m]][:, None] for m, x in batch.x.items()})
    before, after = method.step(batch, 0), method.step(moved, 0)
    for name in ("classes", "compact"):
        assert before[name].item() == pytest.approx(after[name].item(), rel=1e-5), name
    for name in ("propagated", "pairs"):
        assert before[name].item() != pytest.approx(after[name].item(), rel=1e-3), name


def test_assignments_are_soft_at_the_start_however_wide_the_space():
    for dim in (16, 512):
        method = make(dim=dim, temperature=1.0)
        batch = drawn(method, toy(60, classes=4, seed=1))
        shares = torch.softmax(method.scores(latent(method, batch)["image"]), dim=1)
        assert shares.max() < 0.6


def test_cosines_of_lifted_points_have_the_order_of_distances():
    random = torch.Generator().manual_seed(0)
    z = torch.randn(200, 8, generator=random, dtype=torch.float64)
    rho = z.norm(dim=1).max()
    points = lifted(z, 8 * rho)
    torch.testing.assert_close(points.norm(dim=1), (8 * rho).expand(200))
    true, found = (((x[:, None] - x) ** 2).sum(dim=2) for x in (z, points))
    assert (found >= true * (1 - 1e-9)).all()
    assert (found <= true * (1 + 1 / 63) + 1e-9).all()


def test_embeddings_rank_by_euclidean_distance_unless_told_otherwise():
    data = toy(80, classes=3, seed=1)
    method = make().fit(data)
    z = {m: z.detach().numpy() for m, z in latent(method, one_batch(data)).items()}
    a, b = (method.encode_table(data[m], m).vectors for m in data.names)
    assert a.shape[1] == 17
    distance = ((z["image"][:, None] - z["text"][None]) ** 2).sum(axis=2)
    by_cosine = np.take_along_axis(distance, np.argsort(-(a.astype(float) @ b.T.astype(float)), axis=1), axis=1)
    assert (by_cosine[:, 1:] >= by_cosine[:, :-1] * (1 - 1 / 50)).all()  # swapped only where nearly equal
    unit = make(metric="cosine").fit(data)
    z = {m: z.detach().numpy() for m, z in latent(unit, one_batch(data)).items()}
    for m in data.names:
        vectors = z[m] / np.linalg.norm(z[m], axis=1, keepdims=True)
        np.testing.assert_allclose(unit.encode_table(data[m], m).vectors, vectors, atol=1e-5)


def test_an_item_of_an_unknown_class_is_encoded_the_same_way():
    data = toy(80, classes=3, seed=1)
    method = make().fit(data)
    strange = 50 * np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    assert np.isfinite(method.encode(strange, "image").vectors).all()


SWITCHES = {
    "as it is": {},
    "cosine": {"metric": "cosine", "temperature": 0.1},
    "no propagation": {"propagate": 0.0},
    "assignment": {"propagation": "assignment"},
    "neighbours": {"neighbours": 3},
    "no regulariser": {"compact": 0.0},
    "no pairs": {"align": 0.0},
    "semantic": {"embedding": "semantic"},
    "no hidden layer": {"hidden": 0},
    "drop": {"fill": "drop"},
    "mean": {"fill": "mean"},
}


def test_every_switch_changes_the_model():
    data = incomplete(toy(90, {"a": 5, "b": 4, "c": 6}, classes=3, unlabelled=0.3, seed=1), "easy")
    prints = set()
    for switch in SWITCHES.values():
        method = make(**switch).fit(data)
        prints.add(method.encode_table(data["a"], "a").vectors.tobytes())
        assert method.validation_score(data) > 0.6
    assert len(prints) == len(SWITCHES)


def test_wrong_arguments_are_sentences():
    data = toy(40, classes=3, seed=1)
    for wrong, said in (
        ({"metric": "cosinus"}, '"cosine"'),
        ({"propagation": "labels"}, '"label"'),
        ({"embedding": "features"}, '"feature"'),
        ({"temperature": 0.0}, "temperature of pan"),
    ):
        with pytest.raises(UsageError, match=said):
            make(**wrong).fit(data)


@pytest.mark.parametrize("several", [False, True])
def test_semantic_embedding_says_how_probably_two_items_share_a_class(several):
    data = toy(60, classes=3, multi_label=several, seed=1)
    method = make(embedding="semantic", metric="cosine", temperature=0.3).fit(data)
    network, p = method.network_, []
    for k, m in enumerate(data.names):
        z = torch.nn.functional.normalize(network.latent(torch.from_numpy(data[m].read()), k), dim=1)
        c = torch.nn.functional.normalize(network.prototypes, dim=1)
        scores = -(torch.cdist(z, c).detach() ** 2) / 0.3
        p.append(torch.sigmoid(scores + network.offsets.detach()) if several else torch.softmax(scores, dim=1))
    image, text = (method.encode_table(data[m], m).vectors for m in data.names)
    expected = p[0] @ p[1].T
    if several:
        expected = sum((p[0] ** t) @ (p[1] ** t).T / t for t in (1, 2, 3)) / network.reach
    np.testing.assert_allclose(image @ text.T, expected.numpy(), atol=1e-4)
