"""Dividing items: a validation part of the training items, and train and test where the data have none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.settings import apportion, share_of
from amodal.errors import UsageError

__all__ = ["hold_out", "random_split"]


def hold_out(dataset: Dataset, share: float = 0.1, *, seed: int = 0, stratify: bool = True) -> tuple[Dataset, Dataset]:
    """Take some items out of the training items, for choosing hyperparameters and for early stopping.

    The same items are held out whatever the order in which they are stored.

    Args:
        dataset: Training items only.
        share: Share of the items to hold out; rounded, and between 1 item and all but one.
        seed: Of the choice.
        stratify: Give both parts the same mix of presence patterns and of classes, as near as whole items allow.

    Returns:
        The items to learn from, and those held out; both in the order of the data.

    Raises:
        UsageError: If the share is not between 0 and 1, or there are fewer than two items.
    """
    n = len(dataset)
    if not 0 < share < 1 or n < 2:
        raise UsageError(f"cannot hold out a share of {share:g} of {n} items; it takes two items and 0 < share < 1.")
    count = min(max(round(float(share_of(share, "share") * n)), 1), n - 1)
    rng = np.random.default_rng([seed, 0x686F6C64])
    order = _mixed(dataset, rng) if stratify else np.argsort(dataset.ids)[rng.permutation(n)]
    held = np.zeros(n, dtype=bool)
    # Every (n / count)-th item of the order, from a random start.
    held[order[np.floor((rng.random() + np.arange(count)) * n / count).astype(np.int64)]] = True
    return dataset.take(~held), dataset.take(held)


def random_split(dataset: Dataset, shares: Mapping[str, float] | None = None, *, seed: int = 0) -> Dataset:
    """Give data without a split one at random, with the classes in the same mix everywhere.

    Args:
        dataset: The data; a split they may have is replaced.
        shares: Share of each split; 80 % ``train`` and 20 % ``test`` by default. Must sum to 1.
        seed: Of the choice.

    Raises:
        UsageError: If the shares do not sum to 1.

    Example:
        >>> from amodal.data import toy
        >>> len(random_split(toy(50), {"train": 0.7, "test": 0.3}).part("test"))
        15
    """
    shares = {"train": 0.8, "test": 0.2} if shares is None else shares
    parts = [share_of(share, f'share of "{name}"') for name, share in shares.items()]
    if sum(parts) != 1:
        raise UsageError(f"the shares of the splits sum to {float(sum(parts)):g}; they must sum to 1.")
    counts = apportion(len(dataset), parts)
    # Each split's items at even distances along the mixed order: position k + 1/2 of its count, all sorted together.
    owner = np.repeat(np.arange(len(counts)), counts)
    position = np.concatenate([(np.arange(count) + 0.5) / max(count, 1) for count in counts])
    order = _mixed(dataset, np.random.default_rng([seed, 0x73706C74]))
    names = np.empty(len(dataset), dtype=object)
    names[order] = np.array(list(shares), dtype=object)[owner[np.argsort(position, kind="stable")]]
    return replace(dataset, split=names.astype(np.str_))


def _mixed(dataset: Dataset, rng: np.random.Generator) -> NDArray[np.int64]:
    """Items ordered by presence pattern, within it by labels, within those at random."""
    rows = np.argsort(dataset.ids)
    noise = rng.random(len(rows))
    pattern = dataset.presence()[rows] @ (1 << np.arange(len(dataset.names)))
    classes = np.zeros(len(rows)) if dataset.labels is None else dataset.labels.take(rows).distinct()[2]
    order: NDArray[np.int64] = rows[np.lexsort((noise, classes, pattern))]
    return order
