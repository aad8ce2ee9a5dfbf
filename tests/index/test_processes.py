"""Killed writers, and processes side by side."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import amodal.index
from amodal.errors import UsageError
from amodal.index import IndexSpec
from tests.index.processes import BATCH, SPEC, vectors_of
from tests.oracles.nearest import hamming, nearest


@pytest.fixture
def start():
    """Starts a process of tests/index/processes.py and gives it with its first words; killed after the test."""
    started = []

    def start(role, url):
        command = [sys.executable, "-m", "tests.index.processes", role, url]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, process.stdout.readline().split()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(durable, tmp_path, start):
    url = durable.url(tmp_path) + durable.fresh
    rng = np.random.default_rng(0)
    acknowledged = 0
    for _ in range(durable.kills):
        writer, (word, count, found) = start("write", url)
        assert word == "ready"
        assert int(count) % BATCH == 0
        assert acknowledged <= int(count) <= acknowledged + BATCH  # the last batch may have been written, unheard of
        assert int(found) == (int(count) > 0)
        lines = [writer.stdout.readline() for _ in range(rng.integers(3, 9))]
        time.sleep(rng.uniform(0, 0.01))
        writer.kill()
        lines += writer.stdout.readlines()
        acknowledged = (int(lines[-1].split()[1]) + 1) * BATCH
        assert writer.wait() == -signal.SIGKILL
    with amodal.index.open(url) as index:
        ids = index.ids()
        assert acknowledged <= len(ids) <= acknowledged + BATCH
        np.testing.assert_array_equal(ids, np.arange(len(ids)))
        vectors = vectors_of(ids)
        hits = index.search(vectors[:3], 50)
        expected, distances, _ = nearest(hamming(vectors[:3], vectors), ids, 50)
        np.testing.assert_array_equal(hits.ids, expected)
        np.testing.assert_array_equal(hits.distances, distances)
        index.add([len(ids)], vectors[:1])


def test_a_reader_beside_a_writer_sees_whole_writes_only(durable, tmp_path, start):
    url = durable.url(tmp_path) + durable.fresh
    with amodal.index.open(url, create=SPEC) as index:
        index.add(range(200), np.zeros((200, 8), np.uint8), {"batch": 0})
        reader, _ = start("read", url)
        seen = []
        for generation in range(1, 60):
            reader.stdin.write("1000\n" * 3)  # it answers while the next write is going on
            reader.stdin.flush()
            pattern = np.packbits(np.arange(64) < generation)[None]  # at distance ``generation`` from the query
            index.upsert(range(200), np.repeat(pattern, 200, axis=0), {"batch": generation})
            if generation % 20 == 0:
                index.flush()
            seen += [reader.stdout.readline().split() for _ in range(3)]
        reader.stdin.write("1000\n")
        reader.stdin.flush()
        last = reader.stdout.readline().split()
    assert last == ["200", "200", "59"]
    assert all(answer[:2] == ["200", "200"] and len(answer) == 3 for answer in seen)
    distances = [int(answer[2]) for answer in seen]
    assert distances == sorted(distances)
    assert len(set(distances)) > 30


def test_one_writer_at_a_time(durable, tmp_path, start):
    if durable.server:
        pytest.skip("a server takes several writers")
    url = durable.url(tmp_path) + durable.fresh
    writer, _ = start("write", url)
    with pytest.raises(UsageError, match=r"open for writing elsewhere.*readonly=True"):
        amodal.index.open(url)
    with amodal.index.open(url, readonly=True) as index:
        assert index.count() % BATCH == 0
    writer.kill()
    writer.wait()
    with amodal.index.open(url), pytest.raises(UsageError, match="one writer at a time"):
        amodal.index.open(url, create=IndexSpec("binary", bits=8))


def test_several_writers_of_one_server(durable, tmp_path, start):
    if not durable.server:
        pytest.skip("a file has one writer at a time")
    url = durable.url(tmp_path) + durable.fresh
    with amodal.index.open(url, create=SPEC) as index:
        writer, _ = start("write", url)  # ids from 0
        far = np.arange(10**9, 10**9 + 20 * BATCH).reshape(20, BATCH)
        for ids in far:
            index.add(ids, vectors_of(ids), {"batch": -1})
        acknowledged = (int(writer.stdout.readline().split()[1]) + 1) * BATCH
        writer.kill()
        writer.wait()
        held = index.ids()
        np.testing.assert_array_equal(held[-far.size :], far.ravel())
        np.testing.assert_array_equal(held[: -far.size], np.arange(len(held) - far.size))
        assert acknowledged <= len(held) - far.size
        assert index.search(vectors_of([10**9 + 7]), 1).ids.tolist() == [[10**9 + 7]]
