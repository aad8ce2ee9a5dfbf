"""Finding the reader that fits, and picking modalities by words. Every reader has an example here."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from amodal.data import READERS, pick, read, save_archive, toy
from amodal.errors import DataError, MissingModality, UsageError
from tests.data import reidentification


def archive(folder):
    save_archive(toy(6), folder / "toy.npz")
    return folder / "toy.npz"


def mat(folder):
    savemat(folder / "x-iall.mat", {"IAll": np.ones((6, 3))})
    return folder / "x-iall.mat"


def manifest(folder):
    (folder / "x.csv").write_text("id,text\n" + "".join(f"{k},word\n" for k in range(6)))
    return folder / "x.csv"


def pictures(folder):
    for k in range(6):
        Image.new("RGB", (8, 8)).save(folder / f"{k}.png")
    return folder


def sysu(folder):
    return reidentification.sysu(folder, {1: (1, 3), 2: (6,)}, each=2)


def regdb(folder):
    return reidentification.regdb(folder, people=2, each=2, trials=1, left_out=2)


def regions(folder):
    np.save(folder / "test_ims.npy", np.ones((6, 4, 3), dtype=np.float32))
    (folder / "test_caps.txt").write_text("a caption\n" * 30)
    return folder


EXAMPLES = {
    "regions": regions,
    "archive": archive,
    "mat": mat,
    "manifest": manifest,
    "sysu-mm01": sysu,
    "regdb": regdb,
    "folder": pictures,
}


def test_every_reader_has_an_example():
    assert set(EXAMPLES) == set(READERS)
    assert all(reader.name == name and reader.description for name, reader in READERS.items())


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_format_is_recognised_by_its_reader_alone(name, tmp_path):
    path = EXAMPLES[name](tmp_path)
    found = [reader.name for reader in READERS.values() if reader.matches(path)]
    if name in ("sysu-mm01", "regdb", "regions"):
        assert found.pop() == "folder", "which comes last, and takes any pictures and texts that no other reader knows"
    assert found == [name]
    assert len(read(path)) == 6


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_modality_that_is_not_there_is_named(name, tmp_path):
    path = EXAMPLES[name](tmp_path)
    with pytest.raises(MissingModality, match=f'{path.name}.*unknown modality "sound".*Known: '):
        read(path, modalities=["sound"])


@pytest.mark.parametrize("name", ["archive", "mat"])
def test_a_truncated_file_is_named(name, tmp_path):
    path = EXAMPLES[name](tmp_path)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(DataError, match=rf"{path.name}: is truncated, damaged or no .* again\."):
        read(path)


def test_names_under_the_data_folder(tmp_path, monkeypatch):
    (tmp_path / "shapes").mkdir()
    save_archive(toy(6), tmp_path / "shapes" / "features.npz")
    monkeypatch.setenv("AMODAL_DATA", str(tmp_path))
    data = read("shapes")
    assert (data.name, len(data)) == ("shapes", 6)
    with pytest.raises(DataError, match='Did you mean "shapes"'):
        read("shape")


def test_what_is_not_there_or_has_no_format_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("AMODAL_DATA", raising=False)
    with pytest.raises(DataError, match="there is no such file or folder"):
        read(tmp_path / "nothing.npz")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match="is empty"):
        read(tmp_path / "empty.csv")
    (tmp_path / "x.docx").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"has no format that amodal reads\. Known: archive .*manifest"):
        read(tmp_path / "x.docx")


def test_pick_takes_and_renames():
    data = pick(toy(5, {"image": 3, "text": 4, "text_minilm": 5}), "image, text=text_minilm")
    assert data.names == ("image", "text")
    assert data["text"].dim == 5
    for words in ("image,,text", "image,image", "", "=text"):
        with pytest.raises(UsageError, match="write names apart by commas"):
            pick(data, words)
    with pytest.raises(MissingModality, match='unknown modality "words"'):
        pick(data, "image,text=words")
