"""The benchmark of the hashing family: every method on three data sets, and more of the best ones.

    AMODAL_DATA=... python benchmarks/grid.py              everything: hours on two cores; goes on where it was
    AMODAL_DATA=... python benchmarks/grid.py base         one part of it
    python benchmarks/grid.py --collect                    only write down what is finished

    base       every method x hard, complete x 64 bit x 3 seeds
    seeds      the best ones x hard, complete x 64 bit x 6 seeds
    settings   the best ones x medium, easy x 64 bit x 6 seeds
    bits       the best ones x hard x 16, 32, 128 bit x 6 seeds
    extend     the best ones x hard x 64 bit x 6 seeds under cich-extend
    ablation   CICH as published, step by step in the order of its Table V, hard x 64 bit x 4 seeds

The best ones: CICH, the control, and the three rivals that stood highest at hard in the base part. Writes
benchmarks/results/grid.csv, a line for each run, and grid.md: tables with tests. All defaults; nothing is chosen on
test items.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
from scipy.stats import ttest_rel

from amodal.benchmark import Run, plan, read_results, run_grid
from amodal.data import pick, read
from amodal.methods import get, names
from amodal.metrics.significance import holm

SETS = {"wikipedia": "image,text=text_tfidf", "corel5k": "image,text", "flickr8k": "image,text=text_minilm"}
HASHING = [slug for slug in names() if get(slug).card.family in ("hashing", "shallow", "fusion")]
BEST = ("cich", "label_regression", "scratch", "dch", "label_contrastive")
STEPS = {
    "Pair": {"similarity": "pairs", "alpha": 0.0, "delta": 0.0},
    "PSSC": {"alpha": 0.0, "delta": 0.0},
    "PSSC+CCA": {"alpha": 0.0},
    "PSSC+CCA+SaCH": {},
}
USUAL = {"similarity": "prototypes", "alpha": 1.0, "delta": 1.0}
WORDS = ("data", "protocol", "setting", "method", "step", "bits", "source", "date")
PARTS = ("base", "seeds", "settings", "bits", "extend", "ablation")
RESULTS = Path(__file__).parent / "results"


def runs_of(part: str) -> list[Run]:
    common = {"modalities": ("image", "text")}
    if part == "ablation":
        return [
            run
            for name, params in product(SETS, STEPS.values())
            for run in plan(name, ["cich_paper"], ["hard"], seeds=4, params=params, **common)
        ]
    methods, settings, seeds, more = {
        "base": (HASHING, ["hard", "complete"], 3, {"params": {"split": True}}),  # ucmfh must encode one side alone
        "seeds": (BEST, ["hard", "complete"], 6, {}),
        "settings": (BEST, ["medium", "easy"], 6, {}),
        "bits": (BEST, ["hard"], 6, {"bits": (16, 32, 128)}),
        "extend": (BEST, ["hard"], 6, {"protocol": "cich-extend"}),
    }[part]
    return [run for name in SETS for run in plan(name, methods, settings, seeds=seeds, **common, **more)]


def step_of(line: dict) -> str:
    """Which step of the ablation a run of ``cich_paper`` is; "" for other methods."""
    if line["method"] != "cich_paper":
        return ""
    here = {name: line["config"].get(name, value) for name, value in USUAL.items()}
    return next(name for name, params in STEPS.items() if {**USUAL, **params} == here)


def rows(lines: Iterable[dict]) -> Iterator[dict]:
    for line in lines:
        ways = line["metrics"]["map"]
        yield {
            "data": line["dataset"],
            "protocol": line["protocol"],
            "setting": line["setting"],
            "method": line["method"],
            "step": step_of(line),
            "bits": line["bits"] or "real",
            "seed": line["seed"],
            **{way: round(value, 5) for way, value in ways.items()},
            "mean": round(float(np.mean(list(ways.values()))), 5),
            "control": round(float(np.mean(list(line["control"]["metrics"]["map"].values()))), 5),
            "chance": round(float(np.mean(list(line["metrics"]["chance"].values()))), 5),
            "fit_cpu_s": round(line["cpu_phases"]["fit"], 1),
            "source": line["environment"]["source"],
            "date": line["date"],
        }


def place(row: dict) -> tuple:
    return row["data"], row["protocol"], row["setting"], row["bits"], row["method"], row["step"]


def mean_table(found: list[dict], protocol: str, setting: str, bits: tuple) -> list[str]:
    """Means and sd over seeds; tests of CICH against each method, seeds paired, on means over data sets."""
    here = [row for row in found if (row["protocol"], row["setting"]) == (protocol, setting) and row["bits"] in bits]
    here = [row for row in here if row["step"] in ("", "PSSC+CCA+SaCH")]
    values = {(r["method"], r["data"], r["seed"]): r["mean"] for r in here}
    methods = sorted({row["method"] for row in here})
    per_seed = {}
    for method in methods:
        seeds = [s for s in range(6) if all((method, name, s) in values for name in SETS)]
        per_seed[method] = {s: float(np.mean([values[method, name, s] for name in SETS])) for s in seeds}
    rivals = [m for m in methods if m != "cich" and len(set(per_seed[m]) & set(per_seed.get("cich", {}))) > 1]
    raw = []
    for m in rivals:
        seeds = sorted(set(per_seed[m]) & set(per_seed["cich"]))
        raw.append(float(ttest_rel([per_seed["cich"][s] for s in seeds], [per_seed[m][s] for s in seeds]).pvalue))
    corrected = dict(zip(rivals, holm(raw), strict=True)) if rivals else {}
    lines = [
        f"### {protocol}, {setting}",
        "",
        "| method | " + " | ".join(SETS) + " | mean | seeds | CICH above it | p (Holm) | fit, CPU s |",
        "| --- |" + " --- |" * (len(SETS) + 5),
    ]
    for method in sorted(methods, key=lambda m: -np.mean(list(per_seed[m].values()) or [0])):
        cells = []
        for name in SETS:
            got = [v for (m, d, _), v in values.items() if (m, d) == (method, name)]
            cells.append(f"{np.mean(got):.3f} ± {np.std(got, ddof=1):.3f}" if len(got) > 1 else "-")
        overall = list(per_seed[method].values())
        common = sorted(set(per_seed[method]) & set(per_seed.get("cich", {})))
        gain = np.mean([per_seed["cich"][s] - per_seed[method][s] for s in common]) if common else None
        p = corrected.get(method)
        cpu = np.mean([row["fit_cpu_s"] for row in here if row["method"] == method])
        words = [
            f"{np.mean(overall):.3f}" if overall else "-",
            str(len(overall)) if overall else "-",
            "" if method == "cich" else "-" if gain is None else f"{gain:+.3f}",
            "" if p is None else f"{p:.1g}",
            f"{cpu:.0f}",
        ]
        lines.append(f"| {method} | " + " | ".join([*cells, *words]) + " |")
    return [*lines, ""]


def losses(found: list[dict]) -> list[str]:
    """Complete minus hard."""
    mean = {}
    for row in found:
        if row["protocol"] == "heldout" and row["bits"] in (64, "real") and row["step"] in ("", "PSSC+CCA+SaCH"):
            mean.setdefault((row["method"], row["data"], row["setting"]), {})[row["seed"]] = row["mean"]
    lines = ["### What gaps cost: complete - hard, mean ± sd over seeds", "", "| method | " + " | ".join(SETS) + " |"]
    lines.append("| --- |" + " --- |" * len(SETS))
    for method in sorted({key[0] for key in mean}):
        cells = []
        for name in SETS:
            whole, thin = mean.get((method, name, "complete"), {}), mean.get((method, name, "hard"), {})
            lost = [whole[s] - thin[s] for s in sorted(set(whole) & set(thin))]
            cells.append(f"{np.mean(lost):+.3f} ± {np.std(lost, ddof=1):.3f}" if len(lost) > 1 else "-")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def ablation(found: list[dict]) -> list[str]:
    """Each step's gain over the one before, seeds paired."""
    got = {(r["step"], r["data"], r["seed"]): r["mean"] for r in found if r["step"] and r["setting"] == "hard"}
    lines = ["### CICH as published, step by step (hard, 64 bit)", "", "| step | " + " | ".join(SETS) + " |"]
    lines.append("| --- |" + " --- |" * len(SETS))
    before = None
    for step in STEPS:
        cells = []
        for name in SETS:
            seeds = [s for s in range(6) if (step, name, s) in got]
            cell = f"{np.mean([got[step, name, s] for s in seeds]):.3f}" if seeds else "-"
            common = [s for s in seeds if (before, name, s) in got]
            if len(common) > 1:
                gain = [got[step, name, s] - got[before, name, s] for s in common]
                cell += f" ({np.mean(gain):+.3f} ± {np.std(gain, ddof=1):.3f})"
            cells.append(cell)
        lines.append(f"| {step} | " + " | ".join(cells) + " |")
        before = step
    return [*lines, ""]


