"""EfficientNet-Lite0: the features are what the network's own classifier sees, and photographs find themselves."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from amodal.encoders import get
from tests.encoders.pictures import picture


def test_classifier_on_the_features_gives_the_networks_own_answer():
    encoder = get("efficientnet-lite0")
    pictures = [picture(0), picture(1)]
    features = torch.from_numpy(encoder.encode(pictures))
    with torch.inference_mode():
        expected = encoder.network(torch.stack([encoder.prepare(one) for one in pictures]))
        found = encoder.network._fc(features)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_pixels_are_scaled_as_the_weights_expect():
    white = get("efficientnet-lite0").prepare(picture(0).point(lambda _: 255))
    assert tuple(white.shape) == (3, 224, 224)
    assert torch.equal(white, torch.ones_like(white))


def test_a_batch_on_another_device_gives_the_same_up_to_rounding():
    pictures = [picture(seed) for seed in range(3)]
    # "cpu:0" is the processor by another name, and takes the way of accelerators
    batched = get("efficientnet-lite0", device="cpu:0").encode(pictures)
    np.testing.assert_allclose(batched, get("efficientnet-lite0").encode(pictures), atol=2e-5)


@pytest.mark.skipif("AMODAL_DATA" not in os.environ, reason="needs flickr8k in the folder named by AMODAL_DATA")
def test_photographs_are_nearest_to_their_stored_features():
    folder = Path(os.environ["AMODAL_DATA"]) / "flickr8k"
    stored = np.load(folder / "features.npz")
    ids, features = stored["id"][:40], stored["image"][:40].astype(np.float32)
    with zipfile.ZipFile(folder / "images.zip") as archive:
        found = get("efficientnet-lite0").encode([archive.read(str(name)) for name in ids])
    cosine = _unit(found) @ _unit(features).T
    # the archive holds the photographs at 192 pixels, the stored features are of the originals: alike, not equal
    assert np.array_equal(cosine.argmax(1), np.arange(40))
    assert np.diag(cosine).mean() > 0.7
    assert 0.8 < np.linalg.norm(found) / np.linalg.norm(features) < 1.25


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_bytes_of_a_picture_are_content():
    stream = io.BytesIO()
    picture(3).save(stream, "PNG")
    encoder = get("efficientnet-lite0")
    assert np.array_equal(encoder.encode([stream.getvalue()]), encoder.encode([picture(3)]))
