"""Pseudo-labels of unlabelled items by optimal transport, so that classes keep their shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amodal.errors import MissingExtra

__all__ = ["confident", "transport_plan"]

Array = NDArray[np.float64]


def transport_plan(cost: Array, shares: Array, *, epsilon: float = 0.05, steps: int = 1000) -> Array:
    """T* = argmin_T <T, cost> + epsilon sum T log T, with row sums 1/n and column sums ``shares``.

    Args:
        cost: Of giving each item each class, for instance 1 - cosine; shape (n, c).
        shares: Of the classes, summing to 1, shape (c,).
        epsilon: Weight of the entropy.
        steps: Rounds of Sinkhorn's iteration, in the log domain; it ends before once marginals are right to 1e-9.

    Returns:
        Shape (n, c), summing to 1.

    Raises:
        MissingExtra: If POT is not installed.

    Paper: Cuturi, NeurIPS 2013.
    """
    try:
        import ot
    except ImportError as error:
        raise MissingExtra("Optimal transport for pseudo-labels (POT)", "transport") from error
    plan: Array = ot.bregman.sinkhorn_log(
        np.full(len(cost), 1 / len(cost)), shares, cost, epsilon, numItermax=steps, stopThr=1e-9, warn=False
    )
    return plan


def confident(plan: Array, top: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the items whose largest share goes to a class, those of which it gets most.

    Args:
        plan: Shape (n, c).
        top: Share of the items of each class to take, rounded up.

    Returns:
        Items (k,), increasing, and their classes (k,).
    """
    best, mass = plan.argmax(axis=1), plan.max(axis=1)
    order = np.lexsort((-mass, best))
    counts = np.bincount(best, minlength=plan.shape[1])
    rank = np.arange(len(plan)) - np.repeat(np.cumsum(counts) - counts, counts)
    items = np.sort(order[rank < np.ceil(top * counts)[best[order]]])
    return items, best[items]
