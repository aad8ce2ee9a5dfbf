"""The five rules, the camera rule, and how a direction without answers is refused."""

import numpy as np
import pytest

from amodal import metrics
from amodal.codes import Embeddings
from amodal.errors import DataError, ShapeError, UsageError
from tests.metrics.cases import codes_at, random_codes, random_labels


def _grades(rule):
    queries, items = rule.shape
    return rule.grades(slice(0, queries), slice(0, items), np.empty(queries * items, np.uint8)).tolist()


def test_rules():
    labels, others = [[1, 1, 0], [0, 0, 1]], [[1, 1, 1], [0, 1, 0], [0, 0, 0]]
    assert _grades(metrics.share_label(labels, others)) == [[1, 1, 0], [1, 0, 0]]
    assert _grades(metrics.share_label(labels, others).graded()) == [[2, 1, 0], [1, 0, 0]]
    assert _grades(metrics.same_label(["cat", "dog"], ["dog", "cat", "cow"])) == [[0, 1, 0], [1, 0, 0]]
    assert _grades(metrics.pair([4, 9], [9, 9, 4])) == [[0, 0, 1], [1, 1, 0]]
    assert _grades(metrics.identity([4, 9], [9, 9, 4])) == [[0, 0, 1], [1, 1, 0]]
    judged = metrics.judged([[0, 2.5, 1], [4, 0, 0]], threshold=2.5)
    assert _grades(judged) == [[0, 2, 1], [3, 0, 0]]
    assert judged.values.tolist() == [0, 1, 2.5, 4]
    assert judged.relevant_from == 2


def test_the_camera_rule_leaves_same_identity_at_the_same_place_out():
    codes = codes_at([0, 0, 1, 2], 2)
    rule = metrics.identity([5], [5, 6, 5, 5], query_places=[1], database_places=[1, 1, 2, 3])
    result = metrics.measure(codes_at([0], 2), codes, rule, ["map", "rank", "inp", "precision@2"])
    assert result.database.tolist() == [3]
    assert result.positives.tolist() == [2]
    assert result.value("map") == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.value("rank") == 2
    assert result.value("inp") == pytest.approx(2 / 3)
    assert result.value("precision@2") == 0.5
    by_score = metrics.measure_scores([[1.0, 1.0, 0.5, 0.0]], rule, ["map", "rank", "inp", "precision@2"])
    assert by_score.summary() == result.summary()


def test_judgements_below_the_threshold_still_have_a_gain():
    rule = metrics.judged([[1, 3, 0]], threshold=2)
    result = metrics.measure_scores([[0.9, 0.5, 0.1]], rule, ["map", "ndcg@3.count", "ndcg@3.binary"])
    assert result.value("map") == 0.5
    discount = 1 / np.log2(3)
    assert result.value("ndcg@3.count") == pytest.approx((1 + 3 * discount) / (3 + discount))
    assert result.value("ndcg@3.binary") == pytest.approx(discount)


def test_gain_asked_by_name_counts_shared_labels():
    rule = metrics.share_label([[1, 1]], [[1, 0], [1, 1]])
    codes = codes_at([0, 1], 1)
    assert metrics.measure(codes[:1], codes, rule, ["ndcg@2.count"]).value("ndcg@2.count") < 1
    with pytest.raises(UsageError, match="graded"):
        metrics.ndcg_at(metrics.histograms(metrics.rank(codes[:1], codes, rule)), 2, "count")


def test_unanswerable_queries():
    codes = codes_at([0, 1, 2], 2)
    labels, others = [[1, 0], [0, 0], [0, 1]], [[1, 0], [1, 0], [0, 1]]
    values = metrics.average_precision(codes, codes, labels, others)
    assert values.tolist() == [1.0, 0.0, 1.0]
    skip = metrics.mean_average_precision(codes, codes, labels, others)
    zero = metrics.mean_average_precision(codes, codes, labels, others, unanswerable="zero")
    assert (skip, zero) == (1.0, pytest.approx(2 / 3))
    with pytest.raises(DataError, match=r"1 of 3 queries have no relevant item.*first: query 1"):
        metrics.average_precision(codes, codes, labels, others, unanswerable="error")
    with pytest.raises(UsageError, match="mean_average_precision"):
        metrics.average_precision(codes, codes, labels, others, unanswerable="skip")


