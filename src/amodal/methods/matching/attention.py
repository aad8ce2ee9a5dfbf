"""Attention between the fragments of two items, and how well what is attended to agrees with who attends."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

from amodal.methods.matching.blocks import View

__all__ = ["agreement", "attend", "inverse_length"]


def attend(s: Tensor, real: Tensor, sharpness: Tensor | float) -> Tensor:
    """How much each asking fragment looks at each key.

        scaled_kn = lrelu(s_kn) / |lrelu(s_k.)|,  lrelu with slope .1, norm over the fragments of the asking item
        weights_kn = softmax_k(sharpness scaled_kn)

    Args:
        s: Cosines, shape (p, k, n, q), 0 at padding.
        real: Which keys are no padding, bool; broadcasts with ``s``.
        sharpness: lambda_1; negative for what would least be looked at.

    Returns:
        Weights, shape (p, k, n, q), 0 at keys that are padding; sum over k is 1.
    """
    raised = F.leaky_relu(s, 0.1)
    logits = raised * (sharpness * raised.square().sum(dim=2, keepdim=True).clamp_min(1e-16).rsqrt())
    if not bool(real.all()):
        logits = logits.masked_fill(~real, float("-inf"))
    return logits.softmax(dim=1)


def agreement(weights: Tensor, view: View) -> Tensor:
    """Cosine of each asking fragment w and what it attends to, a = sum_k weights_k v_k, without ever forming a.

        cos(w, a) = sum_k weights_k s_k / sqrt(weights^T gram weights),  since |w| = 1 and gram = V V^T

    Args:
        weights: Shape (p, k, n, q).
        view: Who attends to whom.

    Returns:
        Shape (p, n, q), in [-1, 1]; 0 at asking fragments that are padding.
    """
    return (weights * view.s).sum(dim=1) * inverse_length(weights, view)


def inverse_length(weights: Tensor, view: View) -> Tensor:
    """1 / |a| of what is attended to, a = sum_k weights_k v_k:  (weights^T gram weights)^(-1/2).

    Args:
        weights: Shape (p, k, n, q).
        view: Who attends to whom.

    Returns:
        Shape (p, n, q).
    """
    return (weights * view.spread(weights)).sum(dim=1).clamp_min(1e-12).rsqrt()
