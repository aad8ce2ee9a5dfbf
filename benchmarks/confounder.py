"""A planted confounder: what CASR, CIIM and the control lose by it, with and without what is meant to resist it.

    AMODAL_DATA=... python benchmarks/confounder.py             everything; goes on where it was
    AMODAL_DATA=... python benchmarks/confounder.py pacs        one data set
    AMODAL_DATA=... python benchmarks/confounder.py --strengths 0 1 3   weaker and stronger cues than 2 deviations
    python benchmarks/confounder.py --collect                   only write the table of what is finished

Every class gets a cue, which goes with it at a rate of .9 in training and of .1, .5 or .9 in test (`amodal.data`,
plant_directions; on corel5k plant_words, in the tags). *guessed*: environments are guessed from the training items;
*given*: the training items say whose cue they carry, as where a background or a source is on record. Writes
benchmarks/results/confounder.csv, a line for each run, and confounder.md. `heldout`, hard (pacs: unpaired by nature);
all defaults, but that CASR does not learn to imagine, which changes nothing of what is ranked; nothing is chosen on
test items, whose cues are drawn with seeds that no choice has seen.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from scipy.stats import ttest_rel

from amodal.data import Dataset, Observations, pick, plant_directions, plant_words, random_split, read
from amodal.data.readers.base import strings
from amodal.evaluation import arrange, evaluate, get_protocol
from amodal.methods import get
from amodal.training import Training

SETS = {
    "wikipedia": "image,text=text_tfidf",
    "pacs": "photo,sketch",
    "flickr8k": "image,text=text_minilm",
    "corel5k words": "image,text",
}
TRAIN, STRENGTHS, RATES = 0.9, (2.0,), (0.1, 0.5, 0.9)
ARMS = {
    "label_regression": ("label_regression", {}),
    "casr without": ("casr", {"mmi": False}),
    "casr guessed": ("casr", {"mmi": False, "eca": True}),
    "casr given": ("casr", {"mmi": False, "eca": True, "environment": "cue"}),
    "ciim without": ("ciim", {"erase": False}),
    "ciim guessed": ("ciim", {}),
    "ciim given": ("ciim", {"environment": "cue"}),
}
PAIRS = {f"{slug} {how}": f"{slug} without" for slug in ("casr", "ciim") for how in ("guessed", "given")}
KEYS = ("data", "strength", "arm", "seed", "rate")
RESULTS = Path(__file__).parent / "results"


@cache
def loaded(name: str) -> Dataset:
    data = pick(read(name.split()[0]), SETS[name])
    return data if data.split is not None else random_split(data)


def words_as_features(data: Dataset, modality: str) -> Dataset:
    """Texts of planted words beside the tags: one more feature for each word, as tall as a tag."""
    words = sorted({word for text in data["cue words"].read() for word in text.split()})
    column = {word: k for k, word in enumerate(words)}
    table, extra = data[modality], data["cue words"].read()
    counts = np.zeros((len(table), len(words)), np.float32)
    for row, item in enumerate(table.item):
        for word in extra[item].split():
            counts[row, column[word]] += 1
    kept = {name: value for name, value in data.modalities.items() if name != "cue words"}
    return data.with_tables({**kept, modality: Observations(np.hstack([table.read(), counts]), table.item)})


def planted(name: str, strength: float, rate: float, seed: int) -> Dataset:
    """Data with a confounder; as they are at strength 0, where the rate says nothing."""
    data = loaded(name)
    if not strength:
        return data
    rates = {"train": TRAIN, "test": rate}
    if name != "corel5k words":
        return plant_directions(data, rates, dict.fromkeys(data.names, strength), seed=seed)
    blank = Observations(strings([""] * len(data)), np.arange(len(data)))
    carrying = plant_words(data.with_tables({**data.modalities, "cue words": blank}), rates, "cue words", seed=seed)
    return words_as_features(carrying, "text")


def measured(name: str, strength: float, arm: str, seed: int) -> Iterator[dict]:
    """One model, measured at every rate of the test items."""
    slug, params = ARMS[arm]
    if params.get("environment") and not strength:
        return
    setting = "complete" if name == "pacs" else "hard"
    model, cpu = None, time.process_time()
    for rate in RATES if strength else (TRAIN,):
        arrangement = arrange(planted(name, strength, rate, seed), get_protocol("heldout"), setting, seed=seed)
        if model is None:  # what is learned from does not depend on the rate of the test items
            train, validation = arrangement.teaching()
            own = {"validation": validation} if slug == "label_regression" else {}
            model = get(slug).create(seed=seed, **params).fit(train, training=Training(), **own)
            cpu = time.process_time() - cpu
        ways = evaluate(model, arrangement).metrics["map"]
        yield {
            "data": name,
            "strength": strength,
            "arm": arm,
            "seed": seed,
            "rate": rate if strength else 0.0,
            "map": round(float(np.mean(list(ways.values()))), 5),
            "fit_cpu_s": round(cpu, 1),
        }


def committed(path: Path) -> list[dict]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {k: v if k in ("data", "arm") else int(v) if k == "seed" else float(v) for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def write(path: Path, found: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*KEYS, "map", "fit_cpu_s"])
        writer.writeheader()
        writer.writerows(sorted(found, key=lambda row: [row[key] for key in KEYS]))
    unfinished.replace(path)


def said(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "-"


def table(found: list[dict]) -> list[str]:
    """Figures of every arm, and what each with resistance loses of what the same without it loses."""
    got = {tuple(row[key] for key in KEYS): row["map"] for row in found}
    seeds = sorted({row["seed"] for row in found})

    def of(name: str, strength: float, arm: str, rate: float) -> dict[int, float]:
        keys = {seed: (name, strength, arm, seed, rate) for seed in seeds}
        return {seed: got[key] for seed, key in keys.items() if key in got}

    lines = []
    for name in dict.fromkeys(row["data"] for row in found):
        lines += [f"### {name}", "", "| strength | method | clean | test .1 | test .5 | test .9 | lost at .1 |"]
        lines[-1] += " share of what is lost without | p |"
        lines += ["| --- |" + " --- |" * 8]
        for strength, arm in product(sorted({r["strength"] for r in found if r["data"] == name} - {0.0}), ARMS):
            clean = of(name, 0.0, arm.replace("given", "without"), 0.0)
            cells = [said(list(of(name, strength, arm, rate).values())) for rate in RATES]
            turned, other = of(name, strength, arm, 0.1), PAIRS.get(arm, arm)
            plain, before = of(name, strength, other, 0.1), of(name, 0.0, other, 0.0)
            both = [s for s in seeds if all(s in part for part in (turned, plain, before))]
            lost = [before[s] - turned[s] for s in both]
            without = [before[s] - plain[s] for s in both]
            share = f"{np.mean(lost) / np.mean(without):.2f}" if arm in PAIRS and both else ""
            p = f"{ttest_rel(lost, without).pvalue:.1g}" if arm in PAIRS and len(both) > 1 and lost != without else ""
            words = [f"{strength:g}", arm, said(list(clean.values())), *cells, said(lost), share, p]
            lines.append("| " + " | ".join(words) + " |")
        lines.append("")
    return lines


HEAD = """# A planted confounder

