"""Opening by address, specifications, and the results object."""

import subprocess
import sys

import numpy as np
import pytest

import amodal.index
from amodal.errors import ShapeError, UsageError
from amodal.index import Hits, IndexSpec

SPEC = IndexSpec("binary", bits=8)


def test_importing_and_opening_load_nothing_heavy(tmp_path):
    program = (
        "import sys, amodal.index as index; "
        f"index.open({str(tmp_path / 'a')!r}, create=index.IndexSpec('binary', bits=8)).count(); "
        "sys.exit(str({'numba', 'faiss', 'torch'} & set(sys.modules) or 0))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == "0\n"


def test_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in ("a.amodal", "file:b%20c.amodal", f"file://{tmp_path}/d", tmp_path / "e" / "f", "FILE:g"):
        amodal.index.open(address, create=SPEC).close()
    assert {path.name for path in tmp_path.iterdir()} == {"a.amodal", "b c.amodal", "d", "e", "g"}


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("shelf://host/codes", 'unknown kind of index "shelf". Known: file, memory, milvus, postgresql'),
        ("fiel:a", 'Did you mean "file"'),
        ("file:a?ifv=4096", 'Did you mean "ivf"'),
        ("file:a?ivf=many", "write it like"),
        ("file:a?probes=8", "write it like"),
        ("file:a?ivf=8&probes=9", "from 1 to the number of cells"),
        ("memory:a", "has no name"),
    ],
)
def test_addresses_that_are_refused(address, words):
    with pytest.raises(UsageError, match=words):
        amodal.index.open(address, create=SPEC)


def test_memory_must_be_made():
    for options in ({}, {"create": SPEC, "readonly": True}):
        with pytest.raises(UsageError, match="begins empty"):
            amodal.index.open("memory:", **options)


def test_a_further_scheme_can_be_registered(monkeypatch):
    monkeypatch.setattr(amodal.index, "_OPENERS", dict(amodal.index._OPENERS))

    def opener(url, *, create, readonly):
        assert (url, readonly) == ("shelf://x", True)
        return amodal.index.open("memory:", create=create)

    amodal.index.register("shelf", opener)
    assert "shelf" in amodal.index.schemes()
    assert amodal.index.open("shelf://x", create=SPEC, readonly=True).spec == SPEC


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kind": "binary"}, "needs bits"),
        ({"kind": "binary", "bits": 0}, "needs bits"),
        ({"kind": "binary", "bits": 2**20}, "32768"),
        ({"kind": "binary", "bits": 8, "dim": 8}, "no dim"),
        ({"kind": "float", "bits": 8}, "needs dim"),
        ({"kind": "floot", "dim": 8}, 'Did you mean "float"'),
        ({"kind": "float", "dim": 8, "attributes": {"a b": "str"}}, '"a b"'),
        ({"kind": "float", "dim": 8, "attributes": {"or": "str"}}, '"or"'),
        ({"kind": "float", "dim": 8, "attributes": {"id": "str"}}, '"id"'),
        ({"kind": "float", "dim": 8, "attributes": {"a": "text"}}, 'unknown type "text"'),
        ({"kind": "float", "dim": 8, "attributes": {"a": "str", "A": "str"}}, "only in case"),
        ({"kind": "float", "dim": 8, "attributes": {"item": "str"}, "lookups": ("itme",)}, 'Did you mean "item"'),
    ],
)
def test_specifications_that_cannot_be(spec, words):
    with pytest.raises(UsageError, match=words):
        IndexSpec(**spec)


def test_a_specification_survives_json():
    spec = IndexSpec("float", dim=7, attributes={"item": "str"}, lookups=("item",), fingerprint="x")
    assert IndexSpec.from_json(spec.to_json()) == spec


def hits(ids, distances, found):
    return Hits(np.array(ids), np.array(distances, np.int32), np.array(found))


def test_hits_that_contradict_themselves():
    far = np.iinfo(np.int32).max
    assert hits([[1, 2, -1]], [[3, 3, far]], [2])[0][0].tolist() == [1, 2]
    for ids, distances, found, words in (
        ([[1, 2]], [[3, 2]], [2], "sorted"),
        ([[2, 1]], [[3, 3]], [2], "sorted"),
        ([[1, 1]], [[3, 3]], [2], "sorted"),
        ([[1, -1]], [[3, far]], [2], "contradict"),
        ([[1, 2]], [[3, 4]], [1], "contradict"),
        ([[1, -1]], [[3, 4]], [1], "contradict"),
        ([[1]], [[3, 4]], [1], "do not fit"),
        ([[1]], [[3]], [1, 1], "do not fit"),
    ):
        with pytest.raises(ShapeError, match=words):
            hits(ids, distances, found)
