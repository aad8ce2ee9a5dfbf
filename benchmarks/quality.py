"""CICH beside the tuned control on three data sets: 64 bit, `heldout`, hard and complete, three seeds.

    AMODAL_DATA=... python benchmarks/quality.py --out runs/quality

Takes half an hour on one thread, and goes on where it was. The published form runs at hard only. Writes
benchmarks/results/quality.json (every value, means, sample standard deviations); `make docs` makes the table of it.
Nothing is chosen on test items: defaults were set on validation parts of the training items.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path

import numpy as np

from amodal.benchmark import plan, read_results, run_grid
from amodal.data import pick, read
from amodal.evaluation import environment

SETS = {"wikipedia": "image,text=text_tfidf", "corel5k": "image,text", "flickr8k": "image,text=text_minilm"}
METHODS = {"hard": ("label_regression", "cich", "cich_paper"), "complete": ("label_regression", "cich")}
ROOT = Path(__file__).parents[1]


def measured(out: Path, seeds: int) -> list[dict]:
    lines = []
    for name, modalities in SETS.items():
        data = pick(read(name), modalities)
        runs = [
            run
            for setting, methods in METHODS.items()
            for run in plan(name, methods, [setting], modalities=data.names, seeds=seeds)
        ]
        lines += run_grid(
            runs, data, out / name, progress=lambda done, total, what, name=name: print(name, done, total, what)
        )
    return lines


def rows(lines: list[dict]) -> list[dict]:
    found = []
    for name in SETS:
        for setting, methods in METHODS.items():
            for method in methods:
                chosen = [r for r in lines if (r["dataset"], r["setting"], r["method"]) == (name, setting, method)]
                if not chosen:
                    continue
                ways = list(chosen[0]["metrics"]["map"])
                values = np.array([[r["metrics"]["map"][way] for way in ways] for r in chosen])
                means = values.mean(axis=1)
                found.append(
                    {
                        "data": name, "setting": setting, "method": method, "bits": chosen[0]["bits"],
                        "seeds": [r["seed"] for r in chosen], "values": values.round(5).tolist(), "directions": ways,
                        "mean": values.mean(axis=0).round(4).tolist(),
                        "both": round(float(means.mean()), 4),
                        "sd": round(float(means.std(ddof=1)), 4) if len(means) > 1 else None,
                        "chance": round(float(np.mean([list(r["metrics"]["chance"].values()) for r in chosen])), 4),
                        "fit_s": round(float(np.mean([r["phases"]["fit"] for r in chosen])), 1),
                        "fit_cpu_s": round(float(np.mean([r["cpu_phases"]["fit"] for r in chosen])), 1),
                    }
                )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--collect", action="store_true", help="only write down the runs that are finished")
    chosen = parser.parse_args()
    finished = [line for name in SETS for line in read_results(chosen.out / name)]
    found = rows(finished if chosen.collect else measured(chosen.out, chosen.seeds))
    result = {
        "what": "mAP@all, tie-aware (average), protocol heldout, image->text / text->image and their mean ± sample sd",
        "command": "AMODAL_DATA=... python benchmarks/quality.py",
        "date": date.today().isoformat(),
        "environment": environment(),
        "rows": found,
    }
    (ROOT / "benchmarks/results/quality.json").write_text(json.dumps(result, indent=1) + "\n")
    print("Written: benchmarks/results/quality.json. `make docs` puts it into the README.")


if __name__ == "__main__":
    main()
