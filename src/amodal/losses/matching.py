"""Losses on the scores of all pairs of a batch: the partner should score higher than anything else."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

from amodal.errors import UsageError, nearest
from amodal.losses.contrastive import supervised_contrastive

__all__ = [
    "Negatives",
    "Reduction",
    "bearable",
    "matching_hinge",
    "pair_contrast",
    "preference",
    "reduced",
    "rival_hinge",
    "rivals",
]

Negatives = Literal["hardest", "mean"]
Reduction = Literal["sum", "mean"]


def matching_hinge(
    scores: Tensor,
    items: Tensor,
    margin: float,
    *,
    negatives: Negatives = "hardest",
    reduction: Reduction = "sum",
) -> Tensor:
    """Hinge between the score of a pair and those of the pairs it is mixed with, in both directions.

        hardest:  sum_p max_q [margin + scores_pq - scores_pp]_+  +  max_q [margin + scores_qp - scores_pp]_+
        mean:     the mean over q in place of the maximum

    q runs over the pairs of other items: another caption of the same picture is no negative.

    Args:
        scores: Row p of one modality against row q of the other, shape (b, b); partners on the diagonal.
        items: The item that each row belongs to, integers, shape (b,).
        margin: By how much a partner should score higher.
        negatives: The hardest one teaches most; their mean does not collapse while nothing is learned yet.
        reduction: "sum" over the batch, or "mean", which divides by b.

    Returns:
        Scalar, in units of score; 0, with gradient 0, where there is no negative.

    Raises:
        UsageError: If ``negatives`` or ``reduction`` is unknown.

    Paper: Faghri et al., VSE++, BMVC 2018; Lee et al., SCAN, ECCV 2018, eq. 10.
    Reference code: kuanghuei/SCAN (Apache-2.0; read, not used), which does not mask captions of one picture.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.9, 0.1], [0.0, 0.0, 0.5]])
        >>> round(float(matching_hinge(scores, torch.arange(3), margin=0.2)), 3)
        0.2
    """
    if negatives not in get_args(Negatives):
        raise UsageError(nearest(negatives, get_args(Negatives), what="choice of negatives"))
    if scores.numel() == 0:
        return scores.sum()
    negative = items[:, None] != items[None, :]
    partner = scores.diagonal()
    total = scores.new_zeros(())
    for anchors, rival in ((scores, negative), (scores.T, negative.T)):
        hinge = (margin + anchors - partner[:, None]).clamp_min(0) * rival
        per_anchor = hinge.amax(dim=1) if negatives == "hardest" else hinge.sum(dim=1) / rival.sum(dim=1).clamp_min(1)
        total = total + per_anchor.sum()
    return reduced(total, len(scores), reduction)


def rivals(scores: Tensor, items: Tensor, rank: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The hardest negative of each pair among the pairs of other items, in its row and in its column; or the next ones.

    Args:
        scores: Row p of one modality against row q of the other, shape (b, b); partners on the diagonal.
        items: The item that each row belongs to, integers, shape (b,).
        rank: 0 for the highest score, 1 for the second, and so on; < b.

    Returns:
        For each pair the column q of the wanted scores_pq, the row q of the wanted scores_qp, and whether there is
        one; shape (b,) each.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.9, 0.1], [0.0, 0.0, 0.5]])
        >>> [found.tolist() for found in rivals(scores, torch.arange(3))[:2]]
        [[1, 0, 0], [1, 0, 0]]
        >>> [found.tolist() for found in rivals(scores, torch.arange(3), rank=1)[:2]]
        [[2, 2, 1], [2, 2, 1]]
    """
    negative = items[:, None] != items[None, :]
    others = scores.detach().masked_fill(~negative, float("-inf"))
    beside, below = (others.topk(rank + 1, dim=dim).indices.select(dim, rank) for dim in (1, 0))
    return beside, below, negative.sum(dim=1) > rank


