"""What is recovered: CASR beside its rivals, against missing rates, on data that are not aligned, and what it imagines.

    AMODAL_DATA=... python benchmarks/recovery.py                      everything: an hour or two on one core
    AMODAL_DATA=... python benchmarks/recovery.py imagined --missing   one part, but for what is in the table already
    python benchmarks/recovery.py imagined --data wikipedia --seeds 1  a small case
    python benchmarks/recovery.py --collect                            only write the page anew

    quality    casr, pan, mccn, davae, cyclegen, ciim and the control at hard and complete, 3 seeds (casr, control: 6)
    rates      casr and the control against the share of items that lack a side, and with gaps on one side; 3 seeds
    aligned    10 % labelled pairs, 90 % neither paired nor labelled, beside all pairs labelled; 3 seeds
    imagined   mAP of imagined sides as queries and as database entries, beside other ways to fill; hard, 3 seeds

Real-valued, tie-aware mAP@all of both directions and their mean, protocol heldout, defaults throughout, but that casr
leaves out its last stage in rates and aligned: imagining changes nothing of what is ranked. Nothing is chosen on test
items. Each run is written to benchmarks/results/recovery.csv when it is finished; recovery.md is made of that.

Imagined sides: test items are halved. One half shows its real side a; of the other half side b is imagined from side a,
encoded by the same fitted CASR, and asks for the real sides of the first half, or is found by them. So no item meets
itself. "text" says that texts were imagined from pictures.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
import warnings
from collections.abc import Iterator
from datetime import date
from functools import cache
from itertools import permutations, product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import ttest_1samp

from amodal.codes import Codes, Embeddings
from amodal.data import Dataset, pick, read, unalign
from amodal.evaluation import Arrangement, arrange, evaluate, get_protocol
from amodal.methods import Method, get, names
from amodal.metrics import mean_average_precision

torch.set_num_threads(1)
SETS = {"wikipedia": "image,text=text_tfidf", "corel5k": "image,text", "flickr8k": "image,text=text_minilm"}
RIVALS = ("casr", "pan", "mccn", "davae", "cyclegen", "ciim", "label_regression")
RATES = ("pdr-0.3", "pdr-0.5", "pdr-0.7", "pdr-0.8")  # complete and pdr-0.9, which is hard, are in quality
ONE_SIDED = tuple(f"one-sided-{side}-missing-{kept}" for side in ("image", "text") for kept in (50, 10))
ALIGNED = {
    "all pairs labelled": (1.0, {}),
    "labelled pairs alone": (0.1, {}),
    "with guessed labels": (0.1, {"pacmr": True}),
    "guessed without transport": (0.1, {"pacmr": True, "sinkhorn": False}),
}
PARTS = ("quality", "rates", "aligned", "imagined")
NEIGHBOURS = 5
KEY = ("part", "data", "setting", "method", "variant", "seed")
COLUMNS = (*KEY, "first", "second", "mean", "fit_cpu_s", "date")
RESULTS = Path(__file__).parent / "results"


def runs_of(part: str, seeds: int | None) -> Iterator[dict[str, Any]]:
    """What a part is made of; a run of "imagined" gives several lines, one for each way to fill."""
    for name in SETS:
        if part == "quality":
            for setting in ("hard", "complete"):
                for method in [slug for slug in RIVALS if slug in names()]:
                    for seed in range(seeds or (6 if method in ("casr", "label_regression") else 3)):
                        yield {"data": name, "setting": setting, "method": method, "variant": "", "seed": seed}
        elif part == "rates":
            for setting in (*RATES, *ONE_SIDED):
                for method in ("casr", "label_regression"):
                    for seed in range(seeds or 3):
                        yield {"data": name, "setting": setting, "method": method, "variant": "", "seed": seed}
        elif part == "aligned":
            for variant in ALIGNED:
                for seed in range(seeds or 3):
                    yield {"data": name, "setting": "unaligned", "method": "casr", "variant": variant, "seed": seed}
        else:
            for seed in range(seeds or 3):
                yield {"data": name, "setting": "hard", "method": "casr", "variant": "text: true", "seed": seed}


@cache
def data_of(name: str) -> Dataset:
    return pick(read(name), SETS[name])


def done(run: dict[str, Any], part: str) -> Iterator[dict[str, Any]]:
    """The lines of a run."""
    arrangement = arrange(
        data_of(run["data"]),
        get_protocol("heldout"),
        "complete" if part == "aligned" else run["setting"],
        seed=run["seed"],
    )
    train, validation = arrangement.teaching()
    params: dict[str, Any] = {"mmi": False} if part in ("rates", "aligned") and run["method"] == "casr" else {}
    if part == "aligned":
        share, more = ALIGNED[run["variant"]]
        params |= more
        if share < 1:
            train = unalign(train, share, seed=run["seed"])[0].seen_classes()
    began = time.process_time()
    method = get(run["method"]).create(seed=run["seed"], **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method.fit(train, validation=validation if run["method"] == "label_regression" else None)
    spent = {"fit_cpu_s": round(time.process_time() - began, 1)}
    if part == "imagined":
        for variant, values in imagined(method, arrangement, train, run["seed"]):
            yield {**run, "variant": variant, **scored(values), **spent}
    else:
        yield {**run, **scored(list(evaluate(method, arrangement).metrics["map"].values())), **spent}


def scored(values: list[float]) -> dict[str, float]:
    first, second = values
    return {"first": round(first, 5), "second": round(second, 5), "mean": round((first + second) / 2, 5)}


def imagined(method: Method, arrangement: Arrangement, train: Dataset, seed: int) -> Iterator[tuple[str, list[float]]]:
    """By way to fill, mAP of imagined sides as queries and as database entries."""
    test = arrangement.queries
    order = np.random.default_rng((seed, 3)).permutation(len(test))
    shown, hidden = (test.take(np.sort(half)) for half in np.array_split(order, 2))
    for a, b in permutations(train.names, 2):
        asked, lacking = method.encode_table(shown[a], a), hidden.with_tables({a: hidden[a]})
        fills: dict[str, Codes] = {"true": method.encode_table(hidden[b], b)}
        for name, x in filled(train, hidden[a].read(), a, b).items():
            fills[name] = method.encode(x, b)
        found = method.impute(lacking, b)
        fills["casr, features"] = method.encode(found.values, b)
        fills["casr, embedding"] = Embeddings.from_vectors(method.impute(lacking, b, what="embedding").values)
        real = labels_of(shown, a)
        for name, codes in fills.items():
            own = labels_of(hidden, b if name == "true" else a)
            yield (
                f"{b}: {name}",
                [
                    mean_average_precision(codes, asked, own, real),
                    mean_average_precision(asked, codes, real, own),
                ],
            )


def labels_of(data: Dataset, modality: str) -> Any:
    assert data.labels is not None
    return data.labels.matrix[data[modality].item]


def filled(train: Dataset, x: np.ndarray, a: str, b: str) -> dict[str, np.ndarray]:
    """Side b of items of which only side a is known, by means that need no learned space."""
    both = train.take(np.flatnonzero(train.present(a) & train.present(b)))
    source, target = (first_of(both, m) for m in (a, b))
    mean, scale = train[a].read().mean(axis=0), train[a].read().std() or 1.0
    known, asked = (source - mean) / scale, (x - mean) / scale
    unit = [v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-8) for v in (asked, known)]
    near = np.argsort(-(unit[0] @ unit[1].T), axis=1)[:, :NEIGHBOURS]
    average = train[b].read().mean(axis=0)
    return {
        "zero": np.zeros((len(x), target.shape[1]), np.float32),
        "mean": np.tile(average, (len(x), 1)),
        "neighbours": target[near].mean(axis=1),
        "ridge": ridge(known, target - average, asked) + average,
    }


def first_of(data: Dataset, modality: str) -> np.ndarray:
    """The first observation of each item, all of which have one."""
    table = data[modality]
    order = np.argsort(table.item, kind="stable")
    return table.read(order[np.searchsorted(table.item[order], np.arange(len(data)))])


def ridge(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Ridge regression whose penalty has the least leave-one-out error."""
    values, vectors = np.linalg.eigh(x @ x.T)
    best, solution = np.inf, np.zeros_like(y)
    for penalty in values.mean() * 10.0 ** np.arange(-3, 3):
        inverse = vectors / (np.maximum(values, 0) + penalty) @ vectors.T
        dual = inverse @ y
        error = float(np.square(dual / np.diag(inverse)[:, None]).mean())
        if error < best:
            best, solution = error, dual
    return (asked @ (x.T @ solution)).astype(np.float32)


