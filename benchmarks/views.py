"""More than pictures and texts: sketches with photographs, and three views of handwritten digits.

    AMODAL_DATA=... python benchmarks/views.py              everything; goes on where it was
    AMODAL_DATA=... python benchmarks/views.py uci_mfeat    one data set
    python benchmarks/views.py --collect                    only write the table of what is finished

pacs: CIIM, CASR and the control, six seeds; sketches and photographs are unpaired by nature. uci_mfeat: every embedding
method on vectors, CICH and the control, three seeds, each of the six directions; a tenth of the digits keep all three
views, 63 % two and 27 % one. Writes benchmarks/results/views.csv, a line for each run and direction, and views.md.
`heldout`; all defaults; nothing is chosen on test items.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
from scipy.stats import ttest_rel

from amodal.data import Dataset, Mask, pick, random_split, read
from amodal.errors import MethodError
from amodal.evaluation import arrange, evaluate, get_protocol
from amodal.methods import get, names

CONTROL = "label_regression"
EMBEDDING = [s for s in names() if (c := get(s).card).family == "embedding" and "vectors" in c.takes]
SETS = {
    "pacs": (("sketch", "photo"), (CONTROL, "ciim", "casr"), 6),
    "uci_mfeat": (("fourier", "karhunen", "pixels"), (CONTROL, *EMBEDDING, "cich"), 3),
}
#: Shares of the patterns of three views; every view is there for 61 % of the items.
PRESENCE = {
    "fourier+karhunen+pixels": 0.1,
    **dict.fromkeys(("fourier+karhunen", "fourier+pixels", "karhunen+pixels"), 0.21),
    **dict.fromkeys(("fourier", "karhunen", "pixels"), 0.09),
}
KEYS = ("data", "method", "seed", "direction")
RESULTS = Path(__file__).parent / "results"


def loaded(name: str) -> Dataset:
    data = pick(read(name), ",".join(SETS[name][0]))
    return data if data.split is not None else random_split(data)


def measured(data: Dataset, name: str, slug: str, seed: int) -> Iterator[dict]:
    """One model, every direction; a method that refuses the data says why in place of a figure."""
    mask = Mask.draw(data.part("train"), presence=PRESENCE, seed=seed) if name == "uci_mfeat" else None
    arrangement = arrange(data, get_protocol("heldout"), seed=seed, mask=mask)
    train, validation = arrangement.teaching()
    said, cpu = "", time.process_time()
    try:
        own = {"validation": validation} if slug == CONTROL else {}
        ways = evaluate(get(slug).create(seed=seed).fit(train, **own), arrangement).metrics["map"]
    except MethodError as error:
        ways, said = dict.fromkeys((f"{a}->{b}" for a, b in permutations(SETS[name][0], 2)), float("nan")), str(error)
    cpu = time.process_time() - cpu
    for way, value in ways.items():
        facts = {"data": name, "method": slug, "seed": seed, "direction": way}
        yield {**facts, "map": round(float(value), 5), "cpu_s": round(cpu, 1), "refusal": said}


def committed(path: Path) -> list[dict]:
    if not path.exists():
        return []
    numbers = {"seed": int, "map": float, "cpu_s": float}
    with path.open(newline="") as file:
        return [{k: numbers.get(k, str)(v) for k, v in row.items()} for row in csv.DictReader(file)]


def write(path: Path, found: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*KEYS, "map", "cpu_s", "refusal"])
        writer.writeheader()
        writer.writerows(sorted(found, key=lambda row: [row[key] for key in KEYS]))
    unfinished.replace(path)


def table(found: list[dict], name: str) -> list[str]:
    """Every direction and their mean, mean ± sd over seeds, beside the control with a paired test over seeds."""
    here = {(row["method"], row["seed"], row["direction"]): row["map"] for row in found if row["data"] == name}
    ways = list(dict.fromkeys(way for *_, way in here))
    per_seed: dict[str, dict[int, float]] = {}
    for slug, seed, _ in here:
        per_seed.setdefault(slug, {})[seed] = float(np.mean([here[slug, seed, way] for way in ways]))
    control = per_seed.get(CONTROL, {})
    lines = [f"## {name}", "", "| method | " + " | ".join(ways) + " | mean | seeds | above the control | p |"]
    lines.append("| --- |" + " --- |" * (len(ways) + 4))
    for slug in sorted(per_seed, key=lambda slug: -np.nan_to_num(np.mean(list(per_seed[slug].values())))):
        values = [[here[slug, seed, way] for seed in per_seed[slug]] for way in ways]
        cells = [said(one) for one in [*values, list(per_seed[slug].values())]]
        both = sorted(set(per_seed[slug]) & set(control)) if slug != CONTROL else []
        gain = [per_seed[slug][seed] - control[seed] for seed in both]
        p = ttest_rel(gain, np.zeros(len(gain))).pvalue if len(gain) > 1 else None
        words = [str(len(per_seed[slug])), said(gain, "+") if gain else "", "" if p is None else f"{p:.1g}"]
        lines.append(f"| {slug} | " + " | ".join([*cells, *words]) + " |")
    refused = {row["method"]: row["refusal"] for row in found if row["data"] == name and row["refusal"]}
    return [*lines, "", *(f"{slug}: {why}" for slug, why in refused.items()), ""]


def said(values: list[float], sign: str = "") -> str:
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):{sign}.3f}{spread}" if np.isfinite(values).all() else "-"


HEAD = """# Other modalities, and more of them

Written by `python benchmarks/views.py`; every run is in `views.csv`. mAP over all held-out items, tie-aware, mean ±
sample sd over seeds, defaults throughout. p: paired t-test over seeds against the control, mean of all directions.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help=f"of {', '.join(SETS)}; all by default")
    parser.add_argument("--methods", nargs="*", help="of those of the data set; all by default")
    parser.add_argument("--seeds", type=int, help="how many; those of the data set by default")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the table")
    parser.add_argument("--missing", action="store_true", help="tell which runs are missing, and run nothing")
    parser.add_argument("--collect", action="store_true", help="only write the table of what is finished")
    chosen = parser.parse_args()
    path = chosen.out / "views.csv"
    found = committed(path)
    done = {tuple(row[key] for key in KEYS[:3]) for row in found}
    for name in chosen.sets or SETS:
        _, methods, seeds = SETS[name]
        runs = [(slug, seed) for seed in range(chosen.seeds or seeds) for slug in chosen.methods or methods]
        runs = [(slug, seed) for slug, seed in runs if (name, slug, seed) not in done]
        if chosen.missing:
            print(*(f"{name} {slug} seed {seed}" for slug, seed in runs), sep="\n")
        if chosen.missing or chosen.collect or not runs:
            continue
        data = loaded(name)
        for slug, seed in runs:
            found += measured(data, name, slug, seed)
            write(path, found)
            print(f"{name} {slug} seed {seed}: {found[-1]['map']:.3f} {found[-1]['refusal']}", flush=True)
    if not chosen.missing:
        lines = [line for name in SETS if any(row["data"] == name for row in found) for line in table(found, name)]
        (chosen.out / "views.md").write_text("\n".join([HEAD, *lines]))


if __name__ == "__main__":
    main()
