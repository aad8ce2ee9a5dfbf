"""Saved models: the same after loading, whole or not there, and a sentence for every way to spoil one."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from amodal.data import toy
from amodal.errors import DataError, MethodError, UsageError
from amodal.methods import get, load, save, saving
from amodal.methods.registry import METHODS

DATA = toy(60, classes=3)


@pytest.fixture(autouse=True)
def _tiny_is_registered(monkeypatch):
    monkeypatch.setitem(METHODS, "tiny", ("tests.training.tiny", "Tiny"))


@pytest.fixture(scope="module")
def method():
    return get("label_regression").create().fit(DATA)


@pytest.fixture
def model(method, tmp_path):
    return save(method, tmp_path / "models" / "one")


def codes(method):
    return {name: method.encode_table(DATA[name], name) for name in DATA.names}


def test_a_model_is_three_files_that_can_be_read(model, method):
    assert sorted(path.name for path in model.iterdir()) == ["card.md", "config.json", "weights.safetensors"]
    assert [path.name for path in model.parent.iterdir()] == ["one"]
    config = json.loads((model / "config.json").read_text())
    assert config["method"] == "label_regression"
    assert config["widths"] == {"image": 16, "text": 12}
    assert config["classes"] == list(DATA.labels.names)
    assert method.card.summary in (model / "card.md").read_text()


def test_loaded_is_the_same(model, method):
    loaded = load(model)
    assert codes(loaded) == codes(method)
    assert loaded.classes_ == method.classes_
    assert codes(load(save(loaded, model.parent / "two"))) == codes(method)


@pytest.mark.parametrize("bits", [np.int64(8), np.int32(8), 8])
def test_numbers_of_numpy_are_arguments_too(bits, tmp_path):
    method = get("tiny").create(bits=bits, rate=np.float64(0.001), epochs=2).fit(DATA)
    loaded = load(save(method, tmp_path / "model"))
    assert loaded.params() == method.params()
    assert loaded.fingerprint() == method.fingerprint()
    assert codes(loaded) == codes(method)


def test_loading_draws_nothing_from_global_random_state(tmp_path):
    folder = save(get("tiny").create(epochs=2).fit(DATA), tmp_path / "model")
    before = torch.get_rng_state()
    load(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unfitted_method_cannot_be_saved(tmp_path):
    with pytest.raises(MethodError, match="not learned anything"):
        save(get("label_regression").create(), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_by_force_only(model, method):
    other = get("cca_itq").create(bits=4).fit(DATA)
    with pytest.raises(UsageError, match=r"exists already.*--force"):
        save(other, model)
    assert codes(load(model)) == codes(method)
    (model / "left behind").touch()
    save(other, model, force=True)
    assert codes(load(model)) == codes(other)
    assert sorted(path.name for path in model.iterdir()) == ["card.md", "config.json", "weights.safetensors"]


def test_force_replaces_nothing_but_models(method, tmp_path):
    folder, file = tmp_path / "photographs", tmp_path / "file"
    folder.mkdir()
    (folder / "one.jpg").touch()
    file.touch()
    for place in (folder, file):
        with pytest.raises(UsageError, match="no saved model, so it is not replaced"):
            save(method, place, force=True)
    assert (folder / "one.jpg").exists()
    assert file.exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_failed_save_leaves_everything_as_it_was(method, tmp_path, monkeypatch, there):
    target = tmp_path / "model"
    if there:
        save(method, target)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(saving, "save_file", full)
    with pytest.raises(OSError, match="no space left"):
        save(get("cca_itq").create(bits=4).fit(DATA), target, force=True)
    assert [path.name for path in tmp_path.iterdir()] == (["model"] if there else [])
    if there:
        assert codes(load(target)) == codes(method)


def edit(model, **changes):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_a_missing_file_is_named(model, name):
    (model / name).unlink()
    with pytest.raises(DataError, match=f"one is no saved model: {name} is missing"):
        load(model)


def test_a_missing_card_does_no_harm(model, method):
    (model / "card.md").unlink()
    assert codes(load(model)) == codes(method)


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(DataError, match="nowhere is no saved model"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["", "[1, 2]", "{}", '{"format": 1', '{"format": "one"}'])
def test_a_damaged_config_is_named(model, content):
    (model / "config.json").write_text(content)
    with pytest.raises(DataError, match=r"config\.json cannot be read.*fit again"):
        load(model)


@pytest.mark.parametrize("keep", [0, 5, -3])
def test_damaged_weights_are_named(model, keep):
    path = model / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"weights\.safetensors cannot be read.*fit again"):
        load(model)


def test_a_newer_format_asks_for_a_newer_version(model):
    edit(model, format=2)
    with pytest.raises(DataError, match=r"format 2; this version reads up to 1\. Upgrade"):
        load(model)


def test_changed_weights_are_noticed(model):
    path = model / "weights.safetensors"
    weights = load_file(path)
    name = max(weights, key=lambda name: weights[name].size)
    weights[name] = weights[name].copy()
    weights[name].flat[0] += 1e-3
    save_file(weights, path)
    with pytest.raises(DataError, match=r"weights\.safetensors holds other weights"):
        load(model)


def test_weights_of_another_model_are_noticed(model):
    other = get("label_regression").create().fit(replace(DATA, ids=DATA.ids[::-1]).take(np.arange(40)))
    second = save(other, model.parent / "two")
    (second / "weights.safetensors").replace(model / "weights.safetensors")
    with pytest.raises(DataError, match="holds other weights"):
        load(model)


@pytest.mark.parametrize(
    "change",
    [{"method": "unheard_of"}, {"params": {"sede": 1}}, {"widths": None}, {"widths": {"image": 9, "text": 9}}],
    ids=["method", "argument", "no widths", "other widths"],
)
def test_a_config_that_does_not_fit_is_a_sentence(tmp_path, change):
    folder = save(get("tiny").create(epochs=2).fit(DATA), tmp_path / "model")
    edit(folder, **change)
    with pytest.raises(DataError, match="do not belong together, or were written by another version"):
        load(folder)
