"""The three stages in which CICH learns: encoders, imagination, codes. Each is a pass through the common loop."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from amodal.losses import label_nll, reconstruction, share_probability
from amodal.methods.hashing.cich_networks import CICHNetwork
from amodal.methods.hashing.recovery import Recovery
from amodal.training import Batch, Batches

__all__ = ["CodeStage", "EncoderStage", "ImaginationStage", "drawn_bits"]


class Stage:
    """What the stages share: they are learners of the common loop over one network.

    Args:
        network: All networks; a stage teaches some of them.
        arguments: The method's arguments; a checkpoint fits no others.
        epochs: Passes over the stage's data.
        batch_size: Items in a batch.
        seed: Seed of order and noise.
    """

    def __init__(
        self, network: CICHNetwork, arguments: dict[str, Any], epochs: int, batch_size: int, seed: int
    ) -> None:
        self.network_, self.arguments = network, arguments
        self.epochs, self.batch_size, self.seed = epochs, batch_size, seed

    def params(self) -> dict[str, Any]:
        """The method's arguments."""
        return self.arguments

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """Nothing between epochs."""


class EncoderStage(Stage):
    """PSSC in the latent space: members learn to place items at the prototypes of their labels.

        L = sum_m sum_k mean_{i : fold_i != k} [ nll( s_k(x_i^m), l_i ) + beta KL(z_ik | N(0, 1)) ]

    nll is the cross-entropy of the softmax for one class per item, else the sum of the classes' binary ones. Member k
    never sees the rows of fold k, so that it can say honestly what they look like. No pair is needed.

    Args:
        fold: Fold of each training row, shape (n,).
        rate: Learning rate.
        weight_decay: Decoupled weight decay.
        beta: Weight of the divergence.
    """

    def __init__(self, fold: Tensor, rate: float, weight_decay: float, beta: float, **common: Any) -> None:
        super().__init__(**common)
        self.fold, self.rate, self.weight_decay, self.beta = fold, rate, weight_decay, beta

    def optimizer(self) -> Optimizer:
        """AdamW over the members; offsets do not decay."""
        named = dict(self.network_.members.named_parameters())
        offsets = [value for name, value in named.items() if name.endswith(("offset", "offsets", "bias"))]
        weights = [value for name, value in named.items() if not name.endswith(("offset", "offsets", "bias"))]
        decay = {"params": weights, "weight_decay": self.weight_decay}
        return AdamW([decay, {"params": offsets, "weight_decay": 0.0}], lr=self.rate, fused=True)

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """The negative log-likelihood of labels and the divergence, summed over modalities and members."""
        loss, divergence = (self.network_.slope.new_zeros(()) for _ in range(2))
        for k, (m, rows) in enumerate(batch.rows.items()):
            known = batch.known[rows]
            labels, fold = batch.labels[rows[known]], self.fold.to(rows.device)[batch.index[rows[known]]]
            mean, log_variance = self.network_.members[k](batch.x[m][known])
            sample = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
            scores = self.network_.scores(F.relu(sample), k)  # (b, K, c)
            members = scores.shape[1]
            terms = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
            kl = terms.view(len(mean), members, terms.shape[1] // members).sum(dim=2)
            learns = (fold[:, None] != torch.arange(members, device=fold.device)).to(scores.dtype)  # (b, K)
            share = learns / learns.sum(dim=0).clamp_min(1)
            loss = loss + (label_nll(scores, labels[:, None], single=bool(self.network_.single)) * share).sum()
            divergence = divergence + (kl * share).sum()
        return {"loss": loss + self.beta * divergence, "nll": loss, "divergence": divergence}


class ImaginationStage(Stage):
    """CCA: paired rows teach to imagine the latent feature of one side from the bottleneck of the other.

        L = sum_{a != b} rec(q_ab(z_a), f_b) + rec(q'_ab(z_a, context), f_b)

    The encoders rest, so that latent features cannot shrink to please this loss. Its data are mean and log-variance of
    the bottlenecks, side by side.

    Args:
        recovery: The predictors with their neighbours.
        rate: Learning rate.
    """

    def __init__(self, recovery: Recovery, rate: float, **common: Any) -> None:
        super().__init__(**common)
        self.recovery, self.rate = recovery, rate

    def optimizer(self) -> Optimizer:
        """AdamW over the predictors."""
        return AdamW(self.network_.imagine.parameters(), lr=self.rate, weight_decay=0.1, fused=True)

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """The neighbours, to the device."""
        found = self.recovery.neighbours
        self.recovery.neighbours = {way: neighbours.to(device) for way, neighbours in found.items()}

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Errors of imagined features."""
        loss = next(iter(batch.x.values())).new_zeros(())
        for a, b in permutations(self.recovery.names, 2):
            here, there = batch.pairs(a, b)
            mean, log_variance = batch.x[a][here].chunk(2, dim=1)
            sample = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
            target = F.relu(batch.x[b][there].chunk(2, dim=1)[0])
            index = batch.index[batch.rows[a][here]]
            for predicted in self.recovery.predict(sample, F.relu(mean), index, a, b):
                loss = loss + reconstruction(predicted, target)
        return {"loss": loss}


class CodeStage(Stage):
    """SaCH and PSSC on codes: Hamming similarity should say how probably two items share a label.

        L_SaCH = mean over unordered pairs of modalities of  bce( a0 <h_x, h_y> / r + d0, P(x, y) )
        L_PSSC = mean over modalities of  bce( a1 <h_x, tanh(W_p u)> / r + d1, P(x, u) ),   u: drawn label vectors
        L      = L_SaCH + prototypes L_PSSC,   P: ``losses.share_probability`` of class probabilities

    Bits are drawn in training, +1 with probability (1 + tanh(s u)) / 2, with the gradient of tanh, and s rises: what
    survives the noise survives the sign. Half of the rows are mixtures of two rows' probabilities. Imagined rows of
    items that lack a modality take part as further rows of it. Its data are class probabilities.

    Args:
        imagined: Class probabilities of imagined sides, by modality, shape (any, c).
        distinct: Distinct label vectors, shape (U, c).
        counts: How many items have each, shape (U,).
        rate: Learning rate.
        prototypes: Weight of L_PSSC.
        recovered: Imagined rows of each modality in a batch.
    """

    SLOPES = 2.0, 8.0

    def __init__(
        self,
        imagined: dict[str, Tensor],
        distinct: Tensor,
        counts: Tensor,
        rate: float,
        prototypes: float,
        recovered: int,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.imagined, self.distinct, self.counts = imagined, distinct, counts
        self.rate, self.prototypes, self.recovered = rate, prototypes, recovered

    def optimizer(self) -> Optimizer:
        """Adam over the head and its prototypes, and five times faster over slope and shift."""
        network = self.network_
        head = [*network.head.parameters(), *network.prototype.parameters()]
        scale = [network.slope, network.shift]
        return Adam([{"params": head, "lr": self.rate}, {"params": scale, "lr": 5 * self.rate}], fused=True)

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """The two losses of a batch."""
        low, high = self.SLOPES
        slope = low * (high / low) ** (epoch / max(self.epochs - 1, 1))
        p = {m: self._mixed(torch.cat([batch.x[m], self._some_imagined(m, batch.x[m])])) for m in batch.x}
        h = {m: drawn_bits(self.network_.outputs(p[m], k), slope) for k, m in enumerate(p)}
        sach, pssc = (self.network_.slope.new_zeros(()) for _ in range(2))
        ways = list(combinations(p, 2))
        for a, b in ways:
            sach = sach + self._nll(h[a], h[b], share_probability(p[a], p[b], single=bool(self.network_.single)), 0)
        labels = self._some_labels(batch.index.device, batch.index)
        target = torch.tanh(self.network_.prototype(labels))
        for m in p:
            pssc = pssc + self._nll(h[m], target, share_probability(p[m], labels, single=bool(self.network_.single)), 1)
        loss = sach / len(ways) + self.prototypes * pssc / len(p)
        return {"loss": loss, "sach": sach, "pssc": pssc}

    def _nll(self, a: Tensor, b: Tensor, probability: Tensor, which: int) -> Tensor:
        if not len(a) or not len(b):
            return a.sum() + b.sum()
        logits = self.network_.slope[which] * (a @ b.T) / a.shape[1] + self.network_.shift[which]
        return F.binary_cross_entropy_with_logits(logits, probability)

    def _some_imagined(self, modality: str, like: Tensor) -> Tensor:
        rows = self.imagined[modality].to(like.device)
        if not len(rows):
            return like[:0]
        return rows[torch.randint(len(rows), (self.recovered,), device=like.device)]

    def _some_labels(self, device: torch.device, like: Tensor) -> Tensor:
        distinct = self.distinct.to(device)
        if len(distinct) <= 256:
            return distinct
        return distinct[torch.multinomial(self.counts.to(device), 256)]

    @staticmethod
    def _mixed(p: Tensor) -> Tensor:
        half = len(p) // 2
        share = torch.rand(half, 1, device=p.device)
        partner = p[torch.randint(max(len(p), 1), (half,), device=p.device)]
        return torch.cat([share * p[:half] + (1 - share) * partner, p[half:]])


def drawn_bits(outputs: Tensor, slope: float) -> Tensor:
    """Bits drawn with P(+1) = (1 + tanh(slope u)) / 2, and the gradient of that tanh.

    Args:
        outputs: u, shape (m, r).
        slope: s; the larger, the nearer to the sign.

    Returns:
        -1 and +1, shape (m, r).
    """
    h = torch.tanh(slope * outputs)
    bits = torch.where(torch.rand_like(h) * 2 - 1 < h, 1.0, -1.0)
    return h + (bits - h).detach()
