"""The networks of CIIM: encoders, proxies, a mask over latent features, and what judges and reads the masked parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from amodal.methods.cues import Erasure
from amodal.methods.embedding.class_embed import ClassNetwork

__all__ = ["CIIMNetwork", "Statistics", "reversed_gradient", "swapped", "top_gate"]

#: Mean and deviation of the latent features of a modality in a batch, each of shape (e,).
Statistics = tuple[Tensor, Tensor]

#: Softness of the gradient of ``top_gate``, and share of hidden units of the masker left out. CIRL: .5 and .5.
TAU, DROPOUT = 0.5, 0.5
#: Factor of cosines in the scores of classes, to begin with.
SLOPE = 8.0


class CIIMNetwork(ClassNetwork):
    """All that CIIM learns.

    Args:
        dims: Width of the features of each modality, in order.
        dim: Width e of the common space.
        widths: Widths of the hidden layers of an encoder.
        dropout: Share of input features, and of hidden units, left out in training.
        classes: Number of classes c.
        hybrid: Whether hybrid proxies are "free" parameters, or the direction of the "mean" of those of all modalities.

    Attributes:
        proxies: P^m of each modality, shape (M, c, e).
        rest: Proxies of what the mask leaves out, shape (c, e).
        masker: Logits of the mask, from latent features.
        judges: Two classifiers of the modality: of the causal part, and of the rest.
        decoder: Latent features from the causal part and the statistics of a modality.
        erase: What takes cues out of the features of each modality.
        slope: Factor of the cosine with a hybrid proxy in the score of its class, shape (c,).
        offset: What is added, shape (c,).
    """

    def __init__(
        self,
        dims: Sequence[int],
        dim: int,
        widths: Sequence[int],
        dropout: tuple[float, float],
        *,
        classes: int,
        hybrid: Literal["free", "mean"],
    ) -> None:
        super().__init__(dims, dim, widths, dropout[1])
        self.drop_input = nn.Dropout(dropout[0])
        self.proxies = nn.Parameter(torch.randn(len(dims), classes, dim))
        self.free = nn.Parameter(torch.randn(classes, dim)) if hybrid == "free" else None
        self.rest = nn.Parameter(torch.randn(classes, dim))
        # normalised row by row, where CIRL does it by batch: a batch may have one row
        self.masker = nn.Sequential(
            nn.Linear(dim, dim),
            nn.LayerNorm(dim),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(dim, dim),
            nn.LayerNorm(dim, elementwise_affine=False),
        )
        self.judges = nn.ModuleList([nn.Linear(dim, len(dims)) for _ in range(2)])
        self.erase = nn.ModuleList([Erasure(width, classes) for width in dims])
        self.slope = nn.Parameter(torch.full((classes,), SLOPE))
        self.offset = nn.Parameter(torch.zeros(classes))
        self.decoder = nn.Sequential(nn.Linear(3 * dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    @property
    def hybrid(self) -> Tensor:
        """P^h, proxies of the classes whatever the modality, shape (c, e)."""
        return F.normalize(self.proxies.sum(dim=0), dim=1, eps=1e-8) if self.free is None else self.free

    def all_proxies(self) -> list[nn.Parameter]:
        """Every proxy that is a parameter."""
        return [self.proxies, self.rest] if self.free is None else [self.proxies, self.free, self.rest]

    def latent(self, x: Tensor, modality: int) -> Tensor:
        """Features of one modality, by its position, in the common space; shape (m, e)."""
        encoder = self.encoder[modality]
        scaled = self.drop_input(self.erase[modality](encoder.standardise(x)))  # type: ignore[operator]
        out: Tensor = self.project[modality](encoder.layers(scaled))  # type: ignore[operator]
        return out

    def scores(self, cosine: Tensor) -> Tensor:
        """Logits of the classes, from cosines with hybrid proxies, shape (m, c)."""
        return self.slope * cosine + self.offset

    def mask(self, z: Tensor, count: int) -> Tensor:
        """Which of the latent features are causal, 0 or 1, shape (m, e); drawn in training, the top ones else."""
        return top_gate(self.masker(z), count, noise=self.training)

    def decode(self, z: Tensor, statistics: Statistics) -> Tensor:
        """Latent features as a modality with these statistics would have them, shape (m, e)."""
        out: Tensor = self.decoder(torch.cat([z, torch.cat(statistics).expand(len(z), -1)], dim=1))
        return out


def top_gate(logits: Tensor, count: int, *, noise: bool) -> Tensor:
    """1 for the ``count`` largest logits of each row and 0 else; with noise, a draw without replacement by softmax.

    The gradient is that of a logistic function around the bound between what is taken and what is not.

    Args:
        logits: Shape (m, e).
        count: How many to take; all of them gives 1 everywhere.
        noise: Add Gumbel noise to the logits, so that the largest are a draw.

    Paper: Kool et al., Stochastic Beams and Where to Find Them, ICML 2019.
    Deviations: CIRL takes the maximum of ``count`` draws of Gumbel-softmax, each of which costs as much as this.
    """
    if count >= logits.shape[1]:
        return torch.ones_like(logits)
    if noise:
        logits = logits - torch.empty_like(logits).exponential_().clamp_min(1e-20).log()
    top = logits.topk(count + 1, dim=1)
    bound = top.values[:, -2:].mean(dim=1, keepdim=True).detach()
    soft = torch.sigmoid((logits - bound) / TAU)
    hard = torch.zeros_like(soft).scatter(1, top.indices[:, :count], 1.0)
    return hard + (soft - soft.detach())


def swapped(z: Tensor, own: Statistics, other: Statistics) -> Tensor:
    """The intervention: latent features of one modality with the statistics of another, shape (m, e).

    (z - mean) / deviation * deviation' + mean'
    """
    return (z - own[0]) / own[1] * other[1] + other[0]


def reversed_gradient(x: Tensor) -> Tensor:
    """The same values; whoever is behind them gets the opposite gradient."""
    return 2 * x.detach() - x
