"""Factorisation: two views of the same rows should agree in every feature, and features say different things."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["factorisation"]


def factorisation(a: Tensor, b: Tensor, redundancy: float = 0.005) -> Tensor:
    """How far the correlation of two views is from the identity.

        C = A^T B / m,   A, B = columns of a, b minus their mean, over their deviation
        mean_i (C_ii - 1)^2 + redundancy mean_{i != j} C_ij^2

    Args:
        a: One view, shape (m, e).
        b: The other view of the same rows, shape (m, e).
        redundancy: Weight of correlation between different features. With m <= e it cannot vanish.

    Returns:
        Scalar; 0 for two equal views with uncorrelated features. Without three rows, from which a correlation could be
        told, 0.

    Paper: Lv et al., Causality Inspired Representation Learning, CVPR 2022; Zbontar et al., Barlow Twins, ICML 2021
    (there sums over i and over i != j).
    Reference code: BIT-DA/CIRL (no licence; read, not used).

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> round(float(factorisation(x, x)), 6), round(float(factorisation(x, -x)), 6)
        (0.0, 4.0)
    """
    if len(a) < 3:
        return 0 * (a.sum() + b.sum())
    c = _standard(a).T @ _standard(b) / len(a)  # (e, e)
    agreement = ((c.diagonal() - 1) ** 2).mean()
    apart = c[~torch.eye(len(c), dtype=torch.bool, device=c.device)]
    return agreement + redundancy * (apart**2).mean() if len(apart) else agreement


def _standard(x: Tensor) -> Tensor:
    centred = x - x.mean(dim=0)
    return centred / centred.pow(2).mean(dim=0).clamp_min(1e-12).sqrt()
