"""Copies: complete, compared by checksum, and gone on with after an interruption."""

import json
import subprocess
import sys

import numpy as np
import pytest

import amodal.index
from amodal.errors import DataError
from amodal.index import IndexSpec
from amodal.index.copying import checksum, copy

ATTRIBUTES = {"modality": "str", "year": "int", "weight": "float", "public": "bool"}


def filled(url, n, **size):
    """An index of n entries with attributes of all types, some missing, some under strings."""
    rng = np.random.default_rng(n)
    kind = "float" if "dim" in size else "binary"
    index = amodal.index.open(url, create=IndexSpec(kind, attributes=ATTRIBUTES, fingerprint="m", **size))
    vectors = rng.integers(0, 2, (n, size.get("dim", 8 * index.spec.width)), np.uint8)
    if kind == "float":
        vectors = rng.standard_normal(vectors.shape)
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    else:
        vectors = np.packbits(vectors, axis=1)
    columns = {
        "modality": [None if i % 7 == 0 else f"Wörter {i % 3}" for i in range(n)],
        "year": [None if i % 5 == 0 else 2**53 + i for i in range(n)],
        "weight": (rng.random(n) / 3).tolist(),
        "public": [(True, False, None)[i % 3] for i in range(n)],
    }
    half = n // 2
    index.add(range(half), vectors[:half], {name: values[:half] for name, values in columns.items()})
    keys = [f"item ✓ {i}" for i in range(half, n)]
    index.add(keys, vectors[half:], {name: values[half:] for name, values in columns.items()})
    return index


@pytest.mark.parametrize("size", [{"bits": 64}, {"dim": 24}])
def test_a_copy_there_and_back_is_the_same(backend, tmp_path, size):
    with (
        filled("memory:", 2500, **size) as source,
        amodal.index.open(backend.url(tmp_path), create=source.spec) as there,
        amodal.index.open("memory:", create=source.spec) as back,
    ):
        first, second = copy(source, there), copy(there, back)
        assert (first.entries, first.written) == (second.entries, second.written) == (2500, 2500)
        assert first.checksum == second.checksum == checksum(there) == checksum(back)
        for entry, twin in zip(source.get(source.ids()), back.get(source.ids()), strict=True):
            assert (entry.id, entry.key, entry.attributes) == (twin.id, twin.key, twin.attributes)
            np.testing.assert_array_equal(entry.vector, twin.vector)


def test_a_checksum_depends_on_everything_but_the_order():
    spec = IndexSpec("binary", bits=8, attributes={"year": "int", "tag": "str"})
    code = np.zeros((2, 1), np.uint8)

    def of(ids, vectors, **columns):
        with amodal.index.open("memory:", create=spec) as index:
            index.add(ids, vectors, columns)
            return checksum(index)

    same = of([1, 2], code, year=[5, 6], tag="x")
    assert of([2, 1], code, year=[6, 5], tag="x") == same
    others = [
        of([1, 3], code, year=[5, 6], tag="x"),
        of(["1", "2"], code, year=[5, 6], tag="x"),
        of([1, 2], code + 1, year=[5, 6], tag="x"),
        of([1, 2], code, year=[6, 5], tag="x"),
        of([1, 2], code, year=[5, 6], tag=["x", None]),
        of([1, 2], code, year=[5, 6], tag=["x", "None"]),
    ]
    assert len({same, *others}) == 7


def test_only_what_is_missing_or_differs_is_written_again():
    with filled("memory:", 1000, bits=16) as source, amodal.index.open("memory:", create=source.spec) as target:
        copy(source, target)
        assert copy(source, target).written == 0
        target.delete(range(10))
        target.upsert([20], source.get([20])[0].vector[None], {"year": 1})
        target.upsert(["item ✓ 700"], source.get(["item ✓ 700"])[0].vector[None] ^ 1)
        assert checksum(target) != checksum(source)
        done = []
        copied = copy(source, target, progress=lambda *words: done.append(words))
        assert copied.written == 12
        assert checksum(target) == checksum(source) == copied.checksum
        assert done == [(1000, 1000, "copying")]


def test_entries_that_the_source_has_not_are_no_copy():
    with filled("memory:", 10, bits=16) as source, amodal.index.open("memory:", create=source.spec) as target:
        target.add([10**6], np.zeros((1, 2), np.uint8))
        with pytest.raises(DataError, match="1 entries that the source has not, for instance id 1000000"):
            copy(source, target)
        assert target.count() == 1


def test_a_copy_that_is_killed_goes_on_where_it_was(durable, tmp_path):
    total = 60_000
    with amodal.index.open(str(tmp_path / "old"), create=IndexSpec("binary", bits=64)) as source:
        source.add(range(total), np.random.default_rng(0).integers(0, 256, (total, 8), np.uint8))
        whole = checksum(source)
    (tmp_path / "new").mkdir()
    url = durable.url(tmp_path / "new")
    program = "from amodal.cli import main; main()"
    command = [sys.executable, "-c", program, "index", "copy", str(tmp_path / "old"), url, "--json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        begun = json.loads(process.stderr.readline())
        process.kill()
    assert begun == {"progress": "copying", "done": 10_000, "total": total}
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    copied = json.loads(done.stdout)
    assert (copied["entries"], copied["checksum"]) == (total, whole)
    assert 0 < copied["written"] <= total - 10_000
    with amodal.index.open(url, readonly=True) as index:
        assert index.count() == total
