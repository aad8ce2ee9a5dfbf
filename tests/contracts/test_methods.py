"""What every registered method keeps, whatever it computes: gaps, codes of the item alone, sentences for bad input."""

import json
import time
from dataclasses import fields, replace
from functools import cache
from inspect import signature
from types import MappingProxyType

import numpy as np
import pytest
import torch

from amodal.codes import BinaryCodes, Embeddings
from amodal.data import Labels, Observations, incomplete, toy
from amodal.errors import AmodalError, DataError, MethodError, MissingModality, ShapeError, UsageError
from amodal.methods import Method, get, load, names, save
from amodal.methods.deep import NetworkMethod
from amodal.training import Training

# A method that could use pairs may say that there are none.
pytestmark = pytest.mark.filterwarnings("ignore:no item has two modalities")

# One row per method: arguments that make it quick on the toy sets.
EXPECTED = MappingProxyType(
    {
        "agah": {"bits": 8, "hidden": 32, "latent": 16, "dropout": 0.0, "epochs": 20, "batch_size": 32, "rate": 0.01},
        "casr": {
            "members": 3,
            "dim": 16,
            "hidden": 32,
            "dropout": 0.1,
            "epochs": 20,
            "batch_size": 32,
            "rate": 0.01,
            "imagination_steps": 40,
        },
        "cca_itq": {"bits": 8},
        "cibhash": {"bits": 8, "hidden": 32, "dropout": 0.1, "epochs": 20, "batch_size": 32, "rate": 0.01},
        "cich": {
            "bits": 8,
            "members": 2,
            "hidden": 32,
            "latent": 16,
            "anchors": 40,
            "head": 32,
            "dropout": 0.1,
            "dropout_hidden": 0.2,
            "encoder_epochs": 20,
            "batch_size": 16,
            "rate": 0.01,
            "imagination_steps": 20,
            "code_steps": 100,
            "code_batch": 64,
        },
        "cich_paper": {
            "bits": 8,
            "latent": 16,
            "hidden": 32,
            "epochs": 20,
            "batch_size": 32,
            "rate": 0.01,
            "rate_prototype": 0.01,
        },
        "ciim": {"dim": 32, "hidden": 32, "dropout": 0.2, "epochs": 20, "batch_size": 32, "rate": 0.01},
        "cimon": {"bits": 8, "hidden": 32, "latent": 16, "epochs": 20, "batch_size": 32, "rate": 0.01},
        "cyclegen": {"dim": 16, "hidden": 32, "epochs": 20, "batch_size": 32, "rate": 0.01},
        "dadh": {"bits": 8, "hidden": 32, "latent": 16, "dropout": 0.0, "epochs": 20, "batch_size": 32, "rate": 0.01},
        "davae": {"dim": 16, "hidden": 32, "epochs": 20, "batch_size": 32, "rate": 0.01},
        "dch": {"bits": 8, "anchors": 40},
        "dcmh": {"bits": 8, "hidden": 32, "epochs": 20, "batch_size": 32, "rate": 0.01},
        "dchmt": {"bits": 8, "hidden": 32, "epochs": 20, "batch_size": 32, "rate": 0.01},
        "dual_encoder": {"dim": 16, "hidden": 32, "epochs": 20, "batch_size": 32, "rate": 0.01},
        "jimfh": {"bits": 8},
        "label_contrastive": {
            "bits": 8,
            "hidden": 32,
            "latent": 16,
            "dropout": 0.1,
            "epochs": 20,
            "batch_size": 32,
            "rate": 0.01,
        },
        "label_regression": {},
        "mccn": {"dim": 32, "hidden": 32, "dropout": 0.1, "epochs": 20, "batch_size": 32, "rate": 0.01},
        "pan": {"dim": 32, "hidden": 32, "dropout": 0.1, "epochs": 20, "batch_size": 32, "rate": 0.01},
        "scratch": {"bits": 8, "anchors": 40},
        "seph": {"bits": 8, "anchors": 40},
        "ssah": {"bits": 8, "hidden": 32, "latent": 16, "dropout": 0.0, "epochs": 20, "batch_size": 32, "rate": 0.01},
        # as it stands in tables of one modality against another; as published, in test_fusion.py
        "ucmfh": {
            "bits": 8,
            "width": 16,
            "feedforward": 32,
            "hidden": 32,
            "split": True,
            "epochs": 20,
            "batch_size": 32,
            "rate": 0.01,
            "rate_fusion": 0.003,
        },
    }
)

