"""A retriever that re-ranks: codes recall, a matcher orders, one folder holds both."""

import copy
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import amodal
from amodal.cli.app import main
from amodal.encoders import get as encoder
from amodal.encoders.tuned import ModuleEncoder
from amodal.errors import DataError, UsageError
from amodal.methods import get
from amodal.reranking import Reranker
from tests.encoders import tiny_models
from tests.methods.matching.planted import planted

QUICK = {"epochs": 3, "width": 32, "batch_size": 16}
WORDS_ONLY = [f"p{k}" for k in range(1, 32, 4)]


@pytest.fixture(scope="module")
def cascade(catalogue):
    matcher = get("scan").create(**QUICK)
    return amodal.Retriever("dch", bits=16, anchors=20, rerank=Reranker(matcher, top=12)).fit(catalogue)


def scored(matches):
    return [match.item for match in matches if match.score is not None]


def test_the_first_answers_stand_in_the_order_of_the_scores_and_the_rest_follows_as_recalled(cascade, catalogue):
    recalled = cascade.search(text="a red circle", k=12, rerank=False)
    ranked = cascade.search(text="a red circle", k=12)
    assert {match.item for match in ranked} == {match.item for match in recalled}
    scores = [match.score for match in ranked if match.score is not None]
    assert scores == sorted(scores, reverse=True)
    # items that have words only cannot be scored against words: they come last, in the order of recall
    without = [match.item for match in recalled if match.item in WORDS_ONLY]
    assert [match.item for match in ranked[len(scores) :]] == without
    assert [match.item for match in cascade.search(text="a red circle", k=4)] == [m.item for m in ranked[:4]]


@pytest.mark.parametrize(("recall", "method"), [(0.0, "cca_itq"), (0.5, "dch"), (None, "dch"), (None, "cca_itq")])
def test_the_order_is_that_of_standardised_scores_and_distances(cascade, recall, method):
    weight = float(method == "cca_itq") if recall is None else recall  # distances that labels taught have no say
    asking = cascade.reranker.query("a red circle", "text")
    found = cascade.search(text="a red circle", k=12, rerank=False)
    reranker = copy.copy(cascade.reranker)
    reranker.recall = recall
    ranked = [match for match in reranker.order(asking, found, by=get(method).card) if match.score is not None]
    scores, distances = (np.array([getattr(match, name) for match in ranked]) for name in ("score", "distance"))
    assert distances.std() > 0
    value = (scores - scores.mean()) / scores.std() - weight * (distances - distances.mean()) / distances.std()
    assert (np.diff(value) < 1e-9).all()
    by_score = np.argsort(-scores, kind="stable")
    assert (by_score == np.arange(len(scores))).all() == (weight == 0)


def test_distances_that_are_alike_but_for_rounding_have_no_say(cascade):
    asking = cascade.reranker.query("a red circle", "text")
    found = cascade.search(text="a red circle", k=12, rerank=False)
    alike = [replace(match, distance=0.1 + 1e-16 * k) for k, match in enumerate(found)]
    by_score = cascade.reranker.order(asking, alike)
    assert [m.item for m in cascade.reranker.order(asking, alike, by=get("cca_itq").card)] == [m.item for m in by_score]
    every = cascade.search(text="a red circle", k=40, rerank=False)
    words_only = [match for match in every if match.item in WORDS_ONLY]
    assert words_only
    assert cascade.reranker.order(asking, words_only, by=get("cca_itq").card) == words_only


def test_the_weight_of_recall_is_saved_and_checked(cascade, tmp_path):
    with pytest.raises(UsageError, match="0 or more"):
        Reranker("scan", recall=-1.0)
    reranker = copy.copy(cascade.reranker)
    reranker.recall = 0.25
    reranker.save(tmp_path / "reranker")
    assert Reranker.load(tmp_path / "reranker").recall == 0.25


