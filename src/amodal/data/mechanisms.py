"""Why a modality goes missing: scores that make some items likelier to lose one than others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.settings import Pattern
from amodal.errors import DataError, UsageError, nearest

__all__ = ["MECHANISMS", "content_scores", "pattern_scores"]

MECHANISMS = {
    "random": "completely at random (MCAR)",
    "class": "the rate varies by class, for each modality in its own way",
    "observed": "at random given what stays: depends on the content of the modalities that are kept (MAR)",
    "content": "not at random: depends on the very content that goes missing (MNAR)",
}
"""The mechanisms and what they mean."""


def pattern_scores(
    dataset: Dataset,
    rows: NDArray[np.int64],
    patterns: Sequence[Pattern],
    mechanism: str,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """How much each item is drawn to each pattern: mean 0, deviation about 1 over the items.

    Each modality of an item has a score z. A pattern's score is the sum of z over the modalities that are lost
    (``class``, ``content``) or kept (``observed``), divided by the square root of their number.

    Args:
        dataset: The data.
        rows: Items that may lose something, shape (n,).
        patterns: What they may be reduced to.
        mechanism: One of ``MECHANISMS``.
        rng: Draws the direction in feature space, or the effects of the classes.

    Returns:
        Shape (n, patterns). Zeros for ``random``.

    Raises:
        UsageError: If the mechanism is unknown, or needs features where the data hold raw content.
        DataError: If ``class`` is asked of data without labels.
    """
    if mechanism not in MECHANISMS:
        raise UsageError(nearest(mechanism, MECHANISMS, what="mechanism"))
    if mechanism == "random" or not patterns:
        return np.zeros((len(rows), len(patterns)))
    if mechanism == "class":
        scores = _class_scores(dataset, rows, rng)
    else:
        scores = np.stack([content_scores(dataset, name, rng)[rows] for name in dataset.names], axis=1)
    scores = _standardised(scores)
    kept = np.array([[name in pattern for name in dataset.names] for pattern in patterns])
    weights = (kept if mechanism == "observed" else ~kept).astype(np.float64)
    drawn: NDArray[np.float64] = scores @ (weights / np.sqrt(weights.sum(axis=1, keepdims=True))).T
    return drawn


def content_scores(dataset: Dataset, modality: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """One number per item that depends on the content of one modality: its features along a random direction.

    Several observations of an item are averaged. Features are read in chunks, so they may be larger than memory.

    Returns:
        Shape (items,); 0 for items without the modality.

    Raises:
        UsageError: If the modality holds raw content.
    """
    table = dataset[modality]
    if table.raw:
        raise UsageError(
            f'modality "{modality}" holds raw content, and this mechanism looks at features. Encode the data first, or '
            'use mechanism="random" or "class".'
        )
    direction = rng.standard_normal(table.dim)
    values = np.concatenate(
        [np.zeros(0), *(_per_row(chunk.astype(np.float64) @ direction) for chunk in table.chunks())]
    )
    totals = np.bincount(table.item, weights=values, minlength=len(dataset))
    counts = np.bincount(table.item, minlength=len(dataset))
    means: NDArray[np.float64] = totals / np.maximum(counts, 1)
    return means


def _class_scores(dataset: Dataset, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    if dataset.labels is None:
        raise DataError(f'mechanism "class" needs labels, and the data ({dataset.name}) have none.')
    labels = dataset.labels.take(rows)
    effects = rng.standard_normal((labels.classes, len(dataset.names)))
    means: NDArray[np.float64] = (labels.matrix @ effects) / np.maximum(labels.per_row, 1)[:, None]
    return means


def _per_row(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Averages over a sequence axis, if there is one: (m, length) -> (m,)."""
    flat: NDArray[np.float64] = values if values.ndim == 1 else values.mean(axis=1)
    return flat


def _standardised(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = scores.std(axis=0)
    standard: NDArray[np.float64] = (scores - scores.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return standard
