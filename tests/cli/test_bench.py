"""``amodal bench`` as the issue that asked for it writes it, on a small archive."""

import json
import shutil

import numpy as np
import pytest

from tests.cli.conftest import SHORT

RUN = (
    "--modalities", "image,text=text_minilm", "--methods", "cich,label_regression", "--settings", "hard,complete",
    "--protocol", "heldout", "--bits", "64",
)  # fmt: skip
HERE = ("--workers", 1)
WAYS = {"image->text", "text->image"}


def test_a_grid_is_run_once_and_recorded(amodal, tmp_path):
    out = tmp_path / "runs"
    first = amodal("bench", "run", "tiny", *RUN, "--seeds", 3, "--out", out, *SHORT, *HERE)
    assert first.code == 0
    for word in ("Protocol heldout", "±", "label_regression", "chance", "control", "results.jsonl"):
        assert word in first.out
    assert all(json.loads(line)["progress"].startswith("runs") for line in first.err.splitlines())

    text = (out / "results.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    grid = {(one["method"], one["setting"], one["seed"]) for one in records}
    assert grid == {(m, s, k) for m in ("cich", "label_regression") for s in ("hard", "complete") for k in range(3)}
    assert len(records) == 12
    for one in records:
        check_record(one)
    masks = {(one["setting"], one["seed"]): one["hashes"]["mask"] for one in records}
    assert len({mask for (setting, _), mask in masks.items() if setting == "hard"}) == 3
    assert masks["complete", 0] is None

    second = amodal("bench", "run", "tiny", *RUN, "--seeds", 3, "--out", out, *SHORT)
    assert second.code == 0 and second.out == first.out
    assert (out / "results.jsonl").read_text() == text
    amodal("bench", "run", "tiny", *RUN, "--seeds", 4, "--out", out, *SHORT, *HERE)
    assert len((out / "results.jsonl").read_text().splitlines()) == 16


def check_record(one):
    assert one["schema"] == 1
    assert one["dataset"] == "tiny"
    assert one["protocol"] == "heldout"
    assert one["bits"] == (64 if one["method"] == "cich" else None)
    for measure in ("map", "recall@10", "chance", "chance.recall@10"):
        assert set(one["metrics"][measure]) == WAYS
    for way in WAYS:
        assert 0 < one["metrics"]["chance"][way] < 1
        assert 0 <= one["metrics"]["map"][way] <= 1
        assert 0 <= one["metrics"]["recall@10"][way] <= 100
    assert one["control"]["method"] == "label_regression"
    assert one["seconds"] > 0
    assert {"numpy", "torch"} <= set(one["environment"]["packages"])
    assert one["environment"]["amodal"]
    assert {"data", "protocol", "mask", "model"} == set(one["hashes"])


def test_the_table_is_the_mean_of_the_records(amodal, tmp_path):
    out = tmp_path / "runs"
    run = ("bench", "run", "tiny", *RUN[:2], "--methods", "label_regression", "--seeds", 2, "--out", out, *HERE)
    records = amodal("-q", *run, "--json").json["runs"]
    shown = amodal("bench", "show", out, "--json").json
    assert shown["schema"] == 1
    (row,) = shown["rows"]
    values = [record["metrics"]["map"]["image->text"] for record in records]
    assert row["cells"]["image->text"] == pytest.approx([np.mean(values), np.std(values, ddof=1)])
    assert f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" in amodal("bench", "show", out).out
    assert "recall@10, " in amodal("bench", "show", out, "--measure", "recall@10").out
    wrong = amodal("bench", "show", out, "--measure", "mpa")
    assert wrong.code == 2 and 'Did you mean "map"' in wrong.err


def test_one_seed_has_no_deviation(amodal, tmp_path):
    out = tmp_path / "runs"
    amodal("bench", "run", "tiny", *RUN[:2], "--methods", "label_regression", "--seeds", 1, "--out", out)
    assert amodal("bench", "show", out, "--json").json["rows"][0]["cells"]["mean"][1] is None
    assert "±" not in "".join(amodal("bench", "show", out).out.splitlines()[:-1])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--methods", "cihc"), 'unknown method "cihc". Did you mean "cich"'),
        (("--settings", "hard,hrad"), 'unknown setting "hrad". Did you mean "hard"'),
        (("--protocol", "held-out"), 'Did you mean "heldout"'),
        (("--bits", "64,many"), "--bits needs whole numbers"),
        (("--methods", "dch", "--set", "anchor=3"), 'Did you mean "anchors"'),
        (("--set", "epochs"), "--set needs name=value"),
        (("--set", "epochs="), "--set needs name=value"),
        (("--modalities", "image,image"), "each once"),
        (("--engine", "rai"), 'unknown engine "rai". Did you mean "ray"'),
        (("tiny:image,text=text_tfidf",), 'two data sets are called "tiny"'),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(amodal, tmp_path, words, sentence):
    refused = amodal("bench", "run", "tiny", "--modalities", "image,text=text_minilm", "--out", tmp_path / "r", *words)
    assert refused.code == 2
    assert sentence in refused.err
    assert list(tmp_path.iterdir()) == []


def test_data_that_are_not_there(amodal, tmp_path):
    refused = amodal("bench", "run", "tny", "--out", tmp_path / "r")
    assert refused.code == 3 and 'Did you mean "tiny"' in refused.err
    refused = amodal("bench", "run", "tiny", "--modalities", "image,text=text_minlm", "--out", tmp_path / "r")
    assert refused.code == 3 and 'Did you mean "text_minilm"' in refused.err
    empty = amodal("bench", "show", tmp_path)
    assert empty.code == 3 and "amodal bench run" in empty.err
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_is_told_and_the_rest_goes_on(amodal, tmp_path):
    words = ("--methods", "dch,label_regression", "--seeds", 1, "--out", tmp_path / "r", "--set", "variant=odd")
    failed = amodal("-q", "bench", "run", "tiny", "--modalities", "image,text=text_minilm", *words, *HERE, "--json")
    assert failed.code == 1
    assert "1 of 2 runs failed (first: dch at hard" in failed.err
    assert ["error" in run for run in failed.json["runs"]] == [False, True]
    assert len((tmp_path / "r" / "results.jsonl").read_text().splitlines()) == 1


def test_several_data_sets_each_with_its_modalities(amodal, archive, tmp_path):
    shutil.copytree(archive / "tiny", tmp_path / "data" / "small")
    sets = ("tiny:image,text=text_minilm", tmp_path / "data" / "small", "--modalities", "image,text_tfidf")
    words = ("--methods", "label_regression", "--seeds", 1, "--out", tmp_path / "r", *HERE)
    ran = amodal("-q", "bench", "run", *sets, *words, "--json")
    assert [(run["dataset"], set(run["metrics"]["map"])) for run in ran.json["runs"]] == [
        ("tiny", WAYS),
        ("small", {"image->text_tfidf", "text_tfidf->image"}),
    ]
    assert len((tmp_path / "r" / "results.jsonl").read_text().splitlines()) == 2
    shown = amodal("bench", "show", tmp_path / "r")
    assert "tiny" in shown.out and "small" in shown.out


def test_a_colon_may_belong_to_a_path(amodal, archive, tmp_path):
    shutil.copytree(archive / "tiny", tmp_path / "a:b")
    words = ("--methods", "label_regression", "--seeds", 1, "--out", tmp_path / "r", *HERE, "--json")
    chosen = ("--modalities", "image,text_tfidf")
    assert amodal("-q", "bench", "run", tmp_path / "a:b", *chosen, *words).json["runs"][0]["dataset"] == "a:b"
    (again,) = amodal("-q", "bench", "run", f"{tmp_path / 'a:b'}:image,text_tfidf", *words).json["runs"]
    assert again["dataset"] == "a:b"
    assert len((tmp_path / "r" / "results.jsonl").read_text().splitlines()) == 1


TUNE = ("bench", "tune", "tiny", "--modalities", "image,text=text_minilm", "--method", "dch", "--bits", 16)
FEW = ("--set", "anchors=20", "--set", "variant=relaxed")


def test_a_search_says_how_to_use_what_it_found(amodal, tmp_path):
    first = amodal("-q", *TUNE, *FEW, "--trials", 3, "--out", tmp_path / "t")
    assert first.code == 0
    assert (tmp_path / "t" / "study.db").exists()
    found = amodal("-q", *TUNE, *FEW, "--trials", 3, "--out", tmp_path / "t", "--json").json
    assert len(found["trials"]) == 3
    assert found["score"] == max(trial["score"] for trial in found["trials"])
    assert f"{found['score']:.4f}" in first.out
    use = ["amodal bench run tiny", *TUNE[3:5], "--methods dch --bits 16", *FEW, "--set", " --set ".join(found["set"])]
    assert " ".join(use) in " ".join(first.out.split())
    words = [word for name in (*FEW[1::2], *found["set"]) for word in ("--set", name)]
    ran = amodal("-q", "bench", "run", "tiny", *TUNE[3:5], "--methods", "dch", "--bits", 16, *words, *HERE,
                 "--seeds", 1, "--out", tmp_path / "r", "--json")  # fmt: skip
    assert ran.json["runs"][0]["config"].items() >= found["params"].items()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--method", "dhc"), 'Did you mean "dch"'),
        (("--setting", "hrad"), 'Did you mean "hard"'),
        (("--set", "anchor=3"), 'Did you mean "anchors"'),
    ],
)
def test_a_search_for_nothing_is_refused(amodal, tmp_path, words, sentence):
    refused = amodal(*TUNE, "--out", tmp_path / "t", *words)
    assert refused.code == 2
    assert sentence in refused.err
    assert list(tmp_path.iterdir()) == []
