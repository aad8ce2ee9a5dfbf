"""Features as methods take them: moments, one row per item, a Gaussian kernel on anchors, rows in blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from amodal.data import Observations

__all__ = ["CHOICES", "Kernel", "by_blocks", "chunk_size", "item_means", "moments"]

Array = NDArray[np.float64]

#: Rows are encoded in blocks of exactly this many, the last one padded: matrix products of another shape may sum in
#: another order, and a code must not depend on what is encoded beside it.
BLOCK = 16

#: Values that are looked at at once: 32 MiB.
_AT_ONCE = 2**23

#: How anchors are chosen: observed rows, or centres of k-means.
CHOICES = ("random", "kmeans")


def chunk_size(observations: Observations) -> int:
    """How many observations are read at once, so that memory stays bounded."""
    return max(_AT_ONCE // max(int(np.prod(observations.store.shape[1:])), 1), 1)


def by_blocks(function: Callable[[Array], Array], features: NDArray[np.floating]) -> Array:
    """Apply a function of rows in padded blocks of one size; a row's output is the same whatever stands beside it.

    Args:
        function: From shape (BLOCK, d) to (BLOCK, r), row by row.
        features: Shape (m, d); or (m, length, d), of which the function takes blocks alike.

    Returns:
        Outputs, float64, shape (m, r).
    """
    outputs = []
    for start in range(0, max(len(features), 1), BLOCK):
        rows = features[start : start + BLOCK]
        block = np.zeros((BLOCK, *features.shape[1:]))
        block[: len(rows)] = rows
        outputs.append(function(block)[: len(rows)])
    return np.concatenate(outputs)


def moments(
    observations: Observations, *, constant: float = 1.0, function: Callable[[Array], Array] | None = None
) -> tuple[Array, Array]:
    """Mean and standard deviation of each feature over the observed rows, in one pass in chunks.

    Args:
        observations: Features of one modality, shape (m, d).
        function: Applied to the features first.
        constant: What stands for the deviation of a constant feature; 1, so that dividing leaves it 0.

    Returns:
        Mean (d,) and population standard deviation (d,).
    """
    count, mean, squares = 0, np.zeros(observations.dim), np.zeros(observations.dim)
    for chunk in observations.chunks():
        x = chunk.astype(np.float64) if function is None else function(chunk.astype(np.float64))
        new = count + len(x)
        # Chan's update: differences of means instead of differences of large sums
        delta = x.mean(axis=0) - mean
        squares += ((x - x.mean(axis=0)) ** 2).sum(axis=0) + delta**2 * count * len(x) / new
        mean += delta * len(x) / new
        count = new
    deviation = np.sqrt(squares / max(count, 1))
    return mean, np.where(deviation > 1e-8, deviation, constant)


def item_means(observations: Observations) -> tuple[NDArray[np.int64], Array]:
    """One row per item: the mean of its observations.

    Args:
        observations: Features of one modality, shape (m, d).

    Returns:
        Items that have the modality, in rising order, shape (i,); their mean features, shape (i, d).
    """
    items, place, counts = np.unique(observations.item, return_inverse=True, return_counts=True)
    sums, start = np.zeros((len(items), observations.dim)), 0
    for chunk in observations.chunks():
        np.add.at(sums, place[start : start + len(chunk)], chunk)
        start += len(chunk)
    return items, sums / counts[:, None]


class Kernel:
    """Centred Gaussian kernel features on a few observed rows, the input of many shallow methods.

    k(x)_a = exp(-|x - a|^2 / (2 s)) minus its training mean, where s is the mean squared distance of observed rows to
    anchors, or a multiple of it. With ``anchors=0`` features are centred and nothing else.

    Attributes:
        anchors: Rows a, shape (a, d); empty for the linear form.
        scale: s.
        mean: What is subtracted, shape (a,) or (d,).
    """

    def __init__(self, anchors: Array, scale: float, mean: Array) -> None:
        self.anchors, self.scale, self.mean = anchors, scale, mean

    @classmethod
    def fit(
        cls, x: Array, anchors: int, random: np.random.Generator, *, choice: str = "random", width: float = 2.0
    ) -> Kernel:
        """Choose anchors by the rows of ``x`` and centre on these.

        Args:
            x: Observed training rows, shape (m, d).
            anchors: How many; 0 for the linear form.
            random: Source of the choice.
            choice: One of ``CHOICES``.
            width: 2 s over the mean squared distance.
        """
        if anchors == 0:
            return cls(np.zeros((0, x.shape[1])), 1.0, x.mean(axis=0))
        rows = x[random.choice(len(x), size=min(anchors, len(x)), replace=False)]
        if choice == "kmeans":
            rows, _ = kmeans2(x, rows, minit="matrix")
        scale = (
            width
            / 2
            * float(np.mean([_squared(block, rows).mean() for block in np.array_split(x, -(-len(x) // 4096))]))
        )
        kernel = cls(rows, max(scale, 1e-12), np.zeros(len(rows)))
        kernel.mean = kernel(x).mean(axis=0)
        return kernel

    def __call__(self, x: Array) -> Array:
        """Kernel features of rows, shape (m, a), or centred rows, shape (m, d)."""
        x = np.asarray(x, dtype=np.float64)
        values = np.exp(-_squared(x, self.anchors) / (2 * self.scale)) if len(self.anchors) else x
        centred: Array = values - self.mean
        return centred

    def state(self, prefix: str) -> dict[str, Array]:
        """The three parts as named arrays."""
        return {
            f"{prefix}.anchors": self.anchors,
            f"{prefix}.scale": np.array([self.scale]),
            f"{prefix}.mean": self.mean,
        }

    @classmethod
    def from_state(cls, state: dict[str, Array], prefix: str) -> Kernel:
        """The inverse of ``state``."""
        return cls(state[f"{prefix}.anchors"], float(state[f"{prefix}.scale"][0]), state[f"{prefix}.mean"])


def _squared(x: Array, y: Array) -> Array:
    distances: Array = np.maximum((x**2).sum(axis=1)[:, None] - 2 * x @ y.T + (y**2).sum(axis=1), 0)
    return distances
