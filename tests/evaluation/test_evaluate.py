"""Evaluations: right numbers by loops, in every direction that there is, and reasons for those that there are not."""

import json
from dataclasses import replace

import numpy as np
import pytest

from amodal.codes import BinaryCodes, Embeddings
from amodal.data import Labels, toy
from amodal.errors import DataError, MethodError, UsageError
from amodal.evaluation import arrange, encode_items, evaluate, get_protocol, save_codes
from amodal.methods import get
from tests.evaluation.toys import Signs, split_toy
from tests.oracles import rankings

HELDOUT = get_protocol("heldout")
WAYS = ["image->text", "text->image"]


def measured(data, protocol=HELDOUT, setting="complete", method=None):
    arrangement = arrange(data, protocol, setting)
    method = method or Signs()
    return evaluate(method.fit(arrangement.train), arrangement), arrangement


def hamming(one, other):
    return (one.signs()[:, None] != other.signs()[None]).sum(axis=2)


def test_map_equals_the_loop_over_all_orders_of_ties():
    data = split_toy(24, {"train": 0.6, "test": 0.4}, classes=3)
    found, arrangement = measured(data, method=Signs(bits=6))
    test = arrangement.queries
    codes = {name: Signs(bits=6).fit(data).encode_table(test[name], name) for name in test.names}
    labels = test.labels.dense()
    for way in WAYS:
        a, b = way.split("->")
        values = [
            rankings.mean_over_orders(rankings.ap, distances.tolist(), grades.tolist())
            for distances, grades in zip(hamming(codes[a], codes[b]), labels @ labels.T, strict=True)
        ]
        np.testing.assert_allclose(found.per_query[way], values, atol=1e-12)
        assert found.metrics["map"][way] == pytest.approx(np.mean([v for v in values if v]), abs=1e-12)
        assert (
            found.metrics["map.pessimistic"][way] <= found.metrics["map"][way] <= found.metrics["map.optimistic"][way]
        )


@pytest.mark.parametrize("name", ["heldout", "cich-extend"])
def test_chance_is_what_one_code_for_everything_gets(name):
    found, _ = measured(split_toy(200, classes=6, multi_label=True), get_protocol(name), "hard", Signs(constant=True))
    for way in WAYS:
        assert found.counts[way]["unanswerable"] == 0
        assert abs(found.metrics["chance"][way] - found.metrics["map"][way]) < 1e-12


def test_a_learned_method_is_between_chance_and_1():
    data = split_toy(300)
    found, _ = measured(data, setting="hard", method=get("label_regression").create())
    for way in WAYS:
        assert found.metrics["chance"][way] + 0.2 < found.metrics["map"][way] <= 1
    assert found.mean() == pytest.approx(np.mean(list(found.metrics["map"].values())))
    assert found.health == {}  # embeddings have no bits,
    assert all(set(curve) == {"places", "ndcg"} for curve in found.curves.values())  # and no radii


def test_pair_recall_equals_the_loop_with_several_captions():
    data = split_toy(60, {"train": 0.5, "test": 0.5}, captions=3)
    found, arrangement = measured(data)
    test = arrangement.queries
    codes = encode_items(Signs().fit(data), test)
    for way in WAYS:
        a, b = way.split("->")
        distances = hamming(codes[a], codes[b])
        own = test[a].item[:, None] == test[b].item[None]
        for k in (1, 5, 10):
            hits, floor = [], []
            for row, mine in zip(distances, own, strict=True):
                hits.append(chance_of_hit(row, mine, k))
                floor.append(chance_of_hit(np.zeros_like(row), mine, k))
            assert found.metrics[f"recall@{k}"][way] == pytest.approx(100 * np.mean(hits), abs=1e-9)
            assert found.metrics[f"chance.recall@{k}"][way] == pytest.approx(100 * np.mean(floor), abs=1e-9)


def chance_of_hit(distances, relevant, k):
    """Chance that one of the first k items is relevant, with tied items in random order, place by place."""
    miss, place = 1.0, 0
    for level in np.unique(distances):
        tied = distances == level
        left, good = int(tied.sum()), int((tied & relevant).sum())
        while left and place < k:
            miss *= (left - good) / left
            left, place = left - 1, place + 1
    return 1 - miss


def test_test_items_without_partner_ask_for_labels_but_not_for_pairs():
    data = split_toy(60, {"train": 0.5, "test": 0.5})
    keep = np.ones((60, 2), bool)
    test = np.flatnonzero(data.split == "test")
    keep[test[:10], 1] = False
    found, _ = measured(data.keep(keep))
    assert found.counts["image->text"]["queries"] == 30
    assert found.counts["image->text"]["database"] == 20
    assert found.metrics["chance.recall@10"]["image->text"] == pytest.approx(50)
    keep[test] = [True, False]
    keep[test[:15]] = [False, True]
    found, _ = measured(data.keep(keep))
    assert "recall@1" not in found.metrics
    for way in WAYS:
        assert found.absent[f"{way} recall"] == "no query has a partner in its database."


