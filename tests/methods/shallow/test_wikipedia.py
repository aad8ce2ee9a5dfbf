"""Wikipedia's 2,173 training items, 693 queries, 128 and 10 numbers each: mAP of reference runs, within .01."""

import os

import numpy as np
import pytest

from amodal.data.readers import pick, read
from amodal.methods import get
from amodal.metrics import mean_average_precision

pytestmark = pytest.mark.skipif("AMODAL_DATA" not in os.environ, reason="AMODAL_DATA names no folder with wikipedia/")

SEEDS = 3


@pytest.fixture(scope="module")
def wikipedia():
    data = pick(read("wikipedia", modalities=["image", "text"]), "image,text")
    return data.part("train"), data.part("test")


def scores(method, wikipedia, codes):
    """mAP of image to text and text to image, from training items (solved codes or hashed) or from the test items."""
    train, test = wikipedia
    asked = {name: method.encode_table(test[name], name) for name in test.names}
    base = test if codes == "test" else train
    labels = base.labels.matrix
    if codes == "learned":
        found = dict.fromkeys(train.names, method.training_codes_)
    else:
        found = {name: method.encode_table(base[name], name) for name in base.names}
    return [
        mean_average_precision(asked[a], found[b], test.labels.matrix, labels)
        for a, b in (("image", "text"), ("text", "image"))
    ]


@pytest.mark.parametrize(
    ("slug", "params", "expected"),
    [
        ("scratch", {"bits": 32}, {"learned": (0.379, 0.756), "hashed": (0.290, 0.374)}),
        (
            "dch",
            {"bits": 32, "variant": "relaxed", "anchors": 0},
            {"learned": (0.352, 0.709), "hashed": (0.255, 0.249)},
        ),
        ("dch", {"bits": 32, "variant": "dcc", "anchors": 0}, {"learned": (0.350, 0.708)}),
        ("jimfh", {"bits": 32}, {"learned": (0.246, 0.534)}),
        ("cca_itq", {"code": "real", "epsilon": 1e-4}, {"test": (0.250, 0.204)}),
        ("label_regression", {"C": 1.0}, {"test": (0.306, 0.214), "hashed": (0.314, 0.325)}),
    ],
)
def test_reference_runs(wikipedia, slug, params, expected):
    seeds = 1 if slug in ("cca_itq", "label_regression") else SEEDS
    methods = [get(slug).create(**params, seed=seed).fit(wikipedia[0]) for seed in range(seeds)]
    for codes, values in expected.items():
        measured = np.mean([scores(method, wikipedia, codes) for method in methods], axis=0)
        np.testing.assert_allclose(measured, values, atol=0.01)