def lines_of(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_down(path: Path, new: list[dict[str, Any]]) -> None:
    """Replace what is known of these runs; another process may have added its own meanwhile."""
    keys = {tuple(str(line[word]) for word in KEY) for line in new}
    kept = [line for line in lines_of(path) if tuple(line[word] for word in KEY) not in keys]
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *new])
    part.replace(path)


def page(lines: list[dict[str, str]]) -> str:
    """The tables: mean ± sample sd over seeds of the mean of both columns, by data."""
    text = [
        "# Recovery",
        "",
        "Made by `benchmarks/recovery.py` from recovery.csv; there: what is measured, and how. Mean of both directions",
        "± sd over seeds, number of seeds in brackets; imagined sides: as queries / as database entries.",
    ]
    of = ("setting", "method", "variant")
    for part in PARTS:
        here = [line for line in lines if line["part"] == part]
        rows = sorted({tuple(line[word] for word in of) for line in here})
        if not rows:
            continue
        text += ["", f"## {part}", "", "| setting | method | variant | " + " | ".join(SETS) + " |", "| --- " * 6 + "|"]
        for row in rows:
            cells = []
            for name in SETS:
                own = [line for line in here if (line["data"], *(line[word] for word in of)) == (name, *row)]
                cells.append(cell(own, both=part == "imagined"))
            text.append("| " + " | ".join((*row, *cells)) + " |")
    return "\n".join([*text, *comparison(lines)]) + "\n"


