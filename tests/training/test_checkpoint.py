"""Checkpoints: a killed training goes on as if nothing had happened, and a wrong file is a sentence."""

import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from amodal.data import hold_out
from amodal.errors import DataError
from amodal.training import Training
from tests.training.tiny import Tiny, data, equal, weights


@pytest.fixture
def training(tmp_path):
    return Training(device="cpu", folder=tmp_path, resume=True, checkpoint_every=1)


class Stop(Exception):
    pass


def stop_after(batches):
    def progress(done, total, what):
        if done >= batches:
            raise Stop

    return progress


def interrupt(method, items, training, batches, **options):
    with pytest.raises(Stop):
        method.fit(items, training=replace(training, progress=stop_after(batches)), **options)


def epochs_logged(folder):
    return [json.loads(line)["epoch"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_log_can_be_had_without_checkpoints(tmp_path):
    Tiny().fit(data(), training=Training(device="cpu", folder=tmp_path, checkpoint_every=None))
    assert epochs_logged(tmp_path) == list(range(6))
    assert [file.name for file in tmp_path.iterdir()] == ["log.jsonl"]


@pytest.mark.parametrize("batches", [1, 4, 5, 10, 23, 24])
@pytest.mark.parametrize("every", [1, 2, 100])
def test_an_interrupted_training_ends_with_the_same_weights(training, tmp_path, batches, every):
    training = replace(training, checkpoint_every=every)
    whole = Tiny().fit(data(), training=Training(device="cpu"))
    interrupt(Tiny(), data(), training, batches)
    resumed = Tiny().fit(data(), training=training)
    assert equal(weights(resumed), weights(whole))
    assert resumed.outcome_ == whole.outcome_
    assert epochs_logged(tmp_path) == list(range(6))


def test_a_killed_process_can_be_killed_again_and_ends_with_the_same_weights(training, tmp_path):
    whole = Tiny().fit(data(), training=Training(device="cpu"))
    for when in ("batch 10", "writing 2"):  # in epoch 3; and with epoch 4 logged, but its checkpoint not in its place
        command = [sys.executable, "-m", "tests.training.tiny", "kill", str(tmp_path), "6", when]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert epochs_logged(tmp_path) == [0, 1, 2, 3]
    assert (tmp_path / "checkpoint.part").exists()
    batches = []
    resumed = Tiny().fit(data(), training=replace(training, progress=lambda done, total, what: batches.append(done)))
    assert batches[0] == 3 * 4 + 1  # epoch 4 is done again, and only that
    assert equal(weights(resumed), weights(whole))
    assert epochs_logged(tmp_path) == list(range(6))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.safetensors", "log.jsonl"]


def test_a_finished_training_is_not_repeated(training):
    whole = Tiny().fit(data(), training=training)
    again = Tiny().fit(data(), training=replace(training, progress=stop_after(0)))
    assert equal(weights(again), weights(whole))


def test_early_stopping_is_remembered(training, tmp_path):
    learned, held = hold_out(data(), 0.3)
    training = replace(training, patience=2, validate_every=1)
    whole = Tiny(epochs=30).fit(learned, validation=held, training=replace(training, folder=None, resume=False))
    assert 1 < whole.outcome_.epoch < 28
    interrupt(Tiny(epochs=30), learned, training, 3 * whole.outcome_.epoch + 1, validation=held)  # the best lies behind
    for _ in range(2):  # to go on; and to find that it is over
        resumed = Tiny(epochs=30).fit(learned, validation=held, training=training)
        assert resumed.outcome_ == whole.outcome_
        assert equal(weights(resumed), weights(whole))
        assert epochs_logged(tmp_path) == list(range(whole.outcome_.epoch + 2))


def test_without_resume_a_training_begins_anew(training, tmp_path):
    Tiny(seed=3).fit(data(), training=training)
    fresh = Tiny(epochs=2).fit(data(), training=replace(training, resume=False))
    assert equal(weights(fresh), weights(Tiny(epochs=2).fit(data(), training=Training(device="cpu"))))
    assert epochs_logged(tmp_path) == [0, 1]


def test_nothing_to_resume_from_begins(training):
    assert equal(weights(Tiny().fit(data(), training=training)), weights(Tiny().fit(data())))


def test_a_torn_log_line_is_dropped(training, tmp_path):
    interrupt(Tiny(), data(), training, 10)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"epoch": 2, "loss')
    Tiny().fit(data(), training=training)
    assert epochs_logged(tmp_path) == list(range(6))


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "no facts"])
def test_a_damaged_checkpoint_is_a_sentence(training, tmp_path, damage):
    interrupt(Tiny(), data(), training, 10)
    path = tmp_path / "checkpoint.safetensors"
    content = path.read_bytes()
    if damage == "no facts":
        save_file(load_file(path), path)
    else:
        path.write_bytes({"empty": b"", "cut": content[:-40], "text": b"not a checkpoint at all"}[damage])
    with pytest.raises(DataError, match=r"checkpoint\.safetensors is damaged.*Remove it"):
        Tiny().fit(data(), training=training)


@pytest.mark.parametrize(
    ("method", "items", "sentence"),
    [
        (Tiny(bits=16), data(), "bits was 8 and is 16"),
        (Tiny(epochs=9), data(), "epochs was 6 and is 9"),
        (Tiny(), data(seed=5), "data was [0-9a-f]+ and is [0-9a-f]+"),
    ],
    ids=["bits", "epochs", "data"],
)
def test_a_checkpoint_of_another_training_is_refused(training, method, items, sentence):
    interrupt(Tiny(), data(), training, 10)
    with pytest.raises(DataError, match=f"belongs to another training.*{sentence}.*Remove it"):
        method.fit(items, training=training)


class Wider(Tiny):
    """Another version of the method, with the same arguments."""

    def build(self):
        network = super().build()
        network["more"] = torch.nn.Linear(2, 2)
        return network


def test_a_checkpoint_of_another_version_is_refused(training):
    interrupt(Tiny(), data(), training, 10)
    with pytest.raises(DataError, match="another version of the method"):
        Wider().fit(data(), training=training)


def test_a_checkpoint_is_arrays_and_json(training, tmp_path):
    Tiny().fit(data(), training=training)
    tensors = load_file(tmp_path / "checkpoint.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"network", "optimizer"}
