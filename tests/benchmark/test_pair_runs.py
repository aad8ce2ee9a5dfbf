"""Grids under a protocol of pairs: methods with codes and matchers side by side, without labels and without control."""

import numpy as np

from amodal.benchmark import plan, run_grid, summarise
from amodal.data import Observations, random_split, toy


def captioned(n=60):
    """Pictures of four regions, three captions of up to five words each."""
    data, random = toy(n, captions=3, classes=4), np.random.default_rng(0)
    tables = {}
    for name, length in (("image", 4), ("text", 5)):
        x = data[name].read()
        parts = x[:, None] + 0.1 * random.standard_normal((len(x), length, x.shape[1])).astype(np.float32)
        if name == "text":
            parts[:, 4] = 0
        tables[name] = Observations(parts, data[name].item)
    return random_split(data.with_tables(tables), {"train": 0.6, "test": 0.4})


def runs(**options):
    params = {"epochs": 2, "batch_size": 16, "width": 8, "dim": 8}
    return plan(
        "captioned", ["scan", "dual_encoder"], ["complete"], modalities=("image", "text"), params=params,
        protocol="flickr30k", seeds=1, **options,
    )  # fmt: skip


def test_both_kinds_of_methods_in_one_table(tmp_path):
    lines = list(run_grid(runs(), captioned(), tmp_path))
    assert [line["method"] for line in lines] == ["scan", "dual_encoder"]
    for line in lines:
        assert line.get("error") is None
        assert (line["relevance"], line["bits"]) == ("pair", None)
        assert line["control"]["metrics"] == {}
        assert set(line["metrics"]["recall@5"]) == {"image->text", "text->image"}
        queries = np.load(tmp_path / line["per_query"]["file"])
        sums = [queries[way].mean() for way in ("image->text", "text->image")]
        assert abs(sum(sums) - line["metrics"]["rsum"]["image<->text"]) < 1e-9
    assert ["codes" in line for line in lines] == [False, True]
    rows = summarise(lines, "rsum")
    assert [row.method for row in rows] == ["scan", "dual_encoder"]
    assert all(np.isnan(row.control) and 0 < row.chance["image<->text"] < 600 for row in rows)
    # the second time nothing is repeated
    assert [line["key"] for line in run_grid(runs(), captioned(), tmp_path)] == [line["key"] for line in lines]
