"""Likelihood of label agreement between codes, with balance between the similar and the many dissimilar."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

from amodal.errors import UsageError, nearest

__all__ = ["Balance", "pair_likelihood"]

Balance = Literal["half", "none"]


def pair_likelihood(
    theta: Tensor,
    similar: Tensor,
    weights: Tensor | None = None,
    *,
    balance: Balance = "half",
    squared: bool = False,
) -> Tensor:
    """Negative log-likelihood of label agreement, for anchors against weighted targets.

    With l(theta, s) = softplus(theta) - s theta, N = sum_u weights_u, and N+_i, N-_i the weight of the targets that are
    similar and dissimilar to anchor i:

        none:  mean_i  (1 / N) sum_u weights_u l(theta_iu, s_iu)
        half:  mean_i  1/(2 N+_i) sum_u weights_u s_iu softplus(-theta_iu)
                     + 1/(2 N-_i) sum_u weights_u (1 - s_iu) softplus(theta_iu)

    A side without members contributes 0. If targets are functions of the label alone, the distinct label vectors with
    their counts as ``weights`` give exactly the sum over all n items.

    Args:
        theta: Half the inner product of anchor and target code, shape (m, u), unbounded.
        similar: 1 where they share a label, else 0; shape (m, u), float. The loss is computed in its precision.
        weights: How many items each target stands for, shape (u,); 1 each by default.
        balance: "none" is the papers' sum divided by N. Where 2 % of pairs are similar, the rest drowns them; "half"
            gives both sides the same say.
        squared: The released code of SSAH and CICH: (s theta - softplus(theta))^2 in place of l.

    Returns:
        Scalar, in nats (nats squared if ``squared``); 0.693 for all-zero codes. Zero without anchors or targets.

    Raises:
        UsageError: If the balance is unknown.

    Paper: Jiang and Li, CVPR 2017; against prototypes: Luo et al., TKDE 2024 (there sums; here means).
    Deviations: softplus instead of log(1 + exp), which overflows; the balance is ours.

    Example:
        >>> import torch
        >>> round(float(pair_likelihood(torch.zeros(2, 3), torch.tensor([[1.0, 0, 0], [1, 1, 1]]))), 3)
        0.52
    """
    if balance not in get_args(Balance):
        raise UsageError(nearest(balance, get_args(Balance), what="balance"))
    if theta.numel() == 0:
        return theta.sum()
    # Sums of products, never matrix products: mixed precision would round counts such as 18,015 to eight bits.
    theta = theta.to(similar)
    w = torch.ones_like(similar[0]) if weights is None else weights.to(similar)
    loss = F.softplus((1 - 2 * similar) * theta)  # l(theta, s) without the difference of two large numbers
    if squared:
        loss = loss**2
    if balance == "none":
        return (w * loss).sum(dim=1).mean() / w.sum()
    positive = similar * w  # (m, u)
    negative = w - positive
    pulled, pushed = ((side * loss).sum(dim=1) / side.sum(dim=1).clamp_min(1e-9) for side in (positive, negative))
    return 0.5 * (pulled + pushed).mean()
