"""Backbones that learn with the method: from picture files and texts, decoded batch by batch."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from amodal.data import Dataset, Labels, Observations, incomplete
from amodal.encoders import encode_dataset
from amodal.encoders import get as encoder
from amodal.encoders.tuned import ModuleEncoder, Tuned
from amodal.errors import DataError, MethodError, UsageError
from amodal.methods import get
from amodal.methods.end_to_end import fit_end_to_end
from amodal.training import Training
from tests.encoders import tiny_models

QUICK = {"bits": 16, "hidden": 32, "epochs": 12, "batch_size": 16, "rate": 3e-3}
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 40, 210)}
N = 60


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """Pictures of one colour on noise, and words about it; half of the items lack one side."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths, words, classes = [], [], []
    for i in range(N):
        name = list(COLOURS)[i % 3]
        pixels = random.integers(0, 256, (16, 16, 3))
        pixels[4:12, 4:12] = COLOURS[name]
        path = folder / f"{i}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        paths.append(str(path))
        words.append(f"a {name} square")
        classes.append(i % 3)
    everyone = np.arange(N)
    whole = Dataset(
        ids=np.array([f"item {i}" for i in everyone]),
        modalities={
            "image": Observations(np.array(paths), everyone),
            "text": Observations(np.array(words), everyone),
        },
        labels=Labels.from_multihot(np.eye(3)[classes]),
    )
    return incomplete(whole, rates={"image": 0.25, "text": 0.25}, seed=0)


def tiny_pictures():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return ModuleEncoder(network, dim=16, size=16)


def tiny_words():
    torch.manual_seed(1)
    module = nn.EmbeddingBag(64, 8)
    letters = lambda text: torch.tensor([sum(map(ord, word)) % 64 for word in text.split()])  # noqa: E731
    return ModuleEncoder(module, dim=8, kind="text", prepare=letters)


def fit(items, **how):
    method = get("dcmh").create(**QUICK)
    tuned = fit_end_to_end(
        method, items, {"image": tiny_pictures(), "text": tiny_words()}, rate=how.pop("rate", 3e-3), **how
    )
    return method, tuned


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_backbones_learn_and_what_belongs_together_is_found(items):
    method, tuned = fit(items)
    for name, fresh in (("image", tiny_pictures()), ("text", tiny_words())):
        before, after = fresh.module.state_dict(), tuned[name].base.module.state_dict()
        assert not same(before, after)
    features = encode_dataset(items, tuned)
    assert method.validation_score(features) > 0.9
    frozen, _ = fit(items, rate=0.0)
    assert frozen.fingerprint() != method.fingerprint()


def test_codes_of_a_picture_do_not_depend_on_its_companions(items):
    method, tuned = fit(items)
    path = items["image"].read([3]).item()
    alone = method.encode(tuned["image"].encode([path]), "image")
    among = method.encode(tuned["image"].encode(items["image"].read().tolist()), "image")
    assert alone == among[np.array([3])]


@pytest.mark.parametrize("slug", ["cich_paper", "dcmh"])
def test_resumed_equals_uninterrupted(items, tmp_path, slug):
    quick = {**QUICK, "latent": 8} if slug == "cich_paper" else QUICK

    def train(folder, progress=None):
        method = get(slug).create(**{**quick, "epochs": 6})
        backbones = {"image": tiny_pictures(), "text": tiny_words()}
        return method, fit_end_to_end(
            method, items, backbones, rate=1e-3, training=Training(folder=folder, progress=progress, checkpoint_every=1)
        )

    def stop(done, total, what):
        if done > 0.6 * total:
            raise KeyboardInterrupt

    whole, tuned = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", stop)
    assert (tmp_path / "cut" / "checkpoint.safetensors").exists()
    resumed, tuned_again = train(tmp_path / "cut")
    for name in tuned:
        assert same(tuned[name].base.module.state_dict(), tuned_again[name].base.module.state_dict())
    for name, array in whole.state().items():
        np.testing.assert_array_equal(array, resumed.state()[name])


def test_validation_chooses_among_epochs(items):
    method, tuned = fit(items, validation=items, training=Training(patience=3))
    assert method.outcome_.rule == "validation"
    assert method.validation_score(encode_dataset(items, tuned)) == pytest.approx(method.outcome_.score)


