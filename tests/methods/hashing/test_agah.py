"""AGAH: codes and features of classes, who learns from the critics, and what a batch without triplets does."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.data import incomplete, toy
from amodal.methods import get
from amodal.methods.hashing.agah import _class_features, next_class_codes
from amodal.methods.hashing.feature_hash import Memory, signs
from amodal.training import Batches

QUICK = {"bits": 8, "hidden": 16, "latent": 12, "epochs": 1, "batch_size": 32, "rate": 0.01}


def prepared(data, **params):
    """A method after an epoch, about to begin the next one, and a batch."""
    method = get("agah").create(**{**QUICK, **params}).fit(data)
    batches = Batches(data, 32, 0)
    method.network_.zero_grad(set_to_none=True)
    method.between(batches, 1, torch.device("cpu"))
    method.network_.train()
    return method, batches.gather(np.arange(5, 37))


def gaps():
    return incomplete(toy(100, multi_label=True, classes=4, seed=1), "easy")


def objective(new, codes, targets, old):
    """What the class codes minimise, from its definition."""
    r, total = new.shape[1], 0.0
    for u, y in zip(codes, targets, strict=True):
        total += ((u @ new.T - r * y) ** 2).sum()
    return total + ((new @ old.T - r * (2 * np.eye(len(new)) - 1)) ** 2).sum()


def draw(seed, rows=(7, 12), c=3, r=5):
    rng = np.random.default_rng(seed)
    codes = [np.sign(rng.standard_normal((n, r))) for n in rows]
    targets = [np.where(rng.random((n, c)) < 0.4, 1.0, -1.0) for n in rows]
    return codes, targets, np.sign(rng.standard_normal((c, r)))


def step(codes, targets, old):
    return next_class_codes([*map(torch.from_numpy, codes)], [*map(torch.from_numpy, targets)], torch.from_numpy(old))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_step_of_the_class_codes_never_raises_its_objective(seed, c, r):
    codes, targets, old = draw(seed, c=c, r=r)
    found = step(codes, targets, old).numpy()
    assert set(np.unique(found)) <= {-1.0, 1.0}
    assert objective(found, codes, targets, old) <= objective(old, codes, targets, old) + 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_last_bit_is_the_best_of_all(seed):
    codes, targets, old = draw(seed)
    found = step(codes, targets, old).numpy()
    value = objective(found, codes, targets, old)
    for pattern in np.ndindex(2, 2, 2):
        other = found.copy()
        other[:, -1] = 2 * np.array(pattern) - 1
        assert value <= objective(other, codes, targets, old) + 1e-6


def test_step_improves_random_class_codes():
    codes, targets, old = draw(0, rows=(40, 40))
    assert objective(step(codes, targets, old).numpy(), codes, targets, old) < objective(old, codes, targets, old)


def test_class_features_are_unit_means_and_stay_where_a_class_has_no_rows():
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0]])
    rows = {"image": torch.tensor([0, 1]), "text": torch.tensor([0, 2])}
    values = {m: torch.eye(3) * (2 if m == "text" else 1) for m in rows}
    old = torch.full((3, 3), 0.5)
    found = _class_features(Memory(labels, rows, values), old)
    expected = torch.stack([torch.tensor([0.5 + 2, 0.5, 0]), torch.tensor([0, 1.0, 2.0])])
    torch.testing.assert_close(found[:2], torch.nn.functional.normalize(expected))
    assert torch.equal(found[2], old[2])


def test_attention_draws_features_to_those_of_classes():
    method, batch = prepared(gaps())
    network = method.network_.eval()  # dropout can leave a row without any feature
    feature = network.feature(batch.x["image"], 0)
    torch.testing.assert_close(feature.norm(dim=1), torch.ones(len(feature)))
    a = 1 / (1 + torch.exp(-5 * feature @ network.map.T))
    drawn = torch.stack([sum(w * row for w, row in zip(own, network.map, strict=True)) / own.sum() for own in a])
    expected = torch.tanh(network.head[0](0.8 * feature + 0.2 * drawn))
    torch.testing.assert_close(network.code(feature, 0), expected)


def test_class_features_are_saved_with_the_model():
    method, _ = prepared(gaps())
    np.testing.assert_allclose(np.linalg.norm(method.state()["map"], axis=1), 1, rtol=1e-5)


def test_nothing_to_learn_from_equal_labels_and_nothing_breaks():
    method, batch = prepared(gaps())
    batch.labels[:] = torch.tensor([1.0, 0, 0, 0])
    batch.known[:] = True
    losses = method.step(batch, 1)
    assert losses["triplets"].item() == 0
    losses["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in method.network_.parameters())


def test_encoders_learn_from_critics_and_critics_from_themselves():
    method, batch = prepared(gaps())
    judged, own = (method.step(batch, 1)[name] for name in ("adversary", "critics"))
    for loss, expected in ((judged, "encoder"), (own, "discriminator")):
        method.network_.zero_grad(set_to_none=True)
        loss.backward()
        touched = {name.split(".")[0] for name, p in method.network_.named_parameters() if p.grad is not None}
        assert touched == {expected}


def test_batch_of_one_modality_is_learned_from():
    method, _ = prepared(gaps())
    data = gaps()
    alone = np.flatnonzero(data.present("image") & ~data.present("text"))
    losses = method.step(Batches(data, 32, 0).gather(alone), 1)
    losses["loss"].backward()
    assert losses["triplets"].item() == losses["critics"].item() == 0
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in method.network_.parameters())


def test_norm_of_a_batch_is_one_in_training_and_no_matter_of_companions_afterwards():
    method, batch = prepared(gaps(), feature_norm="batch")
    assert method.network_.feature(batch.x["image"], 0).norm().item() == pytest.approx(1, rel=1e-5)
    x = batch.x["image"].numpy()
    assert method.encode(x, "image")[np.arange(3)] == method.encode(x[:3], "image")


def test_released_target_asks_for_labels_of_0_and_1():
    data = toy(60, classes=3, seed=1)
    paper, released = (prepared(data, code_map_target=target)[0] for target in ("paper", "released"))
    assert not torch.equal(signs(paper.network_.class_codes), signs(released.network_.class_codes))


def test_released_preset_learns():
    data = toy(200, classes=4, seed=1)
    quick = {**QUICK, "hidden": 32, "epochs": 30}
    assert get("agah").create("released", **quick).fit(data).validation_score(data) > 0.6
