"""Recipes: those we ship name what exists and carry sources; those that are wrong are refused before anything runs."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from amodal.benchmark import recipes
from amodal.benchmark.comparison import caption, compare
from amodal.benchmark.grid import run_grid
from amodal.errors import DataError, UsageError
from amodal.methods.registry import METHODS


def test_there_is_one_for_each_published_table():
    tables = [f"cich_table{number}" for number in (2, 3, 4, 5)]
    complete = [f"{slug}_complete" for slug in ("agah", "dadh", "dchmt", "dcmh", "ssah")]
    assert recipes.names() == sorted(tables + complete)


@pytest.mark.parametrize("name", recipes.names())
def test_ours_hold(name):
    recipe = recipes.load(name)
    assert recipe.name == name
    assert recipe.paper
    assert recipe.url.startswith("https://")
    for run in recipe.runs():
        run.build()
    for printed in recipe.printed:
        assert recipe.sources[printed.source]
    used = {printed.row for printed in recipe.printed}, {printed.set for printed in recipe.printed}
    assert used == (set(recipe.entries), {use.set for use in recipe.data}), "a row or data set without numbers"
    for entry in recipe.methods:
        assert entry.method is not None or entry.row.lower() not in METHODS, f"{entry.row} is ours by now"
    for printed in recipe.printed:
        if "mean" in recipe.columns and len(printed.values) == 3 and not printed.note:
            assert abs(np.mean(printed.values[:2]) - printed.values[2]) < 0.0011, printed


GOOD = """\
name: small
title: A table
paper: Somebody, 2020
url: https://example.org
protocol: cich-extend
inputs: features
seeds: 2
data:
  - {set: mirflickr25k, queries: 10, train: 40}
methods:
  - {row: Theirs, method: dch}
  - {row: Flat, method: dch, params: {anchors: 0}}
  - {row: Other, why: never written}
columns: [image->text, text->image, mean]
sources: {paper: Table 1, rerun: another}
printed:
  - {set: mirflickr25k, row: Theirs, setting: hard, bits: 8, values: [.4, .5, .45], source: paper}
  - {set: mirflickr25k, row: Theirs, setting: hard, bits: 8, values: [.3, .7, null], source: rerun}
  - {set: mirflickr25k, row: Flat, bits: 16, values: [.4, .5, .45], source: rerun, note: odd}
  - {set: mirflickr25k, row: Other, bits: 8, values: [.1, .2, .15], source: paper}
