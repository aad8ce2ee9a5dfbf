"""The folders of SYSU-MM01 and RegDB: who is on a picture, which camera saw it, and who may be learned from."""

import numpy as np
import pytest

from amodal.data import read, regdb_trial
from amodal.errors import DataError, UsageError
from tests.data.reidentification import regdb, sysu

SEEN = {1: (1, 3), 4: (2, 6), 7: (1, 2, 3), 12: (4, 5, 6)}


def test_sysu_pictures_are_items_of_one_modality(tmp_path):
    data = read(sysu(tmp_path / "SYSU-MM01", SEEN, each=2, train=(1,), val=(4,)))
    assert data.name == "SYSU-MM01"
    assert data.names == ("visible", "infrared")
    assert len(data) == 20
    assert (data.presence().sum(axis=1) == 1).all()
    np.testing.assert_array_equal(data.present("infrared"), np.isin(data.attributes["camera"], (3, 6)))
    row = data.ids.tolist().index("cam2/0007/0002")
    assert [data.attributes[name][row] for name in ("identity", "camera", "part")] == ["0007", 2, "test"]
    assert data["visible"].read()[data["visible"].item == row][0].endswith("SYSU-MM01/cam2/0007/0002.jpg")


def test_sysu_validation_people_are_learned_from_and_test_people_have_no_labels(tmp_path):
    data = read(sysu(tmp_path, SEEN, train=(1,), val=(4,)))
    assert dict(zip(data.attributes["part"], data.split, strict=True)) == {
        "train": "train",
        "val": "train",
        "test": "test",
    }
    np.testing.assert_array_equal(data.labels.known, data.split == "train")
    assert data.labels.names == ("0001", "0004")
    assert not set(data.part("train").attributes["identity"]) & set(data.part("test").attributes["identity"])


def test_sysu_problems_are_named(tmp_path):
    folder = sysu(tmp_path, SEEN)
    (folder / "exp" / "train_id.txt").write_text("1,99")
    with pytest.raises(DataError, match=r"exp/train_id\.txt: person 99 has no picture of visible or infrared"):
        read(folder)
    problems = []
    assert len(read(folder, skip_bad=True, problems=problems)) == 30
    assert len(problems) == 1
    (folder / "exp" / "train_id.txt").write_text("1,7")
    with pytest.raises(DataError, match=r"test_id\.txt: person 7 is in train_id\.txt too"):
        read(folder)
    (folder / "exp" / "train_id.txt").write_text("1,x")
    with pytest.raises(DataError, match="must hold numbers of people"):
        read(folder)


def test_one_modality_alone(tmp_path):
    data = read(sysu(tmp_path, SEEN), modalities=["infrared"])
    assert data.names == ("infrared",)
    assert set(data.attributes["camera"]) == {3, 6}


def test_regdb_reads_the_first_trial_and_knows_the_others(tmp_path):
    data = read(regdb(tmp_path / "RegDB", people=6, each=2, trials=10))
    assert len(data) == 24
    assert data.names == ("visible", "infrared")
    assert data.ids[0] == "Thermal/1/female_back_t_00000_1"
    assert set(data.part("train").attributes["identity"]) == {"2", "3", "4"}
    np.testing.assert_array_equal(data.split, data.attributes["trial 1"])
    for number in range(1, 11):
        trial = regdb_trial(data, number)
        learned = {str((number + k) % 6 + 1) for k in range(3)}
        assert set(trial.part("train").attributes["identity"]) == learned == set(trial.labels.names)
        np.testing.assert_array_equal(trial.labels.known, trial.split == "train")
        names = np.array(trial.labels.names)
        told = names[trial.labels.dense(trial.labels.known).argmax(axis=1)]
        np.testing.assert_array_equal(told, trial.attributes["identity"][trial.labels.known])


def test_regdb_problems_are_named(tmp_path):
    folder = regdb(tmp_path)
    data = read(folder)
    with pytest.raises(UsageError, match='unknown trial "trial 3"'):
        regdb_trial(data, 3)
    (folder / "Visible/1/female_back_v_00000_1.bmp").unlink()
    with pytest.raises(DataError, match=r"Visible/1/female_back_v_00000_1\.bmp: is in a list of idx/, but there is no"):
        read(folder)
    assert len(read(folder, skip_bad=True)) == len(data) - 1
    listing = folder / "idx" / "test_thermal_2.txt"
    whole = listing.read_text()
    listing.write_text(whole + "Thermal/3/x.bmp 0\n")
    with pytest.raises(DataError, match=r"test_thermal_2\.txt, line 7: person 3 is in the training list"):
        read(folder)
    listing.write_text("x.bmp 0\n")
    with pytest.raises(DataError, match=r"line 1: names \"x\.bmp\"; it must name a picture as Thermal/<person>"):
        read(folder)
    listing.unlink()
    with pytest.raises(DataError, match=r"test_thermal_2\.txt: cannot be read .* four lists"):
        read(folder)
