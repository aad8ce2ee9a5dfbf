"""Precomputed regions as the field passes them on: both layouts, and everything that may not fit together."""

import numpy as np
import pytest

from amodal.data import read, save_archive
from amodal.errors import DataError, ShapeError


def regions(n, seed=0, width=3):
    return np.random.default_rng(seed).random((n, 4, width), dtype=np.float32)


def write(folder, split, array, captions):
    np.save(folder / f"{split}_ims.npy", array)
    (folder / f"{split}_caps.txt").write_text("".join(f"{caption}\n" for caption in captions))


def numbered(n):
    return [f"caption {k} ." for k in range(n)]


@pytest.mark.parametrize("repeated", [True, False])
def test_five_captions_a_picture_in_both_layouts(tmp_path, repeated):
    array = regions(3)
    write(tmp_path, "train", np.repeat(array, 5, axis=0) if repeated else array, numbered(15))
    data = read(tmp_path)
    assert data.ids.tolist() == ["train/0", "train/1", "train/2"]
    assert data["text"].item.tolist() == [k // 5 for k in range(15)]
    assert data["text"].read().tolist() == numbered(15)
    assert isinstance(data["image"].store, np.memmap)
    np.testing.assert_array_equal(data["image"].read(), array)


def test_a_row_per_caption_that_does_not_repeat_is_a_picture_each(tmp_path):
    array = regions(10)
    array[1:5] = array[0]  # one picture five times is not all of them
    write(tmp_path, "test", array, numbered(10))
    data = read(tmp_path)
    assert len(data) == 10
    assert data["text"].item.tolist() == list(range(10))
    np.testing.assert_array_equal(data["image"].read(), array)


def test_splits_by_prefix_are_one_data_set_without_a_copy(tmp_path):
    arrays = {"test": regions(2, 1), "train": np.repeat(regions(4, 2), 5, axis=0), "dev": regions(3, 3)}
    for split, array in arrays.items():
        write(tmp_path, split, array, [f"{split} {k}" for k in range(len(array) * (1 if split == "train" else 5))])
    data = read(tmp_path)
    assert data.split.tolist() == ["train"] * 4 + ["dev"] * 3 + ["test"] * 2
    assert all(isinstance(array, np.memmap) for array in data["image"].store.arrays)
    for split, array in arrays.items():
        part = data.part(split)
        expected = array[::5] if split == "train" else array
        np.testing.assert_array_equal(part["image"].read(), expected)
        assert part["text"].read().tolist() == [f"{split} {k}" for k in range(5 * len(expected))]
    mixed = data.take(np.array([8, 0, 5]))["image"]
    np.testing.assert_array_equal(mixed.read(), [arrays["test"][1], arrays["train"][0], arrays["dev"][1]])
    np.testing.assert_array_equal(mixed.read(1), arrays["train"][0])
    save_archive(data, tmp_path / "all.npz")
    again = read(tmp_path / "all.npz")
    np.testing.assert_array_equal(again["image"].read(), data["image"].read())
    np.testing.assert_array_equal(again["text"].read(), data["text"].read())


def test_one_modality_alone(tmp_path):
    write(tmp_path, "test", regions(2), numbered(10))
    assert read(tmp_path, modalities=["text"]).names == ("text",)


@pytest.mark.parametrize("lines", [1, 9, 11, 14, 16, 20])
def test_rows_that_do_not_fit_the_captions_are_an_error_whatever_may_be_skipped(tmp_path, lines):
    write(tmp_path, "train", regions(3), numbered(lines))
    with pytest.raises(ShapeError, match=rf"train_ims\.npy has 3 rows and train_caps\.txt {lines} lines"):
        read(tmp_path, skip_bad=True)


def test_an_empty_caption_is_named_and_the_others_keep_their_pictures(tmp_path):
    captions = numbered(10)
    captions[6] = "  "
    write(tmp_path, "dev", regions(2), captions)
    with pytest.raises(DataError, match=r"dev_caps\.txt, line 7: is an empty caption"):
        read(tmp_path)
    problems: list[str] = []
    data = read(tmp_path, skip_bad=True, problems=problems)
    assert data["text"].item.tolist() == [0] * 5 + [1] * 4
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("dev_ims.npy", r"dev_caps\.txt: holds captions without a picture, as there is no dev_ims\.npy"),
        ("dev_caps.txt", r"dev_ims\.npy: holds pictures without captions, as there is no dev_caps\.txt"),
    ],
)
def test_half_a_split_is_told(tmp_path, gone, message):
    for split in ("train", "dev"):
        write(tmp_path, split, regions(2), numbered(10))
    (tmp_path / gone).unlink()
    with pytest.raises(DataError, match=message):
        read(tmp_path)
    assert set(read(tmp_path, skip_bad=True).split.tolist()) == {"train"}
    (tmp_path / "train_caps.txt").unlink()
    if gone == "dev_ims.npy":
        with pytest.raises(DataError, match="no split with both"):
            read(tmp_path, skip_bad=True)


def test_splits_of_different_width_are_an_error(tmp_path):
    write(tmp_path, "train", regions(2), numbered(10))
    write(tmp_path, "test", regions(2, width=5), numbered(10))
    with pytest.raises(ShapeError, match=r"train: \(4, 3\), test: \(4, 5\)"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.ones((2, 3)), "must hold numbers of shape"), (np.ones((2, 3, 4), dtype=int), "must hold numbers of shape")],
)
def test_arrays_that_are_no_regions_are_named(tmp_path, array, message):
    write(tmp_path, "train", array, numbered(10))
    with pytest.raises(ShapeError, match=rf"train_ims\.npy.*{message}"):
        read(tmp_path)


def test_a_truncated_file_is_named(tmp_path):
    write(tmp_path, "train", regions(2), numbered(10))
    file = tmp_path / "train_ims.npy"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"train_ims\.npy: is damaged"):
        read(tmp_path)


def test_not_a_number_is_left_out_with_its_picture_named(tmp_path):
    array = regions(2)
    array[1, 2, 0] = np.nan
    write(tmp_path, "train", array, numbered(10))
    with pytest.raises(DataError, match="train/1"):
        read(tmp_path)
    assert read(tmp_path, skip_bad=True)["image"].item.tolist() == [0]
