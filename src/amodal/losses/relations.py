"""Who counts as similar: label sharing, its propagation through class space, and its degrees."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["jaccard", "propagated", "share_label", "share_probability"]


def share_label(a: Tensor, b: Tensor) -> Tensor:
    """Which items share a label: S = 1[a b^T > 0].

    Args:
        a: Multi-hot labels, shape (m, c), float.
        b: Multi-hot labels, shape (n, c), float.

    Returns:
        1 where they do, float, shape (m, n).

    Example:
        >>> import torch
        >>> share_label(torch.eye(2), torch.tensor([[1.0, 1.0], [0.0, 0.0]])).tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """
    return (a @ b.T > 0).to(a.dtype)


def jaccard(a: Tensor, b: Tensor) -> Tensor:
    """Labels shared as a part of all labels of both: J = |a and b| / |a or b|.

    Args:
        a: Multi-hot labels, shape (m, c), float.
        b: Multi-hot labels, shape (n, c), float.

    Returns:
        Shape (m, n), in [0, 1]; 1 if and only if the labels are the same; 0 where neither has any.

    Example:
        >>> import torch
        >>> jaccard(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])).tolist()
        [[1.0, 0.5]]
    """
    shared = a @ b.T
    either = a.sum(dim=1)[:, None] + b.sum(dim=1) - shared
    return shared / either.clamp_min(1)


def propagated(a: Tensor, b: Tensor) -> Tensor:
    """Label sharing carried over chains a - b - a - b within a batch: A = 1[(S S^T) S > 0], by class space.

    With C_b = 1[b^T b > 0] and C_a = 1[a^T a > 0], A = 1[a C_b C_a b^T > 0]: two c x c matrices instead of products of
    m x n ones, and exactly equal to them.

    Args:
        a: Multi-hot labels of one side, shape (m, c), float.
        b: Multi-hot labels of the other side, shape (n, c), float.

    Returns:
        A, float, shape (m, n). For single-label data equal to ``share_label``.

    Paper: Luo et al., CICH, TKDE 2024, the propagated affinity of the contrastive module.
    Reference code: DarrenZZhang/CICH (no licence; read, not used).
    """
    together_a = (a.T @ a > 0).to(a.dtype)
    together_b = (b.T @ b > 0).to(a.dtype)
    return (a @ together_b @ together_a @ b.T > 0).to(a.dtype)


def share_probability(a: Tensor, b: Tensor, *, single: bool, terms: int = 7) -> Tensor:
    """Probability that two items share a label, from their class probabilities: the soft form of ``share_label``.

        single:   P_ij = <a_i, b_j>
        several:  P_ij = 1 - prod_k (1 - a_ik b_jk)

    Args:
        a: Class probabilities, shape (m, c).
        b: Class probabilities, or multi-hot labels, shape (n, c).
        single: Whether every item has exactly one class.
        terms: Terms of the series log(1 - x) = -sum_t x^t / t, which turns the product into matrix products. Seven
            leave P right to .01 up to .8 and bound it by .93, a certainty that nobody needs to the last digit.

    Returns:
        Shape (m, n), in [0, 1].

    Example:
        >>> import torch
        >>> share_probability(torch.tensor([[0.5, 0.5]]), torch.eye(2), single=True).tolist()
        [[0.5, 0.5]]
    """
    if single:
        return a @ b.T
    total = torch.stack([(a**t) @ (b**t).T / t for t in range(1, terms + 1)]).sum(dim=0)
    return 1 - torch.exp(-total)