def test_tuned_weights_are_saved_and_read_back(items, tmp_path):
    _, tuned = fit(items)
    tuned["image"].save(tmp_path / "image.safetensors")
    again = Tuned.restore(tiny_pictures(), tmp_path / "image.safetensors")
    assert again.fingerprint == tuned["image"].fingerprint
    assert again.fingerprint != Tuned(tiny_pictures()).fingerprint
    pictures = items["image"].read()[:3].tolist()
    np.testing.assert_array_equal(again.encode(pictures), tuned["image"].encode(pictures))
    (tmp_path / "image.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"image\.safetensors does not hold weights"):
        Tuned.restore(tiny_pictures(), tmp_path / "image.safetensors")


def test_models_of_transformers_learn(items, tmp_path):
    tiny_models.clip(tmp_path / "clip")
    backbones = {
        "image": encoder(f"hf:{tmp_path / 'clip'}", kind="picture"),
        "text": encoder(f"hf:{tmp_path / 'clip'}", kind="text"),
    }
    before = {name: one.encode(items[name].read()[:2].tolist()) for name, one in backbones.items()}
    method = get("cich_paper").create(**{**QUICK, "latent": 8, "epochs": 2})
    tuned = fit_end_to_end(method, items, backbones, rate=1e-3)
    for name, one in tuned.items():
        assert np.abs(one.encode(items[name].read()[:2].tolist()) - before[name]).max() > 1e-4
    assert np.isfinite(method.validation_score(encode_dataset(items, tuned)))


def test_what_cannot_learn_end_to_end_says_so(items):
    with pytest.raises(MethodError, match=r"cich does not learn as one network.*cich_paper"):
        fit_end_to_end(get("cich")(), items, {"image": tiny_pictures(), "text": tiny_words()})
    with pytest.raises(UsageError, match='"minilm" computes with fixed weights'):
        fit_end_to_end(get("dcmh")(), items, {"image": tiny_pictures(), "text": encoder("minilm")})
    with pytest.raises(UsageError, match="needs prepare"):
        ModuleEncoder(nn.Identity(), dim=3, kind="text")


def test_a_broken_picture_is_named_before_training_begins(items, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    store = items["image"].store.astype(object)
    store[items["image"].rows[2]] = str(bad)
    table = Observations(store, items["image"].item, items["image"].rows)
    spoiled = Dataset(items.ids, {"image": table, "text": items["text"]}, items.labels)
    with pytest.raises(DataError, match=r"item .*bad\.png"):
        fit(spoiled)


class Grid(nn.Module):
    """Four regions of a picture, one of each quarter."""

    def __init__(self):
        super().__init__()
        self.look = nn.Conv2d(3, 8, 5, stride=3)

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(self.look(x).relu(), 2).flatten(2).transpose(1, 2)


class Spelling(nn.Module):
    """A vector for each of three words."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(64, 8)

    def forward(self, x):
        return self.table(x)


@pytest.mark.parametrize("slug", ["scan", "sgraf", "causmatch", "dual_encoder"])
def test_what_compares_parts_learns_from_pictures_and_words_themselves(items, slug):
    torch.manual_seed(2)
    letters = lambda text: torch.tensor([sum(map(ord, word)) % 64 for word in text.split()])  # noqa: E731
    backbones = {
        "image": ModuleEncoder(Grid(), dim=8, size=16, length=4),
        "text": ModuleEncoder(Spelling(), dim=8, kind="text", prepare=letters, length=3),
    }
    before = {name: one.fingerprint for name, one in backbones.items()}
    small = {"epochs": 2, "width": 16} if slug != "dual_encoder" else {"epochs": 2}
    method = get(slug).create(batch_size=16, **small)
    tuned = fit_end_to_end(method, items, backbones, rate=1e-2)
    assert all(tuned[name].fingerprint != before[name] for name in backbones)  # both have learned
    parts = encode_dataset(items, tuned)
    assert parts["image"].store.shape[1:] == (4, 8)
    if slug != "dual_encoder":
        scores = method.score(parts["image"].read([0, 1]), parts["text"].read([0, 1, 2]), modalities=("image", "text"))
        assert scores.shape == (2, 3) and np.isfinite(scores).all()
    else:
        assert len(method.encode_table(parts["image"], "image")) == len(parts["image"])
