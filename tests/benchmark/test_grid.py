"""Grids: checked before anything runs, on disk as they go, never repeated, never stopped by one run."""

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from amodal.benchmark import carry_out, plan, read_results, run_grid, runs, summarise
from amodal.data import toy
from amodal.errors import DataError, MethodError, UsageError
from amodal.methods import get
from amodal.methods.registry import METHODS
from amodal.training import Training
from tests.evaluation.toys import split_toy
from tests.training.tiny import Tiny

DATA = split_toy(150)
QUICK = {"anchors": 20}


def grid(methods=("dch", "label_regression"), settings=("hard",), **options):
    options = {"seeds": 2, "bits": (8,), "params": QUICK, "modalities": DATA.names, **options}
    return plan("toys", methods, settings, **options)


@pytest.fixture(autouse=True)
def _tiny_is_registered(monkeypatch):
    monkeypatch.setitem(METHODS, "tiny", ("tests.training.tiny", "Tiny"))


@pytest.fixture
def fits(monkeypatch):
    """Every fit, as (slug, seed), in order."""
    seen = []
    for slug in ("dch", "cca_itq", "label_regression"):
        method = get(slug)
        fit = method.fit

        def spy(self, data, *, fit=fit, **options):
            seen.append((self.card.slug, self.seed))
            return fit(self, data, **options)

        monkeypatch.setattr(method, "fit", spy)
    return seen


def lines(path):
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_a_grid_is_every_combination_with_the_control_first():
    made = grid(("dch", "label_regression", "cca_itq"), ("hard", "complete"), bits=(8, 16), seeds=2)
    assert [(run.method, run.bits, run.seed) for run in made[:5]] == [
        ("label_regression", None, 0),
        ("dch", 8, 0),
        ("dch", 16, 0),
        ("cca_itq", 8, 0),
        ("cca_itq", 16, 0),
    ]
    assert len(made) == 2 * 2 * 5
    assert {(run.setting, run.seed) for run in made} == {(s, k) for s in ("hard", "complete") for k in (0, 1)}
    assert {run.method: dict(run.params) for run in made} == {"dch": QUICK, "label_regression": {}, "cca_itq": QUICK}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"methods": ("dch", "cihc")}, r'"cihc".*Did you mean "cich"'),
        ({"settings": ("hard", "hrad")}, r'"hrad".*Did you mean "hard"'),
        ({"settings": ("one-sided-txt-missing-50",)}, r'"txt".*Did you mean "text"'),
        ({"protocol": "held-out"}, r'"held-out".*Did you mean "heldout"'),
        ({"params": {"anchor": 3}}, r'argument of label_regression or dch "anchor".*Did you mean "anchors"'),
        ({"params": {"seed": 3}}, '"seed" is a side of the grid. Give seeds'),
        ({"params": {"bits": 3}}, '"bits" is a side of the grid. Give bits'),
        ({"preset": "paper"}, 'unknown preset of label_regression or dch "paper"'),
        ({"preset": "fats", "methods": ("tiny",), "params": {}}, r'"fats".*Did you mean "fast"'),
    ],
)
def test_unknown_names_are_refused_before_anything_runs(wrong, sentence, fits):
    with pytest.raises(UsageError, match=sentence):
        grid(**wrong)
    assert fits == []


def test_a_preset_goes_to_the_methods_that_have_it():
    made = grid(("tiny", "label_regression"), params={}, bits=(16,), preset="fast", seeds=1)
    assert [(run.method, run.preset) for run in made] == [("label_regression", None), ("tiny", "fast")]
    assert made[1].build().params() == {**Tiny().params(), "rate": 0.05, "epochs": 2, "bits": 16}


