"""Terms of bottlenecks: divergences that leave no room for what need not be told, and prediction through them."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

__all__ = ["bernoulli_kl", "gaussian_kl", "reconstruction"]


def bernoulli_kl(a: Tensor, b: Tensor) -> Tensor:
    """Divergence of independent bits from other bits, both by their logits.

        mean_i sum_k  p_ik log(p_ik / q_ik) + (1 - p_ik) log((1 - p_ik) / (1 - q_ik)),   p = sigmoid(a), q = sigmoid(b)

    Args:
        a: Logits of the bits, shape (m, r).
        b: Logits of the others, shape (m, r).

    Returns:
        Scalar, in nats per row; 0 if and only if all bits are as probable; 0 without rows.

    Paper: Qiu et al., CIBHash, IJCAI 2021.
    Deviations: logarithms of the logistic function; the released code takes log(p + 1e-8).

    Example:
        >>> import torch
        >>> float(bernoulli_kl(torch.ones(3, 4), torch.ones(3, 4)))
        0.0
    """
    if len(a) == 0:
        return a.sum() + b.sum()
    on = torch.sigmoid(a) * (F.logsigmoid(a) - F.logsigmoid(b))
    off = torch.sigmoid(-a) * (F.logsigmoid(-a) - F.logsigmoid(-b))
    return (on + off).sum(dim=1).mean()


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Divergence of diagonal Gaussians from the standard normal, per latent dimension.

        mean_i (1/e) 1/2 sum_k (mean_ik^2 + exp(log_variance_ik) - 1 - log_variance_ik)

    Args:
        mean: Shape (m, e).
        log_variance: Shape (m, e).

    Returns:
        Scalar, in nats per dimension; 0 at mean 0 and log_variance 0; 0 without rows.

    Paper: Kingma and Welling, ICLR 2014, appendix B (there the sum over dimensions).

    Example:
        >>> import torch
        >>> float(gaussian_kl(torch.ones(3, 4), torch.zeros(3, 4)))
        0.5
    """
    if len(mean) == 0:
        return mean.sum()
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()


def reconstruction(predicted: Tensor, target: Tensor, *, released: bool = False) -> Tensor:
    """How far a predicted latent feature is from the true one, whose gradient is stopped.

        mean_i (1/e) |predicted_i - target_i|^2 / 2

    Without the stopped gradient both latents shrink to 0, where reconstruction is perfect.

    Args:
        predicted: Shape (m, e).
        target: Shape (m, e).
        released: Binary cross-entropy of sigmoid targets instead, as CICH's released code has it.

    Returns:
        Scalar; 0 without rows.

    Paper: Luo et al., CICH, TKDE 2024, the cross-modal prediction of its CCA module.
    Reference code: DarrenZZhang/CICH (no licence; read, not used).

    Example:
        >>> import torch
        >>> float(reconstruction(torch.zeros(1, 4), torch.ones(1, 4)))
        0.5
    """
    if len(predicted) == 0:
        return predicted.sum()
    target = target.detach()
    if released:
        return F.binary_cross_entropy_with_logits(predicted, torch.sigmoid(target))
    return 0.5 * ((predicted - target) ** 2).mean()
