"""Cues: shifts against their truth, guesses against a plant, and nothing erased where nothing was planted."""

import numpy as np
import pytest
import torch

from amodal.methods.embedding.cues import Erasure, environment_shifts, guessed_environments


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
