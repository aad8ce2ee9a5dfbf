"""Proxies: a vector stands for each class, and pulls or pushes all samples of a batch, the hardest most."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

__all__ = ["proxy_anchor"]


def proxy_anchor(
    similarity: Tensor,
    positives: Tensor,
    *,
    scale: float = 32.0,
    margin: float = 0.1,
    weights: Tensor | None = None,
) -> Tensor:
    """Proxies as anchors: each pulls its samples and pushes all others.

        1/|C+| sum_{k in C+} log(1 + sum_{i: positives_ik} w_i exp(-scale (similarity_ik - margin)))
        + 1/c  sum_k         log(1 + sum_{i: not positives_ik} w_i exp(scale (similarity_ik + margin)))

    where C+ are the classes that have a sample in the batch. A sample with several classes belongs to each.

    Args:
        similarity: Cosine of samples and proxies, shape (m, c), in [-1, 1].
        positives: 1 where the sample is of the class, else 0, shape (m, c), float or bool.
        scale: Sharpness; the larger, the more the hardest sample of a proxy counts.
        margin: What is wanted beyond 0: a positive cosine above it, a negative one below minus it.
        weights: w > 0, shape (m,); ones by default.

    Returns:
        Scalar, in nats; 0 without samples. Rises as ``scale`` times the worst violation.

    Paper: Kim et al., Proxy Anchor Loss for Deep Metric Learning, CVPR 2020, eq. 4.
    Reference code: tjddus9597/Proxy-Anchor-CVPR2020 (MIT; read, not used).
    Deviations: log(1 + sum exp) through logsumexp; the released exponentials overflow in half precision.

    Example:
        >>> import torch
        >>> round(float(proxy_anchor(torch.zeros(2, 2), torch.eye(2), margin=0.0)), 3)
        1.386
    """
    if similarity.numel() == 0:
        return similarity.sum()
    positives = positives.bool()
    similarity = similarity.float() if similarity.dtype != torch.float64 else similarity
    extra = similarity.new_zeros(()) if weights is None else weights.to(similarity.dtype).log()[:, None]
    pull = _softplus_of_sum(extra - scale * (similarity - margin), positives)
    push = _softplus_of_sum(extra + scale * (similarity + margin), ~positives)
    return pull.sum() / positives.any(dim=0).sum().clamp_min(1) + push.mean()


def _softplus_of_sum(logits: Tensor, chosen: Tensor) -> Tensor:
    """log(1 + sum of exp(logits) over the chosen rows) of each column, shape (c,); 0 where none is chosen."""
    # the 1 as a row of its own: a column in which nothing is chosen then has a finite gradient
    rows = F.pad(logits.masked_fill(~chosen, float("-inf")), (0, 0, 1, 0))
    return torch.logsumexp(rows, dim=0)
