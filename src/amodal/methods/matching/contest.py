"""What is learned from a batch of pairs: partners, and the rivals that come nearest to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from amodal.losses.matching import Reduction, reduced, rival_hinge, rivals
from amodal.methods.matching.blocks import Couples, Pair
from amodal.methods.matching.scorer import Scorer
from amodal.methods.matching.tiles import Held, tile_shape

__all__ = ["Contest", "Measure", "blocks", "glance", "rivalry"]

#: What is compared of the pairs of a block, shape (p, q): their score, or its effect.
Measure = Callable[[Pair], Tensor]

#: Pairs that are told apart at once by a loss which needs a gradient of all of them: they and 15 others.
BLOCK = 16


@dataclass(frozen=True)
class Contest:
    """How partners do among the pairs of a batch.

    Attributes:
        loss: Scalar.
        partners: What they score, shape (b,).
        others: What the rest scores on average, without gradient.
    """

    loss: Tensor
    partners: Tensor
    others: Tensor


@torch.no_grad()
def glance(scorer: Scorer, pair: Pair, measure: Measure) -> Tensor:
    """All pairs of a batch, without gradient, in tiles of items of like length; as in evaluation.

    Args:
        scorer: Whose measure it is; its statistics stay as they are.
        pair: The block.
        measure: What is asked; or several things at once, shape (..., p, q).

    Returns:
        Shape (..., b, b).
    """
    training = scorer.training
    scorer.eval()
    regions, words = Held(pair.regions), Held(pair.words)
    width = pair.regions.values.shape[-1]
    rows, columns = tile_shape(regions, words, scorer.footprint(regions.mean_count, words.mean_count, width))
    strips = []
    for below, lower in regions.tiles(rows):
        found = [(beside, measure(Pair(lower, upper))) for beside, upper in words.tiles(columns)]
        strips.append((below, _in_place(found, dim=-1)))
    scorer.train(training)
    return _in_place(strips, dim=-2)


def _in_place(pieces: list[tuple[Tensor, Tensor]], *, dim: int) -> Tensor:
    """Pieces side by side, in the order that their numbers give."""
    order = torch.cat([numbers for numbers, _ in pieces]).argsort()
    return torch.cat([values for _, values in pieces], dim=dim).index_select(dim, order)


def rivalry(
    pair: Pair,
    seen: Tensor,
    items: Tensor,
    measure: Measure,
    margin: float,
    *,
    rank: int = 0,
    reduction: Reduction,
    weights: Tensor | None = None,
) -> Contest:
    """The hinge with one rival each way, whose gradient is that of all pairs: nothing else takes part in it.

    Args:
        pair: Partners in the same rows.
        seen: What ``glance`` found, shape (b, b).
        items: The item of each row, shape (b,).
        measure: What is asked.
        margin: By how much a partner should score higher.
        rank: 0 for the hardest negatives, 1 for the second, and so on.
        reduction: "sum" or "mean" over the batch.
        weights: How much each pair teaches, shape (b,).
    """
    rows = torch.arange(len(seen), device=seen.device)
    beside, below, real = rivals(seen, items, rank)
    chosen = torch.cat([rows, rows, below]), torch.cat([rows, beside, rows])
    partners, *found = measure(Couples(pair.regions.take(chosen[0]), pair.words.take(chosen[1])))[0].chunk(3)
    loss = rival_hinge(partners, torch.stack(found), real, margin, reduction=reduction, weights=weights)
    return Contest(loss, partners, _others(seen))


def blocks(
    pair: Pair, items: Tensor, measure: Measure, loss: Callable[[Tensor, Tensor], Tensor], *, reduction: Reduction
) -> Contest:
    """Any loss that is a sum over pairs, of some of them at a time.

    Args:
        pair: Partners in the same rows.
        items: The item of each row, shape (b,).
        measure: What is asked.
        loss: From scores (c, c) and items (c,) to a sum over c pairs.
        reduction: "sum" or "mean" over the batch.
    """
    found = [(measure(some), items[rows]) for rows, some in _blocks(pair)]
    total = torch.stack([loss(*one) for one in found]).sum()
    partners = torch.cat([scores.diagonal() for scores, _ in found])
    others = torch.stack([_others(scores.detach()) for scores, _ in found]).mean()
    return Contest(reduced(total, len(partners), reduction), partners, others)


def _blocks(pair: Pair) -> Iterator[tuple[Tensor, Pair]]:
    rows = torch.arange(len(pair.regions), device=pair.regions.real.device)
    for some in rows.tensor_split(int(np.ceil(len(rows) / BLOCK))):
        yield some, Pair(pair.regions.take(some), pair.words.take(some))


def _others(scores: Tensor) -> Tensor:
    return (scores.sum() - scores.diagonal().sum()) / max(scores.numel() - len(scores), 1)