def test_unanswerable_queries_in_summary_and_curve():
    codes = codes_at([0, 1, 2], 2)
    rule = metrics.same_label([0, 5, 1], [0, 0, 1])
    skip = metrics.measure(codes, codes, rule, ["map", "rank"])
    zero = metrics.measure(codes, codes, rule, ["map", "rank"], unanswerable="zero")
    assert skip.summary()["unanswerable"] == zero.summary()["unanswerable"] == 1
    assert skip.summary()["relevant"] == {"mean": 1.0, "min": 0, "max": 2}
    assert (skip.curve.queries, zero.curve.queries) == (2, 3)
    assert skip.curve.returned[-1] == 6
    assert zero.curve.returned[-1] == 9
    assert skip.value("rank") == zero.value("rank")
    assert skip.curve.micro_recall[-1] == zero.curve.micro_recall[-1] == 1
    assert np.isfinite(list(zero.per_query.values())).all()


def test_only_unanswerable_queries_have_values_but_no_mean():
    codes = codes_at([0, 1], 2)
    assert metrics.average_precision(codes[:1], codes, [[1, 0]], [[0, 1], [0, 0]]).tolist() == [0.0]
    with pytest.raises(DataError, match="no query has a relevant item"):
        metrics.mean_average_precision(codes[:1], codes, [[1, 0]], [[0, 1], [0, 0]], unanswerable="zero")


@pytest.mark.parametrize("unanswerable", ["skip", "zero", "error"])
def test_a_direction_without_any_answer_is_an_error(unanswerable):
    codes = codes_at([0, 1], 2)
    rule = metrics.share_label([[1, 0, 0], [0, 0, 0]], [[0, 1, 1], [0, 1, 0]])
    with pytest.raises(DataError, match=r"image->text: no query .* labels 0, the database 1, 2"):
        metrics.measure(codes, codes, rule, direction="image->text", unanswerable=unanswerable)


