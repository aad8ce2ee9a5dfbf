"""Data sets of published tables: found under any of their names and forms, divided as papers do, missed in words."""

import os

import numpy as np
import pytest
from scipy.io import savemat

from amodal.data import save_archive, toy
from amodal.data.published import PUBLISHED, divide, get_card, load
from amodal.errors import DataError, UsageError

RNG = np.random.default_rng(0)
IMAGE, TAGS = RNG.standard_normal((30, 6)).astype(np.float32), (RNG.random((30, 5)) < 0.5).astype(np.uint8)
LABELS = np.eye(30, 4, dtype=np.uint8)


def mirflickr(folder):
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / "mirflickr25k-iall-vgg.mat", {"XAll": IMAGE})
    savemat(folder / "mirflickr25k-yall.mat", {"YAll": TAGS})
    savemat(folder / "mirflickr25k-lall.mat", {"LAll": LABELS})


@pytest.mark.parametrize("folder", ["mirflickr25k", "MIRFLICKR25K", "Cleared-Set", "."])
def test_found_in_a_folder_of_any_of_its_names_or_right_here(tmp_path, folder):
    mirflickr(tmp_path / folder)
    data = load(get_card("mirflickr25k"), tmp_path)
    np.testing.assert_array_equal(data["image"].read(), IMAGE)
    np.testing.assert_array_equal(data.labels.dense(), LABELS)
    assert (data.name, data.names) == ("mirflickr25k", ("image", "text"))


def test_one_file_and_another_set_beside_it(tmp_path):
    savemat(tmp_path / "flickr-25k.mat", {"images": IMAGE, "YAll": TAGS, "LAll": LABELS})
    halves = {"VDatabase": IMAGE[:20], "YDatabase": TAGS[:20], "databaseL": LABELS[:20]}
    savemat(tmp_path / "IAPR-TC12-rand.mat", {**halves, "VTest": IMAGE[20:], "YTest": TAGS[20:], "testL": LABELS[20:]})
    assert load(get_card("mirflickr25k"), tmp_path).split is None
    data = load(get_card("iapr_tc12"), tmp_path)
    assert len(data.part("train")) == 20
    assert data.name == "iapr_tc12"


def test_features_of_ones_own(tmp_path):
    (tmp_path / "coco").mkdir()
    save_archive(toy(20), tmp_path / "coco/features.npz")
    assert len(load(get_card("mscoco"), tmp_path)) == 20
    assert len(load(get_card("mscoco"), tmp_path / "coco")) == 20
    with pytest.raises(DataError, match=r"NUS-WIDE .* is not complete under"):  # somebody else's features
        load(get_card("nuswide"), tmp_path / "coco")


def test_what_is_missing_is_said_file_by_file(tmp_path):
    mirflickr(tmp_path / "mirflickr25k")
    (tmp_path / "mirflickr25k/mirflickr25k-iall-vgg.mat").unlink()
    with pytest.raises(DataError) as caught:
        load(get_card("mirflickr25k"), tmp_path)
    text = str(caught.value)
    assert f"(20,015 items, about 439 MB in memory) is not complete under {tmp_path}" in text
    assert str(tmp_path / "mirflickr25k") in text
    assert "1. missing mirflickr25k-iall-vgg.mat or mirflickr25k-iall.mat: XAll or IAll (4,096 columns: image)" in text
    assert "1. found   mirflickr25k-yall.mat" in text
    assert "2. missing FLICKR-25K.mat" in text
    assert caught.value.exit_code == 3
    with pytest.raises(DataError, match="is not complete under"):
        load(get_card("mirflickr25k"), tmp_path / "nowhere")


def test_differences_from_what_papers_use(tmp_path):
    mirflickr(tmp_path)
    found = get_card("mirflickr25k").differences(load(get_card("mirflickr25k"), tmp_path))
    assert found == [
        "30 items where papers have 20,015",
        "4 classes where papers have 24",
        "6 features of image where papers have 4,096",
        "5 features of text where papers have 1,386",
    ]


def test_divided_as_the_released_code_of_cich_does():
    data = toy(50)
    divided = divide(data, queries=10)
    order = np.random.RandomState(0).permutation(50)
    assert (divided.split[order[:40]] == "train").all()
    assert (divided.split[order[40:]] == "test").all()
    assert (divide(data, queries=10, train=400).split == divided.split).all()
    with pytest.raises(DataError, match="50 items, which leaves none"):
        divide(data, queries=50)


def test_halves_are_drawn_from_where_they_are_large_enough(tmp_path):
    halves = {"VDatabase": IMAGE[:20], "YDatabase": TAGS[:20], "databaseL": LABELS[:20]}
    savemat(tmp_path / "iapr-tc12.mat", {**halves, "VTest": IMAGE[20:], "YTest": TAGS[20:], "testL": LABELS[20:]})
    data = load(get_card("iapr_tc12"), tmp_path)
    divided = divide(data, queries=6, train=20)
    assert set(np.flatnonzero(divided.split == "test")) < set(range(20, 30))
    assert np.flatnonzero(divided.split == "train").tolist() == list(range(20))
    assert (divided.split == "unused").sum() == 4
    assert set(np.flatnonzero(divide(data, queries=12, train=18).split == "test")) & set(range(20))


def test_unknown_set():
    with pytest.raises(UsageError, match=r'unknown data set "mirflickr"\. Did you mean "mirflickr25k"'):
        get_card("mirflickr")


def test_cards_are_whole():
    names = [name for card in PUBLISHED.values() for name in (card.slug, *card.folders)]
    assert len(names) == len(set(names)), "two sets would take the same folder"
    for slug, card in PUBLISHED.items():
        assert slug == card.slug
        assert all(name == name.lower() for name in card.folders)
        for form in card.forms:
            assert {role for file in form for role in file.holds.values()} == {"image", "text", "label"}


@pytest.mark.skipif("AMODAL_DATA" not in os.environ, reason="AMODAL_DATA names no folder of real data")
def test_real_mirflickr_lacks_its_pictures():
    with pytest.raises(DataError) as caught:
        load(get_card("mirflickr25k"))
    assert "1. missing mirflickr25k-iall-vgg.mat" in str(caught.value)
    assert "1. found   mirflickr25k-lall.mat" in str(caught.value)
