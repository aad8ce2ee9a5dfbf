"""Records: JSON that says everything a reader needs, and that other versions' readers refuse."""

import json

import pytest

from amodal import __version__
from amodal.errors import DataError
from amodal.evaluation import arrange, environment, evaluate, get_protocol, read_record, record
from amodal.methods import get
from tests.evaluation.toys import Signs, split_toy
from tests.training.tiny import Tiny

DATA = split_toy(300)


def recorded(method=None, setting="hard", **more):
    arrangement = arrange(DATA, get_protocol("heldout"), setting, seed=4)
    method = (method or Signs()).fit(arrangement.train)
    found = evaluate(method, arrangement)
    facts = {"dataset": "toys", "fingerprint": DATA.fingerprint(), "seed": 4, "seconds": {"fit": 1.0, "evaluate": 0.5}}
    return record(method, arrangement, found, **{**facts, **more}), method, arrangement, found


def test_a_record_is_json_and_says_what_was_run():
    line, method, arrangement, found = recorded(control={"map": {"image->text": 0.5}}, warnings=["careful"])
    assert json.loads(json.dumps(line, allow_nan=False)) == line
    expected = {
        "schema": 1,
        "method": "signs",
        "dataset": "toys",
        "setting": "hard",
        "protocol": "heldout",
        "bits": 8,
        "seed": 4,
        "metrics": found.metrics,
        "counts": found.counts,
        "absent": found.absent,
        "curves": found.curves,
        "health": found.health,
        "control": {"method": "label_regression", "metrics": {"map": {"image->text": 0.5}}},
        "seconds": 1.5,
        "phases": {"fit": 1.0, "evaluate": 0.5},
        "config": method.params(),
        "parameters": 3,
        "selection": None,
        "fill": None,
        "db_codes": "hashed",
        "ties": "average",
        "unanswerable": "skip",
        "relevance": "share-label",
        "warnings": ["careful"],
        "train": {"items": 150, "patterns": {"image+text": 15, "image": 67, "text": 68}},
    }
    assert {name: line[name] for name in expected} == expected
    assert line["hashes"] == {
        "data": DATA.fingerprint(),
        "protocol": arrangement.protocol.sha256,
        "mask": arrangement.mask.sha256,
        "model": method.fingerprint(),
    }
    assert line["peak_memory_mb"] > 10
    assert line["date"].endswith("+00:00")


@pytest.mark.parametrize("way", ["image->text", "text->image"])
def test_a_record_has_every_measure_of_every_direction(way):
    line, *_ = recorded(setting="complete")
    for name in ("map", "map.optimistic", "map.pessimistic", "chance", "recall@1", "recall@5", "recall@10"):
        assert 0 <= line["metrics"][name][way] <= 100
    assert line["metrics"]["ndcg@100.binary"][way] is None
    assert set(line["counts"][way]) == {"queries", "unanswerable", "database", "relevant"}
    assert set(line["counts"][way]["relevant"]) == {"mean", "min", "max"}
    assert line["hashes"]["mask"] is None


def test_methods_without_codes_have_no_bits_and_no_health():
    line, *_ = recorded(get("label_regression").create())
    assert line["bits"] is None
    assert line["health"] == {}
    assert "micro.recall" not in line["curves"]["image->text"]
    json.dumps(line, allow_nan=False)


def test_deep_methods_say_which_epoch_was_kept():
    line, *_ = recorded(Tiny(epochs=2))
    assert line["selection"]["rule"] == "last"
    assert line["selection"]["epoch"] == 2
    assert line["parameters"] == (16 + 12) * (8 + 2) + 2 * 8 + 5 * 8
    json.dumps(line, allow_nan=False)


def test_environment_names_versions_and_source():
    found = environment()
    assert found["amodal"] == __version__
    assert len(found["source"]) == 16
    assert {"numpy", "torch", "scipy"} <= set(found["packages"])
    assert found["processor"]
    json.dumps(found)


@pytest.mark.parametrize("value", [{}, {"schema": 2, "metrics": {}}, {"schema": 1}, [1], None, "text"])
def test_other_schemas_are_refused(value):
    with pytest.raises(DataError, match=r"results\.jsonl line 3: this is no result of schema 1"):
        read_record(value, "results.jsonl line 3")


def test_own_records_are_accepted():
    line, *_ = recorded()
    assert read_record(json.loads(json.dumps(line)), "here") == line
