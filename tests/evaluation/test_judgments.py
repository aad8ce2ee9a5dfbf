"""Human judgments: correlations by loops over pairs, the right observations, and intervals that mean something."""

from itertools import combinations

import numpy as np
import pytest

from amodal.data import toy
from amodal.errors import DataError, ShapeError
from amodal.evaluation.judgments import Judgments, agreement, judge, score_rows
from tests.evaluation.test_pairs import Dot
from tests.evaluation.toys import Signs

RANDOM = np.random.default_rng(0)


def kendall(x, y):
    """tau-b and tau-c from the definition."""
    signs = [np.sign((x[i] - x[j]) * (y[i] - y[j])) for i, j in combinations(range(len(x)), 2)]
    concordance, n = sum(signs), len(x)
    free = [sum(a[i] != a[j] for i, j in combinations(range(n), 2)) for a in (x, y)]
    fewest = min(len(np.unique(x)), len(np.unique(y)))
    return concordance / np.sqrt(free[0] * free[1]), 2 * concordance * fewest / (n**2 * (fewest - 1))


def test_correlations_equal_their_definitions():
    x = RANDOM.standard_normal(40).round(1)
    y = np.clip(np.round(x + RANDOM.standard_normal(40) + 2.5), 1, 4)
    found = agreement(x, y, np.arange(40), resamples=2)
    b, c = kendall(x, y)
    assert found["kendall.b"].value == pytest.approx(b)
    assert found["kendall.c"].value == pytest.approx(c)
    ranks = [[(column < v).sum() + ((column == v).sum() + 1) / 2 for v in column] for column in (x, y)]
    assert found["spearman"].value == pytest.approx(np.corrcoef(*ranks)[0, 1])


def test_intervals_hold_the_value_and_widen_where_pairs_come_in_groups():
    x = RANDOM.standard_normal(200)
    y = x + RANDOM.standard_normal(200)
    together = np.tile(x, 5), np.tile(y, 5)
    alone = agreement(*together, np.arange(1000), resamples=60)["spearman"]
    groups = agreement(*together, np.tile(np.arange(200), 5), resamples=60)["spearman"]
    assert alone.low < alone.value < alone.high
    assert groups.value == alone.value
    assert groups.high - groups.low > 1.5 * (alone.high - alone.low)


def test_a_constant_says_nothing():
    found = agreement(np.ones(10), np.arange(10), np.arange(10), resamples=3)
    assert {tuple(one) for one in found.values()} == {(0.0, 0.0, 0.0)}


def judgments(data, k=30):
    pictures, captions = RANDOM.integers(len(data), size=(2, k))
    return Judgments(
        data.ids[pictures], data.ids[captions], RANDOM.integers(3, size=k), RANDOM.integers(1, 5, (k, 3)).astype(float)
    )


def test_pairs_are_found_by_id_and_number():
    data = toy(40, captions=3).take(RANDOM.permutation(40)[:30])
    said = judgments(data)
    here, there = said.rows(data)
    assert data.ids[data["image"].item[here]].tolist() == said.pictures.tolist()
    assert data.ids[data["text"].item[there]].tolist() == said.captions.tolist()
    for row, number in zip(there, said.numbers, strict=True):
        assert np.flatnonzero(data["text"].item == data["text"].item[row]).tolist().index(row) == number
    with pytest.raises(DataError, match=r"which toy.* does not have"):
        said.rows(data.take(np.arange(5)))
    with pytest.raises(DataError, match=r'observation [12] of "text"'):
        said.rows(toy(40))


@pytest.mark.parametrize("method", [Dot(), Signs(bits=12)])
def test_scores_of_chosen_pairs(method):
    data = toy(40, captions=3)
    if isinstance(method, Signs):
        method.fit(data)
    said = judgments(data)
    here, there = said.rows(data)
    x, y = data["image"].read()[here], data["text"].read()[there]
    if isinstance(method, Signs):
        expected = -((x[:, :12] >= 0) != (y[:, :12] >= 0)).sum(axis=1)
    else:
        expected = (x[:, :6] * y[:, :6]).sum(axis=1)
    np.testing.assert_allclose(score_rows(method, data, here, there, ("image", "text")), expected, rtol=1e-5)
    found = judge(method, data, said, resamples=5)
    whole = agreement(expected, said.scores.mean(axis=1), said.pictures, resamples=5)
    assert found["kendall.c"] == pytest.approx(whole["kendall.c"])


def test_columns_of_one_length():
    with pytest.raises(ShapeError, match=r"scores \(k, people\)"):
        Judgments(np.array(["a"]), np.array(["b"]), np.array([0]), np.ones(1))