def test_one_query_one_item_one_bit():
    for ties in ("average", "optimistic", "pessimistic", "index"):
        assert metrics.average_precision(codes_at([1], 1), codes_at([0], 1), [[1]], [[1]], ties).tolist() == [1.0]
    names = [name.replace("@K", "@1") for name in metrics.MEASURES]
    result = metrics.measure(codes_at([1], 1), codes_at([0], 1), metrics.pair([3], [3]), names)
    assert {result.value(name) for name in names} == {1.0}
    assert result.chance == 1.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c, e: metrics.rank(c, e, metrics.pair([1], [1])), UsageError, "BinaryCodes.*Embeddings.*one kind"),
        (lambda c, e: metrics.rank(c, c, metrics.pair([1, 2], [1])), ShapeError, "made for 2 and 1"),
        (lambda c, e: metrics.rank(c, codes_at([0], 3), metrics.pair([1], [1])), ShapeError, "2 bits.*3"),
        (lambda c, e: metrics.rank(c, c[:0], metrics.pair([1], [])), DataError, "1 queries, 0 database items"),
        (lambda c, e: metrics.rank_scores([1.0], metrics.pair([1], [1])), ShapeError, r"\(queries, database\)"),
        (lambda c, e: metrics.measure_scores([[0.5], [np.nan]], metrics.pair([1, 2], [1])), DataError, "row 1"),
        (lambda c, e: metrics.measure_scores([[np.inf]], metrics.pair([1], [1])), DataError, "score row 0"),
        (lambda c, e: metrics.measure(c, c, metrics.pair([1], [1]), ["map@2.min"]), UsageError, "1 items, k=2"),
        (lambda c, e: metrics.measure(c, c, metrics.pair([1], [1]), ["hit@0"]), UsageError, "k=0"),
        (lambda c, e: metrics.measure(c, c, metrics.pair([1], [1]), ["ndgc@1.exp"]), UsageError, 'mean "ndcg@K.exp"'),
        (lambda c, e: metrics.measure(c, c, metrics.pair([1], [1]), ["map@1"]), UsageError, "unknown measure"),
        (lambda c, e: metrics.measure(c, c, metrics.pair([1], [1]), ["hit@K"]), UsageError, "K stands for"),
        (lambda c, e: metrics.measure(c, c, metrics.pair([1], [1]), unanswerable="skp"), UsageError, '"skip"'),
        (lambda c, e: metrics.measure(c, c, metrics.pair([1], [1]), ties="indx"), UsageError, '"index"'),
        (lambda c, e: metrics.measure(c, c, metrics.pair([1], [1]), threads=0), UsageError, "threads"),
        (lambda c, e: metrics.measure(c, c, metrics.pair([1], [1])).value("mpa"), UsageError, '"map"'),
        (lambda c, e: metrics.average_precision(c, c, [[1]], [[1]], "avrage"), UsageError, '"average"'),
        (lambda c, e: metrics.average_precision(c, c, [[1]], [[1, 0]]), ShapeError, "1 classes, database labels 2"),
        (lambda c, e: metrics.average_precision(c, c, [1], [1]), ShapeError, "one column per class"),
        (lambda c, e: metrics.average_precision(c, c, [[1]], [[2]]), DataError, "row 0, column 0 holds 2"),
        (lambda c, e: metrics.average_precision(c, c, [[np.nan]], [[1]]), DataError, "holds nan"),
        (lambda c, e: metrics.identity([1], [1], [1]), UsageError, "only one side"),
        (lambda c, e: metrics.identity([1], [1], [1], [1, 2]), ShapeError, "each id needs a place"),
        (lambda c, e: metrics.pair([[1]], [1]), ShapeError, "one id per row"),
        (lambda c, e: metrics.judged([[0.0], [-1.0]], 1), DataError, "row 1 holds -1"),
        (lambda c, e: metrics.judged([[1.0]], 2), UsageError, "highest judgement, 1"),
        (lambda c, e: metrics.median_rank([]), UsageError, "no rank"),
        (lambda c, e: metrics.rsum([0.5]), UsageError, "R@1, R@5 and R@10"),
        (lambda c, e: metrics.sign_flip_test([]), DataError, "at least one"),
        (lambda c, e: metrics.holm([1.5]), DataError, "between 0 and 1"),
    ],
)
def test_errors_are_sentences(call, error, message):
    with pytest.raises(error, match=message):
        call(codes_at([0], 2), Embeddings.from_vectors([[1.0, 0.0]]))


def test_radius_needs_distances():
    h = metrics.histograms(metrics.rank_scores(np.zeros((1, 3)), metrics.pair([1], [1, 2, 3])))
    with pytest.raises(UsageError, match="Hamming radius"):
        metrics.radius_curve(h)
    rule = metrics.pair([1], [1, 2, 3])
    h = metrics.histograms(metrics.rank(codes_at([0], 4), codes_at([0, 1, 2], 4), rule))
    with pytest.raises(UsageError, match="radius=5"):
        metrics.precision_within(h, 5)


def test_the_whole_curve_ends_at_recall_1_and_prevalence():
    generator = np.random.default_rng(0)
    labels = random_labels(generator, 60, 5)
    rule = metrics.share_label(labels[:10], labels[10:])
    result = metrics.measure(random_codes(generator, 10, 24), random_codes(generator, 50, 24), rule)
    prevalence = result.positives[result.answerable] / 50
    assert result.curve.micro_recall[-1] == 1
    assert result.curve.macro_recall[-1] == pytest.approx(1)
    assert result.curve.micro_precision[-1] == pytest.approx(prevalence.mean())
    assert result.curve.macro_precision()[-1] == pytest.approx(prevalence.mean())


def test_rsum_is_in_percent():
    assert metrics.rsum([1, 1, 1, 1, 1, 1]) == 600
    assert metrics.chance_hit(5000, 5, 1) == pytest.approx(0.001)
    assert metrics.chance_hit(1000, 1, 10) == pytest.approx(0.01)
