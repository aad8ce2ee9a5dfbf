"""Statistics: equal to what is computed by hand or by others, and silent where nothing can be said."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from amodal.benchmark import summarise
from amodal.benchmark.statistics import (
    Difference,
    compare,
    correct,
    query_differences,
    rank_methods,
    robustness,
    seed_differences,
)
from amodal.errors import DataError
from tests.benchmark.test_summary import WAYS, line

CHANCE = {"chance": (0.1, 0.1)}


def row(scores, method="dch", **options):
    """A row of the table from pairs of values, one per seed."""
    records = [line(method=method, seed=k, map=pair, **CHANCE, **options) for k, pair in enumerate(scores)]
    (found,) = summarise(records)
    return found


def test_differences_are_paired_by_seed_and_direction():
    one, other = row([(0.5, 0.3), (0.6, 0.2), (0.7, 0.7)]), row([(0.4, 0.3), (0.4, 0.3)])
    np.testing.assert_allclose(seed_differences(one.values, other.values), [0.05, 0.05])


def test_a_direction_that_one_lacks_is_left_out():
    one = row([(0.5, 0.3)])
    other = summarise([line(metrics={"map": {WAYS[0]: 0.4}, "chance": {WAYS[0]: 0.1}})])[0]
    np.testing.assert_allclose(seed_differences(one.values, other.values), [0.1])


def test_effect_interval_and_p_are_students():
    generator = np.random.default_rng(0)
    a, b = generator.random((6, 2)), generator.random((6, 2))
    found = compare(row(a), row(b, method="cich"))
    differences = a.mean(axis=1) - b.mean(axis=1)
    expected = stats.ttest_rel(a.mean(axis=1), b.mean(axis=1))
    low, high = expected.confidence_interval()
    assert found.effect == pytest.approx(differences.mean())
    assert found.p_seeds == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx((low, high))
    patterns = [np.dot(signs, differences) for signs in itertools.product((1, -1), repeat=6)]
    share = np.mean(np.abs(patterns) >= abs(differences.sum()) - 1e-12)
    assert found.p_flips == pytest.approx(share)
    assert (found.seeds, found.untested, found.p_queries) == (6, (), None)


@pytest.mark.parametrize(
    ("scores", "reason"),
    [([(0.5, 0.4)], "one seed"), ([(0.5, 0.4), (0.6, 0.5), (0.7, 0.6)], "the same difference")],
)
def test_where_seeds_say_nothing_there_is_no_test(scores, reason):
    other = [(a - 0.1, b - 0.1) for a, b in scores]
    found = compare(row(scores), row(other, method="cich"))
    assert found.effect == pytest.approx(0.1)
    assert found.p_seeds is found.p_flips is None
    assert math.isnan(found.interval[0])
    assert found.verdict == "not tested"
    assert found.untested[0].startswith(reason)


def test_no_shared_seed_is_refused():
    one = row([(0.5, 0.4)])
    other = summarise([line(seed=7, map=(0.1, 0.1), **CHANCE)])[0]
    with pytest.raises(DataError, match="shares no seed"):
        compare(one, other)


def difference(p, effect=0.1):
    return Difference(effect, (0.0, 0.2), 3, p, p, None)


def test_holm_by_hand_with_missing_tests():
    found = correct([difference(0.01), difference(None), difference(0.04), difference(0.03)])
    # three tests: .01 * 3, then .03 * 2, then max(.06, .04 * 1)
    assert [one.p_seeds for one in found] == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert [one.verdict for one in found] == ["above", "not tested", "within noise", "within noise"]
    assert correct([difference(0.01, -0.1)])[0].verdict == "below"
    assert correct([]) == []


def with_queries(tmp_path, method, seed, values, data="d", unanswerable=0):
    name = f"{method}-{seed}.npz"
    np.savez(tmp_path / name, **dict(zip(WAYS, values, strict=True)))
    record = line(method=method, seed=seed, map=tuple(float(np.mean(v)) for v in values), **CHANCE)
    counts = {way: {"queries": len(v), "unanswerable": unanswerable} for way, v in zip(WAYS, values, strict=True)}
    files = {"per_query": {"file": name}, "hashes": {"data": data, "protocol": "p"}}
    return {**record, **files, "counts": counts, "unanswerable": "skip"}


def test_queries_are_paired_and_sum_to_the_effect(tmp_path):
    generator = np.random.default_rng(1)
    values = generator.random((2, 3, 2, 40))  # method, seed, direction, query
    records = [[with_queries(tmp_path, m, s, values[k, s]) for s in range(3)] for k, m in enumerate(("dch", "cich"))]
    single = query_differences(tmp_path, *records)
    expected = values[0].mean(axis=0) - values[1].mean(axis=0)
    np.testing.assert_allclose(single, expected.ravel() / 80)
    rows = [summarise(group)[0] for group in records]
    found = compare(*rows, {one["key"]: one for group in records for one in group}, tmp_path)
    assert single.sum() == pytest.approx(found.effect)
    flips = np.random.default_rng(2).choice((-1, 1), (20_000, 80)) @ single
    assert found.p_queries == pytest.approx(np.mean(np.abs(flips) >= abs(single.sum())), abs=0.02)


def test_unanswerable_queries_do_not_thin_the_effect(tmp_path):
    values = [np.array([0.5, 0.7, 0.0, 0.0])] * 2
    pair = [
        [with_queries(tmp_path, m, 0, v, unanswerable=2)] for m, v in (("dch", values), ("cich", [np.zeros(4)] * 2))
    ]
    assert query_differences(tmp_path, *pair).sum() == pytest.approx(0.6)


def test_unequal_queries_are_said_not_tested(tmp_path):
    one = with_queries(tmp_path, "dch", 0, [np.ones(4)] * 2)
    for other in (
        with_queries(tmp_path, "cich", 0, [np.ones(5)] * 2),
        with_queries(tmp_path, "scratch", 0, [np.ones(4)] * 2, data="another"),
        {**with_queries(tmp_path, "jimfh", 0, [np.ones(4)] * 2), "per_query": {"file": "gone.npz"}},
    ):
        rows = [summarise([record])[0] for record in (one, other)]
        found = compare(*rows, {record["key"]: record for record in (one, other)}, tmp_path)
        assert found.p_queries is None
        assert any("queries" in reason for reason in found.untested)


def test_robustness_is_paired_by_seed():
    complete, thinned = row([(0.5, 0.5), (0.6, 0.6), (0.9, 0.9)]), row([(0.4, 0.4), (0.3, 0.3)], setting="hard")
    mean, deviation, seeds = robustness(complete, thinned)
    assert (mean, deviation, seeds) == (pytest.approx(0.2), pytest.approx(np.std([0.1, 0.3], ddof=1)), 2)


def test_friedman_as_scipy_has_it_and_the_published_critical_difference():
    scores = np.random.default_rng(3).random((14, 4)).round(1)  # with ties
    found = rank_methods(list("abcd"), scores)
    assert found.p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    assert found.critical == pytest.approx(1.25, abs=0.005)  # Demšar's example: q = 2.569, k = 4, N = 14
    ranks = stats.rankdata(-scores, axis=1).mean(axis=0)
    assert dict(zip(found.names, found.ranks, strict=True)) == pytest.approx(dict(zip("abcd", ranks, strict=True)))
    assert list(found.ranks) == sorted(found.ranks)


def brute_force_groups(ranks, critical):
    """All runs of at least two methods less than the critical difference apart that no such run contains."""
    k = len(ranks)
    runs = [(a, b) for a in range(k) for b in range(a + 1, k) if ranks[b] - ranks[a] < critical]
    return tuple(run for run in runs if not any(o != run and o[0] <= run[0] and run[1] <= o[1] for o in runs))


@pytest.mark.parametrize("seed", range(40))
def test_groups_are_the_largest_runs(seed):
    generator = np.random.default_rng(seed)
    k, n = generator.integers(2, 9), generator.integers(2, 30)
    scores = generator.normal(np.linspace(0, generator.uniform(0, 4), k), 1, (n, k))
    found = rank_methods([str(i) for i in range(k)], scores)
    assert found.groups == brute_force_groups(found.ranks, found.critical)


@pytest.mark.parametrize("scores", [[[1.0, 2.0]], [[1.0], [2.0]], [[1.0, np.nan], [1.0, 2.0]]])
def test_too_little_to_rank_is_refused(scores):
    with pytest.raises(DataError, match="two methods and two cases"):
        rank_methods(["a", "b"][: len(scores[0])], scores)


def test_methods_that_are_all_alike():
    found = rank_methods(["a", "b"], [[1.0, 1.0], [2.0, 2.0]])
    assert (found.p, found.ranks, found.groups) == (1.0, (1.5, 1.5), ((0, 1),))
