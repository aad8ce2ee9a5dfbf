"""The worked examples A to F and H of the evaluation design, to the printed digits."""

import numpy as np
import pytest

from amodal import metrics
from amodal.metrics.levels import Histograms
from tests.metrics.cases import one_query

A_DISTANCES, A_SHARED = [0, 1, 1, 1, 2, 2], [2, 1, 0, 0, 3, 0]

A_TABLE = """
1 1.000000 .333333 1.000000 .333333 1.000000 1.000000 1.000000 .666667 .428571
2 .666667 .444444 .666667 .444444 1.000000 .861111 .742098 .518626 .361001
3 .555556 .555556 .518519 .518519 .944444 .757407 .646186 .499170 .359529
4 .500000 .666667 .574074 .574074 .861111 .757407 .713555 .529317 .374813
6 .500000 1.000000 .757407 .757407 .757407 .757407 .887906 .763384 .651696
"""


def binary(*queries):
    """Histograms from lists of (n, r) per level, one list per query."""
    counts = np.array([[[n - r for n, r in query], [r for _, r in query]] for query in queries])
    return Histograms(counts, np.array([0.0, 1.0]))


def printed(value, digits=6):
    return round(float(np.mean(value)), digits)


def test_a_ties():
    h = one_query(A_DISTANCES, A_SHARED)
    assert h.items.tolist() == [[1, 3, 2]]
    assert h.relevant.tolist() == [[1, 1, 1]]
    assert printed(metrics.ap(h)) == 0.757407
    assert printed(metrics.ap(h, "optimistic")) == 0.866667
    assert printed(metrics.ap(h, "pessimistic")) == 0.666667
    assert printed(metrics.chance_ap(6, 3)) == 0.645
    assert printed(metrics.inp(h)) == 0.55


@pytest.mark.parametrize("line", A_TABLE.strip().splitlines())
def test_a_cutoffs(line):
    k, *expected = line.split()
    h, k = one_query(A_DISTANCES, A_SHARED), int(k)
    measured = [
        metrics.precision_at(h, k),
        metrics.recall_at(h, k),
        *(metrics.ap_at(h, k, divisor) for divisor in ("min", "relevant", "hits", "first")),
        *(metrics.ndcg_at(h, k, gain) for gain in ("binary", "count", "exp")),
    ]
    assert [printed(value) for value in measured] == [float(value) for value in expected]


def test_b_two_queries_and_the_curve():
    h = binary([(1, 1), (3, 1), (2, 1)], [(0, 0), (2, 0), (4, 2)])
    assert printed(metrics.ap(h)[1]) == 0.333333
    assert printed(metrics.chance_ap(6, 2)) == 0.526667
    assert printed(metrics.ap(h)) == 0.545370
    assert printed(metrics.chance_ap(h.database, h.positives)) == 0.585833
    curve = metrics.radius_curve(h)
    columns = [
        curve.micro_precision,
        curve.micro_recall,
        curve.macro_precision("zero"),
        curve.macro_precision("skip"),
        curve.macro_recall,
        curve.coverage,
    ]
    assert np.round(np.stack(columns, axis=1), 6).tolist() == [
        [1.0, 0.2, 0.5, 1.0, 0.166667, 0.5],
        [0.333333, 0.4, 0.25, 0.25, 0.333333, 1.0],
        [0.416667, 1.0, 0.416667, 0.416667, 1.0, 1.0],
    ]
    values, answered = metrics.precision_within(h, 0)
    assert values.tolist() == [1.0, 0.0]
    assert answered.tolist() == [True, False]


def test_c_pairs():
    scores = np.array([[0.2, 0.9, 0.5, 0.1], [0.8, 0.3, 0.3, 0.4]])
    image, caption = [0, 1], [0, 0, 1, 1]
    names = ["hit@1", "hit@2", "rank", "rank.median", "rank.floor"]
    forward = metrics.measure_scores(scores, metrics.pair(image, caption), names)
    assert forward.per_query["rank"].tolist() == [1, 2]
    assert [forward.value(name) for name in names] == [0.5, 1.0, 1.5, 1.5, 1.0]
    backward = metrics.measure_scores(scores.T, metrics.pair(caption, image), names)
    assert backward.per_query["rank"].tolist() == [2, 1, 2, 1]
    assert [backward.value(name) for name in names[:2]] == [0.5, 1.0]


def test_d_constant_scores():
    result = metrics.measure_scores(np.zeros((1, 100)), metrics.pair([7], range(100)), ["hit@1", "hit@10", "rank"])
    assert [round(result.value(name), 12) for name in result.per_query] == [0.01, 0.1, 50.5]


def test_e_three_tied_items():
    assert printed(metrics.ap(binary([(3, 1)]))) == printed(metrics.chance_ap(3, 1)) == 0.611111
    assert printed(metrics.ap(binary([(3, 2)]))) == printed(metrics.chance_ap(3, 2)) == 0.805556


def test_f_unanswerable():
    values = np.array([0.20, 0.30, 0.30, 0.32, 0.0])
    positives = np.array([1, 1, 1, 1, 0])
    skip, zero = (
        metrics.Measurement("a->b", rule, {"map": values}, positives, np.full(5, 9), None).value("map")
        for rule in ("skip", "zero")
    )
    assert printed(skip) == 0.280
    assert printed(zero) == 0.224
    assert zero == pytest.approx(skip * 4 / 5, abs=1e-15)


@pytest.mark.parametrize(("seeds", "smallest"), [(3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_h_sign_flip(seeds, smallest):
    assert metrics.sign_flip_test(np.linspace(0.01, 0.02, seeds)) == smallest
    assert metrics.sign_flip_test([0.01] * (seeds - 1) + [-0.01]) > smallest
