"""Tables: means and deviations as NumPy gives them, and never of runs that differ in more than their seed."""

import math

import numpy as np
import pytest

from amodal.benchmark import summarise

WAYS = ("image->text", "text->image")


def line(method="dch", seed=0, bits=64, setting="hard", config=None, error=None, metrics=None, **values):
    """A record as far as a table needs it; values by measure, one number per direction."""
    if error:
        return {"key": "x", "method": method, "seed": seed, "error": error}
    given = {name: dict(zip(WAYS, numbers, strict=True)) for name, numbers in values.items()}
    return {
        "key": f"{method}-{setting}-{bits}-{seed}",
        "preset": None,
        "dataset": "toys",
        "setting": setting,
        "protocol": "heldout",
        "method": method,
        "bits": bits,
        "seed": seed,
        "config": {"anchors": 5, **(config or {}), "seed": seed},
        "metrics": {**given, **(metrics or {})},
        "control": {"metrics": {"map": dict.fromkeys(WAYS, 0.25 + seed / 100)}},
        "phases": {"fit": 1.0 + seed},
    }


def test_means_and_sample_deviations():
    values = np.random.default_rng(0).random((4, 2))
    chance = np.random.default_rng(1).random((4, 2))
    (row,) = summarise([line(seed=k, map=v, chance=c) for k, (v, c) in enumerate(zip(values, chance, strict=True))])
    assert list(row.cells) == [*WAYS, "mean"]
    for column, way in enumerate(WAYS):
        assert row.cells[way] == pytest.approx((values[:, column].mean(), values[:, column].std(ddof=1)))
        assert row.chance[way] == pytest.approx(chance[:, column].mean())
    means = values.mean(axis=1)
    assert row.cells["mean"] == pytest.approx((means.mean(), means.std(ddof=1)))
    assert row.control == pytest.approx(np.mean([0.25, 0.26, 0.27, 0.28]))
    assert (row.seeds, row.seconds) == (4, 2.5)
    assert (row.dataset, row.setting, row.protocol, row.method, row.bits) == ("toys", "hard", "heldout", "dch", 64)
    assert row.config == {"anchors": 5}


def test_one_seed_has_no_deviation():
    (row,) = summarise([line(map=(0.2, 0.4), chance=(0.1, 0.1))])
    assert row.cells["mean"][0] == pytest.approx(0.3)
    assert all(math.isnan(deviation) for _, deviation in row.cells.values())


def test_what_differs_in_more_than_the_seed_is_another_row():
    base = {"map": (0.2, 0.4), "chance": (0.1, 0.1)}
    records = [
        line(seed=0, **base),
        line(seed=0, config={"anchors": 9}, **base),
        line(seed=1, **base),
        line(seed=0, bits=16, **base),
        line(seed=0, setting="easy", **base),
        line(seed=0, method="cich", **base),
        line(seed=1, config={"anchors": 9}, **base),
    ]
    rows = summarise(records)
    assert [(row.method, row.bits, row.setting, row.config["anchors"], row.seeds) for row in rows] == [
        ("dch", 64, "hard", 5, 2),
        ("dch", 64, "hard", 9, 2),
        ("dch", 16, "hard", 5, 1),
        ("dch", 64, "easy", 5, 1),
        ("cich", 64, "hard", 5, 1),
    ]


def test_failed_runs_are_left_out():
    records = [line(map=(0.2, 0.4), chance=(0.1, 0.1)), line(seed=1, error="no luck")]
    assert [row.seeds for row in summarise(records)] == [1]
    assert summarise([line(error="no luck")]) == []
    assert summarise([]) == []


def test_a_direction_without_a_value_is_left_out_of_means():
    records = [
        line(seed=0, map=(0.2, 0.4), chance=(0.1, 0.1)),
        line(seed=1, metrics={"map": {WAYS[0]: 0.6}, "chance": {WAYS[0]: 0.1}}),
        line(seed=2, map=(0.4, None), chance=(0.1, 0.1)),
    ]
    (row,) = summarise(records)
    assert row.cells[WAYS[0]] == pytest.approx((0.4, 0.2))
    assert row.cells[WAYS[1]][0] == pytest.approx(0.4)
    assert row.cells["mean"][0] == pytest.approx(np.mean([0.3, 0.6, 0.4]))


def test_other_measures_have_their_own_floor_or_none():
    values = {"map": (0.2, 0.4), "chance": (0.1, 0.1)}
    values |= {"recall@10": (40.0, 50.0), "chance.recall@10": (2.0, 4.0), "ndcg@100.binary": (0.5, 0.6)}
    records = [line(**values)]
    assert summarise(records, "recall@10")[0].chance == {WAYS[0]: 2.0, WAYS[1]: 4.0}
    assert summarise(records, "map")[0].chance == {WAYS[0]: 0.1, WAYS[1]: 0.1}
    (row,) = summarise(records, "ndcg@100.binary")
    assert row.chance == {}
    assert math.isnan(row.control)
    assert row.cells["mean"][0] == pytest.approx(0.55)
    assert summarise(records, "recall@99") == []