TOY = {"classes": 4, "seed": 1}
DATA = {
    "complete": lambda: toy(120, **TOY),
    "hard": lambda: incomplete(toy(120, **TOY), "hard"),
    "unpaired": lambda: incomplete(toy(120, **TOY), presence={"image": 0.5, "text": 0.5}),
    "three modalities": lambda: incomplete(toy(120, {"photo": 8, "sketch": 6, "words": 10}, **TOY), "easy"),
    "several labels": lambda: incomplete(toy(120, multi_label=True, **TOY), "easy"),
    "captions": lambda: incomplete(toy(120, captions=3, **TOY), "easy"),
    "unlabelled": lambda: incomplete(toy(120, unlabelled=0.4, **TOY), "easy"),
    "wider than long": lambda: incomplete(toy(40, {"image": 60, "text": 50}, **TOY), "easy"),
}


# Matchers have no code of an item: their contract is in test_matchers.py.
VECTORIAL = [slug for slug in names() if get(slug).card.returns != "scores"]


@cache
def data(kind):
    return DATA[kind]()


@cache
def fitted(slug, kind):
    """A method fitted to a toy set, or the sentence with which it refuses."""
    try:
        return make(slug).fit(data(kind))
    except MethodError as error:
        return error


def make(slug, **params):
    return get(slug).create(**{**EXPECTED[slug], **params})


def encode_all(method, dataset):
    return {name: method.encode_table(dataset[name], name) for name in dataset.names}


def rows(dataset, name):
    return dataset[name].read()


@pytest.fixture(params=sorted(EXPECTED))
def slug(request):
    return request.param


def test_every_registered_method_has_a_row():
    assert sorted(EXPECTED) == VECTORIAL


def test_card_is_filled(slug):
    card = get(slug).card
    assert card.slug == slug
    optional = {"url", "fills", "departures", "imputes", "needs_labels", "reconstruction"}
    for field in fields(card):
        assert field.name in optional or getattr(card, field.name)
    assert card.summary.endswith(".")
    json.dumps(card.as_dict())
    for line in (card.summary, card.paper, card.checked, *card.departures):
        assert line in card.as_markdown()


def test_search_space_and_presets_name_arguments(slug):
    method = get(slug)
    for name, values in method.search_space.items():
        assert method.accepts(name)
        assert len(values) > 1
    for preset in method.presets:
        assert method.create(preset).params()


def test_fill_argument_and_card_agree(slug):
    method = get(slug)
    assert method.accepts("fill") == bool(method.card.fills)
    for fill in method.card.fills:
        encode_all(make(slug, fill=fill).fit(data("hard")), data("hard"))
    if method.card.fills:
        first = method.card.fills[0]
        with pytest.raises(UsageError, match=f'Did you mean "{first}"'):
            make(slug, fill=f"{first}s").fit(data("hard"))


def test_constructor_only_stores(slug):
    parameters = signature(get(slug)).parameters
    marks = {name: object() for name in parameters}
    assert get(slug)(**marks).params() == marks
    assert all(parameter.default is not parameter.empty for parameter in parameters.values())


def test_unknown_argument_names_the_nearest(slug):
    with pytest.raises(UsageError, match=r'"sede".*Did you mean "seed"'):
        get(slug).create(sede=1)


@pytest.mark.parametrize("kind", DATA)
def test_fits_and_encodes(slug, kind):
    method = fitted(slug, kind)
    if get(slug).card.needs_pairs == "yes" and kind == "unpaired":
        assert isinstance(method, MethodError)
        assert "pairs" in str(method)
        return
    codes = encode_all(method, data(kind))
    for name, found in codes.items():
        assert len(found) == len(data(kind)[name])
        if get(slug).card.returns == "codes":
            assert isinstance(found, BinaryCodes)
            assert found.bits == EXPECTED[slug]["bits"]
        else:
            assert isinstance(found, Embeddings)
    assert len({len(found.packed[0]) if isinstance(found, BinaryCodes) else found.dim for found in codes.values()}) == 1


