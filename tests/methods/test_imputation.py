"""What was imagined, and its file."""

import numpy as np
import pytest

from amodal.errors import ShapeError
from amodal.methods.imputation import Imputation, save_imputation

IMAGINED = Imputation(
    "text", np.array([2, 0]), np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([0.5, 1.0], np.float32)
)


def test_lengths_must_agree():
    assert len(IMAGINED) == 2
    with pytest.raises(ShapeError, match="2 items, 1 values, 2 trusts"):
        Imputation("text", IMAGINED.items, IMAGINED.values[:1], IMAGINED.trust)


def test_the_file_has_ids_values_and_trust(tmp_path):
    path = tmp_path / "new folder" / "imagined.npz"
    save_imputation(path, IMAGINED, np.array(["a", "b", "c"]))
    with np.load(path, allow_pickle=False) as found:
        assert found["id"].tolist() == ["c", "a"]
        assert found["modality"] == "text"
        np.testing.assert_array_equal(found["values"], IMAGINED.values)
        np.testing.assert_array_equal(found["trust"], IMAGINED.trust)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "imagined.npz"
    save_imputation(path, IMAGINED, np.array(["a", "b", "c"]))
    before = path.read_bytes()
    with pytest.raises(IndexError):
        save_imputation(path, IMAGINED, np.array(["a"]))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["imagined.npz"]
