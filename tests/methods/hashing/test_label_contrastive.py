"""Label contrast: it is a normalised softmax classifier where it should be, and its targets are what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows

from amodal.data import incomplete, toy
from amodal.errors import UsageError
from amodal.methods import get
from amodal.training import Batches

QUICK = {"bits": 8, "hidden": 16, "latent": 16, "epochs": 3, "batch_size": 32, "rate": 0.01, "dropout": 0.0}


def ready(data, **params):
    """A method that has learned a little, and a batch of 32 items."""
    method = get("label_contrastive").create(**{**QUICK, **params}).fit(data)
    return method, Batches(data, 32, 0).gather(np.arange(32))


def shuffled(batch, order):
    """The batch with its items in another order; complete data only."""
    x = {m: rows[order] for m, rows in batch.x.items()}
    return replace(batch, x=x, labels=batch.labels[order], known=batch.known[order], index=batch.index[order])


def test_single_label_form_is_a_normalised_softmax_classifier():
    method, batch = ready(toy(100, classes=4, seed=1), label_encoder="linear", targets="hard", eta=0.0)
    weights = torch.tanh(method.network_.label.weight.T + method.network_.label.bias)  # one row per class
    losses, expected = method.step(batch, epoch=0), 0.0
    for m in ("image", "text"):
        cosine = F.normalize(method.output(batch.x[m], m)) @ F.normalize(weights).T
        expected = expected + F.cross_entropy(cosine / method.tau, batch.labels.argmax(dim=1))
    assert losses["items"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["loss"].item() == pytest.approx((losses["items"] + losses["labels"]).item() / 2)


@pytest.mark.parametrize("targets", ["soft", "hard"])
def test_terms_equal_the_loops(targets):
    method, batch = ready(toy(100, classes=4, multi_label=True, seed=1), targets=targets)
    vectors = torch.from_numpy(np.unique(toy(100, classes=4, multi_label=True, seed=1).labels.dense(), axis=0))
    prototypes, items, labels = method.network_.prototypes(vectors), 0.0, 0.0
    for m in ("image", "text"):
        codes = method.output(batch.x[m], m)
        s = torch.stack([F.cosine_similarity(h[None], prototypes) for h in codes]) / method.tau
        for i, mine in enumerate(batch.labels):
            both, either = torch.minimum(mine, vectors).sum(dim=1), torch.maximum(mine, vectors).sum(dim=1)
            q = both / either if targets == "soft" else (both == either).float()
            items -= (q / q.sum() * F.log_softmax(s[i], dim=0)).sum().item() / len(codes)
        here = [u for u, vector in enumerate(vectors) if (batch.labels == vector).all(dim=1).any()]
        for u in here:
            own = (batch.labels == vectors[u]).all(dim=1)
            labels -= F.log_softmax(s[:, u], dim=0)[own].mean().item() / len(here)
    losses = method.step(batch, epoch=0)
    assert losses["items"].item() == pytest.approx(items, rel=1e-4)
    assert losses["labels"].item() == pytest.approx(labels, rel=1e-4)


def test_order_of_rows_changes_nothing():
    method, batch = ready(toy(100, classes=4, multi_label=True, seed=1))
    first = method.step(batch, epoch=0)
    second = method.step(shuffled(batch, torch.arange(31, -1, -1)), epoch=0)
    for name, value in first.items():
        assert second[name].item() == pytest.approx(value.item(), rel=1e-5)


def test_targets_are_soft_where_items_have_several_labels():
    assert ready(toy(100, classes=4, multi_label=True, seed=1))[0]._soft
    assert not ready(toy(100, classes=4, seed=1))[0]._soft
    assert not ready(toy(100, classes=4, multi_label=True, seed=1), targets="hard")[0]._soft


def test_a_batch_of_one_label_still_learns_unless_its_label_is_the_only_candidate():
    data = toy(100, classes=4, seed=1)
    method, batch = ready(data)
    batch.labels[:] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert method.step(batch, epoch=0)["items"].item() > 0.1
    method, _ = ready(data, vectors=3)  # four distinct vectors are too many: those of the batch
    assert method._vectors is None
    assert method.step(batch, epoch=0)["items"].item() == 0


def test_candidates_of_the_batch_learn_too():
    data = toy(200, classes=4, multi_label=True, seed=1)
    method, _ = ready(data, vectors=1, epochs=20)
    plain = data.labels.dense()
    chance = (plain @ plain.T > 0).mean()
    assert method.validation_score(data) > chance + 0.4 * (1 - chance)


def test_unlabelled_rows_are_drawn_to_binary_codes_and_nothing_else():
    data = incomplete(toy(100, classes=4, seed=1), "hard")
    method, batch = ready(data)
    bare = replace(batch, known=torch.zeros_like(batch.known), labels=torch.zeros_like(batch.labels))
    losses = method.step(bare, epoch=0)
    assert losses["items"].item() == losses["labels"].item() == 0
    losses["loss"].backward()
    assert method.network_.head[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize(("name", "wrong", "right"), [("targets", "sfot", "soft"), ("label_encoder", "mpl", "mlp")])
def test_unknown_words_name_the_nearest(name, wrong, right):
    with pytest.raises(UsageError, match=f'"{wrong}".*"{right}"'):
        get("label_contrastive").create(**QUICK, **{name: wrong}).fit(toy(50))
