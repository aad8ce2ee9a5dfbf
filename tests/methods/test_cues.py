"""Cues: shifts against their truth, guesses against a plant, and nothing erased where nothing was planted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from amodal.data import Labels, Observations, toy
from amodal.methods.cues import (
    HEAVIEST,
    Erasure,
    balance,
    environment_shifts,
    guessed_environments,
    mean_by_item,
    resistance_costs,
)


def planted(strength, rate=0.9, n=600, dim=30, classes=4, content=0.6, seed=0):
    """Weak content, and a cue of each class along a direction of its own: x, y, whose cue, directions."""
    random = np.random.default_rng(seed)
    label = random.integers(classes, size=n)
    cue = np.where(random.random(n) < rate, label, (label + random.integers(1, classes, size=n)) % classes)
    directions = np.linalg.qr(random.standard_normal((dim, classes)))[0].T * strength
    middle = random.standard_normal((classes, dim)) * content / 3
    x = middle[label] + directions[cue] + random.standard_normal((n, dim))
    return x, np.eye(classes)[label], np.eye(classes)[cue], directions


def test_shifts_are_found_up_to_what_all_share():
    x, y, cue, directions = planted(4.0, n=4000)
    found = environment_shifts(x, y, cue)
    wanted = directions - directions.mean(axis=0)
    np.testing.assert_allclose(found - found.mean(axis=0), wanted, atol=0.35)


def test_a_strong_cue_is_guessed_and_content_is_not():
    x, y, cue, _ = planted(8.0)
    looks = guessed_environments(x, y)
    assert looks is not None
    assert (looks * cue).sum() > 0.97 * len(x)
    for content in (0.6, 2.0, 6.0):
        x, y, _, _ = planted(0.0, content=content)
        assert guessed_environments(x, y) is None


def test_several_labels_are_not_guessed_at():
    x, y, _, _ = planted(8.0)
    y[0, :2] = 1
    assert guessed_environments(x, y) is None


def test_erasure_changes_nothing_until_fitted_and_keeps_what_is_orthogonal():
    erase, x = Erasure(5, 3), torch.randn(4, 5)
    assert torch.equal(erase(x), x)
    erase.directions[0, 1] = 1.0
    assert erase(x)[:, 1].abs().max() == 0
    assert torch.equal(erase(x)[:, [0, 2, 3, 4]], x[:, [0, 2, 3, 4]])
    assert erase(erase(x)).numpy() == pytest.approx(erase(x).numpy())


def test_balanced_rows_say_nothing_of_the_class_by_their_environment():
    random = np.random.default_rng(0)
    label = random.integers(4, size=500)
    group = np.where(random.random(500) < 0.7, label, random.integers(4, size=500))
    y, groups = np.eye(4)[label], np.eye(4)[group]
    weights = balance(sparse.csr_matrix(y), sparse.csr_matrix(groups))
    together = y.T @ (weights[:, None] * groups) / 500
    np.testing.assert_allclose(together, np.outer(y.mean(axis=0), groups.mean(axis=0)), atol=1e-12)


def test_weights_of_several_labels_are_means_over_classes():
    random = np.random.default_rng(1)
    y, groups = random.random((60, 3)) < 0.5, np.eye(2)[random.integers(2, size=60)]
    y[:, 0] |= ~y.any(axis=1)
    slow = np.array([
        np.mean([y[:, k].sum() * groups[:, e].sum() / (y[:, k] * groups[:, e]).sum() for k in np.flatnonzero(row)])
        for row, e in zip(y, groups.argmax(axis=1), strict=True)
    ])  # fmt: skip
    found = balance(sparse.csr_matrix(y), sparse.csr_matrix(groups))
    np.testing.assert_allclose(found, slow / slow.mean())


def test_rows_of_which_nothing_is_known_weigh_one_and_none_weighs_all():
    y, groups = np.eye(2)[[0, 0, 1, 1]], np.array([[1, 0], [0, 1], [0, 0], [0, 0]])
    y[1] = 0
    assert balance(sparse.csr_matrix(y), sparse.csr_matrix(groups)).tolist() == [1, 1, 1, 1]
    label, group = np.repeat([0, 1, 1], [1999, 1, 2000]), np.repeat([0, 0, 1], [1999, 1, 2000])
    weights = balance(sparse.csr_matrix(np.eye(2)[label]), sparse.csr_matrix(np.eye(2)[group]))
    assert weights[1999] == HEAVIEST


def test_guesses_of_many_rows_in_blocks_are_what_the_data_say(monkeypatch):
    x, y, cue, _ = planted(8.0, n=2000)
    data = replace(toy(2000), labels=Labels.from_multihot(y), attributes={"cue": cue.argmax(axis=1).astype(str)})
    data = data.with_tables({"image": Observations(x.astype(np.float32), np.arange(2000))})
    monkeypatch.setattr("amodal.methods.cues.MOST", 600)
    guessed, given = (Erasure(30, 4).fit(data, "image", lambda x: x, how, 0) for how in (None, "cue"))
    assert guessed.std() > 0.5
    assert np.corrcoef(guessed, given)[0, 1] > 0.95
    assert torch.equal(mean_by_item(data, {"image": given}), torch.from_numpy(given / given.mean()).float())


def test_resistance_costs_where_content_decides_and_not_where_cues_do():
    for strength, content, costs in ((4.0, 0.6, False), (0.5, 4.0, True)):
        x, y, cue, _ = planted(strength, n=1500, content=content)
        weights = balance(sparse.csr_matrix(y), sparse.csr_matrix(cue))
        assert resistance_costs(x, y, cue, weights, 4) == costs


def test_held_out_rows_decide_whether_given_environments_are_resisted():
    for strength, content, resisted in ((4.0, 0.6, True), (0.5, 4.0, False)):
        x, y, cue, _ = planted(strength, n=1500, content=content)
        data = replace(toy(1500), labels=Labels.from_multihot(y), attributes={"cue": cue.argmax(axis=1).astype(str)})
        data = data.with_tables({"image": Observations(x.astype(np.float32), np.arange(1500))})
        erase = Erasure(30, 4)
        weights = erase.fit(data, "image", lambda x: x, "cue", 0)
        assert bool(erase.directions.any()) == resisted
        assert bool(weights.std() > 0) == resisted


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_handful_of_rows_can_be_asked_too(n):
    x, y, cue, _ = planted(4.0, n=n, dim=5)
    assert resistance_costs(x, y, cue, np.ones(n), 4) in (True, False)