def committed() -> list[dict]:
    """The lines of grid.csv as they are, with numbers as numbers."""
    path = RESULTS / "grid.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {
                name: value if name in WORDS else float(value) if "." in value else int(value)
                for name, value in row.items()
            }
            | {"bits": row["bits"] if row["bits"] == "real" else int(row["bits"])}
            for row in csv.DictReader(file)
        ]


def known(run: Run, lines: set[tuple]) -> bool:
    """Whether grid.csv has a run, at whatever state of the source; for a folder of runs that was lost."""
    params = {name: run.params.get(name, value) for name, value in USUAL.items()}
    step = step_of({"method": run.method, "config": params})
    return (run.dataset, run.protocol, run.setting, run.bits or "real", run.method, step, run.seed) in lines


def collect(out: Path) -> None:
    """Write what is finished; lines of grid.csv whose runs are not in the folder stay."""
    lines = {(*place(row), row["seed"]): row for row in [*committed(), *rows(read_results(out))]}
    found = sorted(lines.values(), key=lambda row: (*map(str, place(row)), row["seed"]))
    with (RESULTS / "grid.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)
    lines = [
        "# The hashing family under one protocol",
        "",
        "Written by `python benchmarks/grid.py`; every run is a line of `grid.csv`. mAP over all held-out items,",
        "tie-aware, mean of image->text and text->image, mean ± sample sd over seeds. Defaults throughout. p: paired",
        "t-test over seeds of the means over data sets, Holm's correction in a table. label_regression, the control,",
        "is real-valued; the rest are codes. ucmfh is its variant that encodes each side alone. A dash: fewer than two",
        "seeds are finished; a mean needs all three sets, and its seeds are those finished on all of them.",
        "",
    ]
    for protocol, setting in dict.fromkeys((row["protocol"], row["setting"]) for row in found):
        lines += mean_table(found, protocol, setting, (64, "real"))
    for bits in sorted({row["bits"] for row in found} - {64, "real"}):
        table = mean_table(found, "heldout", "hard", (bits, "real"))
        lines += [f"{table[0]}, {bits} bit", *table[1:]]
    lines += losses(found)
    if any(row["step"] == "Pair" for row in found):
        lines += ablation(found)
    (RESULTS / "grid.md").write_text("\n".join(lines))
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them by default")
    parser.add_argument("--out", type=Path, default=Path("runs/grid"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--missing", action="store_true", help="pass over runs that grid.csv has, whatever the folder has"
    )
    parser.add_argument("--collect", action="store_true", help="only write down the runs that are finished")
    parser.add_argument("--methods", nargs="+", default=HASHING, choices=HASHING, help="all that a part has by default")
    chosen = parser.parse_args()
    if not chosen.collect:
        data = {name: pick(read(name), modalities) for name, modalities in SETS.items()}
        lines = {(*place(row), row["seed"]) for row in committed()} if chosen.missing else set()
        for part in chosen.parts or PARTS:
            runs = [run for run in runs_of(part) if run.method in chosen.methods and not known(run, lines)]
            runs.sort(key=lambda run: run.seed)  # a table of few seeds is better than half a table
            for number, _ in enumerate(run_grid(runs, data, chosen.out, workers=chosen.workers), 1):
                print(f"{part}: {number} of {len(runs)}", flush=True)
    collect(chosen.out)


if __name__ == "__main__":
    main()
