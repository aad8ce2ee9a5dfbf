"""A retriever as a folder: the same answers, nothing half-written, and no wrong parts together."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import amodal
from amodal.errors import AmodalError, DataError, IndexMismatch, UsageError
from amodal.index import copying
from tests.retriever.adding import BATCH, batch_of
from tests.retriever.catalogue import TINY


def answers(shop, items):
    return [shop.search(id=one, k=7) for one in items.ids.tolist()[::7]]


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to change."""
    return shutil.copytree(saved, tmp_path / "copy.amodal")


@pytest.mark.parametrize(("method", "params"), [("dch", {"bits": 12, **TINY}), ("label_regression", {"C": 1.0})])
def test_answers_survive_saving(tmp_path, items, method, params):
    shop = amodal.Retriever(method, **params).fit(items)
    shop.save(tmp_path / "shop.amodal")
    loaded = amodal.Retriever.load(tmp_path / "shop.amodal", readonly=True)
    assert answers(loaded, items) == answers(shop, items)
    assert len(loaded) == len(shop)
    assert loaded.encode(np.ones(16), "image") == shop.encode(np.ones(16), "image")
    assert sorted(path.name for path in (tmp_path / "shop.amodal").iterdir()) == ["index", "method", "retriever.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["shop.amodal"]


def test_nothing_is_pickled(saved):
    ends = {path.suffix for path in saved.rglob("*") if path.is_file()}
    assert ends <= {".json", ".safetensors", ".md", ".sqlite", ".sqlite-wal", ".sqlite-shm", ".npy", ".lock"}


def test_an_opened_folder_keeps_what_is_done_to_it(folder, items):
    shop = amodal.Retriever.load(folder)
    shop.add(batch_of(0))
    assert shop.save(folder) == folder  # where it is already; what follows goes there too
    shop.delete([items.ids[0]])
    count, expected = len(shop), answers(shop, batch_of(0))
    shop.close()
    again = amodal.Retriever.load(folder, readonly=True)
    assert len(again) == count
    assert answers(again, batch_of(0)) == expected
    again.close()


def test_readers_stand_beside_a_writer(folder):
    writer = amodal.Retriever.load(folder)
    reader = amodal.Retriever.load(folder, readonly=True)
    with pytest.raises(UsageError, match="open for writing elsewhere"):
        amodal.Retriever.load(folder)
    with pytest.raises(UsageError, match="read only"):
        reader.add(batch_of(0))
    before = len(reader)
    writer.add(batch_of(0))
    assert len(reader) == before + 2 * BATCH
    writer.close()
    reader.close()


def test_a_retriever_is_replaced_on_demand_only(folder, items):
    other = amodal.Retriever("label_regression", C=1.0).fit(items)
    with pytest.raises(UsageError, match=r"exists already.*--force"):
        other.save(folder)
    assert amodal.Retriever.load(folder, readonly=True).method.card.slug == "dch"
    other.save(folder, force=True)
    assert amodal.Retriever.load(folder, readonly=True).method.card.slug == "label_regression"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_nothing_but_a_retriever_is_ever_replaced(tmp_path, mine):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    for place in (tmp_path / "home", tmp_path / "home" / "letter.txt"):
        with pytest.raises(UsageError, match="no saved retriever, so it is not replaced"):
            mine.save(place, force=True)
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


def test_an_interrupted_save_leaves_what_was_there(folder, mine, monkeypatch, tmp_path):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def full(source, target):
        copying.copy(source, target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("amodal.home.copy", full)
    for place in (folder, tmp_path / "new.amodal"):
        with pytest.raises(DataError, match=r"cannot be written.*No space left"):
            mine.save(place, force=True)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_fit_after_load_does_not_touch_the_folder(folder, items):
    shop = amodal.Retriever.load(folder)
    shop.fit(items.take(np.arange(30)))
    again = amodal.Retriever.load(folder)  # the lock is free
    assert len(again) > len(shop)
    again.close()


def other_model(folder, tmp_path, items):
    other = amodal.Retriever("dch", bits=16, **TINY, seed=1).fit(items).save(tmp_path / "other.amodal")
    shutil.rmtree(folder / "method")
    shutil.move(other / "method", folder / "method")


def no_index(folder, tmp_path, items):
    shutil.rmtree(folder / "index")


def cut_weights(folder, tmp_path, items):
    weights = folder / "method" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def no_weights(folder, tmp_path, items):
    (folder / "method" / "weights.safetensors").unlink()


def cut_facts(folder, tmp_path, items):
    (folder / "retriever.json").write_text('{"format": 1, "enc')


def no_facts(folder, tmp_path, items):
    (folder / "retriever.json").unlink()


def listed_facts(folder, tmp_path, items):
    (folder / "retriever.json").write_text("[1, 2]")


def newer(folder, tmp_path, items):
    facts = json.loads((folder / "retriever.json").read_text())
    (folder / "retriever.json").write_text(json.dumps({**facts, "format": 99}))


def cut_catalogue(folder, tmp_path, items):
    path = folder / "index" / "catalogue.sqlite"
    path.write_bytes(b"not a database" * 100)


def contents(folder):
    """Names of the files, but for those that SQLite keeps while a database is open."""
    return sorted(path.name for path in folder.rglob("*") if not path.name.endswith(("-shm", "-wal")))


@pytest.mark.parametrize(
    ("damage", "error", "sentence"),
    [
        (other_model, IndexMismatch, "model fingerprint .* make a new index"),
        (no_index, DataError, "its index is missing"),
        (cut_weights, DataError, "damaged"),
        (no_weights, DataError, "weights.safetensors is missing"),
        (cut_facts, DataError, "retriever.json cannot be read"),
        (listed_facts, DataError, "retriever.json cannot be read"),
        (no_facts, DataError, "no saved retriever"),
        (newer, DataError, "format 99"),
        (cut_catalogue, AmodalError, "catalogue.sqlite"),
    ],
)
def test_damaged_and_mismatched_folders_are_refused(folder, tmp_path, items, damage, error, sentence):
    damage(folder, tmp_path, items)
    listing = contents(folder)
    for readonly in (True, False):
        with pytest.raises(error, match=sentence):
            amodal.Retriever.load(folder, readonly=readonly)
    assert contents(folder) == listing


def test_nothing_acknowledged_is_lost_when_the_adding_process_is_killed(folder):
    entries = amodal.Retriever.load(folder, readonly=True).index_.count()
    acknowledged = 0
    for pause in (0.0, 0.004):
        command = [sys.executable, "-m", "tests.retriever.adding", str(folder), str(acknowledged)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            lines = [process.stdout.readline() for _ in range(3)]
            time.sleep(pause)
            process.kill()
            lines += process.stdout.readlines()
        assert process.returncode == -signal.SIGKILL
        acknowledged = int(lines[-1]) + 1
        shop = amodal.Retriever.load(folder)
        for number in range(acknowledged):
            assert shop.index_.count(where=f'item == "batch {number} item {BATCH - 1}"') == 2
        extra = len(shop) - entries - acknowledged * 2 * BATCH  # the next batch may be there in part: unacknowledged
        assert 0 <= extra <= 2 * BATCH
        assert shop.search(id="batch 0 item 00", k=1)
        shop.upsert(batch_of(acknowledged))
        assert len(shop) == entries + (acknowledged + 1) * 2 * BATCH
        acknowledged += 1
        shop.close()
