"""SCAN: each word looks for its regions, or each region for its words, and the score is how well they find them."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from amodal.errors import UsageError, nearest
from amodal.losses.matching import Reduction
from amodal.methods.card import Card
from amodal.methods.matching.attention import agreement
from amodal.methods.matching.base import Matcher, Rivals, Start
from amodal.methods.matching.blocks import Direction, Pair, Side
from amodal.methods.matching.scorer import Attention, Change, Scorer

__all__ = ["SCAN", "CrossAttention"]

Pooling = Literal["mean", "lse"]

DIRECTIONS: dict[str, tuple[Direction, ...]] = {"t2i": ("t2i",), "i2t": ("i2t",), "both": ("t2i", "i2t")}


class CrossAttention(Scorer):
    """Score of SCAN: cosines of fragments and what they attend to, pooled over the fragments that ask.

    Args:
        direction: One of ``DIRECTIONS``; "both" is the mean of the two scores.
        pooling: "mean", or "lse": (1 / lambda_2) log sum exp(lambda_2 cosine), which exceeds the maximum by up to
            log(n) / lambda_2.
        sharpness: lambda_1 of each direction.
        lse: lambda_2 of each direction.
        learn: Whether lambda_1 is learned, as exp(theta).
    """

    def __init__(
        self,
        direction: str,
        pooling: str,
        *,
        sharpness: dict[Direction, float],
        lse: dict[Direction, float],
        learn: bool = False,
    ) -> None:
        if direction not in DIRECTIONS:
            raise UsageError(nearest(direction, DIRECTIONS, what="direction"))
        if pooling not in get_args(Pooling):
            raise UsageError(nearest(pooling, get_args(Pooling), what="pooling"))
        super().__init__({name: sharpness[name] for name in DIRECTIONS[direction]}, learn=learn)
        self.pooling, self.lse = pooling, lse

    def judge(self, pair: Pair, attention: Attention, gate: Change | None = None) -> Tensor:
        """Scores, mean over the directions; there is no gate."""
        scores = []
        for direction, weights in attention.items():
            view = pair.facing(direction)
            pooled = self._pool(agreement(weights, view), view.askers, self.lse[direction])
            scores.append(pair.seen_from(direction, pooled))
        return torch.stack(scores).mean(dim=0)

    def _pool(self, cosines: Tensor, askers: Side, lse: float) -> Tensor:
        """(p, n, q) -> (p, q)."""
        if self.pooling == "mean":
            return cosines.sum(dim=1) / askers.counts  # they are 0 at padding
        return (lse * cosines).masked_fill(~askers.real.T, float("-inf")).logsumexp(dim=1) / lse

    def footprint(self, regions: float, words: float, width: int) -> float:
        """The cosines, raised, as weights and spread over the keys; for each direction."""
        return 4 * regions * words * len(self.directions)


class SCAN(Matcher):
    """Cross attention between fragments, learned with the hardest negative of the batch.

        t2i:  alpha_ij = softmax_i(lambda_1 s_ij / |s_i.|),  a_j = sum_i alpha_ij v_i,  S = mean_j cos(w_j, a_j)
        i2t:  the same with regions and words exchanged
        L = sum_p max_q [margin + S_pq - S_pp]_+ + max_q [margin + S_qp - S_pp]_+

    Args:
        direction: Who asks: words ("t2i"), regions ("i2t"), or "both", the mean of the two scores.
        pooling: "mean" or "lse" over the fragments that ask.
        sharpness_t2i: lambda_1 where words ask.
        sharpness_i2t: lambda_1 where regions ask.
        lse_t2i: lambda_2 where words ask.
        lse_i2t: lambda_2 where regions ask; 20 for COCO in the paper.
        margin: By how much a partner should score higher.
        reduction: "sum" or "mean" of the loss over a batch.
        negatives: "hardest" as in the paper, or "bearable": the hardest of the batch that do not cost more than scores
            that are all alike.
        start: Where projections start: at canonical "correlations" of mean parts, or at "random"; word numbers and the
            GRU always start at random.
        width: Width of the fragments.
        embedding: Width of word embeddings, or of what is put in front of the GRU.
        gru: Whether features of words are read in order by a bidirectional GRU; word numbers always are.
        dropout: Share of units left out in training, at the words.
        epochs: Passes over the pairs, one caption drawn per picture in each.
        batch_size: Items in a batch.
        rate: Learning rate.
        seed: Seed of weights, order and draws.

    Paper: Lee et al., Stacked Cross Attention for Image-Text Matching, ECCV 2018.
    Reference code: kuanghuei/SCAN (Apache-2.0; read, not used).
    """

    card = Card(
        slug="scan",
        name="SCAN",
        summary="Each word attends to regions, or each region to words; the score pools how well they agree.",
        paper="Lee, Chen, Hua, Hu, He, Stacked Cross Attention for Image-Text Matching, ECCV 2018.",
        url="https://doi.org/10.1007/978-3-030-01225-0_13",
        family="matching",
        returns="scores",
        takes=("parts",),
        needs_labels=False,
        needs_pairs="yes",
        native="any",
        checked="Against a loop over captions; closed forms for one region, lambda_1 = 0 and lambda_2 to infinity.",
        departures=(
            "width 256 and 30 epochs at 5e-4 by default; preset cpu: 8 epochs at 2e-3, paper: width 1024, 30 at 2e-4",
            "parts are centred and divided by one number, measured on training parts, before the projection",
            "learns from the hardest negatives that do not cost more than scores which are all alike, and projections "
            "start at canonical correlations of mean parts; the preset paper has neither. rSum on the dev split of "
            "flickr8k, preset cpu, one seed: 268, without both 234",
            "the rate decays by a cosine and gradients are clipped at 5, as everywhere here; released: a tenth after "
            "half of the epochs, clipped at 2",
            "other captions of a picture are no negatives; each epoch draws one caption per picture",
            "an item without partner is left out of training",
        ),
        reference_code="kuanghuei/SCAN (Apache-2.0; read, not used)",
    )
    search_space: ClassVar = {
        "direction": ("t2i", "i2t", "both"),
        "pooling": ("mean", "lse"),
        "margin": (0.1, 0.2, 0.3),
        "rate": (2e-4, 5e-4, 1e-3),
    }
    presets: ClassVar = {
        "paper": {
            "width": 1024,
            "embedding": 300,
            "rate": 2e-4,
            "epochs": 30,
            "negatives": "hardest",
            "start": "random",
        },
        "cpu": {"width": 256, "rate": 2e-3, "epochs": 8},
    }

    def __init__(
        self,
        direction: str = "t2i",
        pooling: str = "mean",
        sharpness_t2i: float = 9.0,
        sharpness_i2t: float = 4.0,
        lse_t2i: float = 6.0,
        lse_i2t: float = 5.0,
        margin: float = 0.2,
        reduction: Reduction = "sum",
        negatives: Rivals = "bearable",
        start: Start = "correlations",
        width: int = 256,
        embedding: int = 300,
        gru: bool = False,
        dropout: float = 0.0,
        epochs: int = 30,
        batch_size: int = 128,
        rate: float = 5e-4,
        seed: int = 0,
    ) -> None:
        self.direction, self.pooling = direction, pooling
        self.sharpness_t2i, self.sharpness_i2t = sharpness_t2i, sharpness_i2t
        self.lse_t2i, self.lse_i2t = lse_t2i, lse_i2t
        self.margin, self.reduction, self.negatives, self.start = margin, reduction, negatives, start
        self.width, self.embedding, self.gru, self.dropout = width, embedding, gru, dropout
        self.epochs, self.batch_size, self.rate, self.seed = epochs, batch_size, rate, seed

    def scorers(self) -> list[Scorer]:
        """The score of the paper."""
        sharpness: dict[Direction, float] = {"t2i": self.sharpness_t2i, "i2t": self.sharpness_i2t}
        lse: dict[Direction, float] = {"t2i": self.lse_t2i, "i2t": self.lse_i2t}
        return [CrossAttention(self.direction, self.pooling, sharpness=sharpness, lse=lse)]
