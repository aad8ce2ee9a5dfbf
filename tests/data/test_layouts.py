"""The layouts in which the field shares its data: by columns or by rows, whole or in halves, as words and files."""

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from amodal.data import read
from amodal.errors import DataError, ShapeError

RNG = np.random.default_rng(0)
IMAGE, TAGS = RNG.standard_normal((7, 5)).astype(np.float32), (RNG.random((7, 4)) < 0.5).astype(np.uint8)
LABELS = np.eye(7, 3, dtype=np.uint8)


def plain_hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)


def matlab_hdf5(path, **arrays):
    """As Matlab writes v7.3: its columns are HDF5's rows."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array.T)
        file.create_group("param").create_dataset("indexTest", data=[[1.0, 2.0]])
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")


def is_all(data):
    np.testing.assert_array_equal(data["image"].read(), IMAGE)
    np.testing.assert_array_equal(data["text"].read(), TAGS)
    np.testing.assert_array_equal(data.labels.dense(), LABELS)


@pytest.mark.parametrize("write", [plain_hdf5, matlab_hdf5])
@pytest.mark.parametrize("name", ["FLICKR-25K.mat", "NUS-WIDE-TC10.mat"])
def test_one_file_by_rows_or_by_columns(tmp_path, write, name):
    write(tmp_path / name, images=IMAGE, YAll=TAGS, LAll=LABELS)
    data = read(tmp_path / name)
    is_all(data)
    assert (data.name, data.split) == (name[:-4], None)


def test_what_lies_on_its_side_is_turned(tmp_path):
    plain_hdf5(tmp_path / "mixed.h5", XAll=IMAGE, YAll=TAGS.T, LAll=LABELS.T)
    is_all(read(tmp_path / "mixed.h5"))
    plain_hdf5(tmp_path / "square.h5", XAll=IMAGE, YAll=TAGS, LAll=LABELS[:4])
    with pytest.raises(ShapeError, match=r"square\.h5: has 4 rows, where image has 7"):
        read(tmp_path / "square.h5")


def test_folders_per_kind_and_features_before_pixels(tmp_path):
    for folder in ("IAll", "YAll", "LAll"):
        (tmp_path / folder).mkdir()
    matlab_hdf5(tmp_path / "IAll/mirflickr25k-iall.mat", IAll=np.zeros((7, 3, 2, 2), np.uint8).T)
    savemat(tmp_path / "IAll/mirflickr25k-iall-vgg.mat", {"XAll": IMAGE})
    savemat(tmp_path / "YAll/mirflickr25k-yall.mat", {"YAll": TAGS})
    savemat(tmp_path / "LAll/mirflickr25k-lall.mat", {"LAll": LABELS})
    savemat(tmp_path / "mirflickr25k-fall.mat", {"FAll": np.array(["im1.jpg", "im2.jpg"], dtype=object)})
    data = read(tmp_path)
    is_all(data)
    assert data.name == "mirflickr25k"
    (tmp_path / "IAll/mirflickr25k-iall-vgg.mat").unlink()
    with pytest.raises(ShapeError, match=r"iall\.mat: holds an array of shape .*features beside them as XAll"):
        read(tmp_path)
    assert read(tmp_path, modalities=["text"]).names == ("text",)


HALVES = {
    "iapr": ("VDatabase", "YDatabase", "databaseL", "VTest", "YTest", "testL"),
    "shallow": ("I_tr", "T_tr", "L_tr", "I_te", "T_te", "L_te"),
    "coco": ("train_imgs_deep", "train_text", "train_imgs_labels", "test_imgs_deep", "test_text", "test_imgs_labels"),
}


@pytest.mark.parametrize("names", HALVES.values(), ids=HALVES)
@pytest.mark.parametrize("write", [plain_hdf5, lambda path, **arrays: savemat(path, arrays)], ids=["hdf5", "v5"])
def test_halves_are_the_split(tmp_path, names, write):
    parts = [part[rows] for rows in (slice(5), slice(5, 7)) for part in (IMAGE, TAGS, LABELS)]
    write(tmp_path / "halves.mat", **dict(zip(names, parts, strict=True)))
    data = read(tmp_path / "halves.mat")
    is_all(data)
    assert data.split.tolist() == ["train"] * 5 + ["test"] * 2


def test_the_database_half_goes_before_its_sample(tmp_path):
    named = {"I_db": IMAGE[:5], "T_db": TAGS[:5], "L_db": LABELS[:5], "I_te": IMAGE[5:], "T_te": TAGS[5:]}
    sample = {"I_tr": IMAGE[:2], "T_tr": TAGS[:2], "L_tr": LABELS[:2]}
    savemat(tmp_path / "all.mat", {**sample, **named, "L_te": LABELS[5:]})
    is_all(read(tmp_path / "all.mat"))
    savemat(tmp_path / "less.mat", {**sample, **named})
    with pytest.raises(DataError, match="holds no label of the test items"):
        read(tmp_path / "less.mat")


def test_a_file_per_half_with_numbers_of_classes(tmp_path):
    classes = np.array([1, 2, 3, 1, 2, 3, 1])
    for half, rows in (("train", slice(5)), ("test", slice(5, 7))):
        for name, array in (("img", IMAGE), ("txt", TAGS), ("img_lab", classes[:, None])):
            savemat(tmp_path / f"{half}_{name}.mat", {f"{half}_{name}": array[rows]})
    data = read(tmp_path)
    assert data.name == tmp_path.name
    np.testing.assert_array_equal(data["image"].read(), IMAGE)
    assert (data.labels.single, data.labels.classes, data.part("test").labels.dense().argmax(1).tolist()) == (
        True, 3, [2, 0],
    )  # fmt: skip


def test_words_and_paths_of_pictures(tmp_path):
    captions = np.empty((1, 2), dtype=object)
    captions[0, 0], captions[0, 1] = np.array(["a cat ", "on a mat"]), np.array(["a dog"])
    (tmp_path / "pictures").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"pictures/{name}.png")
    savemat(tmp_path / "caption.mat", {"caption": captions})
    savemat(tmp_path / "index.mat", {"index": np.array(["pictures/a.png", "pictures/b.png"])})
    savemat(tmp_path / "label.mat", {"category": LABELS[:2]})
    data = read(tmp_path)
    assert data["text"].read().tolist() == ["a cat", "on a mat", "a dog"]
    assert data["text"].item.tolist() == [0, 0, 1]
    assert data["image"].read().tolist() == [str(tmp_path / f"pictures/{name}.png") for name in "ab"]
    (tmp_path / "pictures/b.png").unlink()
    with pytest.raises(DataError, match=r"row 1: there is no picture .*b\.png"):
        read(tmp_path)
    assert len(read(tmp_path, skip_bad=True)["image"]) == 1
