"""What deep methods share: standardised inputs, codes of the item alone, and a state that restores."""

import numpy as np
import pytest
import torch
from torch import nn

from amodal.data import Observations, incomplete, toy
from amodal.methods.deep import Standardise
from amodal.training import Training
from tests.training.tiny import Tiny, data, equal, weights

CPU = Training(device="cpu")


@pytest.fixture(scope="module")
def wide():
    """A model wide enough for matrix products to sum in another order when their shape is another."""
    return Tiny(bits=64, epochs=1).fit(toy(80, {"image": 700, "text": 300}, classes=4), training=CPU)


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 33])
def test_outputs_do_not_depend_on_companions(wide, size):
    x = np.random.default_rng(0).standard_normal((80, 700)).astype(np.float32)
    together = wide.encode(x, "image")
    for start in range(0, 80, size):
        assert wide.encode(x[start : start + size], "image") == together[np.arange(start, min(start + size, 80))]


def test_every_block_has_one_shape(wide, monkeypatch):
    shapes = []
    output = wide.output
    monkeypatch.setattr(wide, "output", lambda x, modality: shapes.append(tuple(x.shape)) or output(x, modality))
    for rows in (1, 16, 40):
        assert len(wide.encode(np.zeros((rows, 700)), "image")) == rows
    assert set(shapes) == {(16, 700)}
    assert len(shapes) == 1 + 1 + 3


def test_no_rows_have_no_codes(wide):
    assert len(wide.encode(np.zeros((0, 700)), "image")) == 0


def test_encoding_needs_no_gradient_and_no_dropout(wide):
    wide.network_.train()
    x = np.random.default_rng(1).standard_normal((20, 300))
    assert wide.encode(x, "text") == wide.encode(x, "text")
    assert not wide.network_.training
    assert all(parameter.grad is None or not parameter.grad.isnan().any() for parameter in wide.network_.parameters())


def test_state_and_restore_are_inverse(wide):
    other = Tiny(bits=64)
    other.widths_, other.classes_ = wide.widths_, wide.classes_
    before = torch.get_rng_state()
    state = wide.state()
    other.restore(state)
    assert torch.equal(torch.get_rng_state(), before)
    assert equal(weights(other), weights(wide))
    x = np.random.default_rng(2).standard_normal((20, 300))
    assert other.encode(x, "text") == wide.encode(x, "text")
    for array in state.values():  # what was restored is a copy
        array[...] = 0
    assert not equal(weights(other), {name: torch.zeros_like(value) for name, value in weights(other).items()})


def test_features_are_standardised_by_the_rows_that_are_there():
    items = incomplete(toy(100, captions=2), "hard")
    method = Tiny(epochs=1).fit(items, training=CPU)
    for k, name in enumerate(items.names):
        x = items[name].read().astype(np.float64)
        layer = method.network_["side"][k][0]
        np.testing.assert_allclose(layer.mean, x.mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer.deviation, x.std(axis=0), rtol=1e-5)


def test_constant_features_become_zero():
    layer = Standardise(2)
    layer.fit(Observations(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32), np.arange(2)))
    assert layer(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).tolist() == [[-1, 0], [1, 0]]
    assert not list(layer.parameters())
    assert isinstance(layer, nn.Module)


def test_scale_and_shift_of_the_features_do_not_matter():
    items = data()
    moved = {
        name: Observations((1000 * items[name].store + 7).astype(np.float32), items[name].item, items[name].rows)
        for name in items.names
    }
    plain = Tiny(epochs=10).fit(items, training=CPU)
    scaled = Tiny(epochs=10).fit(type(items)(items.ids, moved, items.labels), training=CPU)
    for name in items.names:
        one = plain.encode_table(items[name], name).signs()
        two = scaled.encode_table(moved[name], name).signs()
        assert (one == two).mean() > 0.99
