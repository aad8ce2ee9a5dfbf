"""From a data set to batches: sets of observations, not of complete pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amodal.data import Dataset

__all__ = ["Batch", "Batches"]


@dataclass
class Batch:
    """Some items with what was observed of them; b items, b_m of them with modality m.

    Attributes:
        x: Features by modality, observed ones only, shape (b_m, d_m).
        rows: Position in the batch of each of these observations, shape (b_m,), increasing.
        labels: Multi-hot labels, shape (b, c); zeros where unknown.
        known: Whether a label is known and not empty, shape (b,).
        index: Row of each item in the training data, shape (b,).
    """

    x: dict[str, Tensor]
    rows: dict[str, Tensor]
    labels: Tensor
    known: Tensor
    index: Tensor

    def pairs(self, a: str, b: str) -> tuple[Tensor, Tensor]:
        """Which observations of two modalities belong to one item.

        Args:
            a: One modality.
            b: The other.

        Returns:
            Positions in ``x[a]``, and of their partners in ``x[b]``.
        """
        where_b = torch.full((len(self.index),), -1, dtype=torch.long, device=self.index.device)
        where_b[self.rows[b]] = torch.arange(len(self.rows[b]), device=self.index.device)
        partner = where_b[self.rows[a]]
        chosen = (partner >= 0).nonzero().squeeze(1)
        return chosen, partner[chosen]

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(
            {name: value.to(device) for name, value in self.x.items()},
            {name: value.to(device) for name, value in self.rows.items()},
            self.labels.to(device),
            self.known.to(device),
            self.index.to(device),
        )


class Batches:
    """The batches of an epoch, as a pure function of (data, size, seed, epoch).

    Items are shuffled. Of several observations of one item and modality (captions of a picture), each epoch draws one.

    Args:
        data: The training items.
        size: Items in a batch; the last one may be smaller.
        seed: Seed of the order.
        rank: Number of this process, which takes every ``world``-th batch.
        world: Number of processes.
        front: For modalities that hold raw content, what turns some of it into features (b_m, d_m), on the device of
            training and with gradients.
    """

    def __init__(
        self,
        data: Dataset,
        size: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
        front: Mapping[str, Callable[[list[Any]], Tensor]] | None = None,
    ) -> None:
        self.data, self.size, self.seed, self.rank, self.world = data, size, seed, rank, world
        self.front = front or {}
        n = len(data)
        self.counts = {name: np.bincount(data[name].item, minlength=n) for name in data.names}
        self.order = {name: np.argsort(data[name].item, kind="stable") for name in data.names}
        self.first = {name: np.cumsum(counts) - counts for name, counts in self.counts.items()}
        # every process takes the same number of batches, so that none waits for a gradient that never comes
        self.per_epoch = -(-n // size) // world if -(-n // size) >= world else 1

    def __len__(self) -> int:
        return self.per_epoch

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, numbered from 0."""
        random = np.random.default_rng((self.seed, epoch))
        permutation = random.permutation(len(self.data))
        draws = random.random((len(self.data), len(self.data.names)))
        for step in range(self.per_epoch):
            start = (step * self.world + self.rank) * self.size % len(self.data)
            index = permutation[start : start + self.size]
            yield self.gather(index, draws[index])

    def gather(self, index: NDArray[np.int64], draws: NDArray[np.float64] | None = None) -> Batch:
        """The batch of chosen items.

        Args:
            index: Rows of the items.
            draws: Numbers in [0, 1) that pick one of several observations, shape (b, M); the first is taken by default.
        """
        picks = np.zeros((len(index), len(self.data.names))) if draws is None else draws
        x, rows = {}, {}
        for name, pick in zip(self.data.names, picks.T, strict=True):
            counts = self.counts[name][index]
            here = np.flatnonzero(counts)
            chosen = self.first[name][index[here]] + (pick[here] * counts[here]).astype(np.int64)
            content = self.data[name].stored(self.order[name][chosen])
            # torch widens half precision several times as fast as numpy
            x[name] = self.front[name](content.tolist()) if name in self.front else torch.from_numpy(content).float()
            rows[name] = torch.from_numpy(here)
        labels = self.data.labels
        dense = np.zeros((len(index), 0), np.float32) if labels is None else labels.dense(index)
        known = np.zeros(len(index), bool) if labels is None else labels.known[index] & (dense.sum(axis=1) > 0)
        return Batch(x, rows, torch.from_numpy(dense), torch.from_numpy(known), torch.from_numpy(index))
