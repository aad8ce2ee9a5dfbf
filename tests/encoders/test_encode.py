"""Raw modalities become features: once per content, resumably, with every bad row named."""

from collections.abc import Sequence

import numpy as np
import pytest

from amodal.data import Dataset, Labels, Observations
from amodal.encoders import Encoder, FeatureCache, choose_encoders, encode_dataset, get
from amodal.errors import DataError, UsageError
from tests.encoders.pictures import picture


class Letters(Encoder):
    """Length and first letter of a text; remembers what it was asked, refuses "bad", and dies at "kill"."""

    name, kind, dim, fingerprint = "letters", "text", 2, "letters 1"

    def __init__(self):
        self.asked = []

    def outcomes(self, content: Sequence[str]):
        for one in content:
            if one == "kill":
                raise KeyboardInterrupt
            self.asked.append(one)
            vector = np.array([len(one), ord(one[0])], dtype=np.float32)
            yield DataError(f'text "{one}" is bad.') if one == "bad" else vector


def words(*texts, items=None):
    items = np.arange(len(texts)) if items is None else np.array(items)
    ids = np.array([f"id{k}" for k in range(items.max() + 1)])
    labels = Labels.from_multihot(np.eye(len(ids)))
    table = Observations(np.array(texts), items)
    ready = Observations(np.ones((len(ids), 3), dtype=np.float32), np.arange(len(ids)))
    return Dataset(ids, {"text": table, "audio": ready}, labels, split=np.full(len(ids), "train"))


def encoded(dataset, encoder, **options):
    return encode_dataset(dataset, {"text": encoder}, **options)["text"]


def test_features_replace_texts_and_all_else_stays():
    data = words("aa", "b", "ccc", items=[0, 0, 1])
    found = encode_dataset(data, {"text": Letters()})
    assert np.array_equal(found["text"].read(), [[2, 97], [1, 98], [3, 99]])
    assert np.array_equal(found["text"].item, [0, 0, 1])
    assert found["audio"] is data["audio"]
    assert found.labels is data.labels
    assert np.array_equal(found.ids, data.ids)


def test_equal_content_is_encoded_once():
    encoder = Letters()
    table = encoded(words("a", "b", "a", "a"), encoder)
    assert encoder.asked == ["a", "b"]
    assert np.array_equal(table.read()[:, 1], [97, 98, 97, 97])


def test_selected_rows_of_a_shared_store_are_encoded_alone():
    encoder = Letters()
    found = encoded(words("a", "b", "c").take(np.array([2, 0])), encoder)
    assert encoder.asked == ["c", "a"]
    assert np.array_equal(found.read()[:, 1], [99, 97])


def test_second_run_asks_the_cache_alone(tmp_path):
    data, first, second = words("a", "b"), Letters(), Letters()
    expected = encoded(data, first, cache=FeatureCache(tmp_path)).read()
    assert np.array_equal(encoded(data, second, cache=FeatureCache(tmp_path)).read(), expected)
    assert second.asked == []


def test_another_fingerprint_is_another_encoder(tmp_path):
    changed = Letters()
    changed.fingerprint = "letters 2"
    encoded(words("a"), Letters(), cache=FeatureCache(tmp_path))
    encoded(words("a"), changed, cache=FeatureCache(tmp_path))
    assert changed.asked == ["a"]


def test_interrupted_work_goes_on_where_it_stopped(tmp_path):
    texts = [f"{k} text" for k in range(150)]
    data = words(*texts[:100], "kill", *texts[100:])
    with pytest.raises(KeyboardInterrupt):
        encoded(data, Letters(), cache=FeatureCache(tmp_path))
    second = Letters()
    resumed = encoded(words(*texts), second, cache=FeatureCache(tmp_path)).read()
    assert second.asked == texts[100:]
    assert np.array_equal(resumed, encoded(words(*texts), Letters()).read())


def test_an_error_ends_the_work_with_modality_and_item_named(tmp_path):
    with pytest.raises(DataError, match='modality "text", item "id1": text "bad" is bad'):
        encoded(words("a", "bad", "c"), Letters(), cache=FeatureCache(tmp_path))
    assert FeatureCache(tmp_path).stats().rows == 1  # what was done before is kept


@pytest.mark.parametrize("cached", [True, False])
def test_bad_rows_are_left_out_and_listed(tmp_path, cached):
    problems = []
    data = words("a", "bad", "c", "bad", items=[0, 1, 1, 2])
    cache = FeatureCache(tmp_path) if cached else None
    found = encode_dataset(data, {"text": Letters()}, cache=cache, skip_bad=True, problems=problems)
    assert np.array_equal(found["text"].item, [0, 1])
    assert np.array_equal(found["text"].read()[:, 1], [97, 99])
    assert len(found) == 3
    assert [problem.split(":")[0] for problem in problems] == [f'modality "text", item "id{k}"' for k in (1, 2)]


def test_nothing_left_is_an_empty_table():
    found = encoded(words("bad"), Letters(), skip_bad=True)
    assert len(found) == 0
    assert found.dim == 2