Written by `python benchmarks/confounder.py`; every run is a line of `confounder.csv`. mAP over all held-out items,
tie-aware, mean of both directions, mean ± sample sd over seeds; in training cues go with their classes at .9. *Clean*:
the same without cues. *Lost*: the clean figure of the method without resistance minus that at a test rate of .1. p:
paired t-test over seeds of what is lost with against without. *guessed* and *given*: see the script; without cues
nothing is given, and the column repeats "without".
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help=f"of {', '.join(SETS)}; all by default")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--strengths", type=float, nargs="*", default=[0.0, *STRENGTHS])
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=list(ARMS))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the table")
    parser.add_argument("--missing", action="store_true", help="tell which runs are missing, and run nothing")
    parser.add_argument("--collect", action="store_true", help="only write the table of what is finished")
    chosen = parser.parse_args()
    path = chosen.out / "confounder.csv"
    found = committed(path)
    done = {tuple(row[key] for key in KEYS[:4]) for row in found}
    for seed, name, strength, arm in product(range(chosen.seeds), chosen.sets or SETS, chosen.strengths, chosen.arms):
        if (name, strength, arm, seed) in done or chosen.collect or (not strength and arm.endswith("given")):
            continue
        if chosen.missing:
            print(name, f"strength {strength:g}", arm, f"seed {seed}")
            continue
        found += measured(name, strength, arm, seed)
        write(path, found)
        print(f"{name}, strength {strength:g}, {arm}, seed {seed}: {found[-1]['map']:.3f}", flush=True)
    if not chosen.missing:
        (chosen.out / "confounder.md").write_text("\n".join([HEAD, *table(found)]))


if __name__ == "__main__":
    main()
