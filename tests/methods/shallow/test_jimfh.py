"""JIMFH: its objective under every pattern of gaps, the tie between its particular factors, its codes."""

from itertools import pairwise

import numpy as np
import pytest

from amodal.data import incomplete, toy
from amodal.errors import UsageError
from amodal.methods.shallow.inputs import kernel_rows
from amodal.methods.shallow.jimfh import JIMFH, Factors
from tests.oracles.shallow import jimfh_objective

WIDTHS = {"a": 6, "b": 5, "c": 4}
COMPLETE = toy(70, WIDTHS, classes=4, seed=1)
GAPS = incomplete(COMPLETE, presence={"a+b+c": 0.2, "a+b": 0.2, "b+c": 0.2, "a": 0.2, "c": 0.2})
PAIRS = COMPLETE.only(a="a", b="b")
UNPAIRED = incomplete(PAIRS, presence={"a": 0.5, "b": 0.5})


def started(data, fill="mask", **params):
    method = JIMFH(bits=8, **params)
    _, rows = kernel_rows(data, fill=fill, anchors=0, random=np.random.default_rng(0))
    return method, rows, Factors(method, len(data), rows, np.random.default_rng(0))


@pytest.mark.parametrize("data", [COMPLETE, GAPS, PAIRS, UNPAIRED], ids=["complete", "gaps", "two", "unpaired"])
@pytest.mark.parametrize("beta", [0.0, 1e-3, 0.5])
@pytest.mark.parametrize("reference", [None, "b"])
def test_objective_never_rises_and_is_the_sum_over_items(data, beta, reference):
    method, rows, factors = started(data, beta=beta, gamma=0.01, reference=reference)
    values = []
    for _ in range(8):
        values.append(factors.improve())
        expected = jimfh_objective(factors, rows, reference or data.names[-1], beta=beta, gamma=method.gamma)
        np.testing.assert_allclose(values[-1], expected, rtol=1e-9)
    assert all(after <= before * (1 + 1e-10) for before, after in pairwise(values))
    assert values[-1] < 0.9 * values[0]


@pytest.mark.parametrize("part", ["Y", "a", "c"])
def test_factors_are_the_best_there_are(part):
    method, rows, factors = started(GAPS, beta=0.5, gamma=0.01)
    factors.improve()

    def value():
        return jimfh_objective(factors, rows, "c", beta=0.5, gamma=method.gamma)

    if part == "Y":
        kept = factors.Y
    else:
        kept = factors.own[part] = factors._particular(part)
    least, random = value(), np.random.default_rng(5)
    for _ in range(10):
        moved = kept + 1e-3 * random.standard_normal(kept.shape)
        if part == "Y":
            factors.Y = moved
        else:
            factors.own[part] = moved
        assert value() > least


def test_without_tie_particular_factors_are_apart():
    turned = type(PAIRS["a"])(PAIRS["a"].read()[::-1].copy(), PAIRS["a"].item)
    changed = PAIRS.with_tables({"a": turned, "b": PAIRS["b"]})

    def particular(data, beta):
        *_, factors = started(data, beta=beta)
        for _ in range(5):
            factors.improve()
        return factors.own["b"]

    np.testing.assert_array_equal(particular(PAIRS, 0.0), particular(changed, 0.0))
    assert np.abs(particular(PAIRS, 0.5) - particular(changed, 0.5)).max() > 1e-3


def test_items_without_the_reference_have_what_the_others_say():
    _, rows, factors = started(GAPS, beta=0.5)
    factors.improve()
    Z, place = factors.codes(), {name: {i: k for k, i in enumerate(which)} for name, (which, _) in rows.items()}
    for item in range(len(GAPS)):
        there = [name for name in ("a", "b") if item in place[name]]
        if item in place["c"]:
            expected = factors.own["c"][place["c"][item]]
        else:
            expected = np.mean([factors.own[name][place[name][item]] @ factors.R[name] for name in there], axis=0)
        np.testing.assert_allclose(Z[item], np.concatenate([factors.Y[item], expected]))


def test_a_quarter_of_the_bits_is_common():
    _, _, factors = started(COMPLETE)
    assert factors.Y.shape == (70, 2)
    assert {Y.shape for Y in factors.own.values()} == {(70, 6)}


def test_codes_are_signs_around_the_mean():
    method = JIMFH(bits=8).fit(PAIRS)
    x = PAIRS["a"].read().astype(float)
    outputs = (x - x.mean(axis=0)) @ method.maps_["a"] + method.offsets_["a"]
    np.testing.assert_array_equal(method.encode(x, "a").signs(), np.where(outputs >= 0, 1, -1))
    released = JIMFH.create("released", bits=8).fit(PAIRS)
    outputs = x @ method.maps_["a"] + method.offsets_["a"]
    np.testing.assert_array_equal(released.encode(x, "a").signs(), np.where(outputs >= 0, 1, -1))
    assert released.training_codes_ == method.training_codes_


def test_rounds_end_when_the_objective_stands():
    found = JIMFH(bits=8, tolerance=0.5).fit(PAIRS).objectives_
    falls = -np.diff(found)
    assert len(found) < 100
    assert (falls[:-1] >= 0.5).all()
    assert falls[-1] < 0.5


def test_dropping_equals_learning_from_pairs():
    hard = incomplete(PAIRS, "easy")
    paired = hard.take(hard.presence().all(axis=1))
    drop, pairs = (JIMFH(bits=8, fill=fill).fit(data) for fill, data in (("drop", hard), ("mask", paired)))
    for name in hard.names:
        np.testing.assert_array_equal(drop.maps_[name], pairs.maps_[name])
    assert len(drop.training_codes_) == len(hard)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"bits": 10}, "multiple of 4"),
        ({"gamma": 0.0}, "gamma of jimfh"),
        ({"beta": -1.0}, "beta"),
        ({"reference": "bb"}, 'Did you mean "b"'),
        ({"fill": "zeros"}, '"zero"'),
    ],
)
def test_bad_arguments_are_named(wrong, words):
    with pytest.raises(UsageError, match=words):
        JIMFH(**wrong).fit(COMPLETE)
