"""What fusion methods keep: gaps are refused with a sentence, and complete items are served as by any method."""

from functools import cache
from types import MappingProxyType

import numpy as np
import pytest
import torch

from amodal.codes import BinaryCodes
from amodal.data import incomplete, toy
from amodal.errors import DataError, MethodError, MissingModality, ShapeError
from amodal.evaluation import arrange, evaluate, get_protocol
from amodal.methods import get, load, names, save
from amodal.training import Training

# Arguments that make each quick on the toy sets.
EXPECTED = MappingProxyType(
    {
        "ucmfh": {
            "bits": 8,
            "width": 16,
            "feedforward": 32,
            "hidden": 32,
            "epochs": 20,
            "batch_size": 32,
            "rate": 0.01,
            "rate_fusion": 0.003,
        }
    }
)

TOY = {"classes": 4, "seed": 1}
DATA = {
    "complete": lambda: toy(120, **TOY),
    "hard": lambda: incomplete(toy(120, **TOY), "hard"),
    "three modalities": lambda: incomplete(toy(120, {"photo": 8, "sketch": 6, "words": 10}, **TOY), "easy"),
}


@cache
def data(kind):
    return DATA[kind]()


def make(slug, **params):
    return get(slug).create(**{**EXPECTED[slug], **params})


@cache
def fitted(slug, kind):
    return make(slug).fit(data(kind))


def features(dataset):
    """Features of the items that have every modality."""
    whole = dataset.take(np.flatnonzero(dataset.presence().all(axis=1)))
    return {name: whole[name].read() for name in whole.names}


@pytest.fixture(params=sorted(EXPECTED))
def slug(request):
    return request.param


def test_every_fusion_method_has_a_row():
    assert sorted(EXPECTED) == [slug for slug in names() if get(slug).card.family == "fusion"]


def test_card_says_that_gaps_are_not_faced(slug):
    card = get(slug).card
    assert (card.needs_pairs, card.native, card.fills) == ("yes", "none", ("drop",))


@pytest.mark.parametrize("kind", ["complete", "three modalities"])
def test_items_get_a_code_for_each_modality(slug, kind):
    x = features(data(kind))
    codes = fitted(slug, kind).encode_items(x)
    assert list(codes) == list(data(kind).names)
    for found in codes.values():
        assert isinstance(found, BinaryCodes)
        assert (len(found), found.bits) == (len(next(iter(x.values()))), 8)


@pytest.mark.parametrize("kind", ["complete", "three modalities"])
def test_what_belongs_together_is_found(slug, kind):
    labels = data(kind).labels.dense()
    chance = (labels @ labels.T > 0).mean()
    assert fitted(slug, kind).validation_score(data(kind)) > chance + 0.4 * (1 - chance)


def test_learns_from_complete_items_only(slug):
    whole = data("hard").take(np.flatnonzero(data("hard").presence().all(axis=1)))
    x = features(data("complete"))
    assert fitted(slug, "hard").encode_items(x) == make(slug).fit(whole).encode_items(x)


def test_gaps_are_refused_with_a_sentence(slug):
    method, x = fitted(slug, "complete"), features(data("complete"))
    with pytest.raises(MissingModality, match=r"fuses image and text .*encode_items"):
        method.encode(x["image"], "image")
    with pytest.raises(MissingModality, match="fuses image and text"):
        method.encode_table(data("complete")["text"], "text")
    with pytest.raises(MissingModality, match='"text" is missing'):
        method.encode_items({"image": x["image"]})
    with pytest.raises(MissingModality, match='Did you mean "image"'):
        method.encode_items({**x, "imag": x["image"]})
    with pytest.raises(ShapeError, match="120 rows of image, 119 rows of text"):
        method.encode_items({"image": x["image"], "text": x["text"][1:]})
    with pytest.raises(ShapeError, match=r'"image".*width 16'):
        method.encode_items({**x, "image": x["image"][:, 1:]})
    x["text"][3] = np.nan  # how a gap looks in an array
    with pytest.raises(DataError, match='"text": row 3'):
        method.encode_items(x)
    with pytest.raises(MethodError, match="not learned anything"):
        make(slug).encode_items(x)


def test_data_without_complete_items_are_refused(slug):
    with pytest.raises(MethodError, match="every modality"):
        make(slug).fit(incomplete(toy(60, **TOY), presence={"image": 0.5, "text": 0.5}))


def test_no_cross_modal_table_has_a_row_of_it(slug):
    arrangement = arrange(toy(200, **TOY), get_protocol("heldout"), "complete", seed=0)
    with pytest.raises(MissingModality, match="fuses"):
        evaluate(make(slug, epochs=1).fit(arrangement.train), arrangement)


def test_same_seed_same_codes_whatever_the_global_seeds(slug):
    first = fitted(slug, "complete")
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    before = torch.get_rng_state().tolist()
    second = make(slug).fit(data("complete"))
    assert torch.get_rng_state().tolist() == before
    assert second.fingerprint() == first.fingerprint()
    x = features(data("complete"))
    assert second.encode_items(x) == first.encode_items(x)
    assert make(slug, seed=7).fit(data("complete")).fingerprint() != first.fingerprint()


@pytest.mark.parametrize("size", [1, 7, 128])
def test_code_does_not_depend_on_companions(slug, size):
    method, x = fitted(slug, "complete"), features(data("complete"))
    together = method.encode_items(x)
    random = np.random.default_rng(size)
    others = {m: 100 * random.standard_normal((size, rows.shape[1])).astype(np.float32) for m, rows in x.items()}
    for start in range(0, 120, size):
        chosen = np.arange(start, min(start + size, 120))
        alone = method.encode_items({m: rows[chosen] for m, rows in x.items()})
        mixed = method.encode_items({m: np.concatenate([others[m], rows[chosen]]) for m, rows in x.items()})
        for m in x:
            assert alone[m] == together[m][chosen]
            assert mixed[m][np.arange(size, size + len(chosen))] == together[m][chosen]


def test_saved_and_loaded_is_the_same(slug, tmp_path):
    method, x = fitted(slug, "three modalities"), features(data("three modalities"))
    loaded = load(save(method, tmp_path / "model"))
    assert loaded.params() == method.params()
    assert loaded.fingerprint() == method.fingerprint()
    assert loaded.encode_items(x) == method.encode_items(x)


def test_resumed_training_equals_an_uninterrupted_one(slug, tmp_path):
    class Stop(Exception):
        pass

    def stop(done, total, what):
        if done > 0.6 * total:
            raise Stop

    with pytest.raises(Stop):
        make(slug).fit(data("complete"), training=Training(folder=tmp_path, checkpoint_every=1, progress=stop))
    resumed = make(slug).fit(data("complete"), training=Training(folder=tmp_path, checkpoint_every=1, resume=True))
    assert resumed.fingerprint() == fitted(slug, "complete").fingerprint()


def test_patience_looks_at_fused_codes(slug):
    method = make(slug).fit(data("hard"), validation=data("hard"), training=Training(patience=2, validate_every=1))
    assert method.outcome_.rule == "validation"
    assert method.outcome_.score == pytest.approx(method.validation_score(data("hard")))
