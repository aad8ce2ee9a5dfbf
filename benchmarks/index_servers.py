"""The same 1,000 queries on indexes of every kind: identical ids and distances, in identical order.

    OMP_NUM_THREADS=1 python benchmarks/index_servers.py file:/tmp/codes milvus://127.0.0.1:19530/codes \
        "postgresql://me@127.0.0.1/shop?table=codes"

Each address names an index that does not exist yet. All are filled with the same clustered 64-bit codes, ids in random
order, and asked for the nearest 100, once among all and once within radius 20 among a tenth; the answers of a plain
full sort are the truth. Figures go to ``benchmarks/results/index_servers.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import amodal
import amodal.index
from amodal.index import IndexSpec

BITS, K, QUERIES, RADIUS = 64, 100, 1000, 20
RESULTS = Path(__file__).parent / "results" / "index_servers.json"


def truth(
    queries: NDArray[np.uint8], vectors: NDArray[np.uint8], ids: NDArray[np.int64], radius: int
) -> list[tuple[list[int], list[int]]]:
    """Ids and distances of the nearest, by a full sort."""
    answers = []
    for query in queries:
        distances = np.bitwise_count(vectors ^ query).sum(axis=1, dtype=np.int64)
        order = np.lexsort((ids, distances))[:K]
        order = order[distances[order] <= radius]
        answers.append((ids[order].tolist(), distances[order].tolist()))
    return answers


def compare(url: str, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    centres = rng.random((200, BITS)) < 0.5
    vectors = np.packbits(centres[rng.integers(0, 200, n)] ^ (rng.random((n, BITS)) < 0.12), axis=1)
    ids = rng.permutation(np.unique(rng.integers(0, 2**62, n + 100))[:n])
    queries, tenth = vectors[:QUERIES], ids % 10 == 3
    spec = IndexSpec("binary", bits=BITS, attributes={"year": "int"})
    with amodal.index.open(url, create=spec) as index:
        begin = time.perf_counter()
        index.add(ids, vectors, {"year": ids % 10})
        index.flush()
        filled = time.perf_counter()
        index.search(queries[:1], K)
        asked = time.perf_counter()
        whole = index.search(queries, K)
        done = time.perf_counter()
        part = index.search(queries, K, where="year == 3", radius=RADIUS)
    same = [
        sum(
            (got[0].tolist(), got[1].tolist()) == wanted
            for got, wanted in zip((hits[q] for q in range(QUERIES)), expected, strict=True)
        )
        for hits, expected in (
            (whole, truth(queries, vectors, ids, BITS)),
            (part, truth(queries, vectors[tenth], ids[tenth], RADIUS)),
        )
    ]
    return {
        "identical_of_all": same[0],
        "identical_of_a_tenth_within_radius": same[1],
        "fill_s": round(filled - begin, 2),
        "ms_per_query_in_one_batch": round(1e3 * (done - asked) / QUERIES, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("urls", nargs="+")
    parser.add_argument("-n", type=int, default=20_000, help="codes")
    args = parser.parse_args()
    found = {url.partition(":")[0]: compare(url, args.n) for url in args.urls}
    results = {
        "what": f"{QUERIES} queries, nearest {K} of {args.n} codes of {BITS} bits, against a full sort",
        "command": "OMP_NUM_THREADS=1 python benchmarks/index_servers.py URL ...",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()}",
        "versions": {"amodal": amodal.__version__, "python": platform.python_version(), "numpy": np.__version__},
        "queries": QUERIES,
        **found,
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
