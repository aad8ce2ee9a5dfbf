"""The cache: found again by content, safe against kill -9, other processes and damaged files."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from amodal.encoders import FeatureCache
from amodal.encoders.cache import default_folder
from amodal.errors import DataError


def rows(start, stop):
    return [(bytes([k]), np.full(3, k, dtype=np.float32)) for k in range(start, stop)]


def test_what_was_put_is_got_by_encoder_and_content(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.put("e", rows(0, 2))
    cache.close()
    again = FeatureCache(tmp_path)
    assert np.array_equal(again.get("e", b"\1"), [1, 1, 1])
    assert again.get("e", b"\1").dtype == np.float32
    assert again.get("e", b"\2") is None
    assert again.get("other", b"\1") is None


def test_an_error_within_a_put_keeps_none_of_it(tmp_path):
    def broken():
        yield from rows(0, 2)
        raise KeyboardInterrupt

    cache = FeatureCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cache.put("e", broken())
    assert cache.stats().rows == 0
    cache.put("e", rows(0, 2))
    assert cache.stats().rows == 2


def test_stats_and_clear(tmp_path):
    cache = FeatureCache(tmp_path / "new" / "folder")
    cache.put("e", rows(0, 5))
    cache.put("f", rows(3, 5))
    stats = cache.stats()
    assert (stats.rows, stats.encoders, stats.path) == (7, 2, tmp_path / "new" / "folder" / "features.sqlite")
    assert stats.bytes > 0
    assert cache.clear() == 7
    assert cache.stats().rows == 0


def test_files_are_known_by_content_and_change_is_seen(tmp_path):
    cache = FeatureCache(tmp_path)
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    assert cache.content_of_file(file) == hashlib.sha256(b"one").digest()
    file.write_bytes(b"two")  # at once, of the same length: size and perhaps time are the same
    assert cache.content_of_file(file) == hashlib.sha256(b"two").digest()


def test_settled_files_are_not_read_again(tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path)
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    os.utime(file, (time.time() - 60, time.time() - 60))
    first = cache.content_of_file(file)
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("read again"))
    assert cache.content_of_file(file) == first


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no\.png"):
        FeatureCache(tmp_path).content_of_file(tmp_path / "no.png")


def test_a_file_that_is_no_cache_is_named(tmp_path):
    (tmp_path / "features.sqlite").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(DataError, match=r"features\.sqlite.*AMODAL_CACHE"):
        FeatureCache(tmp_path).get("e", b"1")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be opened"):
        FeatureCache(tmp_path / "file" / "cache").get("e", b"1")


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("AMODAL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "amodal"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_folder() == Path("/x/amodal")
    monkeypatch.setenv("AMODAL_CACHE", "/own")
    assert default_folder() == Path("/own")


WRITER = """
import sys, numpy as np
from amodal.encoders import FeatureCache
cache, encoder = FeatureCache(sys.argv[1]), sys.argv[2]
for k in range(int(sys.argv[3])):
    cache.put(encoder, [(b"%d %d" % (k, part), np.full(4, k, dtype=np.float32)) for part in range(5)])
    print(k, flush=True)
"""


def writer(folder, encoder, turns):
    command = [sys.executable, "-c", WRITER, str(folder), encoder, str(turns)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path):
    process = writer(tmp_path, "e", 1_000_000)
    for _ in range(20):
        acknowledged = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    cache = FeatureCache(tmp_path)
    assert acknowledged == 19
    for k in range(acknowledged + 1):
        for part in range(5):
            assert np.array_equal(cache.get("e", b"%d %d" % (k, part)), np.full(4, k))
    assert cache.stats().rows % 5 == 0  # no half transaction


def test_two_processes_write_at_once(tmp_path):
    both = [writer(tmp_path, "e", 40), writer(tmp_path, "f", 40)]
    for process in both:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert FeatureCache(tmp_path).stats().rows == 2 * 40 * 5
