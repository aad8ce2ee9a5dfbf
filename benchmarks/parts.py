"""Flickr8k as parts: regions of the photographs and words of the captions, in one archive.

    AMODAL_DATA=... OMP_NUM_THREADS=1 python benchmarks/parts.py                 runs/flickr8k_parts, some 15 minutes
    AMODAL_DATA=... python benchmarks/parts.py --out runs/fine --regions 7x7     the papers' size

The folder then opens with ``amodal.read``: image (25, 1280), one per item, and text (32, 384), five captions of an item
as five observations; both float16 and mapped. ``raw.npz`` in it opens as the same observations before they were
encoded, paths and captions; the photographs are in ``pictures``. Interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from amodal.data import Dataset, Observations, read, save_archive
from amodal.encoders import FeatureCache, choose_encoders, encode_dataset


def photographs(source: Path, out: Path) -> Dataset:
    """Items with labels and split as they are elsewhere, a path in place of each photograph, and raw captions."""
    data = read(source / "features.npz")
    with zipfile.ZipFile(source / "images.zip") as archive:
        missing = [name for name in archive.namelist() if not (out / "pictures" / name).is_file()]
        archive.extractall(out / "pictures", missing)
    paths = np.array([str(out / "pictures" / name) for name in data.ids], dtype=object)
    number = {name: row for row, name in enumerate(data.ids.tolist())}
    captions = pq.read_table(source / "captions.parquet").sort_by([("id", "ascending"), ("caption_no", "ascending")])
    item = np.array([number[name] for name in captions["id"].to_pylist()])
    texts = np.array(captions["caption"].to_pylist(), dtype=object)
    order = np.argsort(item, kind="stable")
    tables = {
        "image": Observations(paths, np.arange(len(data))),
        "text": Observations(texts[order], item[order]),
    }
    return replace(data, modalities=tables, attributes={})


def tell(began: float, done: int, total: int, what: str) -> None:
    if done % 100 == 0 or done == total:
        print(f"{what}: {done:,} of {total:,}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/flickr8k_parts"))
    parser.add_argument("--regions", default="5x5", help="rows and columns of the grid (default 5x5)")
    parser.add_argument("--words", default="32", help="most words of a caption (default 32)")
    parser.add_argument("--device", default="cpu", help="as torch names it; on cpu:0 texts go in batches")
    chosen = parser.parse_args()
    data, began = photographs(Path(os.environ["AMODAL_DATA"]) / "flickr8k", chosen.out), time.perf_counter()
    named = {"image": f"efficientnet-lite0@{chosen.regions}", "text": f"minilm@{chosen.words}"}
    problems: list[str] = []
    parts = encode_dataset(
        data,
        choose_encoders(data, named, device=chosen.device),
        cache=FeatureCache(chosen.out / "cache"),
        progress=lambda done, total, what: tell(began, done, total, what),
        skip_bad=True,
        problems=problems,
    )
    save_archive(data, chosen.out / "raw.npz")
    save_archive(parts, chosen.out / "features.npz")
    print("\n".join([*problems, f"{chosen.out}: {len(parts):,} items, {len(parts['text']):,} captions"]))


if __name__ == "__main__":
    main()
