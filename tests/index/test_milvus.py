"""What only the index in Milvus has: its addresses, its failures, and the limits of the server."""

import asyncio
import json
import sys
from urllib.parse import urlsplit

import numpy as np
import pytest

import amodal.index
from amodal.codes import Embeddings
from amodal.errors import DataError, IndexUnavailable, MissingExtra, UsageError
from amodal.index import Field, IndexSpec
from amodal.index.milvus_address import Address
from amodal.index.milvus_expression import to_expression
from tests.index.servers import drop_collections, relayed
from tests.oracles.nearest import hamming, nearest

SPEC = IndexSpec("binary", bits=64, attributes={"year": "int", "tag": "str", "weight": "float"})
LARGE = 2**62 + 1


@pytest.fixture
def base(milvus):
    yield milvus
    drop_collections(milvus)


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    monkeypatch.delitem(sys.modules, "amodal.index.milvus", raising=False)
    with pytest.raises(MissingExtra, match=r'pip install "amodal\[milvus\]"'):
        amodal.index.open("milvus://host/photos")


def test_addresses():
    full = Address.parsed("milvus://me:s%40cret@db.example/photos?consistency=strong&database=shop&timeout=5&tls=yes")
    assert full.uri == "https://db.example:19530"
    assert full.login == {"user": "me", "password": "s@cret", "db_name": "shop"}
    assert (full.collection, full.strong, full.timeout) == ("photos", True, 5)
    assert full.place == "milvus://db.example:19530/photos"
    assert Address.parsed("milvus://h:1/c").login == {}


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("", "host '127.0.0.1' and collection ''"),
        ("/a-b", "collection 'a-b'"),
        ("/a/b", "letters, digits and _"),
        (":port/a", "host None"),
        ("/a?consistncy=strong", 'Did you mean "consistency"'),
        ("/a?consistency=sometimes", "Known: own, strong"),
        ("/a?timeout=soon", "number of seconds; got 'soon'"),
    ],
)
def test_addresses_that_are_refused(rest, words):
    with pytest.raises(UsageError, match=words) as caught:
        amodal.index.open("milvus://me:secret@127.0.0.1" + rest)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there(caplog):
    with pytest.raises(IndexUnavailable, match=r"cannot be reached.*Check that it runs"):
        amodal.index.open("milvus://127.0.0.1:1/photos?timeout=1")
    assert not caplog.records  # the client would print a traceback


def test_a_server_that_has_just_come_back_is_away_and_a_wrong_request_is_not():
    from pymilvus import MilvusException

    from amodal.index.milvus import _is_absence

    for words in ("collection not loaded[collection=47]", "service not ready[standalone=Initializing]"):
        assert _is_absence(MilvusException(101, f"failed to search: {words}"))
    assert not _is_absence(MilvusException(65535, "cannot parse expression: a ==, error: invalid expression"))


def test_values_are_written_as_the_grammar_reads_them():
    kinds = {"tag": "str", "year": "int", "weight": "float"}
    text = 'a"b\\c\nd ✓ == 1 or id >= 0'
    written = to_expression(Field("tag") == text, kinds)
    literal = written.removeprefix("(value_tag == ").removesuffix(" and has_tag == true)")
    assert json.loads(literal) == text
    assert "\n" not in written
    for where, inner in (
        (Field("year") == 1.5, "id < 0"),
        (Field("year") < 1.5, "value_year < 2"),
        (Field("year") <= 1.5, "value_year <= 1"),
        (Field("year") > -1.5, "value_year > -2"),
        (Field("year") >= -1.5, "value_year >= -1"),
        (Field("year") < 1e300, "id >= 0"),
        (Field("year") > 1e300, "id < 0"),
        (Field("year") == -(2**63), "value_year < -9223372036854775807"),
        (Field("year") > -(2**63), "not (value_year < -9223372036854775807)"),
        (Field("weight") < 2, "value_weight < 2.0"),
        (Field("weight") < float("inf"), "id >= 0"),
        (Field("weight") == float("-inf"), "id < 0"),
    ):
        assert to_expression(where, kinds) == f"({inner} and has_{where.attribute} == true)"


