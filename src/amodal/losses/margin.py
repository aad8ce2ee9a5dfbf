"""Distances that should vanish between similar items and reach a margin between others."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from amodal.errors import UsageError, nearest
from amodal.losses.likelihood import Balance

__all__ = ["margin_distance"]


def margin_distance(x: Tensor, y: Tensor, similar: Tensor, margin: float, *, balance: Balance = "half") -> Tensor:
    """Squared distance of similar pairs, squared shortfall of the others.

        d_ij = |x_i - y_j|
        none:  mean_ij [ s_ij d_ij^2 + (1 - s_ij) max(margin - d_ij, 0)^2 ]
        half:  1/2 mean of d^2 over similar pairs + 1/2 mean of max(margin - d, 0)^2 over dissimilar ones

    Args:
        x: Codes, shape (m, r).
        y: Codes, shape (n, r).
        similar: 1 where they share a label, else 0; shape (m, n), float.
        margin: Distance from which on dissimilar pairs cost nothing, >= 0.
        balance: "none" is the paper's mean. "half" gives both sides the same say; one without members contributes 0.

    Returns:
        Scalar, in squared units of distance; 0 without pairs.

    Raises:
        UsageError: If the balance is unknown.

    Paper: Tu et al., DCHMT, ACM MM 2022.
    Reference code: kalenforn/DCHMT (MIT; read, not used).
    Deviations: the balance is ours.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> float(margin_distance(x, x, torch.eye(2), margin=2.0, balance="none"))
        0.5
    """
    if balance not in get_args(Balance):
        raise UsageError(nearest(balance, get_args(Balance), what="balance"))
    # the fast path by a matrix product loses digits where points coincide; its gradient there is 0, not NaN
    distance = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").to(similar)
    pulled, pushed = similar * distance**2, (1 - similar) * (margin - distance).clamp_min(0) ** 2
    if balance == "none":
        return (pulled + pushed).sum() / max(distance.numel(), 1)
    return 0.5 * (pulled.sum() / similar.sum().clamp_min(1) + pushed.sum() / (1 - similar).sum().clamp_min(1))
