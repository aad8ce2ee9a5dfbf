"""The verb ``index``."""

import numpy as np
import pytest

from amodal import index as indexes
from amodal.index import IndexSpec
from amodal.index.copying import checksum


@pytest.fixture
def photos(tmp_path):
    """An index of 300 entries."""
    spec = IndexSpec("binary", bits=64, attributes={"year": "int"}, lookups=("year",), fingerprint="model 1")
    with indexes.open(str(tmp_path / "photos"), create=spec) as index:
        index.add(range(300), np.random.default_rng(0).integers(0, 256, (300, 8), np.uint8), {"year": 1})
    return tmp_path / "photos"


def test_what_an_index_holds(amodal, photos):
    facts = amodal("index", "info", photos, "--json").json
    assert facts == {
        "schema": 1,
        "entries": 300,
        "kind": "binary",
        "bits": 64,
        "exact": True,
        "attributes": {"year": "int"},
        "lookups": ["year"],
        "fingerprint": "model 1",
    }
    shown = amodal("index", "info", photos, "--checksum")
    with indexes.open(photos, readonly=True) as index:
        assert checksum(index) in shown.out
    assert "year (int)" in shown.out


def test_a_copy(amodal, photos, tmp_path):
    first = amodal("-q", "index", "copy", photos, tmp_path / "copy")
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("300 entries. Both indexes have the checksum ")
    again = amodal("index", "copy", photos, tmp_path / "copy", "--json").json
    assert (again["entries"], again["written"]) == (300, 0)
    assert again["checksum"] in first.out
    with indexes.open(tmp_path / "copy", fingerprint="model 1") as index:
        index.delete([7])
    mended = amodal("-q", "index", "copy", photos, tmp_path / "copy")
    assert mended.out.startswith("300 entries, of which 299 were there already.")


def test_copies_that_are_refused(amodal, photos, tmp_path):
    indexes.open(str(tmp_path / "other"), create=IndexSpec("binary", bits=32)).close()
    for words, code, sentence in (
        ((tmp_path / "none", tmp_path / "copy"), 2, "holds no index"),
        ((photos, tmp_path / "other"), 1, "bits=32"),
        ((photos, "shelf://x"), 2, 'unknown kind of index "shelf"'),
        ((photos, "postgresql://127.0.0.1:1/db?table=t"), 1, "cannot be reached"),
    ):
        refused = amodal("index", "copy", *words)
        assert refused.code == code
        assert refused.err.startswith("error: ")
        assert sentence in refused.err
        assert "Traceback" not in refused.err


def test_recall(amodal, photos):
    measured = amodal("index", "recall", f"file:{photos}?ivf=16&probes=16", "--k", 20, "--queries", 30, "--json").json
    assert (measured["recall"], measured["queries"], measured["k"]) == (1.0, 30, 20)
    shown = amodal("index", "recall", f"file:{photos}?ivf=16")
    assert shown.out.startswith("recall@100 1.0000 on average, 1.0000 at worst, of 200 queries; ")
    assert amodal("index", "info", f"file:{photos}?ivf=16", "--json").json["exact"] is False
    exact = amodal("index", "recall", photos)
    assert exact.code == 2
    assert "searches exactly" in exact.err
