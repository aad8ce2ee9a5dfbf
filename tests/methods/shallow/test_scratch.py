"""SCRATCH: its objective under every pattern of gaps, its rotation, its limits."""

from itertools import pairwise

import numpy as np
import pytest

from amodal.data import incomplete, toy
from amodal.errors import UsageError
from amodal.methods.shallow.inputs import kernel_rows, labelled
from amodal.methods.shallow.scratch import SCRATCH, Factorisation
from tests.oracles.shallow import scratch_objective

COMPLETE = toy(70, {"a": 6, "b": 5, "c": 4}, classes=4, multi_label=True, seed=1)
GAPS = incomplete(
    toy(70, {"a": 6, "b": 5, "c": 4}, classes=4, multi_label=True, unlabelled=0.3, seed=1),
    presence={"a+b+c": 0.2, "a+b": 0.2, "b+c": 0.2, "a": 0.2, "c": 0.2},
)


def started(data, fill="mask", **params):
    method = SCRATCH(bits=6, anchors=15, **params)
    _, rows = kernel_rows(data, fill=fill, anchors=15, random=np.random.default_rng(0))
    taught = labelled(data)
    return method, rows, taught, Factorisation(method, len(data), rows, taught, np.random.default_rng(0))


@pytest.mark.parametrize("data", [COMPLETE, GAPS], ids=["complete", "gaps"])
@pytest.mark.parametrize("tie", [0.0, 10.0])
def test_objective_never_rises(data, tie):
    method, rows, taught, found = started(data, tie=tie)
    weights = {name: getattr(method, name) for name in ("alpha", "mu", "gamma", "tie")}
    values = []
    for _ in range(8):
        found.improve()
        np.testing.assert_allclose(found.R.T @ found.R, np.eye(6), atol=1e-10)
        values.append(scratch_objective(found, rows, *taught, **weights))
    assert all(after <= before * (1 + 1e-10) for before, after in pairwise(values))
    assert values[-1] < 0.9 * values[0]


@pytest.mark.parametrize("tie", [0.0, 10.0])
def test_latent_factor_is_the_best_there_is(tie):
    method, rows, taught, found = started(GAPS, tie=tie)
    weights = {name: getattr(method, name) for name in ("alpha", "mu", "gamma", "tie")}
    found.improve()
    # R is solved after V: put back one round's V against the same R
    found.V = found.latent()
    least = scratch_objective(found, rows, *taught, **weights)
    random = np.random.default_rng(5)
    for _ in range(20):
        kept = found.V
        found.V = kept + 1e-3 * random.standard_normal(kept.shape)
        assert scratch_objective(found, rows, *taught, **weights) > least
        found.V = kept


def test_gaps_filled_with_zeros_have_one_pattern_per_labelling():
    *_, found = started(GAPS, fill="zero")
    assert len(found.patterns.sets) == 2
    *_, found = started(GAPS, fill="mask")
    assert len(found.patterns.sets) == 10


def test_labels_without_weight_do_not_matter():
    shuffled = COMPLETE.labels.take(np.random.default_rng(0).permutation(70))
    other = type(COMPLETE)(COMPLETE.ids, COMPLETE.modalities, shuffled)
    light = [SCRATCH(bits=6, anchors=15, alpha=1e-9).fit(data).training_codes_ for data in (COMPLETE, other)]
    heavy = [SCRATCH(bits=6, anchors=15).fit(data).training_codes_ for data in (COMPLETE, other)]
    assert light[0] == light[1]
    assert heavy[0] != heavy[1]


def test_auto_fills_with_zeros_beyond_the_number_of_classes():
    for bits, fill in ((4, "mask"), (5, "zero")):
        chosen, auto = (SCRATCH(bits=bits, anchors=15, fill=kind).fit(GAPS) for kind in (fill, "auto"))
        assert chosen.training_codes_ == auto.training_codes_
        for name in GAPS.names:
            np.testing.assert_array_equal(chosen.maps_[name], auto.maps_[name])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"alpha": 0}, "alpha of scratch"), ({"tie": -1.0}, "tie of scratch"), ({"fill": "zeros"}, '"zero"')],
)
def test_bad_arguments_are_named(wrong, words):
    with pytest.raises(UsageError, match=words):
        SCRATCH(**wrong).fit(COMPLETE)
