"""Files of wrong labels and wrong pairs, drawn on the command line."""

from amodal.data import WrongLabels, WrongPairs, read


def test_wrong_labels_and_wrong_pairs_are_files(amodal, tmp_path):
    labels, pairs = tmp_path / "labels.json", tmp_path / "pairs.json"
    told = amodal("data", "wrong-labels", "tiny", "0.3", "--out", labels, "--split", "train", "--json").json
    assert told == {"schema": 1, "file": str(labels), "sha256": WrongLabels.load(labels).sha256, "items": told["items"]}
    assert told["items"] == int(0.3 * len(read("tiny").part("train")))
    told = amodal("data", "wrong-pairs", "tiny", "0.4", "--out", pairs, "--seed", "3", "--json").json
    assert told["sha256"] == WrongPairs.load(pairs).sha256
    assert 0 < told["effective"] <= 0.4
    assert "observations moved" in amodal("data", "wrong-pairs", "tiny", "0.4", "--out", pairs).out


def test_rates_that_are_none_and_units_that_are_unknown_are_refused(amodal, tmp_path):
    for words in (("wrong-labels", "tiny", "1.5"), ("wrong-pairs", "tiny", "0.4", "--unit", "items")):
        result = amodal("data", *words, "--out", tmp_path / "x.json")
        assert result.code == 2
        assert not (tmp_path / "x.json").exists()
