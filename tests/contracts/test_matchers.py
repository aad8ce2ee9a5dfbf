"""What every registered matcher keeps: scores of the pair alone, no say for padding, gaps, sentences for bad input."""

import json
from dataclasses import fields, replace
from functools import cache
from inspect import signature
from types import MappingProxyType

import numpy as np
import pytest
import torch

from amodal.data import Dataset, Observations, incomplete
from amodal.errors import DataError, MethodError, MissingModality, ShapeError, UsageError
from amodal.methods import get, load, names, save
from amodal.training import Training
from tests.methods.matching.planted import planted, with_third

QUICK = {"width": 24, "epochs": 12, "batch_size": 32, "rate": 0.02}
# One row per matcher: arguments that make it quick on planted parts.
EXPECTED = MappingProxyType(
    {
        "causmatch": QUICK,
        "scan": QUICK,
        "sgraf": {**QUICK, "similarity": 16, "dropout": 0.1},
    }
)

PARTS = {"seed": 1, "noise": 0.1, "concepts": 20}
DATA = {
    "complete": lambda: planted(96, **PARTS),
    "incomplete": lambda: incomplete(planted(160, **PARTS), "hard"),
    "captions": lambda: planted(96, captions=3, **PARTS),
    "word numbers": lambda: planted(96, numbered=True, **PARTS),
    "three modalities": lambda: incomplete(with_third(planted(128, **PARTS)), "easy"),
}
BOTH = ("image", "text")


@cache
def data(kind):
    return DATA[kind]()


@cache
def fitted(slug, kind):
    return make(slug).fit(data(kind))


def make(slug, **params):
    return get(slug).create(**{**EXPECTED[slug], **params})


def parts(kind, name, rows=slice(None)):
    return data(kind)[name].read(rows)


def scores(method, kind="complete", rows=slice(None)):
    return method.score(parts(kind, "image", rows), parts(kind, "text", rows), modalities=BOTH)


@pytest.fixture(params=sorted(EXPECTED))
def slug(request):
    return request.param


def test_every_registered_matcher_has_a_row():
    assert sorted(EXPECTED) == [slug for slug in names() if get(slug).card.returns == "scores"]


def test_card_is_filled(slug):
    card = get(slug).card
    assert (card.slug, card.family, card.needs_pairs, card.takes) == (slug, "matching", "yes", ("parts",))
    optional = {"fills", "imputes", "needs_labels", "reconstruction"}
    assert all(field.name in optional or getattr(card, field.name) for field in fields(card))
    for line in (card.summary, card.paper, card.checked, *card.departures):
        assert line in card.as_markdown()


def test_search_space_and_presets_name_arguments(slug):
    method = get(slug)
    assert all(method.accepts(name) and len(values) > 1 for name, values in method.search_space.items())
    assert {"paper", "cpu"} <= set(method.presets)
    for preset in method.presets:
        assert method.create(preset).params()


def test_constructor_only_stores(slug):
    parameters = signature(get(slug)).parameters
    marks = {name: object() for name in parameters}
    assert get(slug)(**marks).params() == marks


@pytest.mark.parametrize("kind", DATA)
def test_partners_find_each_other(slug, kind):
    sample = data(kind).take(np.flatnonzero(data(kind).presence().all(axis=1)))
    chance = 200 * 16 / len(sample)
    assert fitted(slug, kind).validation_score(sample) > chance + 0.2 * (600 - chance)


def test_validation_needs_pairs(slug):
    alone = data("incomplete").take(data("incomplete").presence().sum(axis=1) == 1)
    with pytest.raises(MethodError, match="two modalities"):
        fitted(slug, "incomplete").validation_score(alone)


def test_scores_are_finite_and_the_same_both_ways(slug):
    method = fitted(slug, "complete")
    found = scores(method)
    assert found.shape == (96, 96)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    back = method.score(parts("complete", "text"), parts("complete", "image"), modalities=("text", "image"))
    np.testing.assert_array_equal(back, found.T)


def test_score_does_not_depend_on_companions(slug):
    method = fitted(slug, "complete")
    together = scores(method)
    for rows in ([5], [7, 3], [90, 5, 60, 1]):
        np.testing.assert_allclose(scores(method, rows=rows), together[np.ix_(rows, rows)], atol=2e-6)


def test_tiles_do_not_show(slug, monkeypatch):
    method = fitted(slug, "complete")
    whole = scores(method)
    monkeypatch.setattr("amodal.methods.matching.tiles.AT_ONCE", 20_000)
    np.testing.assert_allclose(scores(method), whole, atol=2e-6)


def test_padding_has_no_influence(slug):
    method = fitted(slug, "complete")
    image, text = parts("complete", "image"), parts("complete", "text")
    longer = [np.concatenate([x, np.zeros_like(x)], axis=1) for x in (image, text)]
    np.testing.assert_allclose(method.score(*longer, modalities=BOTH), scores(method), atol=2e-6)
    inside = [np.insert(x, 1, 0, axis=1) for x in (image, text)]
    np.testing.assert_allclose(method.score(*inside, modalities=BOTH), scores(method), atol=2e-6)


