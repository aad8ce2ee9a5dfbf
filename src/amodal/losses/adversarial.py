"""Two players: a discriminator tells real features from fake ones, and an encoder makes its own pass for real."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

__all__ = [
    "discriminator_loss",
    "fooling_loss",
    "gradient_penalty",
    "least_squares_discriminator",
    "least_squares_fooling",
    "wasserstein_gap",
]


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Logistic loss of a discriminator: mean softplus(-real) + mean softplus(fake).

    Args:
        real: Logits of real rows, shape (m,).
        fake: Logits of fake rows, shape (n,).

    Returns:
        Scalar, in nats; 2 log 2 for a discriminator that does not know. A side without rows contributes 0.

    Paper: Goodfellow et al., NeurIPS 2014.

    Example:
        >>> import torch
        >>> round(float(discriminator_loss(torch.zeros(3), torch.zeros(2))), 3)
        1.386
    """
    return _mean(F.softplus(-real)) + _mean(F.softplus(fake))


def fooling_loss(fake: Tensor) -> Tensor:
    """Logistic loss of the encoder behind fake rows, which wants them to be taken for real: mean softplus(-fake).

    Args:
        fake: Logits, shape (n,), of a discriminator whose parameters get no gradient.

    Returns:
        Scalar, in nats; 0 without rows.

    Paper: Goodfellow et al., NeurIPS 2014, the form that does not saturate.

    Example:
        >>> import torch
        >>> round(float(fooling_loss(torch.zeros(3))), 3)
        0.693
    """
    return _mean(F.softplus(-fake))


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Squared loss of a discriminator: mean (real - 1)^2 + mean fake^2.

    Args:
        real: Scores of real rows, shape (m,).
        fake: Scores of fake rows, shape (n,).

    Returns:
        Scalar; 1/2 for a discriminator that does not know. A side without rows contributes 0.

    Paper: Mao et al., Least Squares Generative Adversarial Networks, ICCV 2017.

    Example:
        >>> import torch
        >>> float(least_squares_discriminator(0.5 * torch.ones(3), 0.5 * torch.ones(2)))
        0.5
    """
    return _mean((real - 1) ** 2) + _mean(fake**2)


def least_squares_fooling(fake: Tensor) -> Tensor:
    """Squared loss of the generator behind fake rows, which wants them to be taken for real: mean (fake - 1)^2.

    Args:
        fake: Scores, shape (n,), of a discriminator whose parameters get no gradient.

    Returns:
        Scalar; 0 without rows.

    Paper: Mao et al., Least Squares Generative Adversarial Networks, ICCV 2017.

    Example:
        >>> import torch
        >>> float(least_squares_fooling(torch.zeros(3)))
        1.0
    """
    return _mean((fake - 1) ** 2)


def wasserstein_gap(real: Tensor, fake: Tensor) -> Tensor:
    """Loss of a Wasserstein critic: mean fake - mean real.

    Args:
        real: Scores of real rows, shape (m,).
        fake: Scores of fake rows, shape (n,).

    Returns:
        Scalar; 0 without rows on a side, as no gap can be seen.

    Paper: Arjovsky et al., ICML 2017.

    Example:
        >>> import torch
        >>> float(wasserstein_gap(torch.ones(3), torch.zeros(2)))
        -1.0
    """
    if not len(real) or not len(fake):
        return 0 * (real.sum() + fake.sum())
    return fake.mean() - real.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """How far a critic's slope is from 1 between real and fake rows.

        mean_i (|grad critic(x_i)| - 1)^2,   x_i = share_i real_i + (1 - share_i) fake_i

    Args:
        critic: Scores of rows, (k, e) to (k,), each a function of its row.
        real: Shape (m, e); the first k rows take part, and no gradient flows back.
        fake: Shape (n, e), likewise.
        share: In [0, 1], shape (k, 1), k <= min(m, n).

    Returns:
        Scalar, with a gradient in the critic's parameters; 0 without rows.

    Paper: Gulrajani et al., NeurIPS 2017.

    Example:
        >>> import torch
        >>> rows = torch.eye(2)
        >>> float(gradient_penalty(lambda x: 3 * x[:, 0], rows, rows, torch.ones(2, 1)))
        4.0
    """
    k = len(share)
    between = (share * real[:k] + (1 - share) * fake[:k]).detach().requires_grad_()
    slope = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0]
    return _mean((torch.linalg.vector_norm(slope, dim=1) - 1) ** 2)


def _mean(x: Tensor) -> Tensor:
    return x.mean() if len(x) else x.sum()
