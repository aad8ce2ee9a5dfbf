"""The networks of CICH as published: bottleneck encoders, code heads, prototypes, predictors of a missing side."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from amodal.methods.deep import Standardise
from amodal.methods.hashing.recovery import Latent, Predictors

__all__ = ["CICHPaperNetwork"]


class Bottleneck(nn.Module):
    """Features to a Gaussian latent: standardise, dropout, Linear d-h, ReLU, Linear h-2e.

    Args:
        dim: Width d of the features.
        hidden: Width h.
        latent: Width e.
        dropout: Share of input features left out in training.
        rectified: ReLU after the last layer, as in the text net of the released code, where mu >= 0, sigma^2 >= 1.
    """

    def __init__(self, dim: int, hidden: int, latent: int, dropout: float, *, rectified: bool) -> None:
        super().__init__()
        self.standardise = Standardise(dim)
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent)
        )
        self.rectified = rectified

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each (m, e)."""
        out = self.layers(self.standardise(x))
        mean, log_variance = (F.relu(out) if self.rectified else out).chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 8)


class CICHPaperNetwork(nn.Module):
    """All that CICH learns.

    Args:
        widths: Width of the features of each modality, in order.
        classes: Number of classes c.
        bits: Code length r.
        hidden: Width of the first layer.
        latent: Width e of the latent features.
        dropout: Share of input features left out in training.
        rectified: See ``Bottleneck``.
    """

    def __init__(
        self, widths: list[int], classes: int, bits: int, hidden: int, latent: int, dropout: float, *, rectified: bool
    ) -> None:
        super().__init__()
        self.width = latent
        self.encoder = nn.ModuleList([Bottleneck(dim, hidden, latent, dropout, rectified=rectified) for dim in widths])
        self.head = nn.ModuleList([nn.Linear(latent, bits) for _ in widths])
        self.prototype = nn.Linear(classes, bits, bias=False)  # p(l) = W_p l
        self.imagine = Predictors(len(widths), latent)

    def latent(self, x: Tensor, modality: int) -> Latent:
        """Encode features of one modality; with noise in training only, so that codes are no matter of chance."""
        mean, log_variance = self.encoder[modality](x)
        sample = mean + torch.exp(log_variance / 2) * torch.randn_like(mean) if self.training else mean
        feature = F.relu(sample)
        return Latent(mean, log_variance, sample, feature, self.code(feature, modality))

    def code(self, feature: Tensor, modality: int) -> Tensor:
        """Relaxed codes h of latent features, shape (m, r)."""
        return torch.tanh(self.head[modality](feature))

    def predict(self, sample: Tensor, context: Tensor | None, source: int, target: int) -> Tensor:
        """The latent feature of ``target`` imagined from z of ``source``: q_ab, or q'_ab with context; (m, e)."""
        out: Tensor = self.imagine(sample, context, source, target)
        return out