def test_padding_has_no_influence_on_learning(slug):
    longer = {
        name: Observations(np.pad(parts("complete", name), ((0, 0), (0, 3), (0, 0))), np.arange(96)) for name in BOTH
    }
    method = make(slug, epochs=1)
    padded = make(slug, epochs=1).fit(replace(data("complete"), modalities=longer))
    np.testing.assert_allclose(scores(padded), scores(method.fit(data("complete"))), atol=1e-4)


def test_order_of_regions_has_no_influence(slug):
    method = fitted(slug, "complete")
    turned = parts("complete", "image")[:, ::-1]
    np.testing.assert_allclose(
        method.score(turned, parts("complete", "text"), modalities=BOTH), scores(method), atol=2e-6
    )


def test_some_pairs_score_as_all(slug):
    method, rng = fitted(slug, "captions"), np.random.default_rng(0)
    image = method.embed(parts("captions", "image"), "image")
    text = method.embed(parts("captions", "text"), "text")
    whole = method.match(image, text, modalities=BOTH)
    rows = rng.integers(0, len(text), (len(image), 7))
    np.testing.assert_allclose(
        method.match_some(image, text, rows, modalities=BOTH), np.take_along_axis(whole, rows, axis=1), atol=2e-6
    )
    rows = rng.integers(0, len(image), (len(text), 4))
    np.testing.assert_allclose(
        method.match_some(text, image, rows, modalities=BOTH[::-1]),
        np.take_along_axis(whole.T, rows, axis=1),
        atol=2e-6,
    )
    assert method.match_some(text, image, rows[:, :0], modalities=BOTH[::-1]).shape == (len(text), 0)
    sets = parts("captions", "text")[rng.integers(0, len(text), (5, 3))]
    aligned = method.score_pairs(parts("captions", "image", slice(5)), sets, modalities=BOTH)
    for query in range(5):
        one = method.score(parts("captions", "image", [query]), sets[query], modalities=BOTH)
        np.testing.assert_allclose(aligned[query], one[0], atol=2e-6)


def test_fragments_can_be_kept_in_half_precision(slug):
    method = fitted(slug, "complete")
    kept = [method.embed(parts("complete", name), name, dtype=np.float16) for name in BOTH]
    assert kept[0].dtype == np.float16
    np.testing.assert_allclose(method.match(*kept, modalities=BOTH), scores(method), atol=1e-2)


def test_same_seed_same_scores_whatever_the_global_seeds(slug):
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    before = torch.get_rng_state().tolist()
    again = make(slug).fit(data("complete"))
    assert torch.get_rng_state().tolist() == before
    assert again.fingerprint() == fitted(slug, "complete").fingerprint()
    np.testing.assert_array_equal(scores(again), scores(fitted(slug, "complete")))
    assert make(slug, seed=3).fit(data("complete")).fingerprint() != again.fingerprint()


@pytest.mark.parametrize("kind", ["complete", "word numbers", "three modalities"])
def test_saved_and_loaded_is_the_same(slug, kind, tmp_path):
    method = fitted(slug, kind)
    loaded = load(save(method, tmp_path / "model"))
    assert type(loaded) is type(method)
    assert loaded.fingerprint() == method.fingerprint()
    rows = slice(20)
    np.testing.assert_array_equal(scores(loaded, kind, rows), scores(method, kind, rows))


def test_resumed_training_equals_an_uninterrupted_one(slug, tmp_path):
    class Stop(Exception):
        pass

    def stop(done, total, what):
        if done > 0.6 * total:
            raise Stop

    training = Training(folder=tmp_path, checkpoint_every=1, progress=stop)
    with pytest.raises(Stop):
        make(slug, epochs=4).fit(data("complete"), training=training)
    resumed = make(slug, epochs=4).fit(data("complete"), training=replace(training, progress=None, resume=True))
    assert resumed.fingerprint() == make(slug, epochs=4).fit(data("complete")).fingerprint()