def bearable(scores: Tensor, items: Tensor, margin: float, share: float = 0.9) -> int:
    """The lowest rank whose rivals cost at most a share of what scores that are all alike would.

        min k:  mean_p [margin + r_pk - scores_pp]_+ + [margin + c_pk - scores_pp]_+  <=  share 2 margin

    r_pk and c_pk are the k-th highest negatives of a row and of a column. Where rivals cost more, the quickest way
    down is to make scores alike, from where no way leads on. The last rank that all pairs have if none is bearable.

    Args:
        scores: Shape (b, b); partners on the diagonal.
        items: The item that each row belongs to, integers, shape (b,).
        margin: By how much a partner should score higher.
        share: Of the cost of scores that are all alike.

    Example:
        >>> import torch
        >>> bearable(torch.tensor([[0.3, 0.1, 0.9], [0.9, 0.3, 0.1], [0.1, 0.9, 0.3]]), torch.arange(3), margin=0.2)
        1
    """
    negative, partner = items[:, None] != items[None, :], scores.detach().diagonal()
    others = scores.detach().masked_fill(~negative, float("-inf"))
    fewest = max(int(negative.sum(dim=1).min()), 1)
    ranked = torch.stack([some.topk(fewest, dim=1).values for some in (others, others.T)])
    cost = (margin + ranked - partner[:, None]).clamp_min(0).sum(dim=0).mean(dim=0)
    borne = (cost <= share * 2 * margin).nonzero()
    return int(borne[0]) if len(borne) else fewest - 1


def rival_hinge(
    partners: Tensor,
    found: Tensor,
    real: Tensor,
    margin: float,
    *,
    reduction: Reduction = "sum",
    weights: Tensor | None = None,
) -> Tensor:
    """Hinge between the score of each pair and those of the rivals that were found for it.

        sum_p w_p sum_r [margin + found_rp - partners_p]_+

    With those of ``rivals`` and weights of 1 it is ``matching_hinge``, and so is its gradient.

    Args:
        partners: Scores of the pairs, shape (b,).
        found: Scores of the rivals of each, shape (r, b).
        real: Which pairs have rivals, bool, shape (b,).
        margin: By how much a partner should score higher.
        reduction: "sum" over the batch, or "mean", which divides by b.
        weights: w, how much each pair teaches, shape (b,); 1 by default.

    Returns:
        Scalar, in units of score.

    Example:
        >>> import torch
        >>> round(float(rival_hinge(torch.tensor([0.9]), torch.tensor([[0.8], [0.2]]), torch.ones(1) > 0, 0.2)), 3)
        0.1
    """
    cost = (margin + found - partners).clamp_min(0) * real
    return reduced((cost if weights is None else cost * weights).sum(), len(partners), reduction)


def reduced(total: Tensor, count: int, reduction: Reduction) -> Tensor:
    """A sum over pairs as it is, or divided by their number.

    Args:
        total: The sum.
        count: How many pairs.
        reduction: "sum" or "mean".

    Raises:
        UsageError: If ``reduction`` is unknown.
    """
    if reduction not in get_args(Reduction):
        raise UsageError(nearest(reduction, get_args(Reduction), what="reduction"))
    return total / count if reduction == "mean" else total


def pair_contrast(scores: Tensor, items: Tensor, tau: float) -> Tensor:
    """Cross-entropy of the partner among all columns and among all rows, mean of the two.

        -1/2 mean_p [ log softmax_q(scores_pq / tau)_p + log softmax_q(scores_qp / tau)_p ]

    Args:
        scores: Shape (b, b); partners on the diagonal.
        items: The item that each row belongs to, shape (b,); other pairs of the same item are left out.
        tau: Temperature, > 0.

    Returns:
        Scalar, in nats; log b where all scores are equal.

    Paper: van den Oord et al., InfoNCE, 2018; in both directions: Radford et al., CLIP, ICML 2021.

    Example:
        >>> import torch
        >>> round(float(pair_contrast(torch.zeros(4, 4), torch.arange(4), tau=0.1)), 4)
        1.3863
    """
    partner = torch.eye(len(scores), device=scores.device)
    seen = (items[:, None] != items[None, :]) | partner.bool()
    logits = scores / tau
    return 0.5 * (supervised_contrastive(logits, partner, seen) + supervised_contrastive(logits.T, partner, seen.T))


def preference(scores: Tensor, counterfactual: Tensor, tau: float) -> Tensor:
    """The true attention should be preferred to another one, on pairs that belong together.

        mean_p softplus(-(scores_p - counterfactual_p) / tau)

    Args:
        scores: Of partners, shape (b,).
        counterfactual: Of the same pairs under another attention, shape (b,).
        tau: Temperature, > 0.

    Returns:
        Scalar, in nats; log 2 where both are equal.

    Paper: a reading of the abstract of Chen and Wang, CausMatch, IEEE Access 2025; no reference implementation.

    Example:
        >>> import torch
        >>> round(float(preference(torch.ones(3), torch.ones(3), tau=0.1)), 4)
        0.6931
    """
    return F.softplus(-(scores - counterfactual) / tau).mean()
