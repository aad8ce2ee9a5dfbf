"""Folders of pictures and text files of the same name."""

import pytest
from PIL import Image

from amodal.data import openable, read
from amodal.errors import DataError


def fill(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text(f"about {path.stem}\n")
        else:
            Image.new("RGB", (32, 32), "red").save(path)
    return folder


def test_a_picture_and_a_text_of_one_name_are_one_item(tmp_path):
    data = read(fill(tmp_path / "shop", "cat.png", "cat.txt", "dog.jpg", "idea.txt", "notes.pdf", ".hidden.txt"))
    assert data.name == "shop"
    assert data.ids.tolist() == ["cat", "dog", "idea"]
    assert data.presence().tolist() == [[True, True], [True, False], [False, True]]
    assert data["text"].read().tolist() == ["about cat", "about idea"]
    assert data["image"].read().tolist()[0].endswith("shop/cat.png")
    assert data.labels is None
    assert data.split is None


def test_sub_folders_are_classes(tmp_path):
    data = read(fill(tmp_path, "dog/rex.png", "cat/tom.png", "loose.png"))
    assert data.ids.tolist() == ["cat/tom", "dog/rex", "loose"]
    assert data.labels.names == ("cat", "dog")
    assert data.labels.known.tolist() == [True, True, False]


def test_train_and_test_folders_are_splits(tmp_path):
    data = read(fill(tmp_path, "train/dog/rex.png", "train/dog/rex.txt", "test/dog/fido.png"))
    assert data.split.tolist() == ["test", "train"]
    assert data.labels.names == ("dog",)


def test_empty_text_is_no_text(tmp_path):
    fill(tmp_path, "a.png", "b.png", "b.txt")
    (tmp_path / "a.txt").write_text("  \n")
    assert read(tmp_path).present("text").tolist() == [False, True]


def test_text_that_cannot_be_read_is_named_or_left_out(tmp_path):
    fill(tmp_path, "a.png", "b.png", "b.txt")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match=r"a\.txt: cannot be read as UTF-8"):
        read(tmp_path)
    problems = []
    data = read(tmp_path, skip_bad=True, problems=problems)
    assert data.present("text").tolist() == [False, True]
    assert len(problems) == 1


@pytest.mark.parametrize("harm", ["words", "half", "gone"])
def test_pictures_that_cannot_be_opened_are_named_or_left_out(tmp_path, harm):
    data = read(fill(tmp_path, "a.jpg", "a.txt", "b.jpg", "c.jpg", "c.txt"))
    for name in "ab":
        path = tmp_path / f"{name}.jpg"
        if harm == "words":
            path.write_text("no picture")
        elif harm == "half":
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
        else:
            path.unlink()
    with pytest.raises(DataError, match=r'item "a", image: the file .*a\.jpg (is not there|cannot be opened)'):
        openable(data)
    problems = []
    kept = openable(data, skip_bad=True, problems=problems)
    assert kept.ids.tolist() == ["a", "c"]
    assert kept.presence().tolist() == [[False, True], [True, True]]
    assert len(problems) == 2


def test_features_and_words_are_not_taken_for_pictures(tmp_path):
    (tmp_path / "x.csv").write_text("id,text\na,see the file photo.jpg\nb,words\nc,more\n")
    data = read(tmp_path / "x.csv")
    assert openable(data)["text"].read().tolist() == data["text"].read().tolist()