def comparison(lines: list[dict[str, str]]) -> list[str]:
    """CASR less each other method at hard, seeds paired, and what each loses from complete to hard."""
    found = {
        (line["method"], line["data"], line["setting"], line["seed"]): float(line["mean"])
        for line in lines
        if line["part"] == "quality"
    }

    def differences(one: tuple[str, str], other: tuple[str, str], name: str) -> list[float]:
        seeds = sorted({key[3] for key in found})
        pairs = [((one[0], name, one[1], seed), (other[0], name, other[1], seed)) for seed in seeds]
        return [found[a] - found[b] for a, b in pairs if a in found and b in found]

    def said(values: list[float]) -> str:
        if len(values) < 2:
            return "-"
        p = ttest_1samp(values, 0).pvalue
        return f"{np.mean(values):+.3f} ± {np.std(values, ddof=1):.3f} ({len(values)}, p {p:.1g})"

    head = ["", "| method | " + " | ".join(SETS) + " |", "| --- " * (len(SETS) + 1) + "|"]
    text = ["", "## CASR above each at hard, paired over seeds (number, p of a t-test)", *head]
    for method in [name for name in RIVALS if name != "casr"]:
        cells = [said(differences(("casr", "hard"), (method, "hard"), name)) for name in SETS]
        text.append(f"| {method} | " + " | ".join(cells) + " |")
    text += ["", "## Imagined embeddings above what the best other filling reaches", *head]
    for side, way in product(("image", "text"), ("first", "second")):
        cells = []
        for name in SETS:
            values: dict[str, dict[str, float]] = {}
            for line in lines:
                kind, _, fill = line["variant"].partition(": ")
                if (line["part"], line["data"], kind) == ("imagined", name, side):
                    values.setdefault(line["seed"], {})[fill] = float(line[way])
            others = ("zero", "mean", "neighbours", "ridge")
            cells.append(said([v["casr, embedding"] - max(v[fill] for fill in others) for v in values.values()]))
        text.append(f"| {side} as {'queries' if way == 'first' else 'database entries'} | " + " | ".join(cells) + " |")
    text += ["", "## Lost from complete to hard", *head]
    for method in RIVALS:
        cells = [said(differences((method, "complete"), (method, "hard"), name)) for name in SETS]
        text.append(f"| {method} | " + " | ".join(cells) + " |")
    return text


