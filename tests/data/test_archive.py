"""Feature archives: round trips with every kind of gap, mapping, and each thing that can be wrong."""

import pickle

import numpy as np
import pytest

from amodal.data import incomplete, read, save_archive, toy
from amodal.errors import DataError, MissingModality, ShapeError


def write(path, **arrays):
    base = {"image": np.ones((4, 3), np.float32), "label": np.eye(4, dtype=np.uint8), "id": np.array(list("abcd"))}
    np.savez(path, **{key: value for key, value in (base | arrays).items() if value is not None})
    return path


def same(one, two):
    assert one.fingerprint() == two.fingerprint()
    assert one.names == two.names
    for name in one.names:
        np.testing.assert_array_equal(one[name].read(), two[name].read())
        np.testing.assert_array_equal(one[name].item, two[name].item)


@pytest.mark.parametrize(
    "data",
    [
        toy(30),
        incomplete(toy(30, captions=3, unlabelled=0.3, test=0.2, multi_label=True), "hard"),
        toy(30).take(np.arange(29, -1, -1)),
        toy(30, {"a": 2, "b": 3, "c": 4}),
    ],
    ids=["plain", "gaps", "reordered", "three"],
)
def test_round_trip(data, tmp_path):
    save_archive(data, tmp_path / "x.npz")
    same(read(tmp_path / "x.npz"), data)


