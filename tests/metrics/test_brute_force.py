"""Closed forms against the plain average over every order of tied items."""

import numpy as np
import pytest

from amodal import metrics
from tests.metrics.cases import one_query
from tests.oracles import rankings as oracle

CASES = 160
TOLERANCE = 1e-12


def _case(seed):
    generator = np.random.default_rng(seed)
    items = int(generator.integers(1, 8))
    distances = sorted(int(d) for d in generator.choice([0, 1, 2, 3], items, p=[0.2, 0.5, 0.2, 0.1]))
    grades = [int(g) for g in generator.choice([0, 1, 2, 3], items, p=[0.5, 0.3, 0.1, 0.1])]
    return distances, grades


@pytest.mark.parametrize("seed", range(CASES))
def test_every_measure_is_the_mean_over_all_orders(seed):
    distances, grades = _case(seed)
    h = one_query(distances, grades, bits=3, classes=3)
    rankings = oracle.orders(distances, grades)

    def same(value, measure):
        values = [measure(ranking) for ranking in rankings]
        assert value.shape == (1,)
        assert abs(value[0] - sum(values) / len(values)) < TOLERANCE

    same(metrics.ap(h), oracle.ap)
    same(metrics.inp(h), oracle.inp)
    same(metrics.first_rank(h), oracle.first_rank)
    for k in range(1, len(distances) + 1):
        same(metrics.precision_at(h, k), lambda ranking, k=k: oracle.precision_at(ranking, k))
        same(metrics.recall_at(h, k), lambda ranking, k=k: oracle.recall_at(ranking, k))
        same(metrics.hit_at(h, k), lambda ranking, k=k: oracle.hit_at(ranking, k))
        for divisor in ("min", "relevant", "hits", "first"):
            same(metrics.ap_at(h, k, divisor), lambda ranking, k=k, d=divisor: oracle.ap_at(ranking, k, d))
        for gain in ("binary", "count", "exp"):
            same(metrics.ndcg_at(h, k, gain), lambda ranking, k=k, g=gain: oracle.ndcg_at(ranking, k, g))

    values = [oracle.ap(ranking) for ranking in rankings]
    assert abs(metrics.ap(h, "optimistic")[0] - max(values)) < TOLERANCE
    assert abs(metrics.ap(h, "pessimistic")[0] - min(values)) < TOLERANCE


@pytest.mark.parametrize(("database", "positives"), [(1, 1), (2, 1), (3, 2), (6, 3), (7, 7), (8, 2)])
def test_chance_is_the_mean_over_all_rankings(database, positives):
    grades = [1] * positives + [0] * (database - positives)
    expected = oracle.mean_over_orders(oracle.ap, [0] * database, grades)
    assert metrics.chance_ap(database, positives) == pytest.approx(expected, abs=TOLERANCE)
    for k in range(1, database + 1):
        expected = oracle.mean_over_orders(lambda r, k=k: oracle.hit_at(r, k), [0] * database, grades)
        assert metrics.chance_hit(database, positives, k) == pytest.approx(expected, abs=TOLERANCE)


def test_both_forms_of_the_tied_level_agree():
    generator = np.random.default_rng(0)
    harmonic = np.append(0, np.cumsum(1 / np.arange(1, 4001, dtype=np.longdouble))).astype(float)
    for _ in range(500):
        n, a = (int(x) for x in generator.integers(1, 2000, 2))
        r = int(generator.integers(1, n + 1))
        q = int(generator.integers(0, a + 1))
        # a level of n items after one of a items with q relevant ones
        counts = np.array([[[a - q, n - r], [q, r]]])
        h = metrics.Histograms(counts, np.array([0.0, 1.0]))
        before = metrics.Histograms(counts[:, :, :1], np.array([0.0, 1.0]))
        level = metrics.ap(h)[0] * (q + r) - metrics.ap(before)[0] * q
        c = (r - 1) / (n - 1) if n > 1 else 0.0
        h_span = harmonic[a + n] - harmonic[a]
        form_1 = r / n * ((q + 1 - c) * h_span + c * (n - a * h_span))
        assert level == pytest.approx(form_1, rel=1e-11, abs=1e-12)


def test_larger_ties_against_random_orders():
    """40 queries x 3,000 items at 16 bits: the mean over random orders of ties comes to the closed form."""
    generator = np.random.default_rng(3)
    distances = generator.binomial(16, 0.5, (40, 3000))
    relevant = generator.random((40, 3000)) < 0.4 - 0.02 * distances
    counts = np.stack(
        [
            [np.bincount(d[r == flag], minlength=17) for flag in (False, True)]
            for d, r in zip(distances, relevant, strict=True)
        ]
    )
    closed = metrics.ap(metrics.Histograms(counts, np.array([0.0, 1.0]))).mean()
    means = []
    for _ in range(60):
        order = np.argsort(distances + generator.random(distances.shape), axis=1)
        ranked = np.take_along_axis(relevant, order, axis=1)
        hits = np.cumsum(ranked, axis=1) / np.arange(1, 3001)
        means.append(((hits * ranked).sum(axis=1) / ranked.sum(axis=1)).mean())
    assert abs(closed - np.mean(means)) < 5 * np.std(means) / np.sqrt(len(means))
