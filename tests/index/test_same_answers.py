"""The same thousand queries on every backend: identical ids in identical order."""

import numpy as np
import pytest

import amodal.index
from amodal.index import IndexSpec
from tests.index.backends import BACKENDS
from tests.index.servers import drop_collections


@pytest.mark.service
def test_the_same_thousand_queries(postgres, milvus, tmp_path):
    bases = {"file": "", "memory": "", "milvus": milvus, "postgresql": postgres}
    rng = np.random.default_rng(0)
    centres = rng.random((200, 64)) < 0.5
    vectors = np.packbits(centres[rng.integers(0, 200, 20_000)] ^ (rng.random((20_000, 64)) < 0.12), axis=1)
    ids = rng.permutation(np.unique(rng.integers(0, 2**62, 20_100))[:20_000])
    answers = {}
    for name, row in BACKENDS.items():
        spec = IndexSpec("binary", bits=64, attributes={"year": "int"})
        with amodal.index.open(bases[name] + row.url(tmp_path), create=spec) as index:
            index.add(ids, vectors, {"year": ids % 10})
            whole = index.search(vectors[:1000], 100)
            tenth = index.search(vectors[:1000], 100, where="year == 3", radius=20)
            answers[name] = (whole.ids, whole.distances, tenth.ids, tenth.distances)
    drop_collections(milvus)
    for name, answer in answers.items():
        for ours, theirs in zip(answer, answers["memory"], strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
