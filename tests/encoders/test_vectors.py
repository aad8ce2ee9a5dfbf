"""Ready features pass through, checked."""

import numpy as np
import pytest

from amodal.encoders import get
from amodal.encoders.vectors import Vectors
from amodal.errors import DataError


def test_vectors_pass_unchanged():
    rows = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    assert np.array_equal(get("features").encode(rows), rows)
    assert get("features").encode(rows.astype(np.float64).tolist()).dtype == np.float32


@pytest.mark.parametrize(("row", "reason"), [([1, 2], "vector 1 has shape"), ([1, 2, np.nan], "vector 1 holds NaN")])
def test_bad_vectors_are_named(row, reason):
    with pytest.raises(DataError, match=reason):
        get("features").encode([[1, 2, 3], row])


def test_width_can_be_demanded():
    with pytest.raises(DataError, match=r"\(4,\) was expected"):
        Vectors(4).encode([[1, 2, 3]])
    assert Vectors(4).encode([]).shape == (0, 4)