def test_losses_fall_and_scores_are_logged(slug, tmp_path):
    make(slug, negatives="hardest", start="random", reduction="mean").fit(
        data("complete"), training=Training(folder=tmp_path)
    )
    lines = [json.loads(line)["losses"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["partners"] > lines[-1]["others"]


def test_unpaired_items_teach_nothing(slug):
    both = data("incomplete").presence().all(axis=1)
    paired = make(slug, epochs=1).fit(data("incomplete").take(both))
    assert make(slug, epochs=1).fit(data("incomplete")).fingerprint() == paired.fingerprint()


def test_explains_a_pair(slug):
    method = fitted(slug, "complete")
    image, text = np.insert(parts("complete", "image")[4], 2, 0, axis=0), parts("complete", "text")[4]
    found = method.explain(image, text, modalities=BOTH)
    assert found.attention.shape == (len(text), len(image))
    words, regions = text.any(axis=1), image.any(axis=1)
    np.testing.assert_allclose(found.attention.sum(axis=1), words, atol=1e-5)
    assert not found.attention[:, ~regions].any()
    for values in (found.similarity, found.effects):
        assert values.shape == (len(text),)
        assert not values[~words].any()
    assert found.score == pytest.approx(scores(method, rows=[4])[0, 0], abs=2e-6)
    fragments = [method.embed(x[None], name) for x, name in ((image, "image"), (text, "text"))]
    assert found.effect == pytest.approx(float(method.effect(*fragments, modalities=BOTH)[0, 0]), abs=2e-6)
    back = method.explain(text, image, modalities=BOTH[::-1])
    np.testing.assert_array_equal(back.attention, found.attention)


def test_no_items_have_no_scores(slug):
    method = fitted(slug, "complete")
    assert scores(method, rows=slice(0)).shape == (0, 0)


def test_encode_says_what_to_do_instead(slug):
    with pytest.raises(MethodError, match=rf'score\(queries.*rerank="{slug}"'):
        fitted(slug, "complete").encode(parts("complete", "image"), "image")


def test_score_refuses_what_it_cannot_read(slug):
    method = fitted(slug, "complete")
    image, text = parts("complete", "image", slice(5)).copy(), parts("complete", "text", slice(5))
    with pytest.raises(ShapeError, match=r'"image".*width 20'):
        method.score(image[:, :, :-1], text, modalities=BOTH)
    with pytest.raises(ShapeError, match=r'"image".*parts of width 20'):
        method.score(image[:, 0], text, modalities=BOTH)
    with pytest.raises(MissingModality, match='Did you mean "image"'):
        method.score(image, text, modalities=("imag", "text"))
    with pytest.raises(UsageError, match='both are "text"'):
        method.score(text, text, modalities=("text", "text"))
    with pytest.raises(ShapeError, match="by embed, or use score"):
        method.match(image, text, modalities=BOTH)
    with pytest.raises(ShapeError, match=r"shape \(5, N\)"):
        method.match_some(*(method.embed(x, n) for x, n in ((image, "image"), (text, "text"))), [0], modalities=BOTH)
    with pytest.raises(UsageError, match="from 0 to 4; found 5"):
        method.match_some(
            *(method.embed(x, n) for x, n in ((image, "image"), (text, "text"))), [[5]] * 5, modalities=BOTH
        )
    image[2] = 0
    with pytest.raises(DataError, match=r'"image": row 2 has no part'):
        method.score(image, text, modalities=BOTH)
    image[3, 1, 0] = np.nan
    with pytest.raises(DataError, match="row 3"):
        method.score(image, text, modalities=BOTH)
    with pytest.raises(MethodError, match="not learned anything"):
        make(slug).score(image, text, modalities=BOTH)


def test_word_numbers_are_checked_and_may_be_unknown(slug):
    method = fitted(slug, "word numbers")
    image, text = parts("word numbers", "image", slice(3)), parts("word numbers", "text", slice(3)).copy()
    text[1, 0] = 21
    unknown = method.score(image, text, modalities=BOTH)
    text[1, 0] = 4000
    np.testing.assert_array_equal(method.score(image, text, modalities=BOTH), unknown)
    text[1, 0] = 2.5
    with pytest.raises(DataError, match=r"row 1 .*no word numbers 1, 2"):
        method.score(image, text, modalities=BOTH)
    with pytest.raises(DataError, match=r"no word numbers 1, 2"):
        make(slug).fit(replace(data("word numbers").take(np.arange(3)), modalities=tables(image, text)))


def tables(image, text):
    return {"image": Observations(image, np.arange(len(image))), "text": Observations(text, np.arange(len(text)))}


def test_fit_refuses_data_it_cannot_learn_from(slug):
    image, text = parts("complete", "image").copy(), parts("complete", "text")
    ids = data("complete").ids
    with pytest.raises(ShapeError, match='"image" holds one vector per observation'):
        make(slug).fit(Dataset(ids, tables(image[:, 0], text)))
    with pytest.raises(MethodError, match="no item has two modalities"):
        alone = np.stack([np.arange(96) % 2 == 0, np.arange(96) % 2 == 1], axis=1)
        make(slug).fit(data("complete").keep(alone))
    image[17] = 0
    with pytest.raises(DataError, match=r'"image": an observation of item "item 017" has no part'):
        make(slug).fit(Dataset(ids, tables(image, text)))
    image[17, 2, 3] = np.inf
    with pytest.raises(DataError, match='"item 017"'):
        make(slug).fit(Dataset(ids, tables(image, text)))


def test_unknown_words_for_options_name_the_nearest(slug):
    for name, wrong in (("reduction", "sun"), ("bsae", 1)):
        with pytest.raises(UsageError, match=r"(?i)known|did you mean"):
            make(slug, **{name: wrong}).fit(data("complete"))
