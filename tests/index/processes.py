"""What the other process does in tests of processes side by side; run as a script."""

import sys

import numpy as np

import amodal.index
from amodal.index import IndexSpec

BATCH = 500
SPEC = IndexSpec("binary", bits=64, attributes={"batch": "int"})


def say(*words):
    """A line for the other side, at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def vectors_of(ids):
    """Codes that anybody can compute from the ids."""
    mixed = (np.asarray(ids, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return np.ascontiguousarray(mixed).view(np.uint8).reshape(-1, 8)


def write_for_ever(url):
    """Say how many entries there are, then acknowledge one batch after another."""
    with amodal.index.open(url, create=SPEC) as index:
        count = index.count()
        nearest = index.search(vectors_of([0]), 1).found[0]
        say("ready", count, nearest)
        for batch in range(count // BATCH, 10**9):
            ids = np.arange(batch * BATCH, (batch + 1) * BATCH)
            index.add(ids, vectors_of(ids), {"batch": batch})
            say("ack", batch)


def read_until_told(url):
    """Search on every line of input: how many entries, and the distances that occur."""
    with amodal.index.open(url, readonly=True) as index:
        say("ready")
        for line in sys.stdin:
            hits = index.search(np.zeros((1, 8), np.uint8), int(line))
            found = index.search(np.zeros((1, 8), np.uint8), int(line), where="batch >= 0").found[0]
            say(hits.found[0], found, *np.unique(hits.distances[0, : hits.found[0]]))


if __name__ == "__main__":
    {"write": write_for_ever, "read": read_until_told}[sys.argv[1]](sys.argv[2])