def test_unanswerable_queries_are_skipped_or_count_nothing():
    data = split_toy(80, {"train": 0.5, "test": 0.5}, classes=4)
    test = np.flatnonzero(data.split == "test")
    labels = np.hstack([data.labels.dense(), np.zeros((80, 1))])
    labels[test[0]] = [0, 0, 0, 0, 1]  # a class of its own, in a test item without words
    keep = np.ones((80, 2), bool)
    keep[test[0], 1] = False
    data = replace(data, labels=Labels.from_multihot(labels)).keep(keep)
    skip, _ = measured(data)
    zero, _ = measured(data, replace(HELDOUT, unanswerable="zero"))
    way = "image->text"
    assert (skip.counts[way]["queries"], skip.counts[way]["unanswerable"]) == (40, 1)
    assert skip.counts[way]["relevant"]["min"] == 0
    assert zero.metrics["map"][way] == pytest.approx(skip.metrics["map"][way] * 39 / 40, abs=1e-12)
    assert zero.per_query[way][0] == 0
    assert skip.counts["text->image"]["unanswerable"] == 0


def test_ties_by_position_are_another_rule():
    data = split_toy(100)
    average, _ = measured(data)
    index, _ = measured(data, replace(HELDOUT, ties="index"))
    assert average.metrics["map"] != index.metrics["map"]


def test_a_direction_without_database_is_absent_with_the_reason():
    data = split_toy(100)
    keep = np.ones((100, 2), bool)
    keep[data.split == "test", 1] = False
    data = data.keep(keep)
    found, _ = measured(data, get_protocol("cich-extend"))
    assert list(found.metrics["map"]) == ["image->text"]
    assert found.absent["text->image"] == 'no query item has the modality "text".'
    with pytest.raises(DataError, match='nothing can be measured: no database item has the modality "text"'):
        measured(data)


def test_every_pair_of_three_modalities_is_a_direction():
    data = split_toy(90, modalities={"photo": 8, "sketch": 8, "words": 8})
    keep = np.ones((90, 3), bool)
    keep[data.split == "test", 1] = False
    found, _ = measured(data, setting="hard")
    assert len(found.metrics["map"]) == 6
    found, _ = measured(data.keep(keep), setting="complete")
    assert set(found.metrics["map"]) == {"photo->words", "words->photo"}
    assert len([name for name in found.absent if "sketch" in name]) == 4


def test_small_databases_leave_out_measures_with_the_reason():
    found, _ = measured(split_toy(16, {"train": 0.5, "test": 0.5}, classes=2))
    for way in WAYS:
        assert found.metrics["ndcg@100.binary"][way] is None
        assert found.metrics["precision@100"][way] is None
        for name in ("ndcg@100.binary", "precision@100"):
            assert found.absent[f"{way} {name}"] == "the database has 8 items, fewer than 100."
        assert found.absent[f"{way} recall@10"] == "the database has 8 items, fewer than 10."
        assert found.metrics["recall@5"][way] > 0
    assert "recall@10" not in found.metrics


def test_learned_database_codes_are_those_of_the_training_items():
    data = split_toy(100)
    learned = replace(get_protocol("cich-extend"), db_codes="learned")
    arrangement = arrange(data, learned, "hard")
    method = Signs().fit(arrangement.train)
    asked = encode_items(method, arrangement.queries)
    found = evaluate(method, arrangement)
    for way in WAYS:
        a, b = way.split("->")
        codes = method.training_codes_[arrangement.train[b].item]
        relevant = arrangement.queries.labels.dense() @ arrangement.train.labels.dense()[arrangement.train[b].item].T
        for query in (0, 7):
            row = hamming(asked[a], codes)[query]
            assert found.per_query[way][query] == pytest.approx(tied_ap(row, relevant[query] > 0), abs=1e-12)
    assert found.metrics["map"] != evaluate(method, arrange(data, get_protocol("cich-extend"), "hard")).metrics["map"]


def tied_ap(distances, relevant):
    """AP with ties in all orders, level by level: the expected sum of the precisions at each relevant item."""
    total, before, found = 0.0, 0, 0
    for level in np.unique(distances):
        tied = distances == level
        n, r = int(tied.sum()), int((tied & relevant).sum())
        for place in range(1, n + 1):  # a relevant item stands here with chance r / n
            others = (r - 1) * (place - 1) / (n - 1) if n > 1 else 0
            total += r / n * (found + 1 + others) / (before + place)
        before, found = before + n, found + r
    return total / relevant.sum()