def curve(lines: list[dict[str, str]], path: Path) -> None:
    """Draw mAP against the share of items that lack a side, mean and sd over seeds, beside gaps on one side only."""
    places = {"complete": 0.0, **{rate: float(rate.removeprefix("pdr-")) for rate in RATES}, "hard": 0.9}
    sided = {side: {"complete": 0.0} for side in ("image", "text")}
    for setting in ONE_SIDED:
        _, _, side, _, kept = setting.split("-")
        sided[side][setting] = 1 - int(kept) / 100
    figure, axes = plt.subplots(1, len(SETS), figsize=(4 * len(SETS), 3.2), layout="constrained")
    shown = {"items that lack a side": ("-", places)}
    shown |= {f"items without {side}": (style, sided[side]) for side, style in (("image", "--"), ("text", ":"))}
    for axis, name in zip(axes, SETS, strict=True):
        for method, colour in (("casr", "C0"), ("label_regression", "C1")):
            for what, (style, settings) in shown.items():
                of = [line for line in lines if (line["data"], line["method"], line["variant"]) == (name, method, "")]
                found = {
                    place: [float(line["mean"]) for line in of if line["setting"] == setting and int(line["seed"]) < 3]
                    for setting, place in sorted(settings.items(), key=lambda one: one[1])
                }
                found = {place: values for place, values in found.items() if values}
                means = [np.mean(values) for values in found.values()]
                spread = [np.std(values, ddof=1) if len(values) > 1 else 0.0 for values in found.values()]
                axis.errorbar(
                    list(found), means, spread, color=colour, linestyle=style, marker=".", label=f"{method}, {what}"
                )
        axis.set(title=name, xlabel="share of the training items", ylim=(0, 1.1 * axis.get_ylim()[1]))
    axes[0].set_ylabel("mAP, mean of both directions")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.savefig(path)
    plt.close(figure)


def cell(lines: list[dict[str, str]], *, both: bool) -> str:
    if not lines:
        return "-"
    said = []
    for way in ("first", "second") if both else ("mean",):
        values = np.array([float(line[way]) for line in lines])
        said.append(f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""))
    return f"{' / '.join(said)} ({len(lines)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    parser.add_argument("--data", nargs="*", choices=list(SETS), help="these data sets only")
    parser.add_argument("--methods", nargs="*", help="these methods only")
    parser.add_argument("--seeds", type=int, help="so many seeds, in the place of the part's own number")
    parser.add_argument("--missing", action="store_true", help="skip what is in the table already")
    parser.add_argument("--collect", action="store_true", help="only write the page anew")
    parser.add_argument("--out", type=Path, default=RESULTS / "recovery.csv")
    chosen = parser.parse_args()
    for part in () if chosen.collect else chosen.parts or PARTS:
        for run in runs_of(part, chosen.seeds):
            run = {"part": part, **run}
            if run["data"] not in (chosen.data or SETS) or run["method"] not in (chosen.methods or RIVALS):
                continue
            known = {tuple(line[word] for word in KEY) for line in lines_of(chosen.out)}
            if chosen.missing and tuple(str(run[word]) for word in KEY) in known:
                continue
            new = [{**line, "date": date.today().isoformat()} for line in done(run, part)]
            write_down(chosen.out, new)
            for line in new:
                print(*(line[word] for word in COLUMNS), flush=True)
    lines = lines_of(chosen.out)
    chosen.out.with_suffix(".md").write_text(page(lines))
    curve(lines, chosen.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