@pytest.mark.service
def test_odd_values_are_found_and_only_they(base):
    texts = [
        'o"dd',
        "back\\slash",
        "new\nline\t\x01",
        "Ärmel ✓ 😀",
        "it's",
        "",
        "\0z",
        '" or id >= 0 or value_tag == "',
    ]
    years = [-(2**63), 2**63 - 1, LARGE, LARGE + 1, 0, 1, 2, 3]
    weights = [1e308, -1e308, 5e-324, -0.1, 0.1, 1e22, 0.0, -1.5]
    with amodal.index.open(base + "odd", create=SPEC) as index:
        index.add(range(8), np.zeros((8, 8), np.uint8), {"tag": texts, "year": years, "weight": weights})
        for name, values in (("tag", texts), ("year", years), ("weight", weights)):
            assert [index.ids(Field(name) == value).tolist() for value in values] == [[n] for n in range(8)]
            assert [index.ids(Field(name).isin([value])).tolist() for value in values] == [[n] for n in range(8)]
        assert [entry.attributes["tag"] for entry in index.get(range(8))] == texts
        assert index.ids(Field("year") > float(2**62)).tolist() == [1, 2, 3]


@pytest.mark.service
def test_what_the_server_would_refuse_or_lose_is_refused_before_anything_is_written(base):
    with amodal.index.open(base + "limits", create=SPEC) as index:
        codes = np.zeros((10_001, 8), np.uint8)
        for ids, attributes, words in (
            ([*range(10_000), 2**63 - 1], {}, "cannot be found again"),
            (range(10_001), {"tag": ["x"] * 10_000 + ["ü" * 32_768]}, "beyond the 65535 bytes"),
            (range(10_001), {"weight": [0.0] * 10_000 + [float("inf")]}, "cannot be asked for"),
        ):
            with pytest.raises(DataError, match=words):
                index.add(ids, codes, attributes)
        assert index.count() == 0
        index.add([10_000], codes[:1])
        with pytest.raises(DataError, match="id 10000 exists already"):
            index.add(range(10_001), codes)  # in the second request
        assert index.ids().tolist() == [10_000]
        with pytest.raises(UsageError, match="at most 16384 entries; got k=16385"):
            index.search(codes[:1], 16_385)
    with pytest.raises(UsageError, match="ASCII"):
        amodal.index.open(base + "names", create=IndexSpec("binary", bits=8, attributes={"größe": "int"}))


@pytest.mark.service
def test_more_ties_than_the_server_returns_at_once(base):
    rng = np.random.default_rng(0)
    vectors = rng.integers(0, 256, (40_000, 8), np.uint8)
    vectors[100:] = vectors[99]
    ids = rng.permutation(10**6)[:40_000]
    query = vectors[99:100] ^ np.array([255, 0, 0, 0, 0, 0, 0, 0], np.uint8)  # all but a few are 8 bits away
    with amodal.index.open(base + "ties", create=SPEC) as index:
        index.add(ids, vectors)
        for k in (10, 16_384):
            hits = index.search(query, k)
            np.testing.assert_array_equal(hits.ids, nearest(hamming(query, vectors), ids, k)[0])
        np.testing.assert_array_equal(index.ids(), np.sort(ids))  # more than one page


@pytest.mark.service
def test_embeddings_have_the_distances_of_the_index_in_a_folder(base):
    rng = np.random.default_rng(1)
    vectors = Embeddings.from_vectors(rng.standard_normal((3000, 33)))
    spec = IndexSpec("float", dim=33)
    with amodal.index.open(base + "same", create=spec) as index, amodal.index.open("memory:", create=spec) as flat:
        for one in (index, flat):
            one.add(range(3000), vectors)
        for radius in (None, 0.7):
            ours, theirs = (one.search(vectors[:20], 100, radius=radius) for one in (index, flat))
            np.testing.assert_array_equal(ours.ids, theirs.ids)
            np.testing.assert_array_equal(ours.distances, theirs.distances)


@pytest.mark.service
def test_somebody_elses_collection_is_left_alone(base):
    import pymilvus

    client = pymilvus.MilvusClient(uri=base.replace("milvus:", "http:").rstrip("/"))
    client.create_collection("orders", dimension=8)
    client.close()
    with pytest.raises(UsageError, match="is no index; choose another name"):
        amodal.index.open(base + "orders", create=SPEC)


@pytest.mark.service
def test_a_server_that_goes_away(base):
    there = urlsplit(base)
    with relayed(lambda: asyncio.open_connection(there.hostname, there.port)) as port:
        index = amodal.index.open(f"milvus://127.0.0.1:{port}/away?timeout=3", create=SPEC)
        index.add([1], np.zeros((1, 8), np.uint8))
    calls = [index.count, lambda: index.search(np.zeros((1, 8), np.uint8), 1), lambda: index.delete([1])]
    for call in calls:
        with pytest.raises(IndexUnavailable, match=r"cannot be reached.*repeat it as an upsert"):
            call()
    index.close()