@pytest.mark.parametrize("kind", ["complete", "three modalities", "several labels", "captions"])
def test_what_belongs_together_is_found(slug, kind):
    labels = data(kind).labels.dense()
    chance = (labels @ labels.T > 0).mean()
    found = Method.validation_score(fitted(slug, kind), data(kind))  # mAP, whatever a method is selected by
    assert found > chance + 0.4 * (1 - chance)


def test_fits_in_seconds(slug):
    began = time.process_time()
    make(slug).fit(data("hard"))
    assert time.process_time() - began < 10


def test_same_seed_same_codes_whatever_the_global_seeds(slug):
    first = encode_all(fitted(slug, "hard"), data("hard"))
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    second = make(slug).fit(data("hard"))
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before  # noqa: NPY002
    assert encode_all(second, data("hard")) == first
    assert second.fingerprint() == fitted(slug, "hard").fingerprint()


def test_another_seed_or_other_data_is_another_model(slug):
    prints = {fitted(slug, "hard").fingerprint(), fitted(slug, "complete").fingerprint()}
    prints.add(make(slug, seed=7).fit(data("hard")).fingerprint())
    assert len(prints) == 3


def test_fit_leaves_the_data_alone(slug):
    dataset = DATA["hard"]()
    before = {name: rows(dataset, name).copy() for name in dataset.names}, dataset.fingerprint()
    make(slug).fit(dataset)
    assert dataset.fingerprint() == before[1]
    for name in dataset.names:
        np.testing.assert_array_equal(rows(dataset, name), before[0][name])


@pytest.mark.parametrize("size", [1, 7, 128])
def test_code_does_not_depend_on_companions(slug, size):
    method = fitted(slug, "complete")
    for name in data("complete").names:
        x = rows(data("complete"), name)
        together = method.encode(x, name)
        random = np.random.default_rng(size)
        for start in range(0, len(x), size):
            chosen = np.arange(start, min(start + size, len(x)))
            assert method.encode(x[chosen], name) == together[chosen]
            others = 100 * random.standard_normal((size, x.shape[1])).astype(np.float32)
            mixed = np.concatenate([others, x[chosen]])
            assert method.encode(mixed, name)[np.arange(size, len(mixed))] == together[chosen]


@pytest.mark.parametrize("kind", ["hard", "three modalities", "several labels"])
def test_saved_and_loaded_is_the_same(slug, kind, tmp_path):
    method = fitted(slug, kind)
    loaded = load(save(method, tmp_path / "model"))
    assert type(loaded) is type(method)
    assert loaded.params() == method.params()
    assert loaded.fingerprint() == method.fingerprint()
    assert encode_all(loaded, data(kind)) == encode_all(method, data(kind))


def test_state_is_a_copy_of_nothing_but_arrays(slug):
    state = fitted(slug, "hard").state()
    assert state
    for name, array in state.items():
        assert isinstance(name, str)
        assert isinstance(array, np.ndarray)
        assert array.dtype.kind in "fiub"


def test_encode_refuses_what_it_cannot_read(slug):
    method = fitted(slug, "complete")
    x = rows(data("complete"), "image")[:5].copy()
    with pytest.raises(ShapeError, match=r'"image".*width 16'):
        method.encode(x[:, :-1], "image")
    with pytest.raises(MissingModality, match='Did you mean "image"'):
        method.encode(x, "imag")
    x[3, 2] = np.nan
    with pytest.raises(DataError, match="row 3"):
        method.encode(x, "image")
    with pytest.raises(MethodError, match="not learned anything"):
        make(slug).encode(x, "image")


def spoiled(dataset, name, store):
    return replace(dataset, modalities={**dataset.modalities, name: Observations(store, dataset[name].item)})


