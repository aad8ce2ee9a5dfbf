"""A search sees training and validation items only, goes on where it was, and survives what a trial does."""

import sqlite3
import sys
from dataclasses import replace

import numpy as np
import pytest

from amodal.benchmark import tune as tuning
from amodal.benchmark.tune import Search, tune
from amodal.data import Observations, random_split, toy
from amodal.errors import MethodError, MissingExtra, UsageError
from amodal.methods import get
from tests.evaluation.toys import split_toy

DATA = split_toy(150)
SEARCH = Search("dch", bits=8, params={"anchors": 20, "variant": "relaxed"})


@pytest.fixture
def fits(monkeypatch):
    """Every fit of dch: the method, what it learned from, what it may choose on."""
    seen = []
    fit = get("dch").fit

    def spy(self, data, *, validation=None, training=None):
        seen.append((self, data, validation))
        return fit(self, data, validation=validation, training=training)

    monkeypatch.setattr(get("dch"), "fit", spy)
    return seen


def poisoned(data):
    """The same, but every feature of test items is NaN."""
    tables = {}
    for name, table in data.modalities.items():
        store = table.read()
        store[data.split[table.item] == "test"] = np.nan
        tables[name] = Observations(store, table.item)
    return data.with_tables(tables)


@pytest.mark.parametrize("split", [{"train": 0.5, "dev": 0.2, "test": 0.3}, {"train": 0.7, "test": 0.3}], ids=str)
def test_test_items_are_never_read(tmp_path, fits, split):
    data = random_split(toy(150), split)
    clean = tune(SEARCH, data, tmp_path / "clean", trials=4)
    nan = tune(SEARCH, poisoned(data), tmp_path / "nan", trials=4)
    assert [(t.params, t.score) for t in nan.trials] == [(t.params, t.score) for t in clean.trials]
    asks = set(data.ids[data.split == "test"])
    for _, learned, chosen in fits:
        assert not asks & {*learned.ids, *chosen.ids}
        assert not set(learned.ids) & set(chosen.ids)
        assert chosen.presence().all()
        assert 0.05 < learned.presence().all(axis=1).mean() < 0.15
    held = set(fits[0][2].ids)
    if "dev" in split:
        assert held == set(data.ids[data.split == "dev"])
    else:
        assert len(held) == round(0.1 * 105)


def test_the_score_is_the_mean_over_seeds(tmp_path, fits):
    found = tune(replace(SEARCH, seeds=2), DATA, tmp_path, trials=1)
    (one, _, validation), (two, _, _) = fits
    assert (one.seed, two.seed) == (0, 1)
    assert found.score == pytest.approx(np.mean([m.validation_score(validation) for m in (one, two)]))
    assert one.params() == {**one.params(), **found.params, "bits": 8, "anchors": 20, "seed": 0}


def test_the_defaults_come_first_and_the_best_is_best(tmp_path):
    found = tune(SEARCH, DATA, tmp_path, trials=6)
    own = SEARCH.build({}, 0).params()
    assert found.trials[0].params == {name: own[name] for name in SEARCH.space}
    assert {"bits", "anchors", "variant", "seed"}.isdisjoint(SEARCH.space)
    assert found.score == max(trial.score for trial in found.trials) >= found.trials[0].score
    for trial in found.trials:
        assert all(value in SEARCH.space[name] for name, value in trial.params.items())


def test_a_search_goes_on_where_it_was(tmp_path, fits):
    first = tune(SEARCH, DATA, tmp_path, trials=3)
    count = len(fits)
    assert tune(SEARCH, DATA, tmp_path, trials=3) == first
    assert len(fits) == count
    calls = []
    more = tune(SEARCH, DATA, tmp_path, trials=5, progress=lambda *call: calls.append(call[:2]))
    assert more.trials[:3] == first.trials
    assert calls == [(4, 5), (5, 5)]
    other = tune(replace(SEARCH, setting="easy"), DATA, tmp_path, trials=1)
    assert (other.file, len(other.trials)) == (more.file, 1)
    assert other.study != more.study
    with sqlite3.connect(more.file) as file:
        assert file.execute("select count(*) from studies").fetchone() == (2,)
    file.close()


def test_what_was_interrupted_is_done_again(tmp_path, monkeypatch):
    learn, interrupted = get("dch")._learn, []

    def interrupt(self, *arguments):
        interrupted.append(self.params())
        raise KeyboardInterrupt

    tune(SEARCH, DATA, tmp_path, trials=1)
    monkeypatch.setattr(get("dch"), "_learn", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tune(SEARCH, DATA, tmp_path, trials=3)
    monkeypatch.setattr(get("dch"), "_learn", learn)
    found = tune(SEARCH, DATA, tmp_path, trials=3)
    assert len(found.trials) == 3
    assert interrupted[0].items() >= found.trials[1].params.items()


def test_failed_trials_are_recorded(tmp_path, monkeypatch):
    learn = get("dch")._learn

    def moody(self, *arguments):
        if self.mu == 0:
            raise MethodError("no luck without mu.")
        learn(self, *arguments)

    monkeypatch.setattr(get("dch"), "_learn", moody)
    monkeypatch.setattr(get("dch"), "search_space", {"mu": (0.0, 1e-3)})
    found = tune(SEARCH, DATA, tmp_path, trials=8)
    assert {(t.state, t.error) for t in found.trials} == {("complete", ""), ("fail", "no luck without mu.")}
    assert found.params == {"mu": 1e-3}
    monkeypatch.setattr(get("dch"), "search_space", {"mu": (0.0,)})
    with pytest.raises(MethodError, match=r"all 2 trials of dch failed \(first: no luck without mu\.\)"):
        tune(SEARCH, DATA, tmp_path, trials=2)


def test_hopeless_trials_are_pruned(tmp_path, fits, monkeypatch):
    scores = iter([*[0.5, 0.5] * 6, 0.1])
    monkeypatch.setattr(get("dch"), "validation_score", lambda self, data: next(scores))
    found = tune(replace(SEARCH, seeds=2), DATA, tmp_path, trials=7)
    assert [trial.state for trial in found.trials] == ["complete"] * 6 + ["pruned"]
    assert found.trials[-1].score == 0.1
    assert found.score == 0.5


def test_the_same_arguments_are_not_tried_twice(tmp_path, fits, monkeypatch):
    monkeypatch.setattr(get("dch"), "search_space", {"mu": (0.0, 1e-5, 1e-3), "bits": (16,)})
    found = tune(SEARCH, DATA, tmp_path, trials=9)
    assert len(found.trials) == 9
    assert len(fits) == len({trial.params["mu"] for trial in found.trials}) <= 3


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        (Search("dhc"), r'"dhc".*Did you mean "dch"'),
        (Search("dch", setting="hrad"), r'"hrad".*Did you mean "hard"'),
        (Search("dch", params={"anchor": 3}), r'"anchor".*Did you mean "anchors"'),
        (Search("dch", seeds=0), "at least one trial and one seed"),
        (Search("label_regression", params={"C": 1.0, "code": "real"}), "declares nothing to search for"),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path, search, sentence):
    with pytest.raises(UsageError, match=sentence):
        tune(search, DATA, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_without_optuna_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r'pip install "amodal\[tune\]"'):
        tuning.tune(SEARCH, DATA, tmp_path)
