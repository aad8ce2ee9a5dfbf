"""Environments of training rows: given by who lacks what, or learned as those in which attention holds least."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Adam

from amodal.losses import label_nll, scaling_gradient
from amodal.methods.embedding.casr_networks import CASRNetwork

__all__ = ["FLOOR", "assigned", "floored", "patterns", "slopes"]

#: Least share of every row in every environment, so that none is left without rows.
FLOOR = 0.05


def patterns(presence: NDArray[np.bool_]) -> Tensor:
    """Environments by the pattern of what is there: paired, only a picture, only a text ...

    Args:
        presence: Shape (n, M).

    Returns:
        One-hot weights, shape (n, 2^M - 1).
    """
    number = presence @ (1 << np.arange(presence.shape[1])) - 1
    weights = torch.zeros(len(presence), 2 ** presence.shape[1] - 1)
    here = np.flatnonzero(number >= 0)
    weights[here, number[here]] = 1.0
    return weights


def floored(logits: Tensor) -> Tensor:
    """Weights of free logits: softmax over environments, with at least ``FLOOR`` in each; shape (m, K)."""
    return (1 - FLOOR * logits.shape[1]) * torch.softmax(logits, dim=1) + FLOOR


def slopes(network: CASRNetwork, seen: Tensor, modality: int, labels: Tensor, learns: Tensor) -> Tensor:
    """How the loss of each row would change with factors of its class scores, and of its attended features.

    Args:
        network: At rest.
        seen: What each environment and member sees of the rows, shape (Q, K, m, e).
        modality: Its position.
        labels: Multi-hot, shape (m, c).
        learns: Which member learns from each row, shape (m, K), float.

    Returns:
        Gradients at factors of 1, those of all members side by side, shape (Q, m, K (c + e)).
    """
    single = bool(network.single)
    attended = network.attention[modality](seen).detach().requires_grad_()
    with torch.enable_grad():
        scores = network.classes(attended @ network.head + network.head_offset)
        of_features = torch.autograd.grad(label_nll(scores, labels, single=single).sum(), attended)[0] * attended
    both = torch.cat([scaling_gradient(scores, labels, single=single), of_features], dim=3).detach()
    return (both * learns.T[:, :, None]).transpose(1, 2).flatten(2)


def assigned(slopes: list[tuple[Tensor, Tensor]], logits: Tensor, steps: int) -> Tensor:
    """Move rows to the environments in which attention holds least: maximise the squared gradients of the risks.

        max over E of  sum_m (1/K) sum_k |sum_i p_ik G_ik / sum_i p_ik|^2,   p = softmax(E) with a floor

    Args:
        slopes: For each modality, the rows (r,) it has among these and their gradients G, shape (K, r, c + e).
        logits: E to start from, shape (m, K).
        steps: Of Adam, at a rate of .5.

    Returns:
        p, shape (m, K).

    Paper: after Deng et al., DCML, ICML 2022, whose code returns after the first of five steps.
    """
    logits = logits.clone().requires_grad_()
    optimizer = Adam([logits], lr=0.5)
    with torch.enable_grad():
        for _ in range(steps):
            weights = floored(logits)
            gain = logits.new_zeros(())
            for rows, gradients in slopes:
                p = weights[rows] / weights[rows].sum(dim=0).clamp_min(1e-8)
                gain = gain + (torch.einsum("mk,kmg->kg", p, gradients) ** 2).sum(dim=1).mean()
            logits.grad = -torch.autograd.grad(gain, logits)[0]
            optimizer.step()
    return floored(logits.detach())
