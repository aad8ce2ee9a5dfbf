"""Moments, item means, kernels and blocks, against the formulas."""

import numpy as np
import pytest

from amodal.data import Observations
from amodal.methods.features import BLOCK, Kernel, by_blocks, item_means, moments


def test_moments_of_many_chunks_are_those_of_the_whole():
    x = np.random.default_rng(0).normal(1000, 1, (20_000, 3)).astype(np.float32)
    x[:, 2] = 7
    mean, deviation = moments(Observations(x, np.arange(len(x))))
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(deviation[:2], x.astype(np.float64).std(axis=0)[:2], rtol=1e-9)
    assert deviation[2] == 1


def test_item_means():
    x = np.array([[1, 2], [3, 4], [5, 6], [7, 9]], dtype=np.float32)
    items, means = item_means(Observations(x, np.array([4, 1, 4, 0])))
    assert items.tolist() == [0, 1, 4]
    np.testing.assert_array_equal(means, [[7, 9], [3, 4], [3, 4]])


def test_item_means_over_several_chunks():
    item = np.random.default_rng(1).integers(0, 50, 20_000)
    x = np.random.default_rng(2).normal(size=(20_000, 2)).astype(np.float32)
    items, means = item_means(Observations(x, item))
    for item_number in (0, 17, 49):
        expected = x[item == item_number].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(means[items == item_number][0], expected, rtol=1e-10)


def test_kernel_is_the_formula():
    x = np.random.default_rng(3).normal(size=(60, 4))
    kernel = Kernel.fit(x, 10, np.random.default_rng(4))
    distances = np.array([[((row - anchor) ** 2).sum() for anchor in kernel.anchors] for row in x])
    assert kernel.scale == pytest.approx(distances.mean())
    raw = np.exp(-distances / (2 * distances.mean()))
    np.testing.assert_allclose(kernel(x), raw - raw.mean(axis=0), atol=1e-12)
    assert {tuple(anchor) for anchor in kernel.anchors} <= {tuple(row) for row in x}


def test_kernel_without_anchors_centres():
    x = np.random.default_rng(5).normal(5, 1, size=(20, 3))
    np.testing.assert_allclose(Kernel.fit(x, 0, np.random.default_rng(0))(x), x - x.mean(axis=0))


def test_kernel_survives_its_state():
    x = np.random.default_rng(6).normal(size=(20, 3))
    kernel = Kernel.fit(x, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(Kernel.from_state(kernel.state("k"), "k")(x), kernel(x))


def test_identical_rows_have_a_finite_kernel():
    assert np.isfinite(Kernel.fit(np.ones((6, 2)), 3, np.random.default_rng(0))(np.zeros((2, 2)))).all()


@pytest.mark.parametrize("m", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_blocks_are_full_and_give_every_row_once(m):
    seen = []

    def double(block):
        seen.append(block.shape)
        return 2 * block[:, :2]

    x = np.random.default_rng(m).normal(size=(m, 3)).astype(np.float32)
    np.testing.assert_array_equal(by_blocks(double, x), 2 * x[:, :2].astype(np.float64))
    assert set(seen) == {(BLOCK, 3)}
