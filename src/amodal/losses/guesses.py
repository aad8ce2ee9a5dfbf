"""Similarity guessed from distances of features, where nobody gives labels: signs, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["HalfGaussians", "guessed_similarity", "weighted_agreement"]

FLOOR = 1e-3  # of a deviation: a histogram with all its mass on one side of the mode leaves nothing to the other


@dataclass(frozen=True)
class HalfGaussians:
    """Two normal distributions fitted to the halves of a histogram of distances, each mirrored at the mode.

    Attributes:
        mode: Middle of the fullest bin, the mean of both.
        left: Standard deviation of the distances up to the mode.
        right: Standard deviation of those beyond.
    """

    mode: float
    left: float
    right: float

    @classmethod
    def fit(cls, distances: NDArray[np.floating], bins: int = 100) -> Self:
        """Fit to a sample.

        Args:
            distances: Shape (m,), at least one.
            bins: Of the histogram.

        Paper: Yang et al., IJCAI 2018 (SSDH); Luo et al., IJCAI 2021 (CIMON).
        """
        counts, edges = np.histogram(distances, bins)
        fullest = int(counts.argmax())
        mode = float(edges[fullest] + edges[fullest + 1]) / 2
        left, right = (
            max(float(np.sqrt(((half - mode) ** 2).mean())), FLOOR) if len(half) else FLOOR
            for half in (distances[distances <= mode], distances[distances > mode])
        )
        return cls(mode, left, right)

    @property
    def crossing(self) -> float:
        """Where the two densities are equal, below the mode.

        mode - left right sqrt(2 ln(right / left) / (right^2 - left^2)); for equal deviations its limit, mode - left.
        """
        ratio = (self.right / self.left) ** 2
        return self.mode - self.right * float(np.sqrt(np.log(ratio) / (ratio - 1) if abs(ratio - 1) > 1e-6 else 1.0))


def guessed_similarity(
    distance: Tensor, same: Tensor, halves: HalfGaussians, threshold: float
) -> tuple[Tensor, Tensor]:
    """Who seems alike, and how sure that is.

        S = +1 if D <= t else -1
        W = 1 - F_l(D) / F_l(t)  for D <= t;   1 - G_r(D) / G_r(t)  for D > t;   0 where a clustering disagrees with S

    F is the normal distribution function and G = 1 - F, so that W is 0 at t and nears 1 far from it.

    Args:
        distance: D, shape (m, n).
        same: Whether two items are in one cluster, bool, shape (m, n).
        halves: Gaussians of the distances.
        threshold: t.

    Returns:
        S in {-1, 1} and W in [0, 1], shape (m, n).

    Paper: Luo et al., CIMON, IJCAI 2021.
    Reference code: luoxiao12/CIMON (no licence; read, not used).

    Example:
        >>> import torch
        >>> S, W = guessed_similarity(
        ...     torch.tensor([[0.5, 0.7, 1.2]]), torch.tensor([[True, True, False]]), HalfGaussians(1.0, 0.2, 0.1), 0.7
        ... )
        >>> S.int().tolist(), (100 * W).round().int().tolist()
        ([[1, 1, -1]], [[91, 0, 98]])
    """
    close = distance <= threshold
    # in logarithms: far from the mode both F(D) and F(t) are too small for a float
    tails, at_threshold = (
        torch.special.log_ndtr(torch.where(close, (d - halves.mode) / halves.left, (halves.mode - d) / halves.right))
        for d in (distance, distance.new_tensor(threshold))
    )
    sure: Tensor = 1 - torch.exp((tails - at_threshold).clamp(max=0))
    return torch.where(close, 1.0, -1.0).to(distance), sure * (same == close)


def weighted_agreement(products: Tensor, similar: Tensor, weights: Tensor) -> Tensor:
    """How far inner products of codes are from signs of similarity: mean_ij W_ij (H_ij - S_ij)^2.

    Args:
        products: H, inner products of codes divided by their length, shape (m, n).
        similar: S in {-1, 1}, shape (m, n).
        weights: W in [0, 1], shape (m, n).

    Returns:
        Scalar; 0 without rows or columns.

    Paper: Luo et al., CIMON, IJCAI 2021.

    Example:
        >>> import torch
        >>> float(weighted_agreement(torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0, 0.5]])))
        0.75
    """
    if products.numel() == 0:
        return products.sum()
    return (weights * (products.to(weights) - similar) ** 2).mean()
