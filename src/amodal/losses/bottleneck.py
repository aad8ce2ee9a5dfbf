"""Terms of the variational bottleneck through which one modality predicts another."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

__all__ = ["gaussian_kl", "reconstruction"]


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