"""


@pytest.fixture
def written(tmp_path):
    def write(old="", new=""):
        assert old in GOOD
        path = tmp_path / "small.yaml"
        path.write_text(GOOD.replace(old, new, 1))
        return path

    return write


@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ("protocol:", "protcol:", 5, 'unknown key "protcol". Did you mean "protocol"'),
        ("queries: 10", "query: 10", 9, 'unknown key "query". Did you mean "queries"'),
        ("method: dch}", "methods: dch}", 11, 'unknown key "methods". Did you mean "method"'),
        ("values: [.4", "value: [.4", 17, 'unknown key "value". Did you mean "values"'),
        ("method: dch}", "method: dhc}", 11, 'unknown method "dhc". Did you mean "dch"'),
        ("dch}", "cich_paper, preset: papr}", 11, 'unknown preset of cich_paper "papr". Did you mean "paper"'),
        ("{anchors: 0}", "{anchros: 0}", 12, 'unknown argument of dch "anchros". Did you mean "anchors"'),
        ("{anchors: 0}", "{bits: 3}", 12, '"bits" is no argument of a row'),
        ("set: mirflickr25k, q", "set: mirflickr, q", 9, 'unknown data set "mirflickr". Did you mean "mirflickr25k"'),
        ("setting: hard", "setting: hrad", 17, 'unknown setting "hrad". Did you mean "hard"'),
        ("cich-extend", "cich-extent", 5, 'unknown protocol "cich-extent". Did you mean "cich-extend"'),
        ("[image->text,", "[image->txt,", 14, 'unknown column "image->txt". Did you mean "image->text"'),
        ("row: Theirs, s", "row: Their, s", 17, 'unknown row of this recipe "Their". Did you mean "Theirs"'),
        ("source: rerun}", "source: rerum}", 18, 'unknown source of this recipe "rerum"'),
        ("[.4, .5, .45]", "[.4, .5]", 17, "there must be 3 values between 0 and 1"),
        ("[.4, .5, .45]", "[40, 50, 45]", 17, "there must be 3 values between 0 and 1"),
        ("[.4, .5, .45]", "4", 17, '"values" must be a list'),
        ("queries: 10", "queries: ten", 9, "\"queries\" must be a whole number; got 'ten'"),
        ("queries: 10, ", "", 9, 'has no "queries"'),
        ("why: never written", "note: x", 13, 'unknown key "note"'),
        (", why: never written", "", 13, '"Other" has no method'),
        ("inputs: features", "inputs: features\ninputs: features", 7, 'key "inputs" stands here twice'),
        ("source: rerun}", "source: paper}", 18, "stand here a second time"),
        ("title: A table", "title: A: table", 2, "is not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_line_and_nearest_word(written, old, new, line, sentence):
    path = written(old, new)
    with pytest.raises(UsageError) as caught:
        recipes.load(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert sentence in str(caught.value)


def test_no_such_recipe(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r'unknown recipe "cich_table1". Did you mean "cich_table'):
        recipes.load("cich_table1")
    with pytest.raises(UsageError, match="cannot be read"):
        recipes.load(tmp_path / "nothing.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    with pytest.raises(UsageError, match="is empty"):
        recipes.load(tmp_path / "empty.yaml")
    assert recipes.is_recipe("dcmh_complete")
    assert recipes.is_recipe("mine.yaml")
    assert not recipes.is_recipe("wikipedia")
    assert recipes.is_recipe("cich_tabel2"), "so that the nearest recipe is named"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cich_tabel2").mkdir()
    assert not recipes.is_recipe("cich_tabel2"), "these are data"


def test_runs_are_what_is_printed_or_a_part_of_it(written):
    recipe = recipes.load(written())
    every = [(run.method, run.setting, run.bits, run.seed, dict(run.params)) for run in recipe.runs()]
    flat = {"anchors": 0}
    assert every == [
        ("dch", "hard", 8, 0, {}), ("dch", "hard", 8, 1, {}),
        ("dch", "complete", 16, 0, flat), ("dch", "complete", 16, 1, flat),
    ]  # fmt: skip
    assert {run.protocol for run in recipe.runs()} == {"cich-extend"}
    assert len(recipe.runs(seeds=5, bits=[8])) == 5
    assert [dict(run.params) for run in recipe.runs(methods=["Flat"], seeds=1)] == [flat]
    assert len(recipe.runs(methods=["dch"], settings=["hard"])) == 2
    with pytest.raises(UsageError, match='recipe small: unknown row "Other"'):
        recipe.runs(methods=["Other"])
    with pytest.raises(UsageError, match='unknown code length "32"'):
        recipe.runs(bits=[32])
    with pytest.raises(UsageError, match="prints no numbers for that choice"):
        recipe.runs(bits=[16], settings=["hard"])


def mirflickr(folder, n=60):
    random = np.random.default_rng(0)
    classes = random.integers(0, 3, n)
    labels = np.eye(3, dtype=np.uint8)[classes]
    folder.mkdir()
    savemat(folder / "mirflickr25k-iall.mat", {"IAll": random.standard_normal((n, 8)) + 3 * labels @ np.eye(3, 8)})
    savemat(folder / "mirflickr25k-yall.mat", {"YAll": (random.random((n, 6)) < 0.1 + 0.8 * labels @ np.eye(3, 6))})
    savemat(folder / "mirflickr25k-lall.mat", {"LAll": labels})


def test_from_files_to_numbers_beside_the_printed_ones(written, tmp_path):
    mirflickr(tmp_path / "MIRFLICKR25K")
    recipe = recipes.load(written())
    data, missing = recipe.gather(tmp_path)
    assert missing == ""
    assert [len(data["mirflickr25k"].part(name)) for name in ("train", "test", "unused")] == [40, 10, 10]
    records = list(run_grid(recipe.runs(), data, tmp_path / "out"))
    assert not [line for line in records if "error" in line]
    theirs, flat, other = compare(recipe, json.loads(json.dumps(records)))
    assert (theirs.row, theirs.method, theirs.setting, theirs.bits, theirs.seeds) == ("Theirs", "dch", "hard", 8, 2)
    assert theirs.printed == {"image->text": 0.4, "text->image": 0.5, "mean": 0.45}
    assert theirs.band == {"image->text": (0.3, 0.4), "text->image": (0.5, 0.7), "mean": (0.45, 0.45)}
    maps = [line["metrics"]["map"]["image->text"] for line in records[:2]]
    assert theirs.own["image->text"] == pytest.approx((np.mean(maps), np.std(maps, ddof=1)))
    assert theirs.difference["image->text"] == pytest.approx(np.mean(maps) - 0.4)
    both = [np.mean(list(line["metrics"]["map"].values())) for line in records[:2]]
    assert theirs.own["mean"] == pytest.approx((np.mean(both), np.std(both, ddof=1)))
    assert (flat.method, flat.source, flat.note, flat.seeds) == ("dch anchors=0", "rerun", "odd", 2)
    assert flat.own["mean"] != theirs.own["mean"]
    assert (other.method, other.own, other.difference) == ("", {}, {})
    text = "\n".join(caption(recipe, data))
    assert "protocol cich-extend: Learned from incomplete training items" in text
    assert "Ties: average" in text
    assert "MIRFLICKR-25K, differs from the paper's: 60 items where papers have 20,015." in text
    assert "Other: never written" in text


def test_fewer_items_than_the_paper_are_in_the_caption(written, tmp_path):
    mirflickr(tmp_path / "mirflickr25k", n=45)
    recipe = recipes.load(written())
    data, _ = recipe.gather(tmp_path)
    assert "35 training items in place of 40." in "\n".join(caption(recipe, data))


def test_absent_data_are_listed(written, tmp_path):
    recipe = recipes.load(written("queries: 10, train: 40}", "queries: 10, train: 40}\n  - {set: mscoco, queries: 5}"))
    with pytest.raises(DataError, match="its data are not here") as caught:
        recipe.gather(tmp_path)
    assert "mirflickr25k-yall.mat" in str(caught.value)
    assert "MSCOCO_deep_doc2vec_data_rand.h5py" in str(caught.value)
    mirflickr(tmp_path / "mirflickr25k")
    data, missing = recipe.gather(tmp_path)
    assert list(data) == ["mirflickr25k"]
    assert "MS COCO (122,218 items" in missing