def test_learned_codes_of_a_part_of_the_training_items_are_found_by_id():
    learned = replace(get_protocol("cich-enhance"), db_codes="learned")
    arrangement = arrange(split_toy(100), learned, "hard")
    method = Signs().fit(arrangement.train)
    full = evaluate(method, arrangement)
    order = np.random.default_rng(0).permutation(len(arrangement.database))
    shuffled = evaluate(method, replace(arrangement, database=arrangement.database.take(order)))
    assert shuffled.metrics["map"] == pytest.approx(full.metrics["map"])


@pytest.mark.parametrize("name", ["heldout", "dcmh"])
def test_learned_codes_are_refused_for_items_that_were_not_learned(name):
    arrangement = arrange(split_toy(100), replace(get_protocol(name), db_codes="learned"))
    with pytest.raises(UsageError, match="database are training items"):
        evaluate(Signs().fit(arrangement.train), arrangement)


def test_learned_codes_are_refused_where_there_are_none():
    arrangement = arrange(split_toy(100), replace(get_protocol("cich-extend"), db_codes="learned"))
    method = get("label_regression").create().fit(arrangement.train)
    with pytest.raises(MethodError, match=r'label_regression fits no codes.*db_codes="hashed"'):
        evaluate(method, arrangement)


def test_data_without_labels_are_a_sentence():
    data = replace(split_toy(40), labels=None)
    with pytest.raises(DataError, match="toy has no labels, and evaluation needs them"):
        measured(data)


def test_classes_without_training_example_do_not_disturb():
    data = split_toy(120, classes=4)
    labels = data.labels.dense()
    rare = np.flatnonzero((data.split == "test") & (labels[:, 0] > 0))
    labels[data.split == "train", 0] = 0
    labels = np.hstack([labels, (labels.sum(axis=1) == 0)[:, None]])
    data = replace(data, labels=Labels.from_multihot(labels))
    arrangement = arrange(data, HELDOUT)
    method = get("label_regression").create().fit(arrangement.train.seen_classes())
    found = evaluate(method, arrangement)
    assert found.counts["image->text"]["unanswerable"] == 0
    assert len(rare)
    assert len(method.classes_) == 4
    assert found.mean() > found.mean("chance")


def test_health_and_curves_of_codes():
    found, arrangement = measured(split_toy(100))
    codes = Signs().fit(arrangement.train).encode_table(arrangement.queries["text"], "text")
    health = found.health["text"]
    np.testing.assert_allclose(health["ones"], (codes.signs() == 1).mean(axis=0), atol=1e-4)
    assert health["codes"] == 30
    assert health["distinct"] == len({tuple(row) for row in codes.signs().tolist()})
    for name, curve in found.curves["image->text"].items():
        assert len(curve) == (5 if name in ("places", "ndcg") else 9)
    assert found.curves["image->text"]["micro.recall"][-1] == 1
    constant, _ = measured(split_toy(100), method=Signs(constant=True))
    assert constant.health["image"] == {"codes": 30, "distinct": 1, "ones": [1.0] * 8}


def test_the_ndcg_curve_stops_at_the_database_and_holds_what_is_measured_alone():
    found, _ = measured(split_toy(400))
    curve = found.curves["image->text"]
    assert curve["places"] == [1, 2, 5, 10, 20, 50, 100]
    assert curve["ndcg"][-1] == pytest.approx(found.metrics["ndcg@100.binary"]["image->text"], abs=1e-6)


def test_threads_change_nothing():
    arrangement = arrange(split_toy(200), HELDOUT)
    method = Signs().fit(arrangement.train)
    one, two = (evaluate(method, arrangement, threads=threads) for threads in (1, 2))
    assert one.metrics == two.metrics


def test_an_evaluation_is_json():
    found, _ = measured(split_toy(100), setting="hard")
    for part in (found.metrics, found.counts, found.absent, found.curves, found.health):
        assert json.loads(json.dumps(part, allow_nan=False)) == part


@pytest.mark.parametrize("slug", ["cca_itq", "label_regression"])
def test_codes_are_written_with_their_ids(slug, tmp_path):
    data = toy(40, captions=2)
    keep = np.ones((40, 2), bool)
    keep[:5, 0] = False
    data = data.keep(keep)
    method = get(slug).create().fit(data)
    codes = encode_items(method, data)
    save_codes(tmp_path / "codes.npz", codes, data)
    with np.load(tmp_path / "codes.npz", allow_pickle=False) as file:
        for name in data.names:
            assert file[f"{name}.id"].tolist() == data.ids[data[name].item].tolist()
            if method.card.returns == "codes":
                assert BinaryCodes(file[name], int(file["bits"])) == codes[name]
            else:
                assert Embeddings(file[name]) == codes[name]
    assert [path.name for path in tmp_path.iterdir()] == ["codes.npz"]