@pytest.mark.parametrize("cached", [True, False])
def test_progress_counts_every_distinct_piece(tmp_path, cached):
    calls = []
    cache = FeatureCache(tmp_path) if cached else None
    for _ in range(2):
        calls.clear()
        encoded(words("a", "b", "a"), Letters(), cache=cache, progress=lambda *call: calls.append(call))
        assert calls == [(1, 2, "text"), (2, 2, "text")]


def test_defaults_by_content(tmp_path):
    table = Observations(np.array(["a.png", "b.png"]), np.arange(2))
    data = Dataset(np.array(["x", "y"]), {"sketch": table, "text": words("a", "b")["text"]})
    assert {m: e.name for m, e in choose_encoders(data).items()} == {"sketch": "efficientnet-lite0", "text": "minilm"}


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ({"txet": "minilm"}, 'Did you mean "text"'),
        ({"text": "minilmm"}, 'Did you mean "minilm"'),
        ({"text": "efficientnet-lite0"}, "takes picture"),
        ({"text": "features"}, "takes features"),
        ({"text": get("features")}, "takes features"),
        ({"audio": "minilm"}, "holds features already"),
    ],
)
def test_wrong_choices_are_named(encoders, message):
    with pytest.raises(UsageError, match=message):
        choose_encoders(words("a"), encoders)


def test_features_may_be_named_for_features():
    assert choose_encoders(words("a"), {"audio": "features", "text": Letters()}).keys() == {"text"}


def test_real_pictures_with_a_missing_and_a_damaged_one(tmp_path):
    for seed in range(3):
        picture(seed).save(tmp_path / f"{seed}.png")
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes((tmp_path / "0.png").read_bytes()[:200])
    paths = [str(tmp_path / name) for name in ("0.png", "damaged.png", "1.png", "gone.png", "2.png")]
    data = Dataset(np.array(list("abcde")), {"image": Observations(np.array(paths), np.arange(5))})
    expected = get("efficientnet-lite0").encode([paths[0], paths[2], paths[4]])
    for cache in (None, FeatureCache(tmp_path / "cache"), FeatureCache(tmp_path / "cache")):
        problems = []
        found = encode_dataset(data, cache=cache, skip_bad=True, problems=problems)
        assert np.array_equal(found["image"].read(), expected)
        assert np.array_equal(found["image"].item, [0, 2, 4])
        assert sorted('"b"' in problem and "damaged.png" in problem for problem in problems) == [False, True]
        assert sorted('"d"' in problem and "gone.png" in problem for problem in problems) == [False, True]
    with pytest.raises(DataError, match=r'item "[bd]"'):
        encode_dataset(data)


class LettersApart(Letters):
    """The letters of a text, each a part; at most four of them."""

    dim, length, fingerprint = 3, 4, "letters apart 1"

    def outcomes(self, content):
        for one in content:
            if one == "kill":
                raise KeyboardInterrupt
            self.asked.append(one)
            parts = np.zeros(self.shape, dtype=np.float32)
            for k, letter in enumerate(one[: self.length]):
                parts[k] = ord(letter), k, 1
            yield parts

    def excess(self, one):
        return max(0, len(one) - self.length)


@pytest.mark.parametrize("cached", [True, False])
def test_parts_are_mapped_from_a_file_in_half_precision(tmp_path, cached):
    cache = FeatureCache(tmp_path) if cached else None
    for _ in range(2):
        table = encoded(words("ab", "a", "ab"), LettersApart(), cache=cache)
        assert isinstance(table.store, np.memmap)
        assert (table.store.shape, table.store.dtype) == ((2, 4, 3), np.float16)
        assert table.store.base is not None
        expected = np.zeros((4, 3))
        expected[:2] = [[97, 0, 1], [98, 1, 1]]
        np.testing.assert_array_equal(table.read()[[0, 2]], [expected, expected])
        np.testing.assert_array_equal(table.read()[1], expected * [[1], [0], [0], [0]])
    # nothing is left lying about
    assert all(file.name.startswith("features.sqlite") for file in tmp_path.iterdir())


def test_interrupted_parts_go_on_where_they_stopped(tmp_path):
    texts = [f"{k}" for k in range(150)]
    with pytest.raises(KeyboardInterrupt):
        encoded(words(*texts[:100], "kill", *texts[100:]), LettersApart(), cache=FeatureCache(tmp_path))
    second = LettersApart()
    resumed = encoded(words(*texts), second, cache=FeatureCache(tmp_path)).read()
    assert second.asked == texts[100:]
    np.testing.assert_array_equal(resumed, encoded(words(*texts), LettersApart()).read())


def test_what_is_cut_off_is_told(tmp_path):
    data, problems = words("abcdef", "ab", "abcde", "abcdef"), []
    cache = FeatureCache(tmp_path)
    for _ in range(2):  # the cache knows the features the second time
        problems.clear()
        encoded(data, LettersApart(), cache=cache, problems=problems)
        (problem,) = problems
        assert problem.startswith('modality "text": 3 of 4 observations have more than 4 parts and were cut off')
        assert problem.endswith('(first: item "id0", by 2).')
    with pytest.warns(UserWarning, match="3 of 4 observations"):
        encoded(data, LettersApart())
