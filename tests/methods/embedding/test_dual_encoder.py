"""The dual encoder: where it starts, what each term asks for, vectors and parts, and what has no partner."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from amodal.data import Observations, incomplete, toy
from amodal.errors import MethodError, UsageError
from amodal.methods import Method, load, save
from amodal.methods.embedding.dual_encoder import DualEncoder, Head
from amodal.methods.shallow.cca_itq import CCAITQ
from amodal.training import Batches

TINY = {"dim": 16, "hidden": 32, "epochs": 10, "batch_size": 32, "rate": 0.01}


def vectors(n=120, **options):
    """Toy data whose features have both signs, so that scaling them is linear."""
    return toy(n, classes=4, seed=1, **options)


def parts(data, padding=2, *, seed=0):
    """Each vector as parts around it, with padding after, before and between them."""
    random = np.random.default_rng(seed)
    tables = {}
    for name in data.names:
        x = data[name].read()
        around = np.zeros((len(x), 3 + padding, x.shape[1]), np.float32)
        places = np.argsort(random.random(around.shape[:2]), axis=1)[:, :3]
        around[np.arange(len(x))[:, None], places] = x[:, None] + random.standard_normal((len(x), 3, x.shape[1]))
        tables[name] = Observations(around, data[name].item)
    return data.with_tables(tables)


def learner(data, **options):
    """A method before its first step."""
    method = DualEncoder(**{**TINY, **options})
    method.meet(data)
    method.network_ = method.draw()
    method.prepare(method.chosen(data))
    return method


def cosines(method, data):
    image, text = (method.encode_table(data[name], name).vectors for name in ("image", "text"))
    return image @ text.T


def test_starts_at_the_canonical_correlations():
    data = incomplete(vectors(), "easy")
    method = learner(data, ridge=2.0)
    rows = {name: method._head(name).pooled(torch.from_numpy(data[name].read())).numpy() for name in data.names}
    scaled = data.with_tables({name: Observations(x, data[name].item) for name, x in rows.items()})
    first = CCAITQ(bits=16, code="real", epsilon=2.0).fit(scaled)
    np.testing.assert_allclose(cosines(method, data), cosines(first, scaled), atol=1e-5)
    for name in data.names:
        x = torch.from_numpy(data[name].read())
        head = method._head(name).eval()
        torch.testing.assert_close(head(x), head.at_first(x))


def test_contrast_and_guidance_equal_their_loops():
    data = incomplete(vectors(60), "easy")
    method = learner(data, noise=0.0, dropout=0.0, guide=0.5, guide_tau=0.1, tau=0.2, hardest=0.0)
    with torch.no_grad():
        for parameter in method.network_.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    batch = Batches(data, 40, 0).gather(np.arange(40))
    found = {name: value.item() for name, value in method.step(batch, 0).items()}
    z = {m: method._head(m)(batch.x[m]).detach().double().numpy() for m in data.names}
    first = {m: method._head(m).at_first(batch.x[m]).double().numpy() for m in data.names}
    scale = method.network_.scale().item()
    contrast, guidance = [], []
    for a, b in (("image", "text"), ("text", "image")):
        own, others = [], []
        items = batch.rows[b].tolist()
        for row, item in enumerate(batch.rows[a].tolist()):
            share = np.exp(scale * z[b] @ z[a][row])
            log_share = np.log(share / share.sum())
            if item in items:
                own.append(-log_share[items.index(item)])
            else:
                near = np.exp(first[b] @ first[a][row] / 0.1)
                others.append(-(near / near.sum() * log_share).sum())
        contrast.append(np.mean(own))
        guidance.append(np.mean(others))
    assert found["contrast"] == pytest.approx(np.mean(contrast), rel=1e-4)
    assert found["guidance"] == pytest.approx(np.mean(guidance), rel=1e-4)
    assert found["loss"] == pytest.approx(np.mean(contrast) + 0.5 * np.mean(guidance), rel=1e-4)


def test_without_gaps_there_is_nothing_to_guide():
    batch = Batches(vectors(40), 40, 0).gather(np.arange(40))
    assert learner(vectors(40)).step(batch, 0)["guidance"] == 0


def test_hardest_negative_is_a_hinge_among_pairs():
    data = vectors(40)
    batch = Batches(data, 40, 0).gather(np.arange(40))
    method = learner(data, noise=0.0, hardest=2.0, guide=0.0)
    found = method.step(batch, 0)
    scores = cosines(method, data)
    own, others = np.diag(scores), np.where(np.eye(40, dtype=bool), -np.inf, scores)
    hinge = [np.maximum(0, 0.2 + side.max(axis=1) - own).mean() for side in (others, others.T)]
    assert found["hinge"].item() == pytest.approx(sum(hinge), rel=1e-4)
    assert found["loss"].item() == pytest.approx(found["contrast"].item() + 2 * sum(hinge), rel=1e-4)


def test_what_has_no_partner_keeps_its_neighbours():
    data = incomplete(vectors(200), "hard")
    batch = Batches(data, 200, 0).gather(np.arange(200))
    free, guided = (DualEncoder(**{**TINY, "epochs": 30, "guide": guide}).fit(data) for guide in (1e-9, 10.0))
    far, near = (method.step(batch, 0)["guidance"] for method in (free, guided))
    assert near < far - 0.05  # nats; both are above the entropy of the neighbours


def test_a_batch_with_one_modality_only_teaches_nothing():
    data = vectors(40)
    method = learner(data)
    keep = np.zeros((40, 2), bool)
    keep[:, 0] = True
    losses = method.step(Batches(data.keep(keep), 10, 0).gather(np.arange(10)), 0)
    assert losses["loss"] == 0


def test_parts_are_pooled_without_padding():
    data = vectors(60)
    little, much = parts(data, 1), parts(data, 5)
    method = learner(little)
    for name in data.names:
        head = method._head(name)
        with torch.no_grad():
            head.query.normal_()
        x = little[name].read()
        wide = np.zeros((len(x), 12, x.shape[2]), np.float32)
        wide[:, 4 : 4 + x.shape[1]] = x
        np.testing.assert_allclose(
            head.eval()(torch.from_numpy(wide)).detach(), head(torch.from_numpy(x)).detach(), atol=1e-5
        )
        real = x[0][x[0].any(axis=1)]
        scaled = head.standardise(torch.from_numpy(real))
        expected = (scaled @ head.query).softmax(0) @ scaled
        torch.testing.assert_close(head.pooled(torch.from_numpy(x[:1]), head.query)[0], expected)
    assert little["image"].store.shape[1] < much["image"].store.shape[1]


def test_learns_from_parts_and_is_saved(tmp_path):
    data = incomplete(parts(vectors()), "easy")
    method = DualEncoder(**TINY).fit(data)
    assert method.parts_ == ("image", "text")
    assert all(head.query.abs().max() > 0 for head in method.network_.encoder)
    assert Method.validation_score(method, data) > 0.8
    loaded = load(save(method, tmp_path / "model"))
    for name in data.names:
        assert loaded.encode_table(data[name], name) == method.encode_table(data[name], name)
    x = data["image"].read()
    assert method.encode(x[:5], "image") == method.encode(x, "image")[np.arange(5)]


def test_vectors_beside_parts():
    data = vectors()
    mixed = data.with_tables({"image": parts(data)["image"], "text": data["text"]})
    method = DualEncoder(**TINY).fit(mixed)
    assert method.parts_ == ("image",)
    assert len(method.encode_table(mixed["text"], "text")) == 120


def test_an_observation_of_padding_alone_is_the_mean():
    head = Head(4, 3, 0, noise=0.0, dropout=0.0, parts=True)
    assert (head.pooled(torch.zeros(2, 5, 4)) == 0).all()


def test_a_modality_without_any_pair_is_named():
    data = toy(60, {"photo": 8, "sketch": 6, "words": 10}, classes=4)
    keep = np.ones((60, 3), bool)
    keep[:30, 2] = keep[30:, :2] = False
    with pytest.raises(MethodError, match='modality "words" has another one'):
        DualEncoder(**TINY).fit(data.keep(keep))


def test_labels_play_no_part():
    data = incomplete(vectors(), "easy")
    one, other = (DualEncoder(**TINY).fit(found) for found in (data, replace(data, labels=None)))
    for name in data.names:
        assert one.encode_table(data[name], name) == other.encode_table(data[name], name)


def test_fill_is_mask_or_drop():
    with pytest.raises(UsageError, match="mask"):
        DualEncoder(**TINY, fill="maks").fit(vectors())


def test_validation_score_is_the_rsum_of_pairs_and_needs_no_labels():
    data = vectors(40)
    method = DualEncoder(**TINY).fit(data)
    table, expected = cosines(method, data), 0.0
    for scores in (table, table.T):
        place = np.array([(row > row[i]).sum() for i, row in enumerate(scores)])
        expected += sum(100 * np.mean(place < k) for k in (1, 5, 10))
    assert method.validation_score(replace(data, labels=None)) == pytest.approx(expected, abs=1e-6)
    alone = incomplete(data, "hard")
    alone = alone.take(alone.presence().sum(axis=1) == 1)
    with pytest.raises(MethodError, match="measured on pairs"):
        method.validation_score(alone)