def test_scores_are_the_matchers_own(cascade, catalogue):
    reranker = cascade.reranker
    parts = reranker.parts(catalogue)
    for match in cascade.search(text="a blue cross", k=5, into="image"):
        row = int(np.flatnonzero(catalogue.ids == match.item)[0])
        region = parts["image"].read(np.flatnonzero(parts["image"].item == row))
        words = reranker.encoders_["text"].encode(["a blue cross"])
        expected = reranker.matcher.score(words, region, modalities=("text", "image"))[0, 0]
        assert match.score == pytest.approx(float(expected), abs=2e-3)  # fragments are kept in half precision


def test_an_item_asks_with_all_it_has(cascade):
    found = cascade.search(id="p8", k=6)
    assert "p8" not in [match.item for match in found]
    assert scored(found)


def test_saved_and_loaded_as_one_with_the_same_answers(cascade, tmp_path):
    cascade.save(tmp_path / "shop")
    with amodal.Retriever.load(tmp_path / "shop", readonly=True) as again:
        assert again.reranker.top == 12
        for query in ({"text": "a green square"}, {"id": "p3"}):
            before = [(m.item, m.score) for m in cascade.search(k=12, **query)]
            assert [(m.item, m.score) for m in again.search(k=12, **query)] == before


def test_what_is_added_is_scored_and_what_is_deleted_is_forgotten(cascade, catalogue, tmp_path):
    cascade.save(tmp_path / "shop")
    with amodal.Retriever.load(tmp_path / "shop") as shop:
        kept = len(shop.reranker.store)
        shop.delete(["p4"])
        assert len(shop.reranker.store) == kept - 2
        assert "p4" not in scored(shop.search(text="a red square", k=36))
        shop.add(catalogue.take(catalogue.ids == "p4"))
        assert len(shop.reranker.store) == kept
        shop.upsert(catalogue.take(catalogue.ids == "p4").only(text="text"))
        assert len(shop.reranker.store) == kept - 1
    with amodal.Retriever.load(tmp_path / "shop", readonly=True) as shop:
        assert len(shop.reranker.store) == kept - 1


def test_why_an_item_answers(cascade):
    for query in ({"text": "a red circle"}, {"image": cascade.search(text="a red circle", into="image")[0].content}):
        why = cascade.explain("p12", **query)
        assert why.named[0] == "a"
        assert why.attention.shape == (len(why.named), 25)
        np.testing.assert_allclose(why.attention.sum(axis=1), 1, atol=1e-5)
        assert why.boxes.shape == (25, 4)
        assert [row["word"] for row in json.loads(json.dumps(why.as_dict()))["words"]] == list(why.named)


def test_what_cannot_be_explained_says_why(cascade):
    with pytest.raises(UsageError, match="both text"):
        cascade.explain("p1", text="a red circle", into="text")
    with pytest.raises(DataError, match='"p1" is not indexed with image'):
        cascade.explain("p1", text="a red circle")
    with pytest.raises(DataError, match="not indexed"):
        cascade.explain("nothing", text="a red circle")


def test_a_retriever_without_matcher_says_so(catalogue):
    plain = amodal.Retriever("dch", bits=16, anchors=20).fit(catalogue)
    with pytest.raises(UsageError, match="rerank="):
        plain.explain("p8", text="a red circle")
    with pytest.raises(UsageError, match="rerank="):
        plain.search(text="a red circle", rerank=True)


def test_a_vector_is_recalled_only(cascade):
    code = cascade.encode("a red circle", "text")
    assert all(match.score is None for match in cascade.search(vector=code))
    with pytest.raises(UsageError, match="not a vector"):
        cascade.search(vector=code, rerank=True)


def test_what_is_no_matcher_or_has_no_parts_is_refused(catalogue):
    with pytest.raises(UsageError, match="is a matcher"):
        amodal.Retriever("dch", rerank="cich")
    with pytest.raises(UsageError, match="at least 1"):
        Reranker("scan", top=0)
    with pytest.raises(UsageError, match="gives one vector"):
        amodal.Retriever("dch", rerank=Reranker("scan", encoders={"text": "minilm"})).fit(catalogue)
    vectors = amodal.data.toy(60)
    with pytest.raises(UsageError, match="compares parts"):
        amodal.Retriever("dch", bits=16, anchors=20, rerank="scan").fit(vectors)


