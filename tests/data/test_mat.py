"""The field's Matlab layout in both formats, and the real MIRFLICKR files where they are at hand."""

import os

import h5py
import numpy as np
import pytest
from scipy import sparse
from scipy.io import savemat

from amodal.data import read
from amodal.errors import DataError, ShapeError

RNG = np.random.default_rng(0)
IMAGE, TAGS = RNG.standard_normal((7, 5)), (RNG.random((7, 4)) < 0.5).astype(np.uint8)
LABELS = np.eye(7, 3, dtype=np.uint8)


def v5(path, name, array):
    savemat(path, {name: array})


def v73(path, name, array):
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset(name, data=array.T)  # Matlab's columns are HDF5's rows
        file.create_group("#refs#")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")


@pytest.mark.parametrize("write", [v5, v73])
@pytest.mark.parametrize("tags", ["tall", "yall"])
def test_the_three_files_of_one_name(tmp_path, write, tags):
    write(tmp_path / "flowers-iall.mat", "IAll", IMAGE)
    write(tmp_path / f"flowers-{tags}.mat", tags[0].upper() + "All", TAGS)
    write(tmp_path / "flowers-lall.mat", "LAll", LABELS)
    for path in (tmp_path, tmp_path / "flowers-lall.mat", tmp_path / "flowers-iall.mat"):
        data = read(path)
        assert data.name == "flowers"
        assert data.names == ("image", "text")
        np.testing.assert_allclose(data["image"].read(), IMAGE, rtol=1e-6)
        np.testing.assert_array_equal(data["text"].read(), TAGS)
        np.testing.assert_array_equal(data.labels.dense(), LABELS)
        assert data.ids.tolist() == list("0123456")
    assert read(tmp_path, modalities=["text"]).names == ("text",)


def test_an_absent_file_is_an_absent_modality(tmp_path):
    v5(tmp_path / "flowers-yall.mat", "YAll", TAGS)
    data = read(tmp_path)
    assert data.names == ("text",)
    assert data.labels is None


def test_one_file_may_hold_everything(tmp_path):
    savemat(tmp_path / "all.mat", {"IAll": IMAGE, "TAll": TAGS, "LAll": LABELS, "note": "hello"})
    data = read(tmp_path / "all.mat")
    assert (data.name, data.names, data.labels.classes) == ("all", ("image", "text"), 3)


def test_sparse_matrices_in_both_formats(tmp_path):
    v5(tmp_path / "a-yall.mat", "YAll", sparse.csc_matrix(TAGS.astype(float)))
    np.testing.assert_array_equal(read(tmp_path / "a-yall.mat")["text"].read(), TAGS)
    columns = sparse.csc_matrix(TAGS)
    with h5py.File(tmp_path / "b-yall.mat", "w") as file:
        group = file.create_group("YAll")
        group.attrs["MATLAB_sparse"] = TAGS.shape[0]
        for name, part in (("data", columns.data), ("ir", columns.indices), ("jc", columns.indptr)):
            group.create_dataset(name, data=part)
    np.testing.assert_array_equal(read(tmp_path / "b-yall.mat")["text"].read(), TAGS)


def test_what_is_wrong_is_said(tmp_path):
    v5(tmp_path / "a-iall.mat", "IAll", IMAGE)
    v5(tmp_path / "a-lall.mat", "LAll", LABELS[:6])
    with pytest.raises(ShapeError, match=r"a-lall\.mat: has 6 rows, where image has 7"):
        read(tmp_path / "a-iall.mat")
    v5(tmp_path / "b-iall.mat", "IAll", np.ones((2, 3, 4, 4)))
    with pytest.raises(ShapeError, match=r"b-iall\.mat: holds an array of shape \(2, 3, 4, 4\).*picture files"):
        read(tmp_path / "b-iall.mat")
    with pytest.raises(DataError, match=r"several data sets \(a, b\)"):
        read(tmp_path)
    v5(tmp_path / "c.mat", "stuff", IMAGE)
    with pytest.raises(DataError, match="holds neither IAll nor"):
        read(tmp_path / "c.mat")
    savemat(tmp_path / "d-iall.mat", {"IAll": {"a": 1}})
    with pytest.raises(DataError, match="matrix of numbers is needed"):
        read(tmp_path / "d-iall.mat")
    v5(tmp_path / "e.mat", "IAll", np.where(IMAGE > 1, np.nan, IMAGE))
    with pytest.raises(DataError, match=r'modality "image" of item .* holds NaN'):
        read(tmp_path / "e.mat")


def test_a_truncated_hdf5_file_is_said(tmp_path):
    v73(tmp_path / "a-iall.mat", "IAll", np.ones((400, 50)))
    content = (tmp_path / "a-iall.mat").read_bytes()
    (tmp_path / "a-iall.mat").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a-iall\.mat: is truncated"):
        read(tmp_path)


@pytest.mark.skipif("AMODAL_DATA" not in os.environ, reason="AMODAL_DATA names no folder of real data")
def test_mirflickr():
    data = read("mirflickr25k")
    assert (len(data), data.names, data["text"].dim, data.labels.classes) == (20_015, ("text",), 1_386, 24)
    assert 3.7 < data.labels.per_row.mean() < 3.9
