"""Other engines find what one process finds, lose no more than a run, and repeat nothing."""

import hashlib
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from amodal.benchmark import plan, processes, read_results, run_grid
from amodal.benchmark.engines import cores
from amodal.data import read, save_archive, toy
from amodal.errors import MissingExtra, UsageError
from tests.benchmark.grids import QUICK, data, runs

MEASURED = ("key", "metrics", "control", "counts", "curves", "hashes", "per_query", "codes", "method", "bits", "seed")


def found(records):
    """What of records must not depend on where they were made."""
    return [{name: line[name] for name in MEASURED} for line in records]


def test_workers_find_what_one_process_finds(tmp_path):
    save_archive(data(), tmp_path / "toys.npz")
    mapped = read(tmp_path / "toys.npz")  # so that workers get the file and not its content
    alone = list(run_grid(runs(), mapped, tmp_path / "alone"))
    records = list(run_grid(runs(), mapped, tmp_path, workers=2))
    assert found(records) == found(alone)
    assert {line["environment"]["OMP_NUM_THREADS"] for line in records} == {str(max(1, cores() // 2))}
    assert sorted(line["key"] for line in read_results(tmp_path)) == sorted(line["key"] for line in alone)
    for line in records:
        for role in ("per_query", "codes"):
            content = (tmp_path / line[role]["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == line[role]["sha256"]
    assert multiprocessing.active_children() == []


def test_maps_are_handed_on_as_files(tmp_path):
    save_archive(data(), tmp_path / "toys.npz")
    mapped = read(tmp_path / "toys.npz")
    features = sum(table.store.nbytes for table in mapped.modalities.values())
    assert len(processes.packed(mapped)) < len(processes.packed(data())) - features // 2
    again = pickle.loads(processes.packed(mapped))
    assert isinstance(again["image"].store, np.memmap)
    assert again.fingerprint() == mapped.fingerprint()


def test_a_dead_worker_costs_its_run_and_closing_ends_the_others(tmp_path):
    def kill():
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        os.kill(min(child.pid for child in children), signal.SIGKILL)  # the first one has the first run

    murderer = threading.Thread(target=kill)
    murderer.start()
    # a control, whose run dies; one whose arguments are wrong; more than are waited for
    grid = runs(("dch", "label_regression"), seeds=4, params={**QUICK, "variant": "odd"}, bits=(8,))
    running = run_grid(grid, data(), tmp_path, workers=2)
    records = [next(running) for _ in range(3)]
    murderer.join()
    assert multiprocessing.active_children()
    running.close()
    assert multiprocessing.active_children() == []
    lost, failed, control = records
    assert lost["error"].startswith("the process of this run was ended by SIGKILL. The system does that when memory")
    assert "odd" in failed["error"]
    assert "error" not in control
    assert records[:2] == [line for line in failures(tmp_path) if line["seed"] == 0]
    assert control in read_results(tmp_path)


def failures(folder):
    return [json.loads(text) for text in (folder / "failures.jsonl").read_text().splitlines()]


def test_killed_and_started_again_it_repeats_nothing(tmp_path):
    command = [sys.executable, "-m", "tests.benchmark.grids", str(tmp_path), "2"]
    with subprocess.Popen(command) as running:
        results = tmp_path / "results.jsonl"
        while not (results.exists() and results.read_bytes().count(b"\n") >= 3):
            assert running.poll() is None
            time.sleep(0.02)
        workers = children_of(running.pid)
        running.kill()
    before = read_results(tmp_path)
    assert len(workers) >= 2
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in workers):  # they do not outlive whoever writes down what they find
        assert time.monotonic() < deadline
        time.sleep(0.05)
    grid = runs(seeds=40)[: len(before) + 4]
    assert len(list(run_grid(grid, data(), tmp_path))) == len(grid)
    lines = read_results(tmp_path)
    assert lines[: len(before)] == before
    keys = [line["key"] for line in lines]
    assert len(set(keys)) == len(keys)


def children_of(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in children.split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_several_data_sets_share_a_grid_and_a_folder(tmp_path):
    sets = {"one": data(), "two": toy(120, modalities={"image": 10, "text": 6, "sound": 5})}
    grid = [
        run
        for name, dataset in sets.items()
        for run in plan(name, ("dch",), ("hard",), modalities=dataset.names, bits=(8,), seeds=2, params=QUICK)
    ]
    records = list(run_grid(grid, sets, tmp_path))
    assert [(line["dataset"], line["seed"]) for line in records] == [("one", 0), ("one", 1), ("two", 0), ("two", 1)]
    assert len(records[2]["metrics"]["map"]) == 6
    assert records[0]["control"] != records[2]["control"]
    with pytest.raises(UsageError, match=r'unknown data set "two".*Known: one'):
        list(run_grid(grid, {"one": data()}, tmp_path))


def test_what_cannot_be_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r'unknown engine "rai". Did you mean "ray"'):
        list(run_grid(runs(), data(), tmp_path, engine="rai"))
    with pytest.raises(UsageError, match="workers is 0"):
        list(run_grid(runs(), data(), tmp_path, workers=0))


def test_without_ray_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r'pip install "amodal\[ray\]"'):
        list(run_grid(runs(), data(), tmp_path, engine="ray"))
