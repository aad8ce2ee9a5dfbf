"""What should hold in every environment: the risk of each, and how far models and gradients of the environments differ.

An environment is a weighting p_k of the rows. A model whose loss wants nothing changed in any environment does not live
on what goes with the classes in some of them only.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["attention_spread", "compactness", "environment_mean", "invariance_penalty", "scaling_gradient"]


def environment_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Mean of the environments' weighted means: (1/K) sum_k sum_i p_ik L_ik / sum_i p_ik.

    Args:
        losses: L, by environment and row, shape (K, m).
        weights: p >= 0, shape (m, K).

    Returns:
        Scalar; an environment without weight contributes 0.

    Example:
        >>> import torch
        >>> float(environment_mean(torch.tensor([[1.0, 3.0], [5.0, 7.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])))
        4.5
    """
    return (_shares(weights) * losses).sum() / len(losses)


def scaling_gradient(scores: Tensor, labels: Tensor, *, single: bool) -> Tensor:
    """How the loss of each row changes with a factor w of the classes' scores, at w = 1.

        d/dw nll(w * s, l) = (q - l) * s,   q the class probabilities

    Args:
        scores: s, shape (..., m, c).
        labels: l, shape (m, c).
        single: Whether every item has exactly one class.

    Returns:
        Shape of ``scores``.
    """
    q = torch.softmax(scores, dim=-1) if single else torch.sigmoid(scores)
    return (q - labels) * scores


def invariance_penalty(scores: Tensor, labels: Tensor, weights: Tensor, *, single: bool) -> Tensor:
    """R_inv = (1/K) sum_k |d/dw [sum_i p_ik nll(w * s_ik, l_i) / sum_i p_ik] at w = 1|^2.

    0 where no rescaling of the classes' scores would lower the risk of any environment. The gradient in w has a closed
    form, see ``scaling_gradient``, so that no second backward pass is needed.

    Args:
        scores: s, by environment, shape (K, m, c).
        labels: l, multi-hot, shape (m, c).
        weights: p >= 0, shape (m, K).
        single: Whether every item has exactly one class.

    Returns:
        Scalar.

    Paper: Arjovsky et al., Invariant Risk Minimization, 2019, with a factor for each class, after Deng et al., DCML,
    ICML 2022.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[[2.0, 0.0]]])  # a larger factor would help
        >>> round(float(invariance_penalty(scores, torch.tensor([[1.0, 0.0]]), torch.ones(1, 1), single=True)), 4)
        0.0568
    """
    slopes = (_shares(weights)[:, :, None] * scaling_gradient(scores, labels, single=single)).sum(dim=1)
    return (slopes**2).sum(dim=1).mean()


def attention_spread(layers: Iterable[Tensor]) -> Tensor:
    """R_att = mean over layers and k of (|Theta_k - mean_k Theta|_F / |Theta_k|_1)^2.

    0 where the environments' attentions are the same, so that their mean is as good as each.

    Args:
        layers: Weights of each layer for all environments, shape (K, ...).

    Returns:
        Scalar.

    Paper: after Deng et al., DCML, ICML 2022.

    Example:
        >>> import torch
        >>> float(attention_spread([torch.tensor([[1.0], [3.0]])]))
        0.5555555820465088
    """
    terms = []
    for theta in layers:
        flat = theta.flatten(1)
        apart = ((flat - flat.mean(dim=0)) ** 2).sum(dim=1)
        terms.append((apart / flat.abs().sum(dim=1).clamp_min(1e-8) ** 2).mean())
    return torch.stack(terms).mean()


def compactness(features: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """R_cmp = (1/K) sum_k sum_i p_ik |f_ik - sg mean_{l_i} f_k|^2 / sum_i p_ik.

    Args:
        features: f, by environment, shape (K, m, e).
        labels: Multi-hot, shape (m, c); the mean is that of the row's class among these rows, or of its classes' means.
        weights: p >= 0, shape (m, K).

    Returns:
        Scalar; rows without a class contribute 0.
    """
    means = torch.einsum("mc,kme->kce", labels, features.detach()) / labels.sum(dim=0).clamp_min(1)[:, None]
    own = labels / labels.sum(dim=1, keepdim=True).clamp_min(1)
    apart = ((features - own @ means) ** 2).sum(dim=2) * labels.any(dim=1)
    return environment_mean(apart, weights)


def _shares(weights: Tensor) -> Tensor:
    """Weights of the rows in each environment, summing to 1, shape (K, m)."""
    shares: Tensor = (weights / weights.sum(dim=0).clamp_min(1e-8)).T
    return shares
