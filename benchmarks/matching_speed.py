"""Scores of 1,000 pictures x 5,000 captions beside a loop over captions, and an epoch of training, on two cores.

    python benchmarks/matching_speed.py

The loop is SCAN's evaluation as published: for each 128 pictures and each caption it repeats the caption, attends,
forms the context of every word and takes cosines. It runs on the same fragments, on every fiftieth caption in order
of length, right after ours; its time is scaled. Scores are asserted to be equal. Seconds are those of the clock and of
the processor: where others use the machine, threads wait for each other, and both are too high on both sides.

Figures go to ``benchmarks/results/matching_speed.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from numpy.typing import NDArray

import amodal
from amodal.data import Dataset, Observations
from amodal.methods import get
from amodal.methods.matching import Matcher
from amodal.training import Training

RESULTS = Path(__file__).parent / "results" / "matching_speed.json"
REGIONS, SHARE = 49, 50
MODALITIES = ("image", "text")
Array = NDArray[np.float32]


def random_parts(rng: np.random.Generator, counts: NDArray[np.int64], width: int, *, unit: bool) -> Array:
    """Random parts, so many per item, padded by zeros."""
    values = rng.standard_normal((len(counts), int(counts.max()), width), np.float32)
    if unit:
        values /= np.linalg.norm(values, axis=-1, keepdims=True)
    values[np.arange(values.shape[1]) >= counts[:, None]] = 0
    return values


def lengths(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Words of captions: 12 on average, 4 to 30."""
    return np.clip(rng.normal(12, 4, n), 4, 30).astype(np.int64)


def untrained(slug: str, width: int, **params: Any) -> Matcher:
    """A matcher of ready fragments with first weights; how it scores depends on no training."""
    method = get(slug).create(width=width, **params)
    assert isinstance(method, Matcher)
    two = np.ones((2, 1, width), np.float32)
    method.meet(Dataset(np.array(["a", "b"]), {name: Observations(two, np.arange(2)) for name in MODALITIES}))
    method.network_ = method.draw()
    return method


def loop(regions: Array, words: Array, *, shard: int = 128, sharpness: float = 9.0) -> Array:
    """SCAN t2i with mean pooling, caption by caption, as its public evaluation computes it."""
    pictures, found = torch.from_numpy(regions), np.zeros((len(regions), len(words)), np.float32)
    for start in range(0, len(pictures), shard):
        context = pictures[start : start + shard]  # (p, k, d)
        for column, caption in enumerate(words):
            real = torch.from_numpy(caption[caption.any(axis=-1)])
            query = real[None].repeat(len(context), 1, 1)  # (p, n, d)
            s = F.leaky_relu(torch.bmm(context, query.transpose(1, 2)), 0.1)  # (p, k, n)
            s = s / (s.pow(2).sum(dim=2, keepdim=True).sqrt() + 1e-8)
            weights = torch.softmax(sharpness * s.transpose(1, 2).contiguous(), dim=2)  # (p, n, k)
            attended = torch.bmm(context.transpose(1, 2), weights.transpose(1, 2).contiguous()).transpose(1, 2)
            scores = F.cosine_similarity(query, attended, dim=2).mean(dim=1)
            found[start : start + shard, column] = scores.numpy()
    return found


def timed(action: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Seconds of the clock and of the processor, and the result."""
    clock, processor = time.perf_counter(), time.process_time()
    result = action()
    seconds = {"clock_s": time.perf_counter() - clock, "processor_s": time.process_time() - processor}
    return {name: round(value, 2) for name, value in seconds.items()}, result


def peak_gib() -> float:
    """The most memory this process ever held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def scoring(width: int, pictures: int, captions: int) -> dict[str, Any]:
    """Ours in full, and the loop on a share of the captions."""
    rng = np.random.default_rng(0)
    regions = random_parts(rng, np.full(pictures, REGIONS), width, unit=True)
    counts = np.sort(lengths(rng, captions))
    words = random_parts(rng, counts, width, unit=True)
    method = untrained("scan", width)
    ours, scores = timed(lambda: method.match(regions, words, modalities=MODALITIES))
    memory = peak_gib()
    with torch.inference_mode():
        theirs, expected = timed(lambda: loop(regions, words[::SHARE]))
    difference = float(np.abs(scores[:, ::SHARE] - expected).max())
    assert difference < 1e-5, difference
    theirs = {name: round(SHARE * value, 1) for name, value in theirs.items()}
    return {
        "width": width,
        "ours": ours,
        "loop": theirs,
        "times_faster": {name: round(theirs[name] / ours[name], 1) for name in ours},
        "largest_difference": difference,
        "peak_memory_gib": memory,
    }


def others(width: int, pictures: int, captions: int) -> dict[str, Any]:
    """The other matchers, a share of the captions, scaled."""
    rng = np.random.default_rng(0)
    regions = random_parts(rng, np.full(pictures, REGIONS), width, unit=True)
    words = random_parts(rng, lengths(rng, captions // SHARE), width, unit=True)
    found = {}
    for name, slug, params in (
        ("scan i2t", "scan", {"direction": "i2t"}),
        ("saf", "sgraf", {"modules": "saf"}),
        ("sgr", "sgraf", {"modules": "sgr"}),
    ):
        method = untrained(slug, width, **params)
        seconds, _ = timed(lambda m=method: m.match(regions, words, modalities=MODALITIES))  # type: ignore[misc]
        found[name] = {key: round(SHARE * value, 1) for key, value in seconds.items()}
    return found


def epoch(slug: str, items: int, **params: Any) -> dict[str, float]:
    """One epoch on photographs of 25 regions of 1280, and a caption of words of 384 for each, as an epoch draws one."""
    rng = np.random.default_rng(0)
    image = random_parts(rng, np.full(items, 25), 1280, unit=False).astype(np.float16)
    text = random_parts(rng, lengths(rng, items), 384, unit=False)
    tables = {"image": Observations(image, np.arange(items)), "text": Observations(text, np.arange(items))}
    data = Dataset(np.arange(items).astype(str), tables)
    method = get(slug).create("cpu", epochs=1, **params)
    method.meet(data)
    seconds, _ = timed(lambda: method.fit(data, training=Training(device="cpu")))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--captions", type=int, default=5000)
    parser.add_argument("--items", type=int, default=6000, help="photographs of the epoch; 0 leaves it out")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    size = arguments.pictures, arguments.captions
    results: dict[str, Any] = {
        "what": f"{size[0]} pictures of {REGIONS} regions x {size[1]} captions of 12 words on average, 2 threads",
        "command": "python benchmarks/matching_speed.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f} at the start",
        "versions": {"amodal": amodal.__version__, "numpy": np.__version__, "torch": torch.__version__},
    }
    parts: dict[str, Callable[[], Any]] = {
        "scan t2i, width 256": lambda: scoring(256, *size),
        "others, width 256": lambda: others(256, *size),
    }
    if arguments.items:
        what = f"one epoch of {arguments.items} photographs, 25 regions, preset cpu"
        parts[f"{what}: scan"] = lambda: epoch("scan", arguments.items)
        parts[f"{what}: saf"] = lambda: epoch("sgraf", arguments.items, modules="saf")
    parts["scan t2i, width 1024"] = lambda: scoring(1024, *size)
    RESULTS.parent.mkdir(exist_ok=True)
    for name, measure in parts.items():
        results[name] = measure()
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
