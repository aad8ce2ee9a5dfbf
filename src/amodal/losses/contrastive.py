"""Contrast: each anchor should find its positives, or its partner, among all columns."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

from amodal.errors import UsageError, nearest

__all__ = ["Kind", "kernel", "nt_xent", "supervised_contrastive"]

Kind = Literal["cosine", "sigmoid"]


def kernel(a: Tensor, b: Tensor, kind: Kind = "cosine") -> Tensor:
    """How alike two sets of codes are.

    cosine: <a, b> / (|a| |b|);  sigmoid: 1 / (1 + exp(-<a, b> / 2)).

    Args:
        a: Codes, shape (m, r).
        b: Codes, shape (n, r).
        kind: The sigmoid, CICH's own, saturates from 32 bits on: a confidently wrong pair (<a, b> / 2 = 16) has a
            slope of 1e-7, so that nothing pulls it back.

    Returns:
        Shape (m, n), in [-1, 1] or (0, 1).

    Raises:
        UsageError: If the kind is unknown.

    Paper: Luo et al., CICH, TKDE 2024 (sigmoid); the cosine is ours.

    Example:
        >>> import torch
        >>> kernel(torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 2.0], [1.0, -1.0]])).round(decimals=3).tolist()
        [[1.0, 0.0]]
    """
    if kind not in get_args(Kind):
        raise UsageError(nearest(kind, get_args(Kind), what="kernel"))
    if kind == "cosine":
        return F.normalize(a, dim=1, eps=1e-8) @ F.normalize(b, dim=1, eps=1e-8).T
    return torch.sigmoid(0.5 * a @ b.T)


def supervised_contrastive(
    logits: Tensor, positives: Tensor, columns: Tensor | None = None, anchors: Tensor | None = None
) -> Tensor:
    """Mean over anchors of the cross-entropy between their positives and a softmax over columns.

        L_i = -1 / sum_q positives_iq  sum_q positives_iq log softmax_q(logits_i.)

    Args:
        logits: Similarity divided by temperature, shape (m, n).
        positives: Weight of each column as a positive, >= 0, shape (m, n), float. The loss has its precision.
        columns: False where a column must not be seen by an anchor (itself), bool, shape (m, n).
        anchors: Weight of each anchor in the mean, >= 0, shape (m,); all alike by default.

    Returns:
        Scalar, in nats; log n for equal logits. Anchors without a positive are left out; zero if none has one.

    Paper: Khosla et al., NeurIPS 2020 (L_out); across modalities: Luo et al., CICH, TKDE 2024, who do not divide by
    the sum of positives.

    Example:
        >>> import torch
        >>> round(float(supervised_contrastive(torch.zeros(2, 4), torch.eye(2, 4))), 4)
        1.3863
    """
    logits = logits.to(positives)
    if columns is not None:
        logits = logits.masked_fill(~columns, float("-inf"))
        positives = positives * columns
    mass = positives.sum(dim=1)
    log_share = F.log_softmax(logits, dim=1)
    if columns is not None:
        log_share = log_share.masked_fill(~columns, 0.0)  # 0 * -inf would be NaN
    found = mass > 0
    loss = -(positives * log_share).sum(dim=1)[found] / mass[found]
    if not bool(found.any()):
        return logits.new_zeros(())
    if anchors is None:
        return loss.mean()
    return (anchors[found] * loss).sum() / anchors[found].sum().clamp_min(1e-8)


def nt_xent(a: Tensor, b: Tensor, tau: float) -> Tensor:
    """Contrast without labels: each of 2b views should find its partner among the 2b - 1 others.

        z = (a, b);  mean_i -log softmax_{j != i}(cos(z_i, z_j) / tau) at j = partner of i

    Args:
        a: One view of each item, shape (b, r).
        b: The other view, row by row, shape (b, r).
        tau: Temperature, > 0.

    Returns:
        Scalar, in nats; log(2b - 1) where all views are alike; 0 for one item, or none.

    Paper: Chen et al., SimCLR, ICML 2020.

    Example:
        >>> import torch
        >>> round(float(nt_xent(torch.ones(2, 4), torch.ones(2, 4), tau=0.3)), 4)
        1.0986
    """
    views = torch.cat([a, b])
    own = torch.eye(len(views), dtype=torch.bool, device=views.device)
    partner = own.roll(len(a), dims=1).to(torch.promote_types(views.dtype, torch.float32))
    return supervised_contrastive(kernel(views, views) / tau, partner, ~own)
