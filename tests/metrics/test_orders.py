"""Parity with sorting: stable order, scikit-learn on tie-free and tied scores, scores that no block can change."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from amodal import metrics
from amodal.codes import BinaryCodes, Embeddings
from amodal.metrics.scores import cosine
from tests.metrics.cases import random_codes, random_labels
from tests.oracles import rankings as oracle


def _distances(queries, database):
    return (queries.bits - queries.signs().astype(int) @ database.signs().T.astype(int)) // 2


@pytest.mark.parametrize("bits", [4, 16, 200])
def test_index_is_the_stable_argsort(bits):
    generator = np.random.default_rng(bits)
    queries, database = random_codes(generator, 6, bits), random_codes(generator, 80, bits)
    query_labels, labels = random_labels(generator, 6, 6), random_labels(generator, 80, 6)
    shared = query_labels.astype(int) @ labels.T
    rule = metrics.share_label(query_labels, labels).graded()
    h = metrics.histograms(metrics.rank(queries, database, rule), ties="index")
    order = np.argsort(_distances(queries, database), axis=1, kind="stable")
    rankings = np.take_along_axis(shared, order, axis=1).tolist()
    assert np.allclose(metrics.ap(h), [oracle.ap(r) for r in rankings], rtol=0, atol=1e-14)
    assert np.allclose(metrics.ap(h), metrics.ap(h, "optimistic"), rtol=0, atol=1e-14)
    assert np.allclose(metrics.ndcg_at(h, 10, "exp"), [oracle.ndcg_at(r, 10, "exp") for r in rankings], atol=1e-14)
    assert np.allclose(metrics.hit_at(h, 3), [oracle.hit_at(r, 3) for r in rankings], atol=1e-14)
    assert np.array_equal(metrics.first_rank(h), [oracle.first_rank(r) for r in rankings])


def test_index_of_scores_is_the_stable_argsort():
    generator = np.random.default_rng(1)
    scores = generator.integers(0, 5, (7, 40)).astype(float)
    relevant = generator.integers(0, 2, (7, 40))
    rule = metrics.judged(relevant, 1)
    h = metrics.histograms(metrics.rank_scores(scores, rule), ties="index")
    order = np.argsort(-scores, axis=1, kind="stable")
    expected = [oracle.ap(r) for r in np.take_along_axis(relevant, order, axis=1)]
    assert np.allclose(metrics.ap(h), expected, rtol=0, atol=1e-14)


def test_average_precision_of_scikit_learn_without_ties():
    generator = np.random.default_rng(2)
    scores, relevant = generator.random((9, 200)), generator.integers(0, 2, (9, 200))
    ours = metrics.measure_scores(scores, metrics.judged(relevant, 1)).per_query["map"]
    theirs = [average_precision_score(truth, row) for truth, row in zip(relevant, scores, strict=True)]
    assert np.allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [1, 5, 30, 60])
def test_ndcg_of_scikit_learn_averages_ties_too(k):
    generator = np.random.default_rng(k)
    scores, grades = generator.integers(0, 8, (9, 60)).astype(float), generator.integers(0, 4, (9, 60))
    ours = metrics.measure_scores(scores, metrics.judged(grades, 1), [f"ndcg@{k}.count", f"ndcg@{k}.exp"])
    assert np.isclose(ours.value(f"ndcg@{k}.count"), ndcg_score(grades, scores, k=k), rtol=0, atol=1e-12)
    assert np.isclose(ours.value(f"ndcg@{k}.exp"), ndcg_score(2.0**grades - 1, scores, k=k), rtol=0, atol=1e-12)


def test_constant_codes_score_exactly_chance():
    generator = np.random.default_rng(3)
    queries = BinaryCodes(np.zeros((20, 8), np.uint8), 64)
    database = BinaryCodes(np.zeros((900, 8), np.uint8), 64)
    rule = metrics.share_label(random_labels(generator, 20, 10), random_labels(generator, 900, 10))
    result = metrics.measure(queries, database, rule)
    assert abs(result.value("map") - result.chance) < 1e-15


def test_random_codes_score_chance_within_sampling_error():
    generator = np.random.default_rng(4)
    labels = random_labels(generator, 2200, 10)
    rule = metrics.share_label(labels[:200], labels[200:])
    values = [
        metrics.measure(random_codes(generator, 200, 32), random_codes(generator, 2000, 32), rule) for _ in range(5)
    ]
    gaps = [result.value("map") - result.chance for result in values]
    assert abs(np.mean(gaps)) < 0.005


def test_a_pair_has_one_cosine_whatever_the_block_and_the_order():
    generator = np.random.default_rng(5)
    queries = Embeddings.from_vectors(generator.normal(size=(9, 300)))
    database = Embeddings.from_vectors(generator.normal(size=(500, 300)))
    whole = cosine(queries, database)(slice(0, 9))
    shuffle, columns = generator.permutation(500), generator.permutation(300)
    again = cosine(
        Embeddings(np.ascontiguousarray(queries.vectors[:, columns])),
        Embeddings(np.ascontiguousarray(database.vectors[shuffle][:, columns])),
    )
    assert np.array_equal(np.concatenate([again(slice(i, i + 1)) for i in range(9)]), whole[:, shuffle])
    exact = queries.vectors.astype(np.float64) @ database.vectors.T.astype(np.float64)
    assert np.abs(whole - exact).max() < 1e-7


def test_equal_embeddings_are_tied():
    vectors = Embeddings.from_vectors([[1.0, 2.0, 3.0]] * 3)
    values = metrics.average_precision(vectors[:1], vectors, [[1]], [[1], [0], [0]])
    assert values[0] == pytest.approx(0.611111, abs=1e-6)


def test_embeddings_and_codes_agree_where_they_say_the_same():
    generator = np.random.default_rng(6)
    codes = random_codes(generator, 60, 16)  # +-1 vectors over 4 are exact: cosine = 1 - distance / 8
    vectors = Embeddings.from_vectors(codes.signs())
    labels = random_labels(generator, 60, 4)
    by_distance = metrics.average_precision(codes[:10], codes[10:], labels[:10], labels[10:])
    by_cosine = metrics.average_precision(vectors[:10], vectors[10:], labels[:10], labels[10:])
    assert np.allclose(by_distance, by_cosine, rtol=0, atol=1e-14)
