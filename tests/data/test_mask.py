"""Mask files: two people drop the same things, and a changed file is noticed."""

import json

import numpy as np
import pytest

from amodal.data import Mask, incomplete, toy
from amodal.errors import DataError

DATA = toy(60, test=0.2)


def drawn():
    return Mask.draw(DATA, "hard", seed=4, mechanism="class", split="train")


def test_a_loaded_mask_does_the_same(tmp_path):
    drawn().save(tmp_path / "mask.json")
    loaded = Mask.load(tmp_path / "mask.json")
    wanted = incomplete(DATA, "hard", seed=4, mechanism="class", split="train").presence()
    np.testing.assert_array_equal(loaded.apply(DATA).presence(), wanted)
    assert loaded.sha256 == drawn().sha256
    assert (loaded.setting, loaded.seed, loaded.mechanism, loaded.split) == ("hard", 4, "class", "train")
    assert loaded.fingerprint == DATA.fingerprint()
    assert loaded.counts() == drawn().counts()


def test_items_are_found_by_id_whatever_their_order():
    mask, order = drawn(), np.random.default_rng(0).permutation(60)
    np.testing.assert_array_equal(mask.apply(DATA.take(order)).presence(), mask.apply(DATA).presence()[order])
    part = DATA.part("train")
    np.testing.assert_array_equal(mask.apply(part).presence(), mask.apply(DATA).part("train").presence())


def test_modalities_may_come_in_another_order():
    swapped = DATA.only(text="text", image="image")
    np.testing.assert_array_equal(drawn().apply(swapped).presence(), drawn().apply(DATA).presence()[:, ::-1])


def test_other_data_are_refused():
    with pytest.raises(DataError, match=r"does not know 61 of 61 items \(first: \"thing 0\"\)"):
        ids = np.array([f"thing {k}" for k in range(61)])
        drawn().apply(type(DATA)(ids, toy(61).modalities))
    with pytest.raises(DataError, match="is about image, text"):
        drawn().apply(DATA.only(image="image"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["keeps"][0]["items"].pop(), "hash does not fit"),
        (lambda content: content.update(seed=5), "hash does not fit"),
        (lambda content: content.pop("sha256"), "hash does not fit"),
        (lambda content: content.update(format="something else"), "is not a mask file"),
    ],
)
def test_a_changed_file_is_refused(tmp_path, change, message):
    path = tmp_path / "mask.json"
    drawn().save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        Mask.load(path)


def test_files_that_are_no_masks_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        Mask.load(tmp_path / "absent.json")
    (tmp_path / "half.json").write_text('{"format": "amodal')
    with pytest.raises(DataError, match="is not a mask file"):
        Mask.load(tmp_path / "half.json")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "mask.json"
    drawn().save(path)
    before = path.read_bytes()
    monkeypatch.setattr(json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        drawn().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_readable_by_people(tmp_path):
    drawn().save(tmp_path / "mask.json")
    content = json.loads((tmp_path / "mask.json").read_text())
    assert content["keeps"][0]["modalities"] == ["image", "text"]
    assert sum(len(group["items"]) for group in content["keeps"]) == 60
