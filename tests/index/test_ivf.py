"""The inverted file: nearly what the exact scan finds, never fewer entries, and derived from what the folder holds."""

import numpy as np
import pytest

import amodal.index
from amodal.errors import DataError, UsageError
from amodal.index import IndexSpec
from amodal.index.recall import recall
from tests.oracles.nearest import hamming, nearest

SPEC = IndexSpec("binary", bits=64, attributes={"year": "int"})


def clustered(rng, n):
    """Codes around 300 centres."""
    centres = rng.random((300, 64)) < 0.5
    return np.packbits(centres[rng.integers(0, 300, n)] ^ (rng.random((n, 64)) < 0.12), axis=1)


@pytest.fixture
def held(tmp_path):
    """A folder with 20,000 clustered codes, its address with 128 cells, and the codes."""
    vectors = clustered(np.random.default_rng(0), 20_000)
    with amodal.index.open(str(tmp_path / "codes"), create=SPEC) as index:
        index.add(range(20_000), vectors, {"year": np.arange(20_000) % 1000})
        index.flush()
    return f"file:{tmp_path / 'codes'}?ivf=128", vectors


def test_most_of_the_nearest_are_found_in_the_right_order(held):
    url, vectors = held
    with amodal.index.open(url) as index, amodal.index.open(url.partition("?")[0], readonly=True) as exact:
        assert not index.exact
        measured = recall(index, exact, k=50, queries=100)
        assert 0.95 <= measured.recall < 1  # 1 would mean that all was scanned
        assert measured.worst <= measured.recall
        assert (measured.queries, measured.k) == (100, 50)
        hits = index.search(vectors[:20], 50)  # whose order Hits has checked
        np.testing.assert_array_equal(hits.distances[:, 0], 0)
        for query in range(20):
            np.testing.assert_array_equal(
                hits.distances[query], hamming(vectors[query : query + 1], vectors[hits.ids[query]])[0]
            )


def test_with_all_cells_the_answer_is_the_exact_one(held):
    url, vectors = held
    expected = nearest(hamming(vectors[:10], vectors), np.arange(20_000), 300)[0]
    with amodal.index.open(url + "&probes=128", readonly=True) as index:
        np.testing.assert_array_equal(index.search(vectors[:10], 300).ids, expected)


def test_filters_and_radius_and_large_k_lose_nothing(held):
    url, vectors = held
    with amodal.index.open(url) as index:
        assert index.search(vectors[:5], 100, where="year == 7").found.tolist() == [20] * 5
        assert index.search(vectors[:2], 20_005).found.tolist() == [20_000] * 2
        within = (hamming(vectors[:5], vectors) <= 12).sum(axis=1)
        assert index.search(vectors[:5], 10_000, radius=12).found.tolist() == within.tolist()


def test_writes_are_seen_and_cells_are_made_anew(held, tmp_path):
    url, vectors = held
    with amodal.index.open(url) as index:
        index.search(vectors[:1], 1)
        (first,) = (tmp_path / "codes").glob("cells-*")
        index.upsert([50_000, 3], vectors[[100, 200]])
        index.delete([100])
        for _ in range(2):
            assert index.search(vectors[100:101], 1).ids.tolist() == [[50_000]]
            assert 3 in index.search(vectors[200:201], 3).ids
            index.flush()
        (second,) = (tmp_path / "codes").glob("cells-*")
        assert second != first
    second.write_bytes(second.read_bytes()[:1000])
    with amodal.index.open(url) as index:
        assert index.search(vectors[100:101], 1).ids.tolist() == [[50_000]]
    with amodal.index.open(url.partition("?")[0]) as index:
        assert index.exact
        assert index.count() == 20_000


def test_the_file_of_cells_is_used(held, tmp_path, monkeypatch):
    url, vectors = held
    with amodal.index.open(url) as index:
        found = index.search(vectors[:5], 20).ids
    monkeypatch.setattr("amodal.index.cells._learned", lambda *_: pytest.fail("learned again"))
    with amodal.index.open(url, readonly=True) as index:
        np.testing.assert_array_equal(index.search(vectors[:5], 20).ids, found)


def test_few_codes_are_all_scanned(tmp_path):
    with amodal.index.open(f"file:{tmp_path / 'few'}?ivf=64", create=SPEC) as index:
        assert index.search(np.zeros((1, 8), np.uint8), 3).found == 0
        vectors = clustered(np.random.default_rng(1), 200)
        index.add(range(200), vectors)
        index.flush()
        expected = nearest(hamming(vectors[:3], vectors), np.arange(200), 10)[0]
        np.testing.assert_array_equal(index.search(vectors[:3], 10).ids, expected)


def test_what_has_no_cells(tmp_path):
    with pytest.raises(UsageError, match="is for codes"):
        amodal.index.open(f"file:{tmp_path / 'f'}?ivf=8", create=IndexSpec("float", dim=4))
    amodal.index.open(str(tmp_path / "f")).close()  # the refusal released it
    with amodal.index.open("memory:", create=SPEC) as empty, pytest.raises(DataError, match="at least two"):
        recall(empty, empty)
