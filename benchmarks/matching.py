"""Region-word matching on Flickr8k: the table of all methods, wrong pairs, missing partners, a planted confounder.

    AMODAL_DATA=... OMP_NUM_THREADS=1 python benchmarks/parts.py                    first: runs/flickr8k_parts
    AMODAL_DATA=... OMP_NUM_THREADS=1 python benchmarks/matching.py table noise     one part or several
    python benchmarks/matching.py report                                           only write down what is finished

Parts: table (every method, 3 seeds, with human judgments; sgraf is made of saf and sgr), cascade (of what table has
fitted: the dual encoder recalls 50 for each query, a matcher re-ranks them), gaps (10 % of the training items are
pairs), noise (20, 40 and 60 % of the training pairs wrong), confounder (a made-up word goes with a class in captions:
at .9 in training, and at .9 or .1 in test). Protocol flickr30k on the official test split: 1,000 photographs, 5,000
captions. Every finished run is a line of runs/matching/results.jsonl, and is not repeated; several processes may share
the methods between them. Matchers have the preset cpu; seconds are those of the processor. Writes matching.csv and
matching.md in results/. Nothing is chosen on test items. A look at everything: --items 300 --epochs 1 --seeds 1 --out
runs/look.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

from amodal.data import Dataset, WrongPairs, incomplete, plant_words, read
from amodal.encoders import FeatureCache, encode_dataset
from amodal.evaluation import Arrangement, Judgments, environment, evaluate, get_protocol, judge
from amodal.methods import Method, get, load, save
from amodal.methods.matching.sgraf import SGRAF
from amodal.metrics import measure_scores, pair, randomisation_test
from amodal.training import Training

RESULTS = Path(__file__).parent / "results"
PARTS = Path("runs/flickr8k_parts")
PROTOCOL = get_protocol("flickr30k")


def pace(slug: str) -> dict[str, float]:
    """How long and how fast a base learns, so that causmatch on it differs in nothing else."""
    return {name: get(slug).presets["cpu"][name] for name in ("epochs", "rate")}


BASES = {
    "scan_t2i": ("scan", {"direction": "t2i"}),
    "scan_i2t": ("scan", {"direction": "i2t"}),
    "saf": ("sgraf", {"modules": "saf"}),
    "sgr": ("sgraf", {"modules": "sgr"}),
}
METHODS = {
    "dual_encoder": ("dual_encoder", {}),
    **BASES,
    "sgraf": ("sgraf", {"modules": "both"}),
    **{f"causmatch {base}": ("causmatch", {"base": base, **pace(slug)}) for base, (slug, _) in BASES.items()},
}
GIVEN = "causmatch scan_t2i given"
METHODS[GIVEN] = ("causmatch", {**METHODS["causmatch scan_t2i"][1], "environment": "cue"})
FEW = ("dual_encoder", "scan_t2i", "causmatch scan_t2i")
CONFOUNDED = (*FEW, GIVEN)
"""Methods of the parts that vary the data: one of each kind, and causmatch on scan, which may be told of the cue."""
RERANKING = ("scan_t2i", "causmatch scan_t2i", "saf", "sgraf")
TOP = 50  # of 1,000 photographs, or of 5,000 captions
NOISE = (0.2, 0.4, 0.6)
TRAINING, TURNED = 0.9, 0.1  # rate of the cue in training, and where it is turned round
Run = dict[str, object]
Row = dict[str, object]


class Bench:
    """Where runs are kept, and the data they are made of."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.seeds, self.epochs, self.items, self.out = chosen.seeds, chosen.epochs, chosen.items, chosen.out
        self.methods = chosen.methods.split(",") if chosen.methods else list(METHODS)
        self.out.mkdir(parents=True, exist_ok=True)
        self.file = self.out / "results.jsonl"

    @cache  # noqa: B019 - one bench lives as long as the program
    def data(self) -> Dataset:
        """Parts of the items that take part."""
        return self.some(read(PARTS / "features.npz"))

    def some(self, data: Dataset) -> Dataset:
        """All items that learn or are judged, or with --items so many of them and a quarter as many test items."""
        kept = [np.flatnonzero(data.split == "train")[: self.items], np.flatnonzero(data.split == "test")]
        return data.take(np.concatenate([kept[0], kept[1][: self.items and max(self.items // 4, 20)]]))

    def done(self) -> list[Row]:
        """The finished runs."""
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def model(self, name: object, seed: object) -> Path:
        """Where a fitted method of the table lies."""
        return self.out / "models" / f"{name}-{seed}".replace(" ", "-")

    def keep(self, row: Row) -> None:
        """Put a finished run on disk."""
        with self.file.open("ab", buffering=0) as file:  # as a whole or not at all, and beside other processes
            file.write(json.dumps(row).encode() + b"\n")

    def carry_out(self, run: Run, train: Dataset, tests: dict[str, Dataset], judgments: Judgments | None) -> None:
        """Fit and measure, unless that was done; one line of results, and what each photograph adds to rSum."""
        if any(all(row[key] == value for key, value in run.items()) for row in self.done()):
            return
        method, seconds = self.fitted(run, train)
        if run["part"] == "table":
            save(method, self.model(run["method"], run["seed"]), force=True)
        row: Row = {**run, "train": len(train), "fit_s": round(seconds, 1)}
        row["epoch_s"] = round(seconds / method.params()["epochs"], 2)
        for name, items in tests.items():
            began = time.process_time()
            found = evaluate(method, Arrangement(PROTOCOL, "", 0, train, None, items, items, None))
            row[f"score_s{name}"] = round(time.process_time() - began, 1)
            row[f"rsum{name}"], row["chance"] = found.mean("rsum"), found.mean("chance.rsum")
            row[f"by_picture{name}"] = by_picture(found.per_query, items)
            for k in (1, 5, 10):
                row |= {f"{way} R@{k}{name}": value for way, value in found.metrics[f"recall@{k}"].items()}
            row |= {f"{way} median{name}": value for way, value in found.metrics["rank.median"].items()}
        if judgments is not None:
            row |= {name: list(value) for name, value in judge(method, tests[""], judgments).items()}
        self.keep(row)
        print(run, f"rsum {row[f'rsum{next(iter(tests))}']:.1f}, {row['fit_s']} s", flush=True)

    def fitted(self, run: Run, train: Dataset) -> tuple[Method, float]:
        """A method, and the seconds its fit took; sgraf is made of saf and sgr of the same seed, as in its paper."""
        if run["method"] == "sgraf":
            rows = [row for row in self.done() if row["part"] == run["part"] and row["seed"] == run["seed"]]
            seconds = sum(row["fit_s"] for row in rows if row["method"] in ("saf", "sgr"))
            return SGRAF.of(*(load(self.model(name, run["seed"])) for name in ("saf", "sgr"))), seconds
        slug, params = METHODS[str(run["method"])]
        chosen, own = get(slug), {"epochs": self.epochs} if self.epochs else {}
        method = chosen.create("cpu" if "cpu" in chosen.presets else None, **{**params, **own}, seed=run["seed"])
        began = time.process_time()
        method.fit(train, training=Training(progress=None))
        return method, time.process_time() - began


def by_picture(per_query: dict[str, np.ndarray], items: Dataset) -> list[float]:
    """What each photograph adds to rSum: its own recalls, and the mean of those of its captions."""
    counts = np.bincount(items["text"].item, minlength=len(items))
    captions = np.bincount(items["text"].item, per_query["text->image"], len(items)) / np.maximum(counts, 1)
    return (per_query["image->text"] + captions).round(3).tolist()


def judged(items: Dataset) -> Judgments:
    """What the experts said of the test photographs that there are."""
    folder = Path(os.environ["AMODAL_DATA"]) / "flickr8k"
    expert, ids = np.load(folder / "judgments.npz")["expert"], np.load(folder / "features.npz")["id"]
    expert = expert[np.isin(ids[expert[:, 0]], items.ids) & np.isin(ids[expert[:, 1]], items.ids)]
    return Judgments(ids[expert[:, 0]], ids[expert[:, 1]], expert[:, 2].astype(np.int64), expert[:, 3:].astype(float))


def runs(part: str, bench: Bench, methods: tuple[str, ...], **more: object) -> Iterator[Run]:
    for seed in range(bench.seeds):
        for method in methods:
            if method in bench.methods:
                yield {"part": part, "method": method, "seed": seed, **more}


def table(bench: Bench) -> None:
    train, test = bench.data().part("train"), bench.data().part("test")
    for run in runs("table", bench, tuple(name for name in METHODS if name != GIVEN)):
        bench.carry_out(run, train, {"": test}, judged(test))


def cascade(bench: Bench) -> None:
    """What the dual encoder recalls, re-ranked; against scoring all pairs. Embedding is done before, for both."""
    test = bench.data().part("test")
    owners = {name: test[name].item for name in ("image", "text")}
    for run in runs("cascade", bench, RERANKING):
        if any(all(row[key] == value for key, value in run.items()) for row in bench.done()):
            continue
        recall, matcher = (load(bench.model(name, run["seed"])) for name in ("dual_encoder", run["method"]))
        vectors = {name: recall.encode_table(test[name], name).vectors for name in owners}
        fragments = {name: matcher.embed_table(test[name], name) for name in owners}
        row: Row = {**run, "rsum": 0.0, "matcher rsum": 0.0, "recalled rsum": 0.0, "all rsum": 0.0}
        began = time.process_time()
        every = matcher.match(fragments["image"], fragments["text"], modalities=("image", "text"))
        row["all_s"], row["cascade_s"] = time.process_time() - began, 0.0
        for asking, answering in (("image", "text"), ("text", "image")):
            began = time.process_time()
            near = vectors[asking] @ vectors[answering].T
            count = min(TOP, near.shape[1])
            top = np.argpartition(-near, count - 1, axis=1)[:, :count]
            scores = matcher.match_some(fragments[asking], fragments[answering], top, modalities=(asking, answering))
            row["cascade_s"] += time.process_time() - began
            both = standard(scores) + standard(np.take_along_axis(near, top, axis=1))
            full = every if asking == "image" else every.T
            kinds = {"rsum": first(near, top, both), "matcher rsum": first(near, top, scores)}
            for name, values in {**kinds, "recalled rsum": near, "all rsum": full}.items():
                found = measure_scores(values, pair(owners[asking], owners[answering]), ["hit@1", "hit@5", "hit@10"])
                row[name] += 100 * sum(found.value(f"hit@{k}") for k in (1, 5, 10))
        bench.keep(row)
        print(run, {key: round(value, 2) for key, value in row.items() if isinstance(value, float)}, flush=True)


def standard(values: np.ndarray) -> np.ndarray:
    """Of each query, as ``Reranker`` has it."""
    return (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)


def first(near: np.ndarray, top: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What was recalled in the order of other values, in front of the rest as it was."""
    ranked = near - near.max() - 1 + values.min()
    np.put_along_axis(ranked, top, values, axis=1)
    return ranked


def gaps(bench: Bench) -> None:
    train, test = bench.data().part("train"), bench.data().part("test")
    for run in runs("gaps", bench, FEW):
        bench.carry_out(run, incomplete(train, "hard", seed=run["seed"]), {"": test}, None)


def noise(bench: Bench) -> None:
    train, test = bench.data().part("train"), bench.data().part("test")
    for rate in NOISE:
        for run in runs("noise", bench, FEW, rate=rate):
            wrong = WrongPairs.draw(train, rate, "text", seed=run["seed"])
            bench.carry_out(run, wrong.apply(train), {"": test}, None)


def confounder(bench: Bench) -> None:
    for run in runs("confounder", bench, CONFOUNDED):
        turned, held = (worded(bench, rate, run["seed"]) for rate in (TURNED, TRAINING))
        tests = {f" at {TRAINING}": held.part("test"), f" at {TURNED}": turned.part("test")}
        bench.carry_out(run, turned.part("train"), tests, None)


@cache
def worded(bench: Bench, rate: float, seed: int) -> Dataset:
    """The data with the word of its cue in every caption, at a rate in test; captions encoded anew."""
    raw = bench.some(read(PARTS / "raw.npz"))
    planted = plant_words(raw.only(text="text"), {"train": TRAINING, "test": rate}, seed=seed)
    texts = encode_dataset(
        planted, {"text": "minilm@32"}, cache=FeatureCache(PARTS / "cache"), skip_bad=True, problems=[],
    )  # fmt: skip
    return planted.with_tables({"image": bench.data()["image"], "text": texts["text"]})


COLUMNS = [f"{way} R@{k}" for way in ("image->text", "text->image") for k in (1, 5, 10)]


def report(bench: Bench) -> None:
    """Write down what is finished."""
    rows = bench.done()
    RESULTS.mkdir(exist_ok=True)
    plain = [{key: value for key, value in row.items() if not key.startswith("by_picture")} for row in rows]
    with (RESULTS / "matching.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in plain for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(plain)
    facts = environment()
    text = [
        "# Region-word matching on Flickr8k\n",
        "Protocol flickr30k: official test split, all captions. Regions: 5 x 5 places of EfficientNet-Lite0; words: "
        "token states of all-MiniLM-L6-v2. Mean ± sample sd over seeds. Made by `benchmarks/matching.py`, amodal "
        f"{facts['amodal']}, {facts['processor']}, {facts['OMP_NUM_THREADS']} thread.\n",
    ]
    for title, lines in (
        ("All methods", main_table(rows)),
        ("causmatch against its base", against_base(rows)),
        ("Rank correlation with human judgments", judgment_table(rows)),
        (f"Cascade: the dual encoder recalls {TOP}, a matcher re-ranks them", cascade_table(rows)),
        ("Missing partners and wrong pairs: rSum", trouble_table(rows)),
        ("Planted confounder: rSum", confounder_table(rows)),
    ):
        text += [f"## {title}\n", *lines, ""]
    (RESULTS / "matching.md").write_text("\n".join(text))
    print(f"{len(rows)} runs written to {RESULTS / 'matching.md'}")


def main_table(rows: list[Row]) -> Iterator[str]:
    yield from head("method", *COLUMNS, "rSum", "chance", "epoch s", "score s", "seeds")
    for name, chosen in groups(rows, "table"):
        cells = [mean_sd(chosen, column) for column in (*COLUMNS, "rsum")]
        cells += [mean_sd(chosen, column).split(" ")[0] for column in ("chance", "epoch_s", "score_s")]
        yield line(name, *cells, len(chosen))


def against_base(rows: list[Row]) -> Iterator[str]:
    """Photographs are the units: of each, the mean over seeds of what it adds to rSum."""
    yield "Differences of rSum; p of a randomisation test over photographs, two-sided.\n"
    yield from head("base", "base rSum", "causmatch rSum", "difference", "p", "seeds")
    by_name = dict(groups(rows, "table"))
    for base in BASES:
        both = [{row["seed"]: row for row in by_name.get(name, [])} for name in (base, f"causmatch {base}")]
        seeds = sorted(both[0].keys() & both[1].keys())
        if seeds:
            one, other = ([side[seed] for seed in seeds] for side in both)
            each = [np.mean([row["by_picture"] for row in side], axis=0) for side in (one, other)]
            p = randomisation_test(each[1] - each[0])
            difference = np.mean([b["rsum"] - a["rsum"] for a, b in zip(one, other, strict=True)])
            yield line(base, mean_sd(one, "rsum"), mean_sd(other, "rsum"), f"{difference:+.1f}", f"{p:.4f}", len(seeds))


def judgment_table(rows: list[Row]) -> Iterator[str]:
    yield "Mean over seeds of the correlation with the mean expert score; in brackets the mean 95 % interval.\n"
    yield from head("method", "Kendall tau-b", "Kendall tau-c", "Spearman")
    for name, chosen in groups(rows, "table"):
        found = [np.mean([row[key] for row in chosen], axis=0) for key in ("kendall.b", "kendall.c", "spearman")]
        yield line(name, *(f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in found))


def cascade_table(rows: list[Row]) -> Iterator[str]:
    yield "Cascade: both scores, each standardised over what was recalled; matcher alone: its order of the same."
    yield "Shares of the rSum of scoring all pairs, and of the time that takes (one matrix for both directions).\n"
    yield from head("matcher", "recall alone", "all pairs", "matcher alone", "cascade", "of rSum", "of time", "seeds")
    for name, chosen in groups(rows, "cascade"):
        shares = [np.mean([row[a] for row in chosen]) / np.mean([row[b] for row in chosen])
                  for a, b in (("rsum", "all rsum"), ("cascade_s", "all_s"))]  # fmt: skip
        cells = [mean_sd(chosen, key) for key in ("recalled rsum", "all rsum", "matcher rsum", "rsum")]
        yield line(name, *cells, f"{shares[0]:.1%}", f"1 / {1 / shares[1]:.1f}", len(chosen))


def trouble_table(rows: list[Row]) -> Iterator[str]:
    yield from head("method", "complete", "10 % pairs", *(f"{rate:.0%} wrong" for rate in NOISE))
    kinds = [dict(groups(rows, "table")), dict(groups(rows, "gaps"))]
    kinds += [dict(groups([row for row in rows if row.get("rate") == rate], "noise")) for rate in NOISE]
    for name in FEW:
        yield line(name, *(mean_sd(kind[name], "rsum") if name in kind else "-" for kind in kinds))


def confounder_table(rows: list[Row]) -> Iterator[str]:
    yield f"The word goes with the class at {TRAINING} in training; in test at {TRAINING}, or turned round.\n"
    yield from head("method", f"test {TRAINING}", f"test {TURNED}", "lost")
    for name, chosen in groups(rows, "confounder"):
        for row in chosen:
            row["lost"] = row[f"rsum at {TRAINING}"] - row[f"rsum at {TURNED}"]
        yield line(name, *(mean_sd(chosen, f"rsum at {rate}") for rate in (TRAINING, TURNED)), mean_sd(chosen, "lost"))


def groups(rows: list[Row], part: str) -> list[tuple[str, list[Row]]]:
    """The runs of a part by method, in the order of ``METHODS``."""
    chosen = [(name, [row for row in rows if (row["part"], row["method"]) == (part, name)]) for name in METHODS]
    return [(name, some) for name, some in chosen if some]


def mean_sd(rows: list[Row], key: str) -> str:
    values = [row[key] for row in rows]
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def head(*names: object) -> list[str]:
    return [line(*names), line(*("---" for _ in names))]


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


WHAT: dict[str, Callable[[Bench], None]] = {
    "table": table, "cascade": cascade, "gaps": gaps, "noise": noise, "confounder": confounder, "report": report,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=WHAT, help="what to run")
    parser.add_argument("--out", type=Path, default=Path("runs/matching"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="in place of each method's own")
    parser.add_argument("--methods", help=f"some of: {', '.join(METHODS)}; apart by commas")
    parser.add_argument("--items", type=int, help="so many training items, and a quarter as many test items")
    chosen = parser.parse_args()
    bench = Bench(chosen)
    for part in chosen.parts:
        WHAT[part](bench)
    if chosen.items is None and "report" not in chosen.parts:
        report(bench)


if __name__ == "__main__":
    main()
