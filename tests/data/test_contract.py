"""Items, observations and labels: subsets share their store, numbering survives, nonsense is refused."""

import numpy as np
import pytest
from scipy import sparse

from amodal.data import Dataset, Labels, Observations, toy
from amodal.errors import DataError, MissingModality, ShapeError, UsageError


def test_take_renumbers_items_without_copying_features():
    data = toy(10, captions=2)
    part = data.take(np.array([7, 2]))
    assert part.ids.tolist() == ["item 07", "item 02"]
    assert part["text"].item.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(part["text"].read(), data["text"].store[[14, 15, 4, 5]])
    assert part["text"].store is data["text"].store


def test_take_by_mask_equals_take_by_number():
    data = toy(10)
    mask = np.arange(10) % 3 == 0
    np.testing.assert_array_equal(data.take(mask).ids, data.take(np.flatnonzero(mask)).ids)


def test_keep_removes_observations_and_no_items():
    data = toy(4, captions=2)
    keep = np.array([[1, 1], [1, 0], [0, 1], [1, 1]], dtype=bool)
    kept = data.keep(keep)
    assert len(kept) == 4
    np.testing.assert_array_equal(kept.presence(), keep)
    assert len(kept["text"]) == 6


def test_only_renames():
    data = toy(4, {"a": 2, "b": 3, "c": 4}).only(image="c", text="a")
    assert data.names == ("image", "text")
    assert data["image"].dim == 4


def test_part_names_the_splits_there_are():
    with pytest.raises(UsageError, match="Known: test, train"):
        toy(20, test=0.5).part("dev")


def test_unknown_modality_names_the_nearest():
    with pytest.raises(MissingModality, match='Did you mean "image"'):
        toy(3)["imge"]


def test_repeated_ids_are_refused():
    with pytest.raises(DataError, match='first: "x"'):
        Dataset(np.array(["x", "x"]), {"a": Observations(np.ones((2, 3)), np.arange(2))})


def test_observation_of_no_item_is_refused():
    with pytest.raises(DataError, match="beyond the 2"):
        Dataset(np.array(["x", "y"]), {"a": Observations(np.ones((1, 3)), np.array([2]))})


def test_labels_from_lists_are_in_alphabetical_order_and_know_what_is_unknown():
    labels = Labels.from_lists([["b"], None, [], ["a", "b"]])
    assert labels.names == ("a", "b")
    assert labels.known.tolist() == [True, False, True, True]
    assert labels.dense().tolist() == [[0, 1], [0, 0], [0, 0], [1, 1]]
    assert not labels.single


def test_distinct_labels_rebuild_every_row():
    data = toy(100, classes=4, multi_label=True, unlabelled=0.2)
    vectors, counts, index = data.labels.distinct()
    known = index >= 0
    np.testing.assert_array_equal(vectors[index[known]], data.labels.dense()[known])
    np.testing.assert_array_equal(counts, np.bincount(index[known]))
    assert (~known).sum() == 20


def test_labels_of_other_sizes_are_refused():
    with pytest.raises(ShapeError):
        Labels(sparse.csr_matrix((2, 3), dtype=np.uint8), np.ones(2, dtype=bool), ("a", "b"))


def test_fingerprint_changes_with_content_presence_and_labels():
    data = toy(50)
    others = [
        toy(50, seed=1),
        data.keep(np.arange(100).reshape(50, 2) > 1),
        data.take(np.arange(49)),
        toy(50, unlabelled=0.1),
    ]
    prints = [data.fingerprint(), *(other.fingerprint() for other in others)]
    assert len(set(prints)) == len(prints)
    assert toy(50).fingerprint() == data.fingerprint()


def test_chunks_of_parts_are_as_large_as_chunks_of_vectors():
    store = np.zeros((900, 20, 2), dtype=np.float16)
    table = Observations(store, np.arange(900))
    assert [len(chunk) for chunk in table.chunks()] == [409, 409, 82]
    assert [len(chunk) for chunk in table.chunks(500)] == [500, 400]
    assert [len(chunk) for chunk in Observations(store[:, 0], np.arange(900)).chunks()] == [900]
