"""CMC over distinct identities, against every order of tied pictures, and the camera rule that skips a whole place."""

import numpy as np
import pytest

from amodal import metrics
from amodal.codes import Embeddings
from amodal.errors import ShapeError, UsageError
from tests.metrics.cases import codes_at
from tests.oracles.reidentification import one_query

CUTOFFS = (1, 2, 3, 20)


def _case(rng):
    """A small gallery with many ties: distances of one query, identities, places."""
    n = int(rng.integers(2, 8))
    return rng.integers(0, 3, n), rng.integers(0, 3, n), rng.integers(0, 2, n)


@pytest.mark.parametrize("leave_out", [None, "own", "place"])
def test_measures_are_the_averages_over_all_orders_of_ties(leave_out):
    rng, answered = np.random.default_rng(3), 0
    for _ in range(120):
        distances, ids, places = _case(rng)
        own, place = int(rng.integers(3)), int(rng.integers(2))
        removed = {
            j for j in range(len(ids)) if leave_out and places[j] == place and (leave_out == "place" or ids[j] == own)
        }
        where = ([place], places) if leave_out else ()
        rule = metrics.identity([own], ids, *where, leave_out=leave_out or "own")
        query, database = codes_at([0], 2), codes_at(distances, 2)
        wanted = one_query(distances.tolist(), own, ids.tolist(), removed, CUTOFFS)
        hits = metrics.identity_hit_at(query, database, rule, CUTOFFS)[0]
        if wanted is None:
            assert not hits.any()
            continue
        answered += 1
        np.testing.assert_allclose(hits, [wanted[f"identity@{k}"] for k in CUTOFFS], atol=1e-12)
        cut = [k for k in CUTOFFS if k <= len(ids) - len(removed)]
        result = metrics.measure(query, database, rule, ["map", "inp", *(f"hit@{k}" for k in cut)])
        assert result.value("map") == pytest.approx(wanted["map"], abs=1e-12)
        assert result.value("inp") == pytest.approx(wanted["minp"], abs=1e-12)
        for k in cut:
            assert result.value(f"hit@{k}") == pytest.approx(wanted[f"image@{k}"], abs=1e-12)
            assert hits[CUTOFFS.index(k)] >= result.value(f"hit@{k}") - 1e-12
    assert answered > 40


def test_embeddings_rank_by_cosine():
    rng = np.random.default_rng(0)
    queries, database = rng.standard_normal((5, 4)), rng.standard_normal((30, 4))
    mine, ids = rng.integers(0, 6, 5), rng.integers(0, 6, 30)
    unit = [Embeddings((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)) for x in (queries, database)]
    hits = metrics.identity_hit_at(*unit, metrics.identity(mine, ids), (1, 2, 3))
    for row in range(5):
        order = np.argsort(-unit[1].vectors @ unit[0].vectors[row])
        distinct = list(dict.fromkeys(ids[order].tolist()))
        assert hits[row].tolist() == [float(mine[row] in distinct[:k]) for k in (1, 2, 3)]


def test_many_ties_stay_exact():
    """Constant codes: nine pictures of one person and one of another; the single one comes first once in ten."""
    database = codes_at([0] * 10, 1)
    hits = metrics.identity_hit_at(codes_at([0, 0], 1), database, metrics.identity([1, 0], [0] * 9 + [1]), (1, 2))
    np.testing.assert_allclose(hits, [[0.1, 1.0], [0.9, 1.0]], atol=1e-12)
    crowd = metrics.identity([7], np.arange(400))
    np.testing.assert_allclose(
        metrics.identity_hit_at(codes_at([0], 1), codes_at([0] * 400, 1), crowd, (1, 20, 400)),
        [[1 / 400, 20 / 400, 1]],
        atol=1e-12,
    )


def test_what_does_not_fit_is_refused():
    rule = metrics.identity([1], [1, 2])
    with pytest.raises(UsageError, match="cut-offs must be at least 1"):
        metrics.identity_hit_at(codes_at([0], 2), codes_at([0, 1], 2), rule, (0, 1))
    with pytest.raises(ShapeError, match="relevance rule was made for"):
        metrics.identity_hit_at(codes_at([0], 2), codes_at([0, 1, 1], 2), rule, (1,))
    with pytest.raises(UsageError, match="both must be of one kind"):
        metrics.identity_hit_at(codes_at([0], 2), Embeddings(np.eye(2, dtype=np.float32)), rule, (1,))
    with pytest.raises(UsageError, match='unknown camera rule "camera"'):
        metrics.identity([1], [1], [1], [1], leave_out="camera")
