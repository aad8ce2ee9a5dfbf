"""Tie-aware mAP@all against the usual NumPy loop: 5,000 queries x 82,081 items x 64 bits, 80 labels, one thread.

    python benchmarks/metrics_map.py            the loop in 25 turns of 40 queries, each turn's time scaled to all 5,000
    python benchmarks/metrics_map.py --full     the loop once on all queries (minutes)

Both sides run in this process, on one thread, on the same random codes and labels (3.5 % of the labels set, about as
in MS COCO), and take turns of about equal length, so that whatever else the machine does hits both. The ratio is that
of the best turns; the medians are given too.
The loop is the one of the DCMH line of code: a float product, a full argsort and a float label product per query. It
starts from codes and labels that are float32 already; ours starts from packed codes and a dense uint8 label matrix,
which it packs within the time. Results go to benchmarks/results/metrics_map.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402

from amodal import __version__  # noqa: E402
from amodal.codes import BinaryCodes  # noqa: E402

QUERIES, DATABASE, BITS, CLASSES, LABEL_SHARE = 5_000, 82_081, 64, 80, 0.035
TURNS, TURN_QUERIES = 25, 40


def usual_loop(queries, database, query_labels, database_labels):
    """mAP@all as usually written; ties fall as argsort leaves them."""
    values = np.zeros(len(queries))
    for i in range(len(queries)):
        relevant = (query_labels[i] @ database_labels.T > 0).astype(np.float32)
        total = int(relevant.sum())
        if total == 0:
            continue
        distances = 0.5 * (BITS - queries[i] @ database.T)
        relevant = relevant[np.argsort(distances)]
        places = np.flatnonzero(relevant == 1) + 1.0
        values[i] = np.mean(np.linspace(1, total, total) / places)
    return values


def memory(field):
    """VmRSS or VmHWM of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def extra_memory(call):
    """Peak resident memory during the call over that just before it, in MB; the kernel's own high-water mark."""
    Path("/proc/self/clear_refs").write_text("5")  # lowers the mark to what is resident now
    before = memory("VmRSS")
    call()
    return memory("VmHWM") - before


def timed(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def summary(seconds):
    return {"best": min(seconds), "median": float(np.median(seconds)), "turns": len(seconds)}


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="run the loop on all queries (minutes)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "metrics_map.json")
    arguments = parser.parse_args()

    generator = np.random.default_rng(0)
    signs = [2 * generator.integers(0, 2, (n, BITS), dtype=np.int8) - 1 for n in (QUERIES, DATABASE)]
    labels = [(generator.random((n, CLASSES), np.float32) < LABEL_SHARE).astype(np.uint8) for n in (QUERIES, DATABASE)]
    codes = [BinaryCodes.from_signs(side) for side in signs]

    def ours(ties="average"):
        from amodal.metrics import average_precision

        return average_precision(*codes, *labels, ties)

    memory_first = extra_memory(ours)  # with the import of numba and, on a fresh machine, its compilation
    memory_later = extra_memory(ours)

    floats = [x.astype(np.float32) for x in (*signs, *labels)]
    some = np.arange(QUERIES) if arguments.full else np.linspace(0, QUERIES - 1, TURNS * TURN_QUERIES).astype(int)
    turns = [some] if arguments.full else np.split(some, TURNS)
    ours_seconds, loop_seconds, loop_values = [], [], []
    for turn in turns:
        seconds, found = timed(lambda rows=turn: usual_loop(floats[0][rows], floats[1], floats[2][rows], floats[3]))
        loop_seconds.append(seconds * QUERIES / len(turn))
        loop_values.extend(found)
        for _ in range(TURNS // len(turns)):
            seconds, values = timed(ours)
            ours_seconds.append(seconds)
    lowest, highest = ours("pessimistic")[some], ours("optimistic")[some]
    assert (lowest - 1e-5 <= loop_values).all(), "the loop must lie between the two extreme orders of ties"
    assert (loop_values <= highest + 1e-5).all(), "the loop must lie between the two extreme orders of ties"

    import llvmlite
    import numba

    result = {
        "what": "mAP@all, tie-aware average against NumPy argsort loop, both one thread, same process",
        "command": "python benchmarks/metrics_map.py" + (" --full" if arguments.full else ""),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"cpu": processor(), "cores": os.cpu_count(), "system": platform.platform(terse=True)},
        "versions": {
            "amodal": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
            "llvmlite": llvmlite.__version__,
        },
        "size": {"queries": QUERIES, "database": DATABASE, "bits": BITS, "classes": CLASSES},
        "loop": {
            "queries_run": len(some),
            "queries_per_turn": len(turns[0]),
            "seconds_scaled_to_all": summary(loop_seconds),
        },
        "amodal": {
            "seconds": summary(ours_seconds),
            "peak_extra_mb_first_call_with_numba": memory_first,
            "peak_extra_mb_later_calls": memory_later,
        },
        "times_faster": {
            "best": min(loop_seconds) / min(ours_seconds),
            "median": float(np.median(loop_seconds) / np.median(ours_seconds)),
        },
        "map": float(values.mean()),
        "load_of_the_machine": os.getloadavg()[0],
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
