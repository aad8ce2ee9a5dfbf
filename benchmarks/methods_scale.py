"""Any methods on many items: seconds of fitting and peak memory, each in a process of its own.

    python benchmarks/methods_scale.py jimfh seph dch scratch            # 100,000 items
    python benchmarks/methods_scale.py dcmh --set epochs=1               # a whole pass costs the same each time
    python benchmarks/methods_scale.py seph --items 20000 --bits 32

Features are float16 memory maps, two modalities 512 wide, 80 labels, setting hard. Memory is sampled every 50 ms:
anonymous pages are what the process asked for; resident ones also hold what the kernel keeps of the mapped features,
and can give back. One thread. Each method's line in benchmarks/results/methods_scale.json is replaced, others stay.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

RESULTS = Path(__file__).parent / "results" / "methods_scale.json"
WIDTH, LABELS = 512, 80


def fit(folder: Path, slug: str, params: dict[str, Any]) -> dict[str, Any]:
    """Fit one method in this process and watch its memory."""
    from amodal.data import incomplete, read
    from amodal.methods import get

    peak = {"RssAnon": 0.0, "VmRSS": 0.0}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            for key in peak:
                peak[key] = max(peak[key], int(lines[key].split()[0]) / 1024)

    data = incomplete(read(folder), "hard")
    method = get(slug).create(**params)
    threading.Thread(target=watch, daemon=True).start()
    began, worked = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method.fit(data)
    seconds = {"fit_s": round(time.perf_counter() - began, 1), "processor_s": round(time.process_time() - worked, 1)}
    stop.set()
    memory = {"peak_anonymous_mb": round(peak["RssAnon"]), "peak_resident_mb": round(peak["VmRSS"])}
    return {"method": slug, "items": len(data), **params, **seconds, **memory, "said": [str(w.message) for w in caught]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further arguments of the methods")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    further = {name: ast.literal_eval(value) for name, value in (pair.split("=", 1) for pair in chosen.set)}
    if chosen.child:
        print(json.dumps(fit(chosen.child, chosen.methods[0], {"bits": chosen.bits, **further})))
        return
    from amodal.data import write_large
    from amodal.evaluation import environment

    what = f"setting hard, two modalities of {WIDTH} float16 features, {LABELS} labels, one thread"
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"image": WIDTH, "text": WIDTH}
        place = write_large(Path(folder) / "large", chosen.items, modalities=sizes, classes=LABELS)
        for slug in chosen.methods:
            words = [sys.executable, __file__, slug, "--child", str(place), "--bits", str(chosen.bits)]
            words += ["--set", *chosen.set] if chosen.set else []
            out = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
            line = {**json.loads(out.splitlines()[-1]), "date": datetime.now(UTC).date().isoformat()}
            print(line, flush=True)
            # read anew each time: another run may have added its lines meanwhile
            lines = json.loads(RESULTS.read_text())["lines"] if RESULTS.exists() else []
            lines = [old for old in lines if (old["method"], old["items"]) != (slug, chosen.items)] + [line]
            listed = ",\n  ".join(json.dumps(line) for line in sorted(lines, key=lambda line: line["method"]))
            header = {"what": what, "command": "python benchmarks/methods_scale.py METHOD ...", **environment()}
            RESULTS.write_text(json.dumps(header, indent=1)[:-2] + f',\n "lines": [\n  {listed}\n ]\n}}\n')


if __name__ == "__main__":
    main()