def test_every_run_is_a_line_with_its_metrics(tmp_path):
    records = list(run_grid(grid(), DATA, tmp_path))
    assert lines(tmp_path / "results.jsonl") == records
    assert [(line["method"], line["seed"], line["bits"]) for line in records] == [
        ("label_regression", 0, None),
        ("dch", 0, 8),
        ("label_regression", 1, None),
        ("dch", 1, 8),
    ]
    for line in records:
        assert {"method", "dataset", "setting", "protocol", "bits", "seed", "metrics", "seconds"} <= set(line)
        assert line["dataset"] == "toys"
        assert line["metrics"]["map"]["image->text"] > line["metrics"]["chance"]["image->text"]
        assert set(line["phases"]) == set(line["cpu_phases"]) == {"fit", "evaluate"}
        assert line["seconds"] == pytest.approx(sum(line["phases"].values()), abs=0.01)
        path = tmp_path / line["per_query"]["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == line["per_query"]["sha256"]
        with np.load(path) as values:
            assert values["image->text"].mean() == pytest.approx(line["metrics"]["map"]["image->text"])
    assert not (tmp_path / "failures.jsonl").exists()


def test_the_control_is_fitted_once_for_each_gaps(tmp_path, fits):
    records = list(run_grid(grid(("dch", "cca_itq", "label_regression"), seeds=2), DATA, tmp_path))
    assert sorted(fits) == sorted((slug, seed) for slug in ("label_regression", "dch", "cca_itq") for seed in (0, 1))
    for line in records:
        own = next(r for r in records if r["method"] == "label_regression" and r["seed"] == line["seed"])
        assert line["control"]["metrics"] == own["metrics"]


def test_the_control_is_fitted_where_nobody_asked_for_it(tmp_path, fits):
    records = list(run_grid(grid(("dch", "cca_itq"), seeds=1), DATA, tmp_path))
    assert fits == [("dch", 0), ("label_regression", 0), ("cca_itq", 0)]
    alone = list(run_grid(grid(("label_regression",), params={}, seeds=1), DATA, tmp_path / "other"))
    assert records[0]["control"]["metrics"] == alone[0]["metrics"]


def test_another_control_is_not_the_control(tmp_path, fits):
    name = next(name for name in get("label_regression").search_space)
    value = get("label_regression").search_space[name][0]
    records = list(run_grid(grid(params={**QUICK, name: value}, seeds=1), DATA, tmp_path))
    assert fits == [("label_regression", 0), ("label_regression", 0), ("dch", 0)]
    plain = next(run_grid(grid(("label_regression",), params={}, seeds=1), DATA, tmp_path / "other"))
    assert [line["control"]["metrics"] for line in records] == [plain["metrics"]] * 2


def test_a_finished_grid_repeats_nothing(tmp_path, fits):
    first = list(run_grid(grid(), DATA, tmp_path))
    count = len(fits)
    assert list(run_grid(grid(), DATA, tmp_path)) == first
    assert len(fits) == count
    longer = list(run_grid(grid(("dch", "label_regression", "cca_itq"), seeds=3), DATA, tmp_path))
    assert [line for line in longer if line in first] == first
    # the controls of seeds 0 and 1 are read, that of seed 2 is new
    assert fits[count:] == [("cca_itq", 0), ("cca_itq", 1), ("label_regression", 2), ("dch", 2), ("cca_itq", 2)]


def test_an_interrupted_grid_goes_on(tmp_path, fits):
    running = run_grid(grid(seeds=3), DATA, tmp_path)
    for _ in range(3):
        next(running)
    running.close()
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"key": "torn by a kill')
    before = list(fits)
    records = list(run_grid(grid(seeds=3), DATA, tmp_path))
    assert fits[len(before) :] == [("dch", 1), ("label_regression", 2), ("dch", 2)]
    assert len(records) == len(read_results(tmp_path)) == 6
    text = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(text) == 7
    assert sum("torn by a kill" in line and "metrics" in line for line in text) == 0


@pytest.mark.parametrize(
    "change",
    [{"bits": (16,)}, {"params": {"anchors": 30}}, {"settings": ("easy",)}, {"protocol": "cich-extend"}],
    ids=str,
)
def test_other_arguments_are_other_runs(tmp_path, change):
    list(run_grid(grid(("dch",), seeds=1), DATA, tmp_path))
    list(run_grid(grid(("dch",), seeds=1, **change), DATA, tmp_path))
    assert len(read_results(tmp_path)) == 2


def test_other_data_and_changed_defaults_are_other_runs(monkeypatch):
    (run,) = grid(("dch",), seeds=1)
    key = run.key("one")
    assert run.key("one") == key != run.key("two")
    monkeypatch.setitem(get("dch").__init__.__kwdefaults__, "iterations", 3)
    assert run.build().params()["iterations"] == 3
    assert run.key("one") != key


def test_a_failed_run_is_recorded_and_the_rest_goes_on(tmp_path, monkeypatch):
    learn = get("dch")._learn

    def moody(self, *arguments):
        if self.seed == 0:
            raise MethodError("no luck today.")
        if self.seed == 1:
            raise np.linalg.LinAlgError("singular")
        learn(self, *arguments)

    monkeypatch.setattr(get("dch"), "_learn", moody)
    records = list(run_grid(grid(("dch", "cca_itq"), seeds=3), DATA, tmp_path))
    failed = [line for line in records if "error" in line]
    assert [(line["method"], line["seed"], line["error"]) for line in failed] == [
        ("dch", 0, "no luck today."),
        ("dch", 1, "LinAlgError: singular"),
    ]
    assert lines(tmp_path / "failures.jsonl") == failed
    for line in failed:
        assert (line["dataset"], line["setting"], line["protocol"], line["bits"]) == ("toys", "hard", "heldout", 8)
    assert len(read_results(tmp_path)) == 4
    assert [row.seeds for row in summarise(records)] == [3, 1]
    monkeypatch.setattr(get("dch"), "_learn", learn)
    assert not [line for line in run_grid(grid(("dch", "cca_itq"), seeds=3), DATA, tmp_path) if "error" in line]
    assert len(read_results(tmp_path)) == 6


def test_an_interruption_is_no_failure(tmp_path, monkeypatch):
    def interrupt(self, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(get("dch"), "_learn", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(run_grid(grid(("dch",)), DATA, tmp_path))
    assert not (tmp_path / "failures.jsonl").exists()


def test_results_of_another_schema_are_refused(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"schema": 99, "metrics": {}}\n')
    with pytest.raises(DataError, match=r"results\.jsonl line 1: this is no result of schema 1 \(found 99\)"):
        list(run_grid(grid(), DATA, tmp_path))


def test_no_folder_no_results(tmp_path):
    assert read_results(tmp_path / "nowhere") == []


def test_progress_counts_runs(tmp_path):
    calls = []
    list(run_grid(grid(seeds=1), DATA, tmp_path, progress=lambda *call: calls.append(call)))
    assert [call[:2] for call in calls] == [(0, 2), (1, 2), (2, 2)]
    assert calls[0][2] == "runs"
    assert re.fullmatch(r"runs · label_regression hard seed 0 · about \d+ s left", calls[1][2])
    assert calls[2][2] == "runs · dch hard seed 0"
    calls.clear()
    list(run_grid(grid(seeds=2), DATA, tmp_path, progress=lambda *call: calls.append(call)))
    assert [call[:2] for call in calls] == [(2, 4), (3, 4), (4, 4)]


def test_a_deep_run_takes_the_training_and_records_its_device(tmp_path):
    made = grid(("tiny",), params={"epochs": 2}, seeds=1)
    calls = []
    training = Training(device="cpu", progress=lambda *call: calls.append(call))
    (line,) = run_grid(made, DATA, tmp_path, training=training)
    assert calls
    assert line["selection"] == {"rule": "last", "epoch": 2, "score": None, "device": "cpu"}
    epochs = lines(tmp_path / line["log"]["file"])
    assert [(epoch["stage"], epoch["epoch"]) for epoch in epochs] == [("training", 0), ("training", 1)]
    assert epochs[1]["losses"]["loss"] < epochs[0]["losses"]["loss"]
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".safetensors", ".part")]


def test_codes_are_kept_of_queries_and_of_a_database_of_others(tmp_path):
    (line,) = run_grid(grid(("dch",), seeds=1), DATA, tmp_path)
    assert "codes_database" not in line and "log" not in line
    (line,) = run_grid(grid(("dch",), seeds=1, protocol="cich-extend"), DATA, tmp_path)
    for role, split in (("codes", "test"), ("codes_database", "train")):
        path = tmp_path / line[role]["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == line[role]["sha256"]
        with np.load(path) as codes:
            assert codes["image"].shape == (len(codes["image.id"]), 1)
            assert codes["bits"] == 8
            assert set(codes["image.id"]) <= set(DATA.ids[DATA.split == split])
    assert line["codes_database"]["file"] == f"codes/{line['key']}.database.npz"


def test_validation_items_choose_and_never_the_test_items(monkeypatch):
    seen = {}
    fit = get("dch").fit

    def spy(self, data, *, validation=None, training=None):
        seen["train"], seen["validation"] = data, validation
        return fit(self, data, validation=validation, training=training)

    monkeypatch.setattr(get("dch"), "fit", spy)
    labels = DATA.labels.dense()
    labels[DATA.split == "train", 2] = 0  # a class that only others have
    data = replace(DATA, labels=type(DATA.labels).from_multihot(labels))
    (run,) = grid(("dch",), seeds=1)
    carry_out(run, data, fingerprint="")
    assert set(seen["validation"].ids) == set(DATA.part("dev").ids)
    assert not set(seen["train"].ids) & (set(DATA.part("dev").ids) | set(DATA.part("test").ids))
    assert seen["validation"].labels.names == seen["train"].labels.names == ("class 0", "class 1", "class 3", "class 4")


def test_data_without_split_or_validation_run_too(tmp_path):
    records = list(run_grid(grid(seeds=1), toy(100), tmp_path))
    assert [line["counts"]["image->text"]["queries"] for line in records] == [20, 20]


def test_warnings_are_recorded_and_still_heard(monkeypatch):
    import warnings

    learn = get("dch")._learn

    def warn(self, *arguments):
        warnings.warn("mind the gaps", UserWarning, stacklevel=1)
        learn(self, *arguments)

    monkeypatch.setattr(get("dch"), "_learn", warn)
    (run,) = grid(("dch",), seeds=1)
    with pytest.warns(UserWarning, match="mind the gaps"):
        line, _ = carry_out(run, DATA, fingerprint="")
    assert line["warnings"] == ["mind the gaps"]


def test_the_control_is_named_once():
    assert runs.CONTROL == "label_regression"
    assert grid(("label_regression",), params={})[0].is_control
    assert not grid(("dch",))[0].is_control


def test_two_processes_never_write_to_one_folder(tmp_path):
    made = grid(("dch",), seeds=1)
    first = run_grid(made, DATA, tmp_path)
    next(first)  # holds the folder until it is exhausted or closed
    with pytest.raises(UsageError, match=r"another process is writing results to .*\. Wait"):
        list(run_grid(made, DATA, tmp_path))
    first.close()
    assert len(list(run_grid(made, DATA, tmp_path))) == 1
