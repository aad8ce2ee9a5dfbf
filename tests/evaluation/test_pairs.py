"""Pair retrieval: right numbers by loops, for codes and for matchers, at once and in folds."""

from dataclasses import replace

import numpy as np
import pytest

from amodal.codes import Embeddings
from amodal.data import Dataset, Observations, toy
from amodal.errors import DataError, MethodError
from amodal.evaluation import Arrangement, PairProtocol, arrange, evaluate, evaluate_codes, get_protocol
from amodal.evaluation.pairs import evaluate_pair_scores
from tests.evaluation.toys import Signs, split_toy

FLICKR = get_protocol("flickr30k")
WAYS = ["image->text", "text->image"]


class Dot:
    """A matcher as far as evaluation knows one: an item's fragments are its features, and a score their product."""

    card = replace(Signs.card, slug="dot", family="matching", returns="scores")

    def embed_table(self, observations, modality):
        return observations.read()[:, None, :]

    def match(self, queries, candidates, *, modalities):
        assert modalities == ("image", "text")
        return queries[:, 0, :6] @ candidates[:, 0, :6].T


def judged_by(scores, protocol=FLICKR, captions=2):
    """The evaluation of a table of scores, pictures by captions; ``captions`` follow each other for each picture."""

    class Table(Dot):
        def match(self, queries, candidates, *, modalities):
            return scores[np.ix_(queries[:, 0, 0].astype(int), candidates[:, 0, 0].astype(int))]

    n = len(scores)
    numbers = {"image": np.arange(n), "text": np.arange(n * captions)}
    tables = {
        name: Observations(rows[:, None].astype(float), rows // (1 if name == "image" else captions))
        for name, rows in numbers.items()
    }
    data = Dataset(np.arange(n).astype(str), tables)
    return evaluate(Table(), Arrangement(protocol, "complete", 0, data, None, data, data, None))


def loop(scores, asking, answering, k):
    """Percent of queries with one of their own among the k highest scores; there are no ties."""
    hits = [any(answering[np.argsort(-row)[:k]] == own) for row, own in zip(scores, asking, strict=True)]
    return 100 * np.mean(hits)


def test_worked_example_of_two_pictures_and_four_captions():
    found = judged_by(np.array([[0.2, 0.9, 0.5, 0.1], [0.8, 0.3, 0.3, 0.4]]))
    for way in WAYS:
        assert found.metrics["recall@1"][way] == 50
    assert found.metrics["rank.median"]["image->text"] == 1.5
    assert found.metrics["rank.floor"]["image->text"] == 1
    assert found.counts["text->image"] == {
        "queries": 4,
        "unanswerable": 0,
        "database": 2,
        "relevant": {"mean": 1.0, "min": 1, "max": 1},
        "folds": 1,
    }
    assert "fewer than 5" in found.absent["image->text recall@5"]
    assert "rsum" not in found.metrics


@pytest.mark.parametrize("captions", [1, 5])
def test_recalls_equal_the_loop(captions):
    scores = np.random.default_rng(0).standard_normal((30, 30 * captions))
    scores[np.arange(30), captions * np.arange(30)] += 2
    found = judged_by(scores, captions=captions)
    pictures, texts = np.arange(30), np.arange(30 * captions) // captions
    expected = {
        way: [loop(*side, k) for k in (1, 5, 10)]
        for way, side in zip(WAYS, ((scores, pictures, texts), (scores.T, texts, pictures)), strict=True)
    }
    for way in WAYS:
        assert [found.metrics[f"recall@{k}"][way] for k in (1, 5, 10)] == pytest.approx(expected[way])
        assert found.per_query[way].mean() == pytest.approx(sum(expected[way]))
    assert found.metrics["rsum"] == {"image<->text": pytest.approx(sum(sum(row) for row in expected.values()))}
    assert found.mean("rsum") == pytest.approx(sum(sum(row) for row in expected.values()))
    if captions == 1:
        assert found.metrics["chance.rsum"]["image<->text"] == pytest.approx(2 * 100 * (1 + 5 + 10) / 30)


def test_constant_scores_get_what_chance_gets():
    found = judged_by(np.zeros((25, 125)), captions=5)
    for name in ("recall@1", "recall@5", "recall@10", "rsum"):
        for way, value in found.metrics[name].items():
            assert value == pytest.approx(found.metrics[f"chance.{name}"][way], abs=1e-9)


def test_folds_are_consecutive_items_and_their_means():
    scores = np.random.default_rng(1).standard_normal((36, 72)).astype(np.float32)
    protocol = replace(get_protocol("coco-1k"), fold=12)
    found = judged_by(scores, protocol)
    parts = [judged_by(scores[i : i + 12, 2 * i : 2 * i + 24]) for i in (0, 12, 24)]
    for name, values in found.metrics.items():
        for way, value in values.items():
            assert value == pytest.approx(np.mean([part.metrics[name][way] for part in parts])), name
    assert (found.counts["text->image"]["queries"], found.counts["text->image"]["database"]) == (72, 12)
    assert found.counts["text->image"]["folds"] == 3


def test_folds_that_do_not_come_out_even_are_refused():
    with pytest.raises(DataError, match=r"folds of 1000 test items.*has 30.*flickr30k"):
        judged_by(np.zeros((30, 60)), get_protocol("coco-1k"))


def test_codes_and_scores_of_the_same_kind_agree():
    data = split_toy(120, captions=3)
    arrangement = arrange(replace(data, labels=None), FLICKR)
    items = arrangement.queries
    rows = {name: items[name].read()[:, :6] for name in items.names}
    codes = {name: Embeddings.from_vectors(x) for name, x in rows.items()}

    class Cosine(Dot):
        def match(self, queries, candidates, *, modalities):
            one, other = (x[:, 0, :6] / np.linalg.norm(x[:, 0, :6], axis=1)[:, None] for x in (queries, candidates))
            return one @ other.T

    by_codes, by_scores = evaluate_codes(codes, codes, arrangement), evaluate_pair_scores(Cosine(), arrangement)
    for name, values in by_codes.metrics.items():
        assert values == pytest.approx(by_scores.metrics[name])
    assert by_codes.health == {}


def test_a_method_with_codes_needs_no_labels():
    data = replace(split_toy(120), labels=None)
    arrangement = arrange(data, FLICKR)
    found = evaluate(Signs().fit(arrangement.train), arrangement)
    assert found.health["image"]["codes"] == len(arrangement.queries)
    assert set(found.metrics["rsum"]) == {"image<->text"}


def test_queries_without_partner_do_not_count():
    data = toy(60)
    keep = np.ones((60, 2), bool)
    keep[:20, 1] = False
    arrangement = Arrangement(FLICKR, "complete", 0, data, None, data.keep(keep), data.keep(keep), None)
    found = evaluate_pair_scores(Dot(), arrangement)
    assert [found.counts[way]["queries"] for way in WAYS] == [60, 40]
    assert [found.counts[way]["unanswerable"] for way in WAYS] == [20, 0]
    keep[20:, 0] = False
    lonely = replace(arrangement, queries=data.keep(keep), database=data.keep(keep))
    with pytest.raises(DataError, match="no item has two modalities"):
        evaluate_pair_scores(Dot(), lonely)


def test_three_modalities_have_a_sum_for_each_two():
    data = toy(40, {"photo": 8, "sketch": 8, "words": 8})
    arrangement = Arrangement(FLICKR, "complete", 0, data, None, data, data, None)
    found = evaluate(Signs().fit(data), arrangement)
    assert sorted(found.metrics["rsum"]) == ["photo<->sketch", "photo<->words", "sketch<->words"]
    assert len(found.metrics["recall@1"]) == 6


def test_a_matcher_is_told_which_protocols_there_are_for_it():
    data = split_toy(60)
    with pytest.raises(MethodError, match=r"dot scores pairs.*heldout.*flickr30k, coco-1k"):
        evaluate(Dot(), arrange(data, get_protocol("heldout")))


def test_protocols_are_hashed_with_their_folds():
    assert isinstance(FLICKR, PairProtocol)
    assert replace(FLICKR, fold=1000).sha256 != FLICKR.sha256
    # records of protocols that were there before stay comparable
    assert get_protocol("heldout").sha256.startswith("afd80807")
