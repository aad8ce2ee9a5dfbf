"""CICH on many items: does memory grow with n squared, and does a million run in 4 GB?

Each size is fitted in a process of its own, so that its peak memory is its own. Features are float16 memory maps, 512
wide, two modalities, 80 labels, setting hard. Memory is sampled every 50 ms: anonymous pages are what the process
asked for; resident ones also hold what the kernel keeps of the mapped features, and can give back.

    OMP_NUM_THREADS=1 python benchmarks/cich_scale.py             # 10,000 20,000 40,000 items
    OMP_NUM_THREADS=1 python benchmarks/cich_scale.py --million   # and a million: one epoch of each stage
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "cich_scale.json"
WIDTH, LABELS = 512, 80


def fit(folder: Path, epochs: int) -> dict[str, float]:
    from amodal.data import incomplete, read
    from amodal.methods import get

    peak = {"anonymous": 0.0, "resident": 0.0}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            for name, key in (("anonymous", "RssAnon"), ("resident", "VmRSS")):
                peak[name] = max(peak[name], int(lines[key].split()[0]) / 1024)

    threading.Thread(target=watch, daemon=True).start()
    data = incomplete(read(folder), "hard")
    # whole passes cost the same per item at every size, so a few of them show the memory
    short = {"encoder_epochs": epochs, "code_steps": 1}
    began = time.perf_counter()
    get("cich").create(**short).fit(data)
    seconds = time.perf_counter() - began
    stop.set()
    return {
        "items": len(data),
        "fit_s": round(seconds, 1),
        "peak_anonymous_mb": round(peak["anonymous"]),
        "peak_resident_mb": round(peak["resident"]),
    }


def measured(n: int, epochs: int) -> dict[str, float]:
    from amodal.data import write_large

    with tempfile.TemporaryDirectory() as folder:
        place = write_large(Path(folder) / "large", n, modalities={"image": WIDTH, "text": WIDTH}, classes=LABELS)
        words = [sys.executable, __file__, "--child", str(place), "--epochs", str(epochs)]
        out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    found = json.loads(out.splitlines()[-1])
    print(found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--child", type=Path)
    parser.add_argument("--epochs", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps(fit(chosen.child, chosen.epochs)))
        return
    import numpy as np
    import torch

    import amodal

    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    result |= {
        "what": f"CICH, 64 bit, setting hard, two modalities of {WIDTH} float16 features, {LABELS} labels",
        "command": "OMP_NUM_THREADS=1 python benchmarks/cich_scale.py --million",
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"amodal": amodal.__version__, "numpy": np.__version__, "torch": torch.__version__.split("+")[0]},
        "two epochs of encoders, one of codes": [measured(n, 2) for n in (10_000, 20_000, 40_000)],
    }
    if chosen.million:
        result["one epoch of each stage"] = measured(1_000_000, 1)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
