"""``bench run RECIPE``: printed numbers beside ours on the field's files, parts of it, and data that are not there."""

import numpy as np
import pytest
from scipy.io import savemat

RECIPE = """\
name: small
title: A table
paper: Somebody, 2020
url: https://example.org
protocol: cich-extend
inputs: features of theirs
seeds: 2
data:
  - {set: mirflickr25k, queries: 20, train: 60}
  - {set: mscoco, queries: 5}
methods:
  - {row: Theirs, method: dch}
  - {row: Another, method: cca_itq}
columns: [image->text, mean]
sources: {paper: "Table 1, page 9", rerun: another paper}
printed:
  - {set: mirflickr25k, row: Theirs, setting: hard, bits: 8, values: [.4, .45], source: paper, note: odd}
  - {set: mirflickr25k, row: Theirs, setting: hard, bits: 8, values: [.3, null], source: rerun}
  - {set: mirflickr25k, row: Another, bits: 4, values: [.4, .45], source: paper}
  - {set: mscoco, row: Another, bits: 4, values: [.4, .45], source: paper}
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "small.yaml").write_text(RECIPE)
    return tmp_path / "small.yaml"


@pytest.fixture
def sets(tmp_path):
    random = np.random.default_rng(0)
    labels = np.eye(3, dtype=np.uint8)[random.integers(0, 3, 80)]
    folder = tmp_path / "sets/MIRFLICKR25K"
    folder.mkdir(parents=True)
    savemat(folder / "mirflickr25k-iall-vgg.mat", {"XAll": random.standard_normal((80, 8)) + 3 * labels @ np.eye(3, 8)})
    savemat(folder / "mirflickr25k-yall.mat", {"YAll": random.random((80, 6)) < 0.1 + 0.8 * labels @ np.eye(3, 6)})
    savemat(folder / "mirflickr25k-lall.mat", {"LAll": labels})
    return folder.parent


def test_numbers_beside_ours(amodal, recipe, sets, tmp_path):
    asked = ("-q", "bench", "run", recipe, "--data", sets, "--out", tmp_path / "out", "--workers", 1)
    found = amodal(*asked, "--json").json
    assert (found["schema"], found["recipe"]) == (1, "small")
    theirs, another = found["comparison"]
    assert (theirs["method"], theirs["seeds"], theirs["printed"]) == ("dch", 2, {"image->text": 0.4, "mean": 0.45})
    ours = theirs["own"]["image->text"][0]
    assert 0 < ours <= 1
    assert theirs["difference"]["image->text"] == pytest.approx(ours - 0.4)
    assert theirs["band"]["image->text"] == [0.3, 0.4]
    assert (another["row"], another["bits"]) == ("Another", 4)
    assert "MSCOCO_deep_doc2vec_data_rand.h5py" in found["missing"]

    printed = amodal(*asked).out
    flat = " ".join(printed.split())
    for words in (
        "A table (Somebody, 2020)",
        f"{ours - 0.4:+.3f}",
        "0.300-0.400 / 0.450-0.450",
        "protocol cich-extend: Learned from incomplete training items",
        "Ties: average",
        "paper: Table 1, page 9",
        "80 items where papers have 20,015",
        "Not run, for want of data: MS COCO",
        "* Theirs, mirflickr25k, hard: odd.",
    ):
        assert words in flat, words
    assert len((tmp_path / "out/results.jsonl").read_text().splitlines()) == 4, "what is finished is not repeated"


def test_a_part_of_it(amodal, recipe, sets, tmp_path):
    asked = ("-q", "bench", "run", recipe, "--data", sets, "--out", tmp_path / "out", "--workers", 1)
    found = amodal(*asked, "--methods", "Theirs", "--seeds", 1, "--json").json
    assert [(line["row"], line["seeds"]) for line in found["comparison"]] == [("Theirs", 1)]
    assert found["missing"] == "", "data of other rows are not asked for"
    wrong = amodal(*asked, "--methods", "Their")
    assert wrong.code == 2
    assert 'unknown row "Their". Did you mean "Theirs"' in wrong.err
    assert amodal(*asked, "--protocol", "heldout").code == 2
    assert "--data goes with a recipe" in amodal("bench", "run", "tiny", "--data", sets, "--out", tmp_path / "x").err


def test_data_that_are_not_there_end_with_3(amodal, tmp_path):
    found = amodal("bench", "run", "dcmh_complete", "--data", tmp_path, "--out", tmp_path / "out")
    assert found.code == 3
    for words in (
        "recipe dcmh_complete: its data are not here",
        f"Put one of these into {tmp_path / 'mirflickr25k'}",
        "(20,015 items, about 439 MB in memory)",
        "mirflickr25k-iall-vgg.mat",
        "FLICKR-25K.mat",
    ):
        assert words in found.err, words
    assert not (tmp_path / "out").exists()


def test_a_wrong_key_fails_before_anything_runs(amodal, recipe, sets, tmp_path):
    recipe.write_text(RECIPE.replace("queries: 20", "query: 20"))
    found = amodal("bench", "run", recipe, "--data", sets, "--out", tmp_path / "out")
    assert found.code == 2
    assert f'{recipe}, line 9: unknown key "query". Did you mean "queries"' in found.err
    assert not (tmp_path / "out").exists()