def test_a_damaged_folder_is_named(cascade, tmp_path):
    cascade.save(tmp_path / "shop")
    (tmp_path / "shop" / "reranker" / "fragments.sqlite").unlink()
    with pytest.raises(DataError, match=r"fragments\.sqlite is missing"):
        amodal.Retriever.load(tmp_path / "shop")


def test_a_matcher_may_learn_from_the_pictures_themselves(catalogue, tmp_path):
    folder = tiny_models.vit(tmp_path / "vit")
    reranker = Reranker(
        get("scan").create(**{**QUICK, "epochs": 1}), backbones={"image": f"hf:{folder}@2x2"}, backbone_rate=1e-3
    )
    start = encoder(f"hf:{folder}@2x2").fingerprint
    shop = amodal.Retriever("dch", bits=16, anchors=20, rerank=reranker).fit(catalogue)
    assert shop.reranker.encoders_["image"].fingerprint != start
    assert shop.explain("p12", text="a red circle").attention.shape == (3, 4)
    shop.save(tmp_path / "shop")
    with amodal.Retriever.load(tmp_path / "shop", readonly=True) as again:
        found = [[(m.item, m.score) for m in one.search(text="a red circle")] for one in (shop, again)]
        assert found[0] == found[1]


def test_bare_parts_are_recalled_by_a_dual_encoder_and_scored_as_they_are(tmp_path):
    items = planted(60)
    reranker = Reranker(get("scan").create(**QUICK), top=30, recall=0.0)
    shop = amodal.Retriever("dual_encoder", epochs=2, dim=16, rerank=reranker).fit(items)
    row = 7
    words = items["text"].read(np.flatnonzero(items["text"].item == row)[:1])[0]
    found = shop.search(text=words, k=5, into="image")
    assert len(found) == 5 and found == sorted(found, key=lambda match: -match.score)
    with pytest.raises(UsageError, match="texts and pictures themselves"):
        shop.explain(found[0].item, text=words)
    shop.save(tmp_path / "shop")
    with amodal.Retriever.load(tmp_path / "shop", readonly=True) as again:
        assert [match.item for match in again.search(text=words, k=5, into="image")] == [m.item for m in found]


class Corners(torch.nn.Module):
    """Four parts of a picture: the means of its quarters."""

    def forward(self, x):
        return torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(2).transpose(1, 2)


def test_part_encoders_of_ones_own_are_handed_in_to_open_the_folder(catalogue, tmp_path):
    own = {"image": ModuleEncoder(Corners(), dim=3, size=16, length=4, name="corners")}
    reranker = Reranker(get("scan").create(**{**QUICK, "epochs": 1}), encoders=own)
    shop = amodal.Retriever("dch", bits=16, anchors=20, rerank=reranker).fit(catalogue)
    shop.save(tmp_path / "shop")
    with pytest.raises(UsageError, match=r'"corners", an object of your own.*part_encoders'):
        amodal.Retriever.load(tmp_path / "shop")
    with amodal.Retriever.load(tmp_path / "shop", readonly=True, part_encoders=own) as again:
        asking = {"image": shop.search(text="a red circle", into="image")[0].content}
        found = [[(m.item, m.score) for m in one.search(k=6, **asking)] for one in (shop, again)]
    assert found[0] == found[1]


def test_a_query_with_more_words_than_are_kept_says_so(cascade, tmp_path, capsys, monkeypatch):
    long = "a red circle " * 20
    with pytest.warns(UserWarning, match="has 28 parts more than minilm@32 keeps"):
        cascade.search(text=long)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cascade.search(text="a red circle")
        cascade.search(id="p8")
    shop = cascade.save(tmp_path / "shop")
    monkeypatch.setattr("sys.argv", ["amodal", "search", str(shop), "--text", long])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with warnings.catch_warnings(), pytest.raises(SystemExit):
        warnings.simplefilter("always")
        main()
    assert "warning: the text of the query has 28 parts more" in capsys.readouterr().err
