"""Distances between two views of the same rows, or of the same classes, per feature."""

from __future__ import annotations

from torch import Tensor

__all__ = ["absolute_gap", "class_gaussians", "gaussian_gap", "squared_gap"]


def squared_gap(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference: mean_i (1/e) |a_i - b_i|^2, with a gradient in both.

    Args:
        a: Shape (m, e).
        b: Shape (m, e).

    Returns:
        Scalar; 0 without rows.

    Example:
        >>> import torch
        >>> float(squared_gap(torch.zeros(2, 3), 2 * torch.ones(2, 3)))
        4.0
    """
    return ((a - b) ** 2).mean() if len(a) else a.sum() + b.sum()


def absolute_gap(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference: mean_i (1/e) |a_i - b_i|_1, with a gradient in both.

    Args:
        a: Shape (m, e).
        b: Shape (m, e).

    Returns:
        Scalar; 0 without rows.

    Example:
        >>> import torch
        >>> float(absolute_gap(torch.zeros(2, 3), 2 * torch.ones(2, 3)))
        2.0
    """
    return (a - b).abs().mean() if len(a) else a.sum() + b.sum()


def gaussian_gap(mean_a: Tensor, deviation_a: Tensor, mean_b: Tensor, deviation_b: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of diagonal Gaussians, per dimension.

        mean_i (1/e) ( |mean_a_i - mean_b_i|^2 + |deviation_a_i - deviation_b_i|^2 )

    Args:
        mean_a: Shape (m, e).
        deviation_a: Standard deviations, at least 0, shape (m, e).
        mean_b: Shape (m, e).
        deviation_b: Likewise.

    Returns:
        Scalar; 0 if and only if the Gaussians are equal; 0 without rows.

    Paper: Dowson and Landau, Journal of Multivariate Analysis 12, 1982, for covariances that commute.

    Example:
        >>> import torch
        >>> one, two = torch.ones(1, 4), 2 * torch.ones(1, 4)
        >>> float(gaussian_gap(one, one, two, two)), float(gaussian_gap(one, two, one, two))
        (2.0, 0.0)
    """
    return squared_gap(mean_a, mean_b) + squared_gap(deviation_a, deviation_b)


def class_gaussians(mean: Tensor, variance: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One diagonal Gaussian for each class, with the moments of the mixture of its rows' Gaussians.

        mean_k = mean of mean_i,   deviation_k^2 = mean of (mean_i^2 + variance_i) - mean_k^2,   over rows i of class k

    Args:
        mean: Shape (m, e).
        variance: At least 0, shape (m, e).
        labels: Multi-hot, shape (m, c); a row of several classes counts in each.

    Returns:
        Rows of each class, shape (c,), means (c, e) and standard deviations (c, e); of a class without rows, 0 and
        almost 0.

    Example:
        >>> import torch
        >>> count, mean, deviation = class_gaussians(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1), torch.ones(2, 1))
        >>> count.tolist(), mean.tolist(), deviation.tolist()
        ([2.0], [[2.0]], [[1.0]])
    """
    count = labels.sum(dim=0)
    share = (labels / count.clamp_min(1)).T  # (c, m)
    centre = share @ mean
    spread = share @ (mean**2 + variance) - centre**2
    return count, centre, spread.clamp_min(1e-12).sqrt()
