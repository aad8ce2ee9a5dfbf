"""Which items a setting reduces to which pattern: exact counts, weighted draws, nested settings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.mechanisms import pattern_scores
from amodal.data.settings import Setting, apportion
from amodal.errors import DataError

__all__ = ["assign"]


def assign(
    dataset: Dataset,
    rows: NDArray[np.int64],
    setting: Setting,
    seed: int,
    mechanism: str,
    strength: float,
    stratify: str | None,
) -> NDArray[np.int64]:
    """Choose the items that each partial pattern of a setting takes.

    Every item first draws its fate, the one pattern it would ever be reduced to; then, among the items of one fate,
    those with the largest score + Gumbel noise are reduced (which is sampling without replacement with weights
    exp(score), and gives exact counts). Fates do not depend on how many are reduced, so of two settings in the same
    proportions the milder one keeps all that the harsher one keeps.

    Args:
        dataset: The data.
        rows: Items that have everything, in an order that does not depend on how they are stored; shape (n,).
        setting: What to reduce them to.
        seed: Of the draw.
        mechanism: What makes some items likelier than others, see ``amodal.data.MECHANISMS``.
        strength: Factor of the mechanism's scores.
        stratify: "label" to give every class its share of every pattern, or None.

    Returns:
        Number of the partial pattern that each item is reduced to, -1 for those that stay complete; shape (n,).

    Raises:
        DataError: If labels are needed that the data do not have.
    """
    rng = np.random.default_rng([seed, 0x6D61736B])
    patterns = list(setting.partial)
    scores = strength * pattern_scores(dataset, rows, patterns, mechanism, rng)
    fate_noise, loss_noise = _noise(dataset, rows, stratify, rng)
    counts = setting.counts(len(rows))
    sizes = _at_least(apportion(len(rows), list(setting.partial.values())), counts)
    reduced = np.full(len(rows), -1, dtype=np.int64)
    free = np.arange(len(rows))
    for number, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        pull = fate_noise[free]
        # "observed" must not let the fate see content: the chance of a pattern would then depend on what it removes.
        if mechanism in ("class", "content") and number + 1 < len(patterns):
            pull = pull + scores[free, number] - scores[free, number + 1 :].mean(axis=1)
        order = np.argsort(-pull, kind="stable")
        fated, free = free[order[:size]], np.sort(free[order[size:]])
        losing = np.argsort(-(loss_noise[fated] + scores[fated, number]), kind="stable")[:count]
        reduced[fated[losing]] = number
    return reduced


def _noise(
    dataset: Dataset, rows: NDArray[np.int64], stratify: str | None, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Two independent Gumbel numbers per item, shape (2, n).

    Stratified, the uniform numbers behind them are points of a sequence that fills the unit square evenly (additive
    recurrence with the plastic number), walked class by class, so that every class gets its share of every pattern.
    """
    uniform = rng.random((2, len(rows)))
    if stratify == "label":
        if dataset.labels is None:
            raise DataError(f'stratify="label" needs labels, and the data ({dataset.name}) have none.')
        order = np.lexsort((uniform[0], dataset.labels.take(rows).distinct()[2]))
        steps = np.array([[0.7548776662466927], [0.5698402909980532]])
        uniform[:, order] = (rng.random((2, 1)) + steps * np.arange(len(rows))) % 1
    gumbel: NDArray[np.float64] = -np.log(-np.log(uniform.clip(1e-12, 1 - 1e-12)))
    return gumbel


def _at_least(sizes: list[int], counts: list[int]) -> list[int]:
    """Sizes of the fates, none below the number to be reduced: rounding can put one a single item short."""
    sizes = list(sizes)
    for number, count in enumerate(counts):
        while sizes[number] < count:
            sizes[max(range(len(sizes)), key=lambda other: sizes[other] - counts[other])] -= 1
            sizes[number] += 1
    return sizes
