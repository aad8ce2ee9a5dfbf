"""Exact top 100 of ten million 64-bit codes: ``Index.search`` of the file backend beside bare FAISS, in one run.

    OMP_NUM_THREADS=1 python benchmarks/index_scan.py

Both sides use one thread, give the same ids (asserted) and are timed in turn, so that a busy machine slows both.
Figures go to ``benchmarks/results/index_scan.json``; ratios are ours divided by FAISS, below 1 is faster. ``others``
shows other sizes, lengths and k, random codes or embeddings, in memory.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numba
import numpy as np
from numpy.typing import NDArray

import amodal
import amodal.index
from amodal.codes import Embeddings

BITS, K, BATCH = 64, 100, 64
RESULTS = Path(__file__).parent / "results" / "index_scan.json"


def codes(rng: np.random.Generator, n: int, kind: str) -> NDArray[np.uint8]:
    """Random codes, or codes around 1,000 unevenly filled centres with every bit flipped at p = .12."""
    if kind == "random":
        return rng.integers(0, 256, (n, BITS // 8), np.uint8)
    centres = np.random.default_rng(0).integers(0, 256, (1000, BITS // 8), np.uint8)
    chosen = np.minimum((rng.pareto(1.2, n) * 5).astype(int), 999)
    flips = np.packbits(rng.random((n, BITS), np.float32) < 0.12, axis=1)
    return centres[chosen] ^ flips


def timed(action: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def side_by_side(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Median and best milliseconds of both, timed in turn, and the median of the ratios of neighbours."""
    pairs = [(timed(ours), timed(theirs)) for _ in range(rounds + 1)][1:]  # the first warms up
    return {
        "amodal_ms": round(1e3 * statistics.median(a for a, _ in pairs), 3),
        "faiss_ms": round(1e3 * statistics.median(b for _, b in pairs), 3),
        "amodal_best_ms": round(1e3 * min(a for a, _ in pairs), 3),
        "faiss_best_ms": round(1e3 * min(b for _, b in pairs), 3),
        "ratio": round(statistics.median(a / b for a, b in pairs), 3),
    }


def fill(url: str, vectors: NDArray[np.uint8]) -> float:
    """Seconds to write all entries durably, 500,000 to a transaction, each with a modality."""
    spec = amodal.index.IndexSpec("binary", bits=BITS, attributes={"modality": "str"})
    with amodal.index.open(url, create=spec) as index:

        def write() -> None:
            for start in range(0, len(vectors), 500_000):
                part = vectors[start : start + 500_000]
                modality = ["image", "text"] * (len(part) // 2)
                index.add(range(start, start + len(part)), part, {"modality": modality})
            index.flush()

        return timed(write)


def compare(kind: str, n: int, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    vectors, queries = codes(rng, n, kind), codes(rng, BATCH, kind)
    folder = tempfile.mkdtemp(dir=Path.cwd())
    try:
        url = str(Path(folder) / "codes.amodal")
        ingest = fill(url, vectors)
        opening = statistics.median(timed(lambda: amodal.index.open(url, readonly=True).close()) for _ in range(5))
        bare = faiss.IndexBinaryFlat(BITS)
        bare.add(vectors)
        with amodal.index.open(url, readonly=True) as index:
            hits = index.search(queries, K)
            distances, ids = bare.search(queries, K)
            assert np.array_equal(hits.ids, ids) and np.array_equal(hits.distances, distances), "answers differ"
            turn = iter(range(10**9))

            def single(search: Callable[..., Any]) -> Callable[[], Any]:
                return lambda: search(queries[(q := next(turn) // 2 % BATCH) : q + 1], K)

            first_filter = timed(lambda: index.search(queries[:1], K, where='modality == "image"'))
            filtered = [timed(lambda: index.search(queries[:1], K, where='modality == "image"')) for _ in range(rounds)]
            return {
                "single": side_by_side(single(index.search), single(bare.search), rounds),
                "batch": side_by_side(
                    lambda: index.search(queries, K), lambda: bare.search(queries, K), max(3, rounds // 5)
                ),
                "single_filtered_half_ms": round(1e3 * statistics.median(filtered), 3),
                "first_use_of_filter_s": round(first_filter, 3),
                "ingest_s": round(ingest, 1),
                "ingest_rows_per_s": round(n / ingest),
                "open_from_snapshot_s": round(opening, 3),
            }
    finally:
        shutil.rmtree(folder)


def other_sizes(rounds: int) -> list[dict[str, Any]]:
    """The same comparison for other numbers, lengths and k, and for embeddings; codes are random."""
    rng = np.random.default_rng(2)
    rows = []
    for kind, size, n in (
        ("binary", 64, 100_000),
        ("binary", 64, 1_000_000),
        ("binary", 128, 1_000_000),
        ("binary", 256, 1_000_000),
        ("binary", 2048, 100_000),
        ("float", 512, 100_000),
    ):
        if kind == "binary":
            spec = amodal.index.IndexSpec("binary", bits=size)
            vectors, bare = rng.integers(0, 256, (n, size // 8), np.uint8), faiss.IndexBinaryFlat(size)
        else:
            spec = amodal.index.IndexSpec("float", dim=size)
            vectors = Embeddings.from_vectors(rng.standard_normal((n, size))).vectors
            bare = faiss.IndexFlatIP(size)
        bare.add(vectors)
        queries = vectors[:BATCH]
        with amodal.index.open("memory:", create=spec) as index:
            index.add(range(n), vectors)
            for k in (10, 100, 1000):
                single = side_by_side(
                    partial(index.search, queries[:1], k), partial(bare.search, queries[:1], k), rounds
                )
                batch = side_by_side(partial(index.search, queries, k), partial(bare.search, queries, k), rounds // 6)
                rows.append({"kind": kind, "bits_or_dim": size, "n": n, "k": k, "single": single, "batch": batch})
    return rows


def processor() -> str:
    """The processor's name, or what the platform knows of it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10_000_000, help="number of codes")
    parser.add_argument("--rounds", type=int, default=31, help="timed single queries of each side")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    results = {
        "what": f"exact top {K} of {arguments.n} codes of {BITS} bits, one thread, batch of {BATCH}",
        "command": "OMP_NUM_THREADS=1 python benchmarks/index_scan.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {
            "amodal": amodal.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
            "faiss": faiss.__version__,
        },
        **{kind: compare(kind, arguments.n, arguments.rounds) for kind in ("clustered", "random")},
        "others": other_sizes(arguments.rounds),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
