"""How well scores of classes tell the labels."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

__all__ = ["label_nll"]


def label_nll(scores: Tensor, labels: Tensor, *, single: bool) -> Tensor:
    """Negative log-likelihood of labels, row by row.

        single:   -sum_k l_k log softmax_k(s)
        several:   sum_k softplus(s_k) - l_k s_k

    Args:
        scores: s, shape (..., c).
        labels: l, multi-hot, or probabilities, broadcastable to ``scores``.
        single: Whether every item has exactly one class; else classes are independent.

    Returns:
        In nats, shape of ``scores`` without its last axis.

    Example:
        >>> import torch
        >>> round(label_nll(torch.zeros(1, 4), torch.eye(4)[:1], single=True).item(), 4)
        1.3863
    """
    if single:
        return -(labels * F.log_softmax(scores, dim=-1)).sum(dim=-1)
    return F.binary_cross_entropy_with_logits(scores, labels.expand_as(scores), reduction="none").sum(dim=-1)
