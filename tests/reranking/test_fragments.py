"""The store of fragments: what goes in comes out, padded, in order, and survives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal.errors import DataError
from amodal.reranking import FragmentStore, Kept

WIDTH = 4


def some(lengths, seed=0):
    values = np.random.default_rng(seed).normal(size=(len(lengths), max(lengths, default=0), WIDTH)) + 5
    for row, length in zip(values, lengths, strict=True):
        row[length:] = 0
    return values.astype(np.float16)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(0, 99))
def test_what_is_put_is_got(lengths, seed):
    store, fragments = FragmentStore(None), some(lengths, seed)
    items = [f"item {k // 2}" for k in range(len(lengths))]
    store.put(Kept(items, "image", [k % 2 for k in range(len(lengths))], fragments))
    asked = sorted(set(items), reverse=True)
    owner, found = store.get([*asked, "nobody"], "image", WIDTH)
    expected = [k for name in asked for k in range(len(items)) if items[k] == name]
    assert owner.tolist() == [asked.index(items[k]) for k in expected]
    np.testing.assert_array_equal(found, fragments[expected][:, : found.shape[1]].astype(np.float32))
    assert not fragments[expected][:, found.shape[1] :].any()
    assert store.get(asked, "text", WIDTH)[1].shape == (0, 0, WIDTH)


def test_put_again_replaces_and_delete_forgets(tmp_path):
    store = FragmentStore(tmp_path / "f.sqlite")
    store.put(Kept(["a", "b"], "image", [0, 0], some([3, 2])))
    store.put(Kept(["a"], "image", [0], some([1], seed=1)))
    assert len(store) == 2
    np.testing.assert_array_equal(store.get(["a"], "image", WIDTH)[1], some([1], seed=1).astype(np.float32))
    store.delete(["a", "nobody"])
    store.close()
    again = FragmentStore(tmp_path / "f.sqlite", readonly=True)
    assert len(again) == 1
    with pytest.raises(DataError, match=r"f\.sqlite"):
        again.delete(["b"])


def test_a_copy_holds_everything(tmp_path):
    store = FragmentStore(None)
    store.put(Kept(["a"], "text", [0], some([3])))
    store.copy_to(tmp_path / "copy.sqlite")
    np.testing.assert_array_equal(
        FragmentStore(tmp_path / "copy.sqlite").get(["a"], "text", WIDTH)[1], store.get(["a"], "text", WIDTH)[1]
    )


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "f.sqlite").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(DataError, match=r"f\.sqlite.*Restore"):
        FragmentStore(tmp_path / "f.sqlite")
