"""How well partners find each other: what methods that learn from pairs alone are selected by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from amodal.data import Dataset
from amodal.errors import MethodError
from amodal.metrics import Measurement, Relevance, pair, rsum

__all__ = ["Ranking", "mean_rsum"]

#: Measures by name of one modality that asks another, under a rule of what is relevant.
Ranking = Callable[[Relevance, Sequence[str]], Measurement]


def mean_rsum(
    items: Dataset, modalities: Sequence[str], rankings: Callable[[Dataset, str, str], tuple[Ranking, Ranking]]
) -> float:
    """The rSum of pairs, at most 600: R@1, R@5, R@10 both ways in percent; mean over each two modalities.

    Args:
        items: Held-out items; of each two modalities those are looked at that have both.
        modalities: What the model learned.
        rankings: Of items that have both of two modalities: how the first asks the second, and the second the first.

    Raises:
        MethodError: If no item has a pair.
    """
    found = []
    for a, b in combinations([name for name in modalities if name in items.names], 2):
        both = items.take(items.present(a) & items.present(b))
        if not len(both):
            continue
        owners, hits = (both[a].item, both[b].item), []
        for measured, (asking, answering) in zip(rankings(both, a, b), (owners, owners[::-1]), strict=True):
            names = [f"hit@{min(k, len(answering))}" for k in (1, 5, 10)]
            measurement = measured(pair(asking, answering), list(dict.fromkeys(names)))
            hits += [measurement.value(name) for name in names]
        found.append(rsum(hits))
    if not found:
        raise MethodError("no validation item has two modalities: rSum is measured on pairs.")
    return float(np.mean(found))