def test_dtype_attributes_and_raw_content_survive(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("id,text,price,colour\na,a red shoe,1.5,red\nb,,2,blue\n")
    data = read(path)
    save_archive(data, tmp_path / "x.npz")
    back = read(tmp_path / "x.npz")
    assert back["text"].read().tolist() == ["a red shoe"]
    assert back.present("text").tolist() == [True, False]
    assert back.attributes["price"].tolist() == [1.5, 2.0]
    assert back.attributes["colour"].tolist() == ["red", "blue"]
    half = write(tmp_path / "half.npz", image=np.ones((4, 3), np.float16))
    save_archive(read(half), tmp_path / "again.npz")
    assert read(tmp_path / "again.npz")["image"].store.dtype == np.float16


def test_uncompressed_arrays_are_mapped_and_compressed_ones_equal_them(tmp_path):
    image = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    plain = read(write(tmp_path / "plain.npz", image=image))
    assert isinstance(plain["image"].store, np.memmap)
    np.savez_compressed(tmp_path / "small.npz", image=image)
    small = read(tmp_path / "small.npz")
    np.testing.assert_array_equal(plain["image"].read(), image)
    np.testing.assert_array_equal(small["image"].read(), image)
    assert small.ids.tolist() == ["0", "1", "2", "3"]
    fortran = read(write(tmp_path / "fortran.npz", image=np.asfortranarray(image)))
    np.testing.assert_array_equal(fortran["image"].read(), image)


def test_a_folder_of_arrays_is_mapped(tmp_path):
    np.save(tmp_path / "image.npy", np.ones((4, 3)))
    np.save(tmp_path / "split.npy", np.array(["train", "test"] * 2))
    data = read(tmp_path)
    assert isinstance(data["image"].store, np.memmap)
    assert data.split.tolist() == ["train", "test"] * 2
    (tmp_path / "image.npy").write_bytes((tmp_path / "image.npy").read_bytes()[:-8])
    with pytest.raises(DataError, match=r"image\.npy: is damaged, incomplete"):
        read(tmp_path)


def test_auxiliary_arrays_are_left_alone_and_columns_are_attributes(tmp_path):
    path = write(
        tmp_path / "x.npz",
        text_vocab=np.array(["red", "blue"]),
        caption=np.array([["one", ""]] * 4),
        year=np.arange(4),
        label_names=np.array(["w", "x", "y", "z"]),
    )
    data = read(path)
    assert data.names == ("image",)
    assert data.attributes["year"].tolist() == [0, 1, 2, 3]
    assert data.labels.names == ("w", "x", "y", "z")
    assert read(path, modalities=["caption"])["caption"].read().tolist() == ["one"] * 4


@pytest.mark.parametrize("label", [np.array(["w", "", "x", "w"]), np.array([0, -1, 1, 0])])
def test_labels_in_one_column(tmp_path, label):
    labels = read(write(tmp_path / "x.npz", label=label)).labels
    assert labels.known.tolist() == [True, False, True, True]
    assert labels.dense().tolist() == [[1, 0], [0, 0], [0, 1], [1, 0]]


def test_domains_are_modalities(tmp_path):
    path = write(tmp_path / "x.npz", domain=np.array(["photo", "sketch", "photo", "photo"]))
    data = read(path)
    assert data.names == ("photo", "sketch")
    np.testing.assert_array_equal(data.presence().sum(axis=0), [3, 1])


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize(
    ("arrays", "kind", "message"),
    [
        ({"text": np.ones((3, 2))}, ShapeError, 'array "text" has 3 rows for 4 items'),
        ({"label": np.eye(3)}, ShapeError, '"label" has shape .3, 3. for 4 items'),
        ({"split": np.array(["train"])}, ShapeError, '"split" has shape'),
        ({"label_names": np.array(["a"])}, ShapeError, "has 4 columns, but there are 1 label_names"),
        ({"label": np.array([0, 1, 2, 3]), "label_names": np.array(["a"])}, ShapeError, "counts up to 3"),
        ({"label": np.array([[1.0], [0], [np.nan], [0]])}, DataError, '"label" holds NaN in row 2'),
        ({"image.item": np.array([0, 1])}, ShapeError, '"image.item" of shape .2,. must number'),
        ({"image.item": np.array([0, 1, 2, 9])}, DataError, "x.npz: modality .* beyond the 4"),
        ({"image": None}, DataError, "holds no modality"),
        ({"image": None, "id": None, "label": None, "words": np.array(["x"])}, DataError, "found: words"),
        ({"id": np.array(["a", "b", "b", "c"])}, DataError, 'row 2: id "b" is already the id of row 1'),
        (
            {"image": np.array([[1.0, 2], [1, np.nan], [1, 2], [1, np.inf]])},
            DataError,
            'row 1: modality "image" of item "b" holds NaN or infinity',
        ),
        (
            {"split": np.array(["train", "train", "test", "train"])},
            DataError,
            'class "class 2" has no training example .it occurs first in item "c"',
        ),
    ],
)
def test_what_is_wrong_is_said_with_file_and_row(tmp_path, arrays, kind, message):
    with pytest.raises(kind, match=message) as caught:
        read(write(tmp_path / "x.npz", **arrays))
    assert "x.npz" in str(caught.value)


def test_pickled_objects_are_never_opened(tmp_path):
    path = write(tmp_path / "x.npz", text=np.array([Trap()] * 4, dtype=object))
    with pytest.raises(DataError, match="never opened"):
        read(path)
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "image.npy", np.array([Trap()], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        read(tmp_path / "folder")
    (tmp_path / "x.npy").write_bytes(pickle.dumps({}))
    with pytest.raises(DataError):
        read(tmp_path / "x.npy")


def test_bad_rows_are_left_out_and_listed_on_request(tmp_path):
    path = write(
        tmp_path / "x.npz",
        id=np.array(["a", "b", "b", "d"]),
        image=np.array([[1.0], [np.nan], [1], [1]]),
        text=np.array([[1.0], [1], [1], [np.nan]]),
        split=np.array(["train", "train", "train", "test"]),
    )
    problems = []
    data = read(path, skip_bad=True, problems=problems)
    assert data.ids.tolist() == ["a", "b", "d"]
    assert data.presence().tolist() == [[True, True], [False, True], [True, False]]
    assert data.labels.names == ("class 0", "class 1", "class 2")
    assert len(problems) == 4
    assert all("x.npz" in problem for problem in problems)


def test_an_item_that_loses_everything_is_left_out(tmp_path):
    path = write(tmp_path / "x.npz", image=np.array([[1.0], [np.nan], [1], [1]]))
    assert read(path, skip_bad=True).ids.tolist() == ["a", "c", "d"]


def test_a_modality_to_read_must_be_there(tmp_path):
    with pytest.raises(MissingModality, match='Did you mean "image"'):
        read(write(tmp_path / "x.npz"), modalities=["imag"])


def test_a_bit_flip_in_a_compressed_array_is_noticed(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", image=np.random.default_rng(0).standard_normal((100, 30)))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"x\.npz"):
        read(tmp_path / "x.npz")


def test_a_failed_save_leaves_the_old_archive(tmp_path):
    path = write(tmp_path / "x.npz")
    before = path.read_bytes()
    broken = toy(4)
    broken.attributes["bad"] = np.array([{}] * 4)
    object.__setattr__(broken, "split", 3)
    with pytest.raises(AttributeError):
        save_archive(broken, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.npz"]