def test_fit_refuses_nan(slug):
    x = rows(data("complete"), "text").copy()
    x[17, 3] = np.inf
    with pytest.raises(DataError, match=r'"text".*"item 017"'):
        make(slug).fit(spoiled(data("complete"), "text", x))


def test_fit_refuses_raw_content(slug):
    with pytest.raises(DataError, match='"text" holds raw content'):
        make(slug).fit(spoiled(data("complete"), "text", np.array(["a word"] * 120)))


def test_fit_refuses_a_modality_alone_or_absent(slug):
    with pytest.raises(MethodError, match="at least two modalities"):
        make(slug).fit(data("complete").only(image="image"))
    with pytest.raises(MissingModality, match='"text"'):
        make(slug).fit(data("complete").keep(np.tile([True, False], (120, 1))))


def test_labels_are_asked_for_where_needed(slug):
    bare = replace(data("complete"), labels=None)
    unknown = replace(bare, labels=Labels.from_multihot(np.zeros((120, 2)), np.zeros(120, bool)))
    for dataset in (bare, unknown):
        if get(slug).card.needs_labels:
            with pytest.raises(MethodError, match="label"):
                make(slug).fit(dataset)
        else:
            encode_all(make(slug).fit(dataset), dataset)


def test_class_without_example_is_named(slug):
    labels = np.hstack([data("complete").labels.dense(), np.zeros((120, 1))])
    dataset = replace(data("complete"), labels=Labels.from_multihot(labels))
    if get(slug).card.needs_labels:
        with pytest.raises(DataError, match='"class 4"'):
            make(slug).fit(dataset)
    make(slug).fit(dataset.seen_classes())


def test_imputes_or_says_who_does(slug):
    if not get(slug).card.imputes:
        with pytest.raises(MethodError, match="cannot imagine"):
            fitted(slug, "hard").impute(data("hard"), "text")
        return
    found = fitted(slug, "hard").impute(data("hard"), "text")
    assert found.items.tolist() == np.flatnonzero(~data("hard").present("text")).tolist()
    assert np.isfinite(found.values).all()
    assert ((found.trust >= 0) & (found.trust <= 1)).all()


def test_bad_numbers_are_sentences(slug):
    for bits in (0, -3):
        if get(slug).card.returns == "codes":
            with pytest.raises(AmodalError, match="bits"):
                make(slug, bits=bits).fit(data("complete"))


deep = pytest.mark.parametrize("slug", [slug for slug in VECTORIAL if issubclass(get(slug), NetworkMethod)])


def logs(folder):
    """The lines of every stage's log, by stage."""
    return {path.parent.name: path.read_text().splitlines() for path in folder.rglob("log.jsonl")}


@deep
def test_losses_fall(slug, tmp_path):
    make(slug).fit(data("hard"), training=Training(folder=tmp_path / "run"))
    for stage, lines in logs(tmp_path).items():
        losses = [json.loads(line)["losses"]["loss"] for line in lines]
        assert losses[-1] < losses[0], stage


@deep
def test_resumed_training_equals_an_uninterrupted_one(slug, tmp_path):
    class Stop(Exception):
        pass

    stages = {}
    whole = make(slug).fit(
        data("hard"), training=Training(progress=lambda done, total, what: stages.update({what.split(" · ")[0]: total}))
    )
    for stage in stages:

        def stop(done, total, what, stage=stage):
            if what.startswith(stage) and done > 0.6 * total:
                raise Stop

        folder = tmp_path / stage
        training = Training(folder=folder, checkpoint_every=1, progress=stop)
        with pytest.raises(Stop):
            make(slug).fit(data("hard"), training=training)
        before = sum(map(len, logs(folder).values()))
        resumed = make(slug).fit(data("hard"), training=replace(training, progress=None, resume=True))
        assert resumed.fingerprint() == whole.fingerprint(), stage
        after = logs(folder)
        assert 0 < before < sum(map(len, after.values()))
        for lines in after.values():
            assert [json.loads(line)["epoch"] for line in lines] == list(range(len(lines)))
