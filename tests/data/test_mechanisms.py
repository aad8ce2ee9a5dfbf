"""Each mechanism makes missing depend on what it says, and on nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from amodal.data import Observations, incomplete, toy
from amodal.data.mechanisms import content_scores
from amodal.errors import DataError, UsageError

DATA = toy(4_000, classes=4, seed=5)
NO_SHARED_CONTENT = replace(
    DATA,
    modalities={
        name: Observations(np.random.default_rng(k).standard_normal((4_000, 6)), np.arange(4_000))
        for k, name in enumerate(("image", "text"))
    },
)


def dependence(data, lost, on, mechanism, setting="medium", **options):
    """Largest correlation of losing a modality with any feature of a modality, and its p-value over all features."""
    gone = ~incomplete(data, setting, mechanism=mechanism, **options).present(lost)
    tests = [stats.pearsonr(gone, column) for column in data[on].read().T]
    return max(abs(test.statistic) for test in tests), min(test.pvalue for test in tests) * len(tests)


def test_random_depends_on_no_content():
    for lost in DATA.names:
        for on in DATA.names:
            assert dependence(DATA, lost, on, "random")[1] > 0.01


@pytest.mark.parametrize("setting", ["medium", "hard", "one-sided-text-missing-50"])
def test_content_depends_on_what_goes_missing(setting):
    strength, p = dependence(NO_SHARED_CONTENT, "text", "text", "content", setting)
    assert strength > 0.1
    assert p < 1e-9


def test_observed_depends_on_what_stays_and_not_on_what_goes():
    strength, p = dependence(NO_SHARED_CONTENT, "text", "image", "observed")
    assert strength > 0.1
    assert p < 1e-9
    assert dependence(NO_SHARED_CONTENT, "text", "text", "observed")[1] > 0.01
    assert dependence(NO_SHARED_CONTENT, "image", "text", "observed")[1] < 1e-9


@pytest.mark.parametrize("setting", ["medium", "hard"])
def test_class_makes_rates_differ_by_class_for_each_modality(setting):
    classes = DATA.labels.dense().argmax(axis=1)

    def table(mechanism):
        gone = ~incomplete(DATA, setting, mechanism=mechanism).present("text")
        return stats.contingency.crosstab(classes, gone).count

    assert stats.chi2_contingency(table("class")).pvalue < 1e-9
    assert stats.chi2_contingency(table("random")).pvalue > 0.01
    rates = [incomplete(DATA, setting, mechanism="class").take(classes == k).presence().mean(axis=0) for k in range(4)]
    assert np.ptp(rates, axis=0).min() > 0.2


def test_strength_zero_is_random_and_more_is_stronger():
    def effect(strength):
        return dependence(NO_SHARED_CONTENT, "text", "text", "content", strength=strength)[0]

    random = incomplete(DATA, "hard", mechanism="random", seed=1).presence()
    assert effect(0.0) < 0.06 < effect(1.0) < effect(4.0)
    assert (
        random.sum(axis=0).tolist()
        == incomplete(DATA, "hard", mechanism="content", seed=1).presence().sum(axis=0).tolist()
    )


def test_scores_are_read_in_chunks_and_averaged_over_observations():
    store = np.random.default_rng(0).standard_normal((20_000, 3)).astype(np.float16)
    item = np.arange(20_000) // 2
    data = toy(10_000)
    data = replace(data, modalities={"image": Observations(store, item), "text": data["text"]})
    direction = np.random.default_rng(7).standard_normal(3)
    expected = (store.astype(float) @ direction).reshape(-1, 2).mean(axis=1)
    np.testing.assert_allclose(content_scores(data, "image", np.random.default_rng(7)), expected, rtol=1e-6)


def test_sequences_of_features_have_scores_too():
    store = np.random.default_rng(0).standard_normal((50, 4, 3))
    data = replace(toy(50), modalities={"image": Observations(store, np.arange(50)), "text": toy(50)["text"]})
    assert incomplete(data, "hard", mechanism="content").presence().sum(axis=0).tolist() == [27, 28]


def test_raw_content_and_absent_labels_are_refused():
    words = Observations(np.array(["a", "b"] * 10), np.arange(20))
    data = replace(toy(20), modalities={"image": toy(20)["image"], "text": words})
    with pytest.raises(UsageError, match="Encode the data first"):
        incomplete(data, "hard", mechanism="content")
    with pytest.raises(DataError, match='"class" needs labels'):
        incomplete(replace(toy(20), labels=None), "hard", mechanism="class")
    with pytest.raises(DataError, match="stratify"):
        incomplete(replace(toy(20), labels=None), "hard", stratify="label")
