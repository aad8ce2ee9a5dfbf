"""The conformance suite of indexes: every backend must answer exactly as a full scan with a full sort does.

A new backend adds one row to BACKENDS in tests/index/backends.py, and its scheme may then be registered.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import amodal.index
from amodal.codes import BinaryCodes, Embeddings
from amodal.errors import AmodalError, DataError, IndexMismatch, ShapeError, UsageError
from amodal.index import Field, IndexSpec, id_of
from tests.index.backends import BACKENDS
from tests.oracles.nearest import hamming, nearest

ATTRIBUTES = {"modality": "str", "year": "int", "weight": "float", "public": "bool", "kinds": "texts"}


@pytest.fixture
def make(backend, tmp_path):
    """Makes an index; closed after the test."""
    opened = []

    def make(bits=64, **spec):
        place = tmp_path / str(len(opened))
        place.mkdir()
        size = {"dim": spec.pop("dim")} if "dim" in spec else {"bits": bits}
        kind = "float" if "dim" in size else "binary"
        opened.append(amodal.index.open(backend.url(place), create=IndexSpec(kind, **size, **spec)))
        return opened[-1]

    yield make
    for index in opened:
        index.close()


def codes(rng, n, bits=64):
    """Random packed codes around a few centres, so that distances repeat."""
    centres = rng.random((20, bits)) < 0.5
    signs = centres[rng.integers(0, 20, n)] ^ (rng.random((n, bits)) < 0.15)
    return np.packbits(signs, axis=1)


def some_ids(rng, n):
    """Unique ids far apart, in random order."""
    return rng.permutation(np.unique(rng.integers(0, 2**62, 2 * n + 8))[:n])


def assert_same(hits, expected):
    ids, distances, found = expected
    np.testing.assert_array_equal(hits.found, found)
    np.testing.assert_array_equal(hits.ids, ids)
    np.testing.assert_array_equal(hits.distances, distances)


def fill(index, ids, vectors, attributes=None):
    """Write in three steps, so that old and recent writes are both there when a backend tells them apart."""
    for step in np.array_split(np.arange(len(ids)), 3):
        part = {name: values[step] for name, values in (attributes or {}).items()}
        index.add(ids[step], vectors[step], part)
        if len(step) and step[0] == 0:
            index.flush()


def test_every_registered_scheme_is_in_this_suite():
    assert sorted(BACKENDS) == amodal.index.schemes()


# 1. ids and order


@pytest.mark.parametrize("bits", [16, 32, 64, 128, 256, 2048])
def test_ids_and_order_equal_those_of_a_full_sort(make, bits):
    rng = np.random.default_rng(bits)
    ids, vectors, queries = some_ids(rng, 10_000), codes(rng, 10_000, bits), codes(rng, 3, bits)
    index = make(bits)
    held = 0
    for n in (0, 1, 99, 10_000):
        if n > 99:
            fill(index, ids[held:n], vectors[held:n])
        else:
            index.add(ids[held:n], vectors[held:n])
        held = n
        distances = hamming(queries, vectors[:n])
        for k in {1, 10, 100, max(n, 1), n + 5}:
            hits = index.search(queries, k)
            assert hits.ids.dtype == np.int64
            assert hits.distances.dtype == np.int32
            assert_same(hits, nearest(distances, ids[:n], k))


@pytest.mark.parametrize("bits", [1, 12, 65, 100])
def test_lengths_that_are_no_multiple_of_eight(make, bits):
    rng = np.random.default_rng(bits)
    vectors = BinaryCodes.from_signs(rng.random((500, bits)) < 0.5)
    index = make(bits)
    index.add(range(500), vectors)
    assert_same(index.search(vectors[:4], 20), nearest(hamming(vectors.packed[:4], vectors.packed), np.arange(500), 20))
    assert index.spec.bits == bits


@pytest.mark.parametrize("dim", [16, 64, 256])
def test_order_of_embeddings_whose_distances_are_exact_in_float32(make, dim):
    rng = np.random.default_rng(dim)
    ids, packed = some_ids(rng, 2000), codes(rng, 2000, dim)
    signs = 2.0 * np.unpackbits(packed, axis=1) - 1
    vectors = Embeddings((signs / np.sqrt(dim)).astype(np.float32))  # 1 - cos = 2 * Hamming / dim, a binary fraction
    index = make(dim=dim)
    fill(index, ids, vectors)
    hits = index.search(vectors[:3], 50)
    ids_expected, distances, found = nearest(hamming(packed[:3], packed), ids, 50)
    assert hits.distances.dtype == np.float32
    assert_same(hits, (ids_expected, 2 * distances / dim, found))


def test_embeddings_of_any_direction(make):
    rng = np.random.default_rng(0)
    vectors = Embeddings.from_vectors(rng.standard_normal((800, 33)))
    ids = some_ids(rng, 800)
    index = make(dim=33)
    fill(index, ids, vectors)
    exact = 1 - vectors.vectors[:5].astype(np.float64) @ vectors.vectors.T.astype(np.float64)
    hits = index.search(vectors[:5], 40)
    expected, distances, _ = nearest(exact, ids, 40)
    np.testing.assert_array_equal(hits.ids, expected)
    np.testing.assert_allclose(hits.distances, distances, atol=1e-6)
    assert (hits.distances >= 0).all()
    single = [index.search(vectors[q], 40) for q in range(5)]
    np.testing.assert_array_equal(hits.distances, np.concatenate([one.distances for one in single]))
    assert index.search(vectors[:1], 1000).distances[0, 800] == np.inf


# 2. ties


@pytest.mark.parametrize("order", ["random", "descending"])
@pytest.mark.parametrize("different", [1, 3])
def test_ties_go_to_the_smaller_ids(make, order, different):
    rng = np.random.default_rng(different)
    ids = np.sort(some_ids(rng, 10_000))
    ids = rng.permutation(ids) if order == "random" else ids[::-1]
    few = codes(rng, different)
    vectors = few[rng.integers(0, different, 10_000)]
    index = make()
    fill(index, ids, vectors)
    for k in (1, 7, 4000):
        assert_same(index.search(few, k), nearest(hamming(few, vectors), ids, k))


def test_equal_embeddings_are_equally_far_wherever_they_are_stored(make):
    rng = np.random.default_rng(1)
    same = Embeddings.from_vectors(rng.standard_normal((1, 77)))
    index = make(dim=77)
    ids = some_ids(rng, 3000)
    fill(index, ids, same[np.zeros(3000, int)])
    hits = index.search(Embeddings.from_vectors(rng.standard_normal((3, 77))), 100)
    np.testing.assert_array_equal(hits.ids, np.tile(np.sort(ids)[:100], (3, 1)))


def test_the_same_question_has_the_same_answer(make):
    rng = np.random.default_rng(2)
    vectors = codes(rng, 3000)
    index = make()
    index.add(range(3000), vectors)
    first, second = index.search(vectors[:50], 30), index.search(vectors[:50], 30)
    np.testing.assert_array_equal(first.ids, second.ids)
    one_by_one = np.concatenate([index.search(vectors[q : q + 1], 30).ids for q in range(50)])
    np.testing.assert_array_equal(first.ids, one_by_one)


# 3. filters


def test_a_filter_loses_nothing(make):
    rng = np.random.default_rng(3)
    ids, vectors, queries = some_ids(rng, 8000), codes(rng, 8000), codes(rng, 4)
    index = make(attributes=ATTRIBUTES)
    share = {"half": 0.5, "a tenth": 0.1, "a thousandth": 0.001, "the rest": 0.399}
    tags = rng.permutation(np.repeat(np.array([*share], object), [round(8000 * part) for part in share.values()]))
    fill(index, ids, vectors, {"modality": tags})
    for tag in [*share, "none at all"]:
        chosen = tags == tag
        where = Field("modality") == tag
        for radius in (None, 20):
            reach = np.inf if radius is None else radius
            expected = nearest(hamming(queries, vectors[chosen]), ids[chosen], 100, reach)
            for _ in range(2):  # the second time the backend may remember
                assert_same(index.search(queries, 100, where=where, radius=radius), expected)
        assert index.count(where) == chosen.sum()
        np.testing.assert_array_equal(index.ids(where), np.sort(ids[chosen]))


def test_filters_see_later_writes(make):
    rng = np.random.default_rng(4)
    vectors = codes(rng, 100)
    index = make(attributes=ATTRIBUTES)
    index.add(range(100), vectors, {"year": 1})
    index.flush()
    assert index.search(vectors[:1], 200, where="year == 1").found == 100
    index.upsert([5, 6], vectors[5:7], {"year": 2})
    index.delete([7])
    index.add([1000], vectors[:1], {"year": 1})
    assert index.search(vectors[:1], 200, where="year == 1").found == 98
    np.testing.assert_array_equal(np.sort(index.search(vectors[:1], 200, where="year == 2").ids[0, :2]), [5, 6])
    index.flush()
    assert index.search(vectors[:1], 200, where="year == 1").found == 98


YEARS = [None, 1980, 1990, 1990, 2000]
TAGS = ["red", None, "blue", 'o"dd; DROP', "Red"]
KINDS = [("cat", "dog"), ("catalogue",), None, ('o"dd\\, %', "Übel", "cat"), ()]


FILTERS = [
    ("year == 1990", {2, 3}),
    ("year != 1990", {0, 1, 4}),
    ("year < 1990", {1}),
    ("not year < 1990", {0, 2, 3, 4}),
    ("year <= 1990", {1, 2, 3}),
    ("year > 1990", {4}),
    ("year >= 1990.5", {4}),
    ("1980 < year <= 2000", {2, 3, 4}),
    ("year == None", {0}),
    ("year != None", {1, 2, 3, 4}),
    ("year in [1980, 2000]", {1, 4}),
    ("year in [1980, None]", {0, 1}),
    ("year not in [1980, 2000]", {0, 2, 3}),
    ("year in []", set()),
    ('modality == "red" or year == 2000', {0, 4}),
    ('modality != "red" and not (year == 2000 or year == 1980)', {2, 3}),
    (Field("modality") == 'o"dd; DROP', {3}),
    (Field("modality") < "b", {4}),
    (~Field("modality").isin(["red", "blue"]), {1, 3, 4}),
    ({"year": 1990, "modality": ["blue", "red"]}, {2}),
    ({"year": {">=": 1980, "<": 2000}}, {1, 2, 3}),
    ("public == True", {0, 2}),
    ("public < True", {1, 4}),
    ("public in [False, None]", {1, 3, 4}),
    ("weight in [1, 2.5]", {1, 4}),
    ("year == 1990.5 or year == 1980.0", {1}),
    (Field("year") < float("inf"), {1, 2, 3, 4}),
    ("year == -9223372036854775808 or year > 9223372036854775806", set()),
    ("year >= -9223372036854775808 and not year > 1e300", {1, 2, 3, 4}),
    ("weight > -0.5 and weight < 2", {0, 1}),
    ('"cat" in kinds', {0, 3}),
    ('"cat" in kinds and "dog" not in kinds', {3}),
    ('"cat" not in kinds', {1, 2, 4}),
    ('"Cat" in kinds or "" in kinds', set()),
    (Field("kinds").has('o"dd\\, %'), {3}),
    ({"kinds": {"has": "Übel"}, "year": 1990}, {3}),
    ("kinds == None", {2, 4}),
    ("kinds != None", {0, 1, 3}),
]


def test_what_filters_mean(make):
    index = make(attributes=ATTRIBUTES)
    vectors = codes(np.random.default_rng(5), 5)
    index.add(
        range(5),
        vectors,
        {
            "year": YEARS,
            "modality": TAGS,
            "public": [True, False, True, None, False],
            "weight": [0.0, 1, None, -1.5, 2.5],
            "kinds": KINDS,
        },
    )
    found = {str(where): set(index.ids(where).tolist()) for where, _ in FILTERS}
    assert found == {str(where): matching for where, matching in FILTERS}
    for where, matching in FILTERS:
        assert index.count(where) == len(matching)
        assert set(index.search(vectors[:1], 5, where=where)[0][0].tolist()) == matching


# 4. delete, upsert, add again


def test_delete_and_upsert(make):
    rng = np.random.default_rng(6)
    vectors = codes(rng, 300)
    index = make(attributes=ATTRIBUTES)
    index.add(range(300), vectors, {"year": 1})
    index.flush()
    assert index.delete([1, 2, 3, 1, 999]) == 3
    assert index.delete([1, 2, 3]) == 0
    assert index.count() == 297
    assert not set(index.search(vectors[1:4], 300).ids.ravel().tolist()) & {1, 2, 3}
    index.add([2], vectors[2:3])
    assert index.count() == 298
    assert index.search(vectors[2:3], 1).ids.tolist() == [[2]]
    index.upsert([0, 1], vectors[[299, 298]])
    assert index.count() == 299
    assert index.get([0])[0].attributes["year"] is None
    np.testing.assert_array_equal(index.get([0])[0].vector, vectors[299])
    assert index.search(vectors[299:], 2).ids.tolist() == [[0, 299]]
    assert index.search(vectors[298:299], 2).ids.tolist() == [[1, 298]]
    assert index.delete(range(300)) == 299
    assert index.count() == 0
    assert index.search(vectors[:2], 3).found.tolist() == [0, 0]
    index.flush()
    assert index.search(vectors[:2], 3).found.tolist() == [0, 0]
    index.add(range(300), vectors)
    assert index.search(vectors[:1], 1).ids.tolist() == [[0]]


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "upsert", "upsert", "delete", "flush", "search", "search"]),
        st.lists(st.integers(0, 12), min_size=1, max_size=5, unique=True),
        st.integers(0, 3),
    ),
    max_size=25,
)


def test_any_history_ends_in_the_same_answers_as_a_dictionary(make, backend):
    index = make(8, attributes={"year": "int"})

    @settings(max_examples=backend.histories, deadline=None)
    @given(actions=ACTIONS)
    def holds(actions):
        index.delete(index.ids())
        live_through(index, actions)

    holds()


def live_through(index, actions):
    """Do all actions to an empty index and to a dictionary, and compare the two."""
    few = np.array([[0], [1], [3], [255]], np.uint8)
    model = {}
    for action, ids, value in actions:
        if action == "add" and model.keys() & set(ids):
            with pytest.raises(DataError, match="exists already"):
                index.add(ids, few[[value] * len(ids)], {"year": value})
        elif action in ("add", "upsert"):
            getattr(index, action)(ids, few[[value] * len(ids)], {"year": value})
            model |= dict.fromkeys(ids, value)
        elif action == "delete":
            assert index.delete(ids) == len(model.keys() & set(ids))
            model = {number: kept for number, kept in model.items() if number not in ids}
        elif action == "flush":
            index.flush()
        else:
            for where, among in ((None, model), (f"year == {value}", {i for i in model if model[i] == value})):
                held = np.array(sorted(among), np.int64)
                distances = hamming(few, few[[model[number] for number in held]])
                assert_same(index.search(few, len(ids), where=where), nearest(distances, held, len(ids)))
    assert index.count() == len(model)
    assert index.ids().tolist() == sorted(model)


# 5. duplicates


def test_an_id_twice(make):
    vectors = codes(np.random.default_rng(7), 10)
    index = make()
    with pytest.raises(DataError, match="id 4 occurs more than once"):
        index.add([3, 4, 5, 4], vectors[:4])
    with pytest.raises(DataError, match="'b' occurs more than once"):
        index.upsert(["a", "b", "b"], vectors[:3])
    assert index.count() == 0
    index.add(range(5), vectors[:5])
    with pytest.raises(DataError, match="id 2 exists already; use upsert"):
        index.add([8, 2, 9], vectors[:3])
    assert index.ids().tolist() == [0, 1, 2, 3, 4]
    assert index.search(vectors[:1], 10).found == 5


# 6. radius


def test_radius_is_inclusive(make):
    rng = np.random.default_rng(8)
    vectors = codes(rng, 2000, 128)
    vectors[:50] = vectors[0]
    index = make(128)
    index.add(range(2000), vectors)
    distances = hamming(vectors[:1], vectors)
    levels = np.unique(distances)
    between = next(level + 1 for level in levels if level + 1 not in levels)
    for radius in (0, 128, int(levels[1]), int(between), between + 0.5, 10**6):
        assert_same(index.search(vectors[:1], 300, radius=radius), nearest(distances, np.arange(2000), 300, radius))
    assert index.search(vectors[:1], 100, radius=0).found == 50


def test_radius_of_embeddings_is_inclusive(make):
    vectors = np.zeros((3, 4), np.float32)
    vectors[0, 0] = vectors[1, 1] = 1
    vectors[2, 0] = -1
    index = make(dim=4)
    index.add([1, 2, 3], vectors)
    found = {radius: int(index.search(vectors[:1], 3, radius=radius).found[0]) for radius in (0, 0.999, 1, 1.999, 2)}
    assert found == {0: 1, 0.999: 1, 1: 2, 1.999: 2, 2: 3}


# external ids and attributes


def test_external_ids_and_attributes_come_back(make):
    rng = np.random.default_rng(9)
    vectors = codes(rng, 4)
    index = make(attributes=ATTRIBUTES, lookups=("modality",))
    keys = ["shoe/image", "shoe/text", "Ärmel ✓", ""]
    columns = {"modality": ["image", "text", "ü", None], "weight": 2, "public": True, "kinds": [("b", "a")] * 4}
    index.add(keys, BinaryCodes(vectors, 64), columns)
    found = index.get(index.search(vectors[2:3], 1).ids[0])
    assert found[0].key == "Ärmel ✓"
    assert found[0].id == id_of("Ärmel ✓")
    told = {"modality": "ü", "year": None, "weight": 2.0, "public": True, "kinds": ("b", "a")}
    assert found[0].attributes == told
    assert found[0].attributes["public"] is True
    np.testing.assert_array_equal(found[0].vector, vectors[2])
    assert [entry and entry.key for entry in index.get([*keys, "unknown"])] == [*keys, None]
    assert index.delete(["shoe/text", "unknown"]) == 1
    assert index.get(["shoe/text"]) == [None]


def test_one_number_for_two_external_ids_is_refused(make):
    vectors = codes(np.random.default_rng(10), 2)
    index = make()
    index.add(["a"], vectors[:1])
    for write in (index.add, index.upsert):
        with pytest.raises(DataError, match="have the same number"):
            write([7, id_of("a")], vectors)
    assert index.get(["a"])[0].key == "a"
    assert index.count() == 1


# 9. bad input


def bad_calls(index, good):
    """Calls that must be refused, each with its error and a word of its sentence."""
    nan = np.full((1, 8), np.nan)
    return [
        (lambda: index.add([9], BinaryCodes.from_signs(nan > 0)), ShapeError, "8 bits"),
        (lambda: index.add([9], good[:1].astype(np.int8)), ShapeError, "int8"),
        (lambda: index.add([9], good[0]), ShapeError, "shape"),
        (lambda: index.add([9], good[:1, :7]), ShapeError, "64 bits"),
        (lambda: index.add([9], Embeddings.from_vectors([[1.0]])), ShapeError, "Embeddings"),
        (lambda: index.add([8, 9], good[:1]), ShapeError, "2 ids for 1 vectors"),
        (lambda: index.add([-1], good[:1]), DataError, "from 0"),
        (lambda: index.add([2**63], good[:1]), DataError, "2\\*\\*63"),
        (lambda: index.add([1.5], good[:1]), DataError, "integers"),
        (lambda: index.add(["a", 1], good[:2]), DataError, "strings, or integers"),
        (lambda: index.add("a", good[:1]), DataError, "single text"),
        (lambda: index.add(["\udc80"], good[:1]), DataError, "Unicode"),
        (lambda: index.add([9], good[:1], {"yaer": 1}), UsageError, 'Did you mean "year"'),
        (lambda: index.add([8, 9], good[:2], {"year": [1, "x"]}), DataError, "row 1 holds 'x'"),
        (lambda: index.add([9], good[:1], {"year": True}), DataError, "type int"),
        (lambda: index.add([9], good[:1], {"year": 2**63}), DataError, "64 bits"),
        (lambda: index.add([9], good[:1], {"weight": float("nan")}), DataError, "NaN"),
        (lambda: index.add([8, 9], good[:2], {"year": [1]}), ShapeError, "1 values for 2"),
        (lambda: index.add([9], good[:1], {"modality": "\udc80"}), DataError, "Unicode"),
        (lambda: index.add([9], good[:1], {"kinds": "cat"}), DataError, "type texts"),
        (lambda: index.add([8, 9], good[:2], {"kinds": [("a",), ("b", 3)]}), DataError, "row 1 has 3"),
        (lambda: index.add([9], good[:1], {"kinds": [("\udc80",)]}), DataError, "Unicode"),
        (lambda: index.search(good[:1], 0), UsageError, "at least 1"),
        (lambda: index.search(good[:1], 2.0), UsageError, "integer"),
        (lambda: index.search(good[:1], 1, radius=-1), UsageError, "radius"),
        (lambda: index.search(good[:1], 1, radius=float("nan")), UsageError, "radius"),
        (lambda: index.search(good[:1, :4], 1), ShapeError, "64 bits"),
        (lambda: index.search(good[:1], 1, where="yaer == 1"), UsageError, 'Did you mean "year"'),
        (lambda: index.count(Field("year") == "x"), UsageError, "type int"),
        (lambda: index.ids(where=3), UsageError, "is a Where"),
        (lambda: index.ids(where="kinds == 'cat'"), UsageError, '"..." in kinds'),
        (lambda: index.ids(where="'red' in modality"), UsageError, "one value"),
    ]


def test_bad_input_is_refused_and_nothing_is_written(make):
    good = codes(np.random.default_rng(11), 5)
    index = make(attributes=ATTRIBUTES)
    index.add([1, 2], good[:2])
    for call, error, words in bad_calls(index, good):
        with pytest.raises(error, match=words) as caught:
            call()
        assert isinstance(caught.value, AmodalError)
        assert index.ids().tolist() == [1, 2]
    assert index.search(good[:1], 5).found == 2


def test_bad_embeddings_and_padding_bits_are_refused(make):
    index = make(dim=3)
    unit = np.array([[1, 0, 0]], np.float32)
    for vectors, words in ((unit * np.nan, "row 0"), (unit * 2, "length 2"), (unit[:, :2], "width"), (unit + 0j, "co")):
        with pytest.raises(DataError, match=words):
            index.add([1], vectors)
    assert index.count() == 0
    with pytest.raises(DataError, match="row 1 has a bit set beyond its 12 bits"):
        make(12).add([1, 2], np.array([[255, 240], [255, 241]], np.uint8))


def test_nothing_is_written_by_an_empty_call(make):
    index = make(attributes=ATTRIBUTES)
    index.add([], np.empty((0, 8), np.uint8), {"year": []})
    index.upsert([], np.empty((0, 8), np.uint8))
    assert index.delete([]) == 0
    assert index.get([]) == []
    assert index.search(np.empty((0, 8), np.uint8), 3).ids.shape == (0, 3)
    assert index.count() == 0


def test_a_closed_index_says_so(make):
    index = make()
    index.close()
    index.close()
    for call in (index.count, index.flush, lambda: index.search(np.zeros((1, 8), np.uint8), 1), lambda: index.get([1])):
        with pytest.raises(UsageError, match="closed"):
            call()


# 10. approximate structures


def test_recall_on_clustered_codes(make):
    rng = np.random.default_rng(12)
    vectors, queries = codes(rng, 5000), codes(rng, 50)
    index = make()
    index.add(range(5000), vectors)
    hits = index.search(queries, 100)
    distances = hamming(queries, vectors)
    recall = np.mean(hits.distances <= np.sort(distances, axis=1)[:, 99:100])
    assert recall == 1 if index.exact else recall >= 0.95


# opening again


def test_what_was_written_is_there_after_opening_again(durable, tmp_path):
    rng = np.random.default_rng(13)
    spec = IndexSpec("binary", bits=64, attributes=ATTRIBUTES, fingerprint="model 1")
    vectors = codes(rng, 200)
    url = durable.url(tmp_path)
    with amodal.index.open(url, create=spec) as index:
        index.add(range(100), vectors[:100], {"year": 1})
        index.flush()
        index.add(range(100, 200), vectors[100:])
        index.delete([3])
    expected = nearest(hamming(vectors[:2], np.delete(vectors, 3, axis=0)), np.delete(np.arange(200), 3), 50)
    for readonly in (True, False):
        with amodal.index.open(url, readonly=readonly) as index:
            assert index.spec == spec
            assert index.count() == 199
            assert_same(index.search(vectors[:2], 50), expected)
    with amodal.index.open(url, create=spec, fingerprint="model 1") as index:
        assert index.count("year == 1") == 99


def test_a_reader_does_not_write(durable, tmp_path):
    url = durable.url(tmp_path)
    amodal.index.open(url, create=IndexSpec("binary", bits=8)).close()
    with amodal.index.open(url, readonly=True) as index:
        for call in (lambda: index.add([1], np.zeros((1, 1), np.uint8)), lambda: index.delete([1]), index.flush):
            with pytest.raises(UsageError, match="read only"):
                call()


def test_another_model_or_specification_is_refused(durable, tmp_path):
    url = durable.url(tmp_path)
    spec = IndexSpec("binary", bits=64, fingerprint="model 1")
    amodal.index.open(url, create=spec).close()
    with pytest.raises(IndexMismatch, match=r"'model 1'.*'model 2'"):
        amodal.index.open(url, fingerprint="model 2")
    with pytest.raises(IndexMismatch, match=r"bits=64.*bits=32"):
        amodal.index.open(url, create=IndexSpec("binary", bits=32, fingerprint="model 1"))
    amodal.index.open(url).close()  # the refusals released it


def test_opening_what_is_not_there(durable, tmp_path):
    for options in ({}, {"readonly": True}, {"readonly": True, "create": IndexSpec("binary", bits=8)}):
        with pytest.raises(UsageError, match="holds no index"):
            amodal.index.open(durable.url(tmp_path), **options)
    assert list(tmp_path.iterdir()) == []
