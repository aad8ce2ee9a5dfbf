"""What every registered encoder keeps: shape, repeatability, independence of companions, no network, named errors."""

import socket
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from amodal.encoders import Encoder, get, names
from amodal.errors import DataError
from tests.encoders import tiny_models
from tests.encoders.pictures import picture

PICTURES = [picture(seed, (40 + 9 * seed, 30 + 5 * seed)) for seed in range(6)]
TEXTS = ["a red circle", "a", "blue square on a white square", "red", "zebra crossing, 3 stripes", "a red circle !"]
VECTORS = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """What is expected of an encoder, some content for it, and content that it must refuse."""

    kind: str
    dim: int
    content: Any
    bad: Any
    model: Any = None


EXPECTED = {
    "efficientnet-lite0": Case("picture", 1280, PICTURES, b"no picture"),
    "minilm": Case("text", 384, TEXTS, 7),
    "features": Case("features", 0, VECTORS, [np.nan] * 5),
}
ADAPTERS = {
    "hf:<pictures of two sides>": Case("picture", 8, PICTURES, b"no picture", tiny_models.clip),
    "hf:<texts of two sides>": Case("text", 8, TEXTS, 7, tiny_models.clip),
    "hf:<pictures alone>": Case("picture", 16, PICTURES, b"no picture", tiny_models.dinov2),
    "hf:<texts alone>": Case("text", 16, TEXTS, 7, tiny_models.bert),
}
CASES = {**EXPECTED, **ADAPTERS}


def test_every_registered_encoder_is_covered():
    # those with a grid or a length give parts of the same networks: tests/encoders/test_parts.py
    assert set(EXPECTED) == {name.partition("@")[0] for name in names()}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def make(request, case, tmp_path_factory):
    """Makes fresh encoders of the case."""
    name = next(name for name, other in CASES.items() if other is case)
    if case.model is not None:
        name = f"hf:{case.model(tmp_path_factory.mktemp('model') / 'tiny')}"
    return lambda: get(name, kind=case.kind)


@pytest.fixture(scope="module")
def encoder(make) -> Encoder:
    return make()


@pytest.fixture(scope="module")
def features(encoder, case):
    return encoder.encode(case.content)


def test_shape_and_type(encoder, features, case):
    assert encoder.kind == case.kind
    assert encoder.dim == case.dim
    assert features.shape == (6, case.dim or 5)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_different_content_has_different_features(features):
    assert len(np.unique(features.round(5), axis=0)) == 6


def test_nothing_gives_nothing(encoder, case):
    assert encoder.encode([]).shape == (0, case.dim)


def test_fresh_encoders_agree_bit_for_bit(make, features, case):
    other = make()
    assert np.array_equal(other.encode(case.content), features)


def test_features_do_not_depend_on_companions(encoder, features, case):
    alone = np.concatenate([encoder.encode(case.content[row : row + 1]) for row in range(6)])
    assert np.array_equal(alone, features)
    assert np.array_equal(encoder.encode(case.content[::-1])[::-1], features)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_features_do_not_depend_on_threads(encoder, features, case, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert np.array_equal(encoder.encode(case.content), features)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_no_network_is_needed(make, features, case, monkeypatch):
    def refuse(*_, **__):
        pytest.fail("an encoder reached for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert np.array_equal(make().encode(case.content), features)


def test_no_torchvision(encoder, features):
    import sys

    assert "torchvision" not in sys.modules


def test_fingerprint_is_stable_and_its_own(make, encoder):
    assert make().fingerprint == encoder.fingerprint
    others = {name: get(name).fingerprint for name in names() if name != encoder.name}
    assert encoder.fingerprint not in others.values()


def test_bad_content_is_refused_and_leaves_its_neighbours_alone(encoder, features, case):
    content = [case.content[0], case.bad, case.content[1]]
    first, refused, second = encoder.outcomes(content)
    assert np.array_equal(np.stack([first, second]), features[:2])
    assert isinstance(refused, DataError)
    assert str(refused).endswith((".", "--skip-bad."))
    with pytest.raises(DataError):
        encoder.encode(content)


def test_progress_reaches_the_total(encoder, case):
    calls = []
    encoder.encode(case.content, progress=lambda *call: calls.append(call))
    assert calls == [(done, 6, encoder.name) for done in range(1, 7)]
