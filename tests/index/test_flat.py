"""The folder behind a file index: what is derived may be missing, stale or damaged; what is true may not."""

import shutil
import sqlite3
import threading
from contextlib import closing

import numpy as np
import pytest

import amodal.index
from amodal.errors import DataError, UsageError
from amodal.index import Field, IndexSpec, flat
from amodal.index.sql import to_sql

SPEC = IndexSpec("binary", bits=64, attributes={"year": "int"})


@pytest.fixture
def folder(tmp_path):
    """An index of 300 codes: 200 in the snapshot, 100 written later."""
    rng = np.random.default_rng(0)
    with amodal.index.open(tmp_path / "a.amodal", create=SPEC) as index:
        index.add(range(200), rng.integers(0, 256, (200, 8), np.uint8), {"year": 1})
        index.flush()
        index.add(range(200, 300), rng.integers(0, 256, (100, 8), np.uint8))
    return tmp_path / "a.amodal"


def answers(folder, *, readonly):
    with amodal.index.open(folder, readonly=readonly) as index:
        queries = np.random.default_rng(1).integers(0, 256, (5, 8), np.uint8)
        return index.search(queries, 300).ids


def names(folder):
    return {path.name for path in folder.iterdir()}


def snapshot_files(folder):
    return sorted(folder.glob("*.npy"))


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("readonly", [True, False])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("harm", [flip_a_bit, cut, empty, lambda path: path.unlink()])
def test_a_missing_or_damaged_snapshot_is_made_anew(folder, harm, which, readonly):
    expected = answers(folder, readonly=True)
    harm(snapshot_files(folder)[which])
    np.testing.assert_array_equal(answers(folder, readonly=readonly), expected)
    files = snapshot_files(folder)
    if not readonly:
        assert [path.name for path in files] == ["codes-2.npy", "ids-2.npy"]
        assert len(np.load(files[0])) == 300  # all rows, the recent ones too


def test_a_stale_snapshot_is_not_used(folder):
    stale = {path.name: path.read_bytes() for path in snapshot_files(folder)}
    with amodal.index.open(folder) as index:
        index.delete(range(50))
        index.flush()
    expected = answers(folder, readonly=True)
    for new, old in zip(snapshot_files(folder), sorted(stale), strict=True):
        new.write_bytes(stale[old])
    np.testing.assert_array_equal(answers(folder, readonly=True), expected)


def test_an_interrupted_snapshot_is_tidied_away(folder):
    expected = answers(folder, readonly=True)
    (folder / "codes-7.npy.tmp").write_bytes(b"half")
    (folder / "codes-7.npy").write_bytes(b"never named")
    np.testing.assert_array_equal(answers(folder, readonly=True), expected)
    with amodal.index.open(folder) as index:
        index.flush()
    assert names(folder) == {"catalogue.sqlite", "writer.lock", "codes-2.npy", "ids-2.npy"}


def test_the_catalogue_alone_is_the_index(folder, tmp_path):
    expected = answers(folder, readonly=True)
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(folder / "catalogue.sqlite", copy)
    np.testing.assert_array_equal(answers(copy, readonly=True), expected)


def test_many_writes_are_folded_by_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr(flat, "_FEW_WRITES", 100)
    rng = np.random.default_rng(2)
    vectors = rng.integers(0, 256, (1000, 8), np.uint8)
    with amodal.index.open(tmp_path / "a", create=SPEC) as index:
        for start in range(0, 1000, 30):
            step = np.arange(start, min(start + 30, 1000))
            index.add(step, vectors[step])
            assert index.search(vectors[step[-1:]], 1).ids[0, 0] == step[-1]
        newest = snapshot_files(tmp_path / "a")
        assert len(newest) == 2
        assert len(np.load(newest[0])) >= 800


def test_a_full_disk_at_folding_does_not_fail_the_write(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(flat, "_FEW_WRITES", 10)
    monkeypatch.setattr(flat, "save", full)
    vectors = np.random.default_rng(3).integers(0, 256, (100, 8), np.uint8)
    with amodal.index.open(tmp_path / "a", create=SPEC) as index:
        index.add(range(100), vectors)
        assert index.search(vectors[7:8], 1).ids.tolist() == [[7]]
        with pytest.raises(DataError, match="safe in the catalogue"):
            index.flush()
    assert amodal.index.open(tmp_path / "a", readonly=True).count() == 100


def test_a_damaged_catalogue_is_a_sentence(folder):
    (folder / "catalogue.sqlite").write_bytes(b"not a database, and long enough to be looked at" * 100)
    for readonly in (True, False):
        with pytest.raises(DataError, match=r"catalogue\.sqlite: file is not a database"):
            amodal.index.open(folder, readonly=readonly)


def test_an_index_of_a_newer_version_is_refused(folder):
    with closing(sqlite3.connect(folder / "catalogue.sqlite")) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(DataError, match="newer amodal"):
        amodal.index.open(folder)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="is no index"):
        amodal.index.open(tmp_path, create=SPEC)
    assert names(tmp_path) == {"holiday.jpg"}
    with pytest.raises(UsageError, match="is no index"):
        amodal.index.open(tmp_path / "holiday.jpg", create=SPEC)


@pytest.mark.parametrize("left", [("writer.lock",), ("writer.lock", "catalogue.sqlite")])
def test_a_creation_that_was_killed_can_be_repeated(tmp_path, left):
    for name in left:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match="holds no index"):
        amodal.index.open(tmp_path)
    with amodal.index.open(tmp_path, create=SPEC) as index:
        assert index.count() == 0


@pytest.mark.parametrize("where", [Field("item") == "a", Field("item").isin(["a", "b"])])
def test_lookups_do_not_read_all_rows(tmp_path, where):
    spec = IndexSpec("binary", bits=8, attributes={"item": "str", "tag": "str"}, lookups=("item",))
    amodal.index.open(tmp_path / "a", create=spec).close()
    condition, values = to_sql(where & (Field("tag") != "c"))
    with closing(sqlite3.connect(tmp_path / "a" / "catalogue.sqlite")) as db:
        plan = db.execute(f"EXPLAIN QUERY PLAN SELECT id FROM entries WHERE {condition}", values).fetchall()  # noqa: S608
    assert "USING INDEX entries_item" in str(plan)


def test_threads_may_share_an_index(tmp_path):
    vectors = np.random.default_rng(4).integers(0, 256, (2000, 8), np.uint8)
    wrong = []
    with amodal.index.open(tmp_path / "a", create=SPEC) as index:
        index.add(range(1000), vectors[:1000], {"year": 1})

        def ask():
            for _ in range(50):
                hits = index.search(vectors[:20], 5, where="year == 1")
                wrong.extend(row for row in range(20) if hits.ids[row, 0] != row)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(1000, 1100):
            index.add([number], vectors[number : number + 1], {"year": 1})
        for thread in threads:
            thread.join()
        assert index.count() == 1100
    assert wrong == []
