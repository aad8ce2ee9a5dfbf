"""The scan kernel against a full sort, beyond what the conformance suite reaches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.index.scan import nearest
from tests.oracles import nearest as oracle


def sorted_rows(rows, distances):
    """The kernel's answer in the order (distance, row), with what was not found at the end."""
    away = np.where(rows < 0, oracle.FARTHEST, distances)
    order = np.lexsort((rows, away), axis=-1)
    return np.take_along_axis(rows, order, -1), np.take_along_axis(away, order, -1)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 1500),
    st.sampled_from([1, 2, 3, 4, 5, 8, 12, 16, 24, 32, 40]),
    st.integers(1, 600),
    st.sampled_from([np.inf, 0, 3, 11]),
    st.sampled_from([None, 0.0, 0.02, 0.5, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_any_width_any_k_any_mask(n, width, k, radius, share, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(0, 4, (n, width)).astype(np.uint8)  # few values, so that many distances are equal
    queries = rng.integers(0, 4, (rng.integers(1, 4), width)).astype(np.uint8)
    keep = None if share is None else rng.random(n) < share
    among = np.arange(n) if keep is None else np.flatnonzero(keep)
    k = min(k, n)
    expected, away, _ = oracle.nearest(oracle.hamming(queries, vectors[among]), among, k, radius)
    rows, distances = sorted_rows(*nearest(vectors, queries, k, radius, keep))
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(distances, away)


def test_the_worst_order_of_rows():
    vectors = np.packbits(np.tri(1025, 1024, -1, dtype=np.uint8)[::-1], axis=1)  # every row is nearer than the last
    rows, distances = sorted_rows(*nearest(vectors, np.zeros((1, 128), np.uint8), 1025))
    np.testing.assert_array_equal(rows[0], np.arange(1025)[::-1])
    np.testing.assert_array_equal(distances[0], np.arange(1025))


@pytest.mark.parametrize("dim", [1, 7, 64, 300])
def test_cosine(dim):
    rng = np.random.default_rng(dim)
    vectors = rng.standard_normal((3000, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows, distances = nearest(vectors, vectors[:2], 3000)
    exact = 1 - vectors[:2].astype(np.float64) @ vectors.T.astype(np.float64)
    np.testing.assert_allclose(np.take_along_axis(exact, rows, 1), distances, atol=2e-6)
    np.testing.assert_array_equal(np.sort(rows), np.tile(np.arange(3000), (2, 1)))
