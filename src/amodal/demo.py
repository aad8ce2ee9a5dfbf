"""The main job from end to end, on pictures and words of which most have lost their partner."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from amodal.data import Dataset, Mask
from amodal.data.demo import demo_corpus
from amodal.evaluation import Evaluation, arrange, evaluate, evaluate_control, get_protocol
from amodal.progress import Progress
from amodal.retriever import Retriever
from amodal.sheet import Search, write_sheet

__all__ = ["Demo", "run_demo"]

SHOWN = 6  #: searches shown in each direction
HELD_OUT = 'split == "test"'


@dataclass(frozen=True)
class Demo:
    """What the demonstration did.

    Attributes:
        items: Number of items.
        patterns: Number of training items by what they kept.
        found: Evaluation of the codes on held-out items.
        control: The same of the control.
        bits: Code length.
        page: The page with the searches.
        model: The saved retriever.
        searches: The searches shown.
    """

    items: int
    patterns: dict[str, int]
    found: Evaluation
    control: Evaluation
    bits: int
    page: Path
    model: Path
    searches: list[Search]


def run_demo(folder: Path, *, bits: int = 64, seed: int = 0, progress: Progress | None = None) -> Demo:
    """Build the emoji corpus, forget most partners, learn, index, search both ways, measure, and write a page.

    Of the training items 10 % keep picture and words, 45 % the picture only, 45 % the words only. A second run starts
    from rendered pictures and cached features.

    Args:
        folder: Where corpus, page and model go.
        bits: Code length.
        seed: Of the gaps and the learning.
        progress: Told about rendering, encoding and learning.

    Raises:
        MissingExtra: If the packages of the extra ``demo`` are not installed.
    """
    corpus = demo_corpus(folder / "corpus", progress=progress)
    mask = Mask.draw(corpus, "hard", seed=seed, split="train")
    gaps = mask.apply(corpus)
    shop = Retriever("cich", bits=bits, seed=seed).fit(gaps, progress=progress)
    model = shop.save(folder / "emoji.amodal", force=True)
    arrangement = arrange(shop.features(gaps, progress), get_protocol("heldout"), seed=seed, mask=mask)
    found = evaluate(shop.method, arrangement)
    searches = _searches(shop, corpus.part("test"))
    demo = Demo(
        len(corpus),
        _patterns(arrangement.train),
        found,
        evaluate_control(arrangement, seed=seed),
        bits,
        folder / "index.html",
        model,
        searches,
    )
    write_sheet(
        demo.page,
        "Emoji, found across pictures and words",
        searches,
        lead=f"{len(corpus):,} emoji. Of {len(arrangement.train):,} training items 10 % kept picture and words, 45 % "
        f"the picture alone, 45 % the words alone. {bits}-bit codes, learned by CICH; every query and every answer "
        "below was held out. Marked answers share the query's category.",
        figures=[("", "mAP", "control", "chance", "R@10, %", "R@10 chance, %"), *_figures(demo)],
        notes=[
            "mAP: tie-aware, over all held-out items; relevant is what shares a category. R@10: the query's own "
            "partner among the first ten. Control: label_regression, real-valued, on the same gaps. One seed.",
            "The encoders are small general networks, EfficientNet-Lite0 and all-MiniLM-L6-v2; this is no CLIP. "
            "Pictures: OpenMoji, CC BY-SA 4.0.",
        ],
    )
    shop.close()
    return demo


def _figures(demo: Demo) -> list[tuple[str, ...]]:
    rows = []
    for way in demo.found.counts:
        recall, floor = (demo.found.metrics[name][way] for name in ("recall@10", "chance.recall@10"))
        values = (demo.found.metrics["map"][way], demo.control.metrics["map"][way], demo.found.metrics["chance"][way])
        rows.append((way, *(f"{value:.3f}" for value in values), f"{recall:.1f}", f"{floor:.1f}"))
    return rows


def _patterns(train: Dataset) -> dict[str, int]:
    presence = train.presence()
    return {
        "both": int(presence.all(axis=1).sum()),
        **{
            f"{name} only": int((presence[:, k] & (presence.sum(axis=1) == 1)).sum())
            for k, name in enumerate(train.names)
        },
    }


def _searches(shop: Retriever, held_out: Dataset) -> list[Search]:
    """In each direction one search from each of some categories; by words first."""
    labels = held_out.labels
    assert labels is not None  # noqa: S101 - the corpus has categories
    category = labels.dense().argmax(axis=1)
    searches = []
    for turn, (asked, into) in enumerate(permutations(reversed(held_out.names))):
        order = np.random.default_rng(7 + turn).permutation(len(held_out))
        table = held_out[asked]
        for row in order[np.sort(np.unique(category[order], return_index=True)[1])][:SHOWN]:
            content = str(table.read(np.flatnonzero(table.item == row)[:1])[0])
            query: dict[str, Any] = {asked: content}
            matches = shop.search(k=8, into=into, where=HELD_OUT, **query)
            name = str(held_out.attributes["name"][row])
            searches.append(Search(asked, content, matches, (labels.names[category[row]],), name))
    return searches
