"""Kernels against pair-by-pair counting; shards, order, blocks and threads change nothing."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from amodal import metrics
from amodal.codes import BinaryCodes, Embeddings
from amodal.errors import UsageError
from amodal.metrics import distances, scores
from tests.metrics.cases import codes_at, labels_sharing, random_codes, random_labels
from tests.oracles.rankings import hamming_histograms

BITS = [1, 7, 8, 16, 64, 127, 128, 256, 2048]
CLASSES = [1, 24, 64, 65, 255, 300]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("classes", CLASSES)
def test_counts_equal_the_oracle_bit_for_bit(bits, classes):
    generator = np.random.default_rng(bits * 1000 + classes)
    queries, database = random_codes(generator, 3, bits), random_codes(generator, 21, bits)
    query_labels, labels = random_labels(generator, 3, classes), random_labels(generator, 21, classes)
    expected = np.array(hamming_histograms(queries.signs(), database.signs(), query_labels, labels))

    rule = metrics.share_label(query_labels, labels)
    counted = metrics.histograms(metrics.rank(queries, database, rule))
    assert np.array_equal(counted.counts, np.stack([expected[:, 0], expected[:, 1:].sum(axis=1)], axis=1))

    graded = metrics.histograms(metrics.rank(queries, database, rule.graded())).counts
    assert np.array_equal(graded, expected[:, : graded.shape[1]])
    assert not expected[:, graded.shape[1] :].any()


def test_more_than_255_shared_labels():
    rule = metrics.share_label(np.ones((1, 300), int), labels_sharing([300, 256, 0], 300)).graded()
    h = metrics.histograms(metrics.rank(codes_at([0], 2), codes_at([0, 1, 2], 2), rule))
    assert np.argwhere(h.counts[0]).tolist() == [[0, 2], [256, 1], [300, 0]]


def test_counters_hold_a_long_stretch_of_equal_keys():
    """131,070 and more equal keys: the 16-bit pair counters are emptied in time."""
    items = 300_001
    database = BinaryCodes(np.zeros((items, 1), np.uint8), 8)
    rule = metrics.same_label([0], np.zeros(items, int))
    assert metrics.histograms(metrics.rank(database[:1], database, rule)).counts[0, 1].tolist() == [items] + [0] * 8


def test_sparse_and_dense_labels_agree():
    generator = np.random.default_rng(0)
    labels = random_labels(generator, 50, 19)
    assert np.array_equal(metrics.pack_labels(labels), metrics.pack_labels(sparse.csr_array(labels)))
    assert np.array_equal(metrics.pack_labels(labels), metrics.pack_labels(sparse.coo_matrix(labels.astype(float))))
    assert np.array_equal(np.unpackbits(metrics.pack_labels(labels), axis=1, count=19, bitorder="little"), labels)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 140), cut=st.integers(1, 29))
def test_shards_and_permutations_change_nothing(seed, bits, cut):
    generator = np.random.default_rng(seed)
    queries, database = random_codes(generator, 4, bits), random_codes(generator, 30, bits)
    query_labels, labels = random_labels(generator, 4, 9), random_labels(generator, 30, 9)

    def count(rows):
        rule = metrics.share_label(query_labels, labels[rows]).graded()
        return metrics.histograms(metrics.rank(queries, database[rows], rule))

    whole = count(np.arange(30))
    for other in (count(np.arange(cut)) + count(np.arange(cut, 30)), count(generator.permutation(30))):
        grades = max(other.counts.shape[1], whole.counts.shape[1])
        padded = [np.pad(h.counts, ((0, 0), (0, grades - h.counts.shape[1]), (0, 0))) for h in (whole, other)]
        assert np.array_equal(*padded)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 40))
def test_properties_of_average_precision(seed, bits):
    generator = np.random.default_rng(seed)
    signs = 2 * generator.integers(0, 2, (24, bits)) - 1
    labels = random_labels(generator, 24, 3, density=0.3)

    def ap(signs, labels, ties="average"):
        codes = BinaryCodes.from_signs(signs)
        rule = metrics.share_label(labels[:4], labels[4:])
        return metrics.ap(metrics.histograms(metrics.rank(codes[:4], codes[4:], rule)), ties)

    average = ap(signs, labels)
    assert (ap(signs, labels, "pessimistic") <= average + 1e-12).all()
    assert (average <= ap(signs, labels, "optimistic") + 1e-12).all()

    flipped = signs.copy()
    flipped[:, int(generator.integers(bits))] *= -1
    assert np.array_equal(ap(flipped, labels), average)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_irrelevant_items_behind_the_last_relevant_one_change_no_ap(seed):
    generator = np.random.default_rng(seed)
    near = generator.integers(0, 4, 12)
    relevant = np.append(generator.integers(0, 2, 11), 1)

    def ap(distances, relevant):
        rule = metrics.same_label([1], relevant)
        return metrics.ap(metrics.histograms(metrics.rank(codes_at([0], 8), codes_at(distances, 8), rule)))[0]

    more = np.append(near, generator.integers(4, 9, 7))
    assert ap(more, np.append(relevant, np.zeros(7, int))) == pytest.approx(ap(near, relevant), abs=1e-14)


@pytest.fixture(params=["codes", "embeddings"])
def sides(request):
    """Queries, database and labels of both, with many ties."""
    generator = np.random.default_rng(5)
    labels = random_labels(generator, 124, 5)
    if request.param == "codes":
        codes = random_codes(generator, 124, 12)
    else:
        codes = Embeddings.from_vectors(generator.integers(-2, 3, (124, 3)) + 0.5)
    return codes[:23], codes[23:], labels[:23], labels[23:]


@pytest.fixture
def tiny_blocks(monkeypatch):
    """Blocks and stretches so small that every loop over them runs several times."""
    monkeypatch.setattr(distances, "_CACHED_PAIRS", 60)
    monkeypatch.setattr(distances, "_STRETCH", 26)
    monkeypatch.setattr(distances, "_CELLS", 90)
    monkeypatch.setattr(distances, "_ORDERED_PAIRS", 250)
    monkeypatch.setattr(scores, "_SORTED_PAIRS", 250)
    monkeypatch.setattr(scores, "_STRETCH", 11)


NAMES = [*(name.replace("@K", "@7") for name in metrics.MEASURES)]


@pytest.mark.parametrize("ties", ["average", "index"])
def test_blocks_and_threads_change_nothing(sides, ties, request):
    queries, database, query_labels, labels = sides
    rule = metrics.share_label(query_labels, labels)
    whole = metrics.measure(queries, database, rule, NAMES, ties=ties)
    request.getfixturevalue("tiny_blocks")
    blocks = metrics.measure(queries, database, rule, NAMES, ties=ties)
    threads = metrics.measure(queries, database, rule, NAMES, ties=ties, threads=3)
    assert blocks.summary() == threads.summary()
    for name in NAMES:
        assert np.array_equal(whole.per_query[name], blocks.per_query[name]), name


def test_a_permuted_database_gives_identical_json(sides):
    queries, database, query_labels, labels = sides
    shuffle = np.random.default_rng(0).permutation(len(database))
    results = [
        metrics.measure(queries, database[rows], metrics.share_label(query_labels, labels[rows]), NAMES)
        for rows in (np.arange(len(database)), shuffle)
    ]
    assert json.dumps(results[0].summary()) == json.dumps(results[1].summary())


def test_other_processes_give_identical_numbers(sides):
    queries, database, query_labels, labels = sides
    whole = metrics.measure(queries, database, metrics.share_label(query_labels, labels), NAMES)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        halves = [
            pool.submit(
                metrics.measure, queries[rows], database, metrics.share_label(query_labels[rows], labels), NAMES
            ).result()
            for rows in (slice(0, 9), slice(9, 23))
        ]
    for name in NAMES:
        assert np.array_equal(np.concatenate([half.per_query[name] for half in halves]), whole.per_query[name]), name


def test_histograms_over_other_things_are_not_added():
    generator = np.random.default_rng(0)
    rule = metrics.same_label([0, 1], [0, 1, 1])
    short = metrics.histograms(metrics.rank(random_codes(generator, 2, 8), random_codes(generator, 3, 8), rule))
    long = metrics.histograms(metrics.rank(random_codes(generator, 2, 9), random_codes(generator, 3, 9), rule))
    scored = metrics.histograms(metrics.rank_scores(np.zeros((2, 3)), rule))
    with pytest.raises(UsageError, match="same queries, code length"):
        short + long
    with pytest.raises(UsageError, match="Split the queries"):
        scored + scored
