"""Triplets: an anchor should be nearer to what it is similar to than to what it is not, by a margin."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

from amodal.errors import UsageError, nearest

__all__ = ["graded_relevance", "hardest_triplet", "triplet_loss"]

Reduction = Literal["mean", "sum"]


def triplet_loss(distance: Tensor, positives: Tensor, margin: float, *, reduction: Reduction = "mean") -> Tensor:
    """Hinge over all triplets (anchor i, positive j, negative k), every column that is no positive being a negative.

        sum:   sum_ijk positives_ij [positives_ik = 0] max(0, distance_ij - distance_ik + margin)
        mean:  the same, divided by sum_ijk positives_ij [positives_ik = 0]

    All m x n x n triplets count, and none is held in memory: with the negatives of an anchor in order of distance, the
    first ones violate a bound, and their sum is read off the cumulative one.

    Args:
        distance: Of anchors to columns, shape (m, n).
        positives: Weight of each column as a positive, >= 0, shape (m, n), float. The loss has its precision.
        margin: By how much a positive should be nearer.
        reduction: "mean" or "sum".

    Returns:
        Scalar, in units of distance; 0, with gradient 0, where there is no triplet.

    Raises:
        UsageError: If the reduction is unknown.

    Paper: Gu et al., AGAH, ICMR 2019; weighted: Bai et al., DADH, ICMR 2020 (there sums).
    Reference code: WendellGul/AGAH, Zjut-MultimediaPlus/DADH (read, not used); both hold m x n x n triplets.

    Example:
        >>> import torch
        >>> round(float(triplet_loss(torch.tensor([[0.5, 0.7]]), torch.tensor([[1.0, 0.0]]), margin=0.3)), 3)
        0.1
    """
    if reduction not in get_args(Reduction):
        raise UsageError(nearest(reduction, get_args(Reduction), what="reduction"))
    if distance.numel() == 0:
        return distance.sum()
    distance = distance.to(positives)
    negative = positives == 0
    ordered = distance.masked_fill(~negative, float("inf")).sort(dim=1).values
    sums = F.pad(ordered.cumsum(dim=1), (1, 0))  # (m, n + 1): of the first 0, 1, ... negatives
    bound = (distance + margin).contiguous()
    violating = torch.searchsorted(ordered.detach(), bound.detach())  # (m, n): how many negatives are nearer
    hinge = violating * bound - sums.gather(1, violating)
    total = (positives * hinge).sum()
    if reduction == "sum":
        return total
    return total / (positives.sum(dim=1) * negative.sum(dim=1)).sum().clamp_min(1e-9)


def hardest_triplet(distance: Tensor, similar: Tensor, margin: float) -> Tensor:
    """Hinge of the farthest similar and the nearest dissimilar other row of a batch, mean over rows that have both.

        mean_i max(0, max_{j != i, similar_ij} distance_ij - min_{k: not similar_ik} distance_ik + margin)

    Args:
        distance: Of all rows to all rows, shape (m, m).
        similar: Whether two rows share a label, shape (m, m), bool or float.
        margin: By how much the similar one should be nearer.

    Returns:
        Scalar, in units of distance; 0, with gradient 0, where no row has both.

    Paper: Hermans et al., In Defense of the Triplet Loss, 2017, eq. 5.

    Example:
        >>> import torch
        >>> similar = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]])
        >>> round(float(hardest_triplet(torch.full((3, 3), 0.5), similar, margin=0.3)), 3)
        0.3
    """
    similar = similar.bool()
    others = similar & ~torch.eye(len(distance), dtype=torch.bool, device=distance.device)
    both = others.any(dim=1) & (~similar).any(dim=1)
    if not bool(both.any()):
        return 0 * distance.sum()
    farthest = distance.masked_fill(~others, float("-inf"))[both].amax(dim=1)
    nearest_other = distance.masked_fill(similar, float("inf"))[both].amin(dim=1)
    return (farthest - nearest_other + margin).clamp_min(0).mean()


def graded_relevance(a: Tensor, b: Tensor) -> Tensor:
    """How much each column counts as a positive, as NDCG counts it: gain over the ideal sum of discounted gains.

        positives_ij = (2^rel_ij - 1) / sum_p (2^rel_i(p) - 1) / log2(p + 1),   rel = a b^T, rel_i(1) >= rel_i(2) >= ...

    A dissimilar column has rel = 0, so that (2^rel_ij - 2^rel_ik) of the paper is the gain of j alone, and a weight of
    triplets is one of pairs.

    Args:
        a: Multi-hot labels of anchors, shape (m, c), float.
        b: Multi-hot labels of columns, shape (n, c), float.

    Returns:
        Weights, >= 0, shape (m, n); a row without similar columns is 0.

    Paper: Bai et al., DADH, ICMR 2020.
    Reference code: Zjut-MultimediaPlus/DADH (no licence; read, not used).

    Example:
        >>> import torch
        >>> graded_relevance(torch.ones(1, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0]])).tolist()
        [[1.0, 0.0]]
    """
    gain = 2 ** (a @ b.T) - 1
    places = torch.arange(gain.shape[1], device=gain.device, dtype=gain.dtype)
    ideal = (gain.sort(dim=1, descending=True).values / torch.log2(places + 2)).sum(dim=1, keepdim=True)
    return gain / ideal.clamp_min(1)  # below 1 only where nothing is similar, and 0 there
