"""A retriever whose encoders learned with the method: saved, opened and searched like any other."""

import numpy as np
import pytest

import amodal
from amodal.encoders.tuned import Tuned
from amodal.errors import DataError, IndexMismatch, UsageError
from tests.methods.test_end_to_end import QUICK, items, tiny_pictures, tiny_words  # noqa: F401 - a fixture

OWN = {"image": tiny_pictures, "text": tiny_words}


@pytest.fixture(scope="module")
def saved(items, tmp_path_factory):  # noqa: F811
    shop = amodal.Retriever(
        "dcmh", backbones={name: make() for name, make in OWN.items()}, backbone_rate=3e-3, cache=False, **QUICK
    ).fit(items)
    assert all(isinstance(encoder, Tuned) for encoder in shop.encoders_.values())
    answers = [(match.item, match.distance) for match in shop.search(text="a red square", into="image", k=10)]
    return shop.save(tmp_path_factory.mktemp("models") / "squares.amodal"), answers


def open_again(folder, **more):
    return amodal.Retriever.load(folder, readonly=True, encoders={name: make() for name, make in OWN.items()} | more)


def test_what_learned_finds_the_colour_it_was_asked_for(saved, items):  # noqa: F811
    red = {items.ids[row] for row in np.flatnonzero(items.labels.dense()[:, 0])}
    assert sum(found in red for found, _ in saved[1]) >= 8


def test_answers_survive_saving(saved):
    with open_again(saved[0]) as shop:
        assert [(m.item, m.distance) for m in shop.search(text="a red square", into="image", k=10)] == saved[1]
    assert sorted(path.name for path in (saved[0] / "encoders").iterdir()) == ["image.safetensors", "text.safetensors"]


def test_an_object_of_ones_own_is_asked_for(saved):
    with pytest.raises(UsageError, match=r'"module", an object of your own.*encoders=\{"image": it\}'):
        amodal.Retriever.load(saved[0])


def test_other_weights_are_refused(saved, tmp_path):
    import shutil

    folder = shutil.copytree(saved[0], tmp_path / "copy.amodal")
    Tuned(tiny_pictures()).save(folder / "encoders" / "image.safetensors")
    with pytest.raises(IndexMismatch, match="tuned:module"):
        open_again(folder)
    (folder / "encoders" / "image.safetensors").unlink()
    with pytest.raises(DataError, match=r"image\.safetensors"):
        open_again(folder)
