"""What real-valued methods share on ready features: encoders into a common space, and classes as directions in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from amodal.data import Dataset
from amodal.methods.networks import Encoder, FeatureMethod, Scale

__all__ = ["CosineClasses", "EmbedNetwork", "FeatureEmbed"]


class CosineClasses(nn.Module):
    """Classes as directions of the common space: s_k = scale cos(z, w_k) + d_k.

    Args:
        dim: Width e of the space.
        classes: Number of classes c.
        scale: Factor of the cosine.

    Attributes:
        directions: w, shape (c, e).
        offsets: d, shape (c,); what a rare class needs where classes are independent.
    """

    def __init__(self, dim: int, classes: int, scale: float) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(classes, dim) / math.sqrt(dim))
        self.offsets = nn.Parameter(torch.zeros(classes))
        self.scale = scale

    def cosine(self, z: Tensor) -> Tensor:
        """Cosine with each direction, shape (..., c)."""
        return F.normalize(z, dim=-1, eps=1e-8) @ F.normalize(self.directions, dim=-1, eps=1e-8).T

    def forward(self, z: Tensor) -> Tensor:
        """Scores of the classes, shape (..., c), for z of shape (..., e)."""
        return self.scale * self.cosine(z) + self.offsets

    def fixed(self, z: Tensor) -> Tensor:
        """The same, with a gradient in ``z`` and none in the classes."""
        directions = F.normalize(self.directions.detach(), dim=-1, eps=1e-8)
        return self.scale * F.normalize(z, dim=-1, eps=1e-8) @ directions.T + self.offsets.detach()


class EmbedNetwork(nn.Module):
    """An encoder and a projection to the common space for each modality.

    Args:
        dims: Width of the features of each modality, in order.
        dim: Width e of the common space.
        widths: Widths of the layers of every encoder; none for a projection of scaled features.
        dropout: Share of units left out in training, after each layer.

    Attributes:
        single: Whether items have one class each; else classes are independent.
    """

    single: Tensor

    def __init__(self, dims: Sequence[int], dim: int, widths: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("single", torch.tensor(data=True))
        self.encoder = nn.ModuleList([Encoder(width, widths, dropout, standardise=Scale) for width in dims])
        self.project = nn.ModuleList([nn.Linear([width, *widths][-1], dim) for width in dims])

    def latent(self, x: Tensor, modality: int) -> Tensor:
        """Features of one modality, by its position, in the common space; shape (m, e), of any length."""
        out: Tensor = self.project[modality](self.encoder[modality](x))
        return out


class FeatureEmbed(FeatureMethod):
    """A deep method that embeds ready features; its ``output`` is scaled to unit length by the house.

    Attributes:
        dim: Width e of the common space.
        hidden: Width of the hidden layer of every encoder; 0 for none.
        dropout: Share of units left out in training.
        rate: Learning rate.
        weight_decay: Decoupled weight decay.
    """

    dim: int
    hidden: int
    dropout: float
    rate: float
    weight_decay: float
    network_: EmbedNetwork

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers of an encoder."""
        return (self.hidden,) if self.hidden else ()

    def build(self) -> EmbedNetwork:
        """An encoder and a projection for every modality."""
        return EmbedNetwork(list(self.widths_.values()), self.dim, self.widths, self.dropout)

    def prepare(self, data: Dataset) -> None:
        """Also whether items have one class each."""
        super().prepare(data)
        if data.labels is not None:
            self.network_.single.fill_(data.labels.single)

    def groups(self) -> list[dict[str, Any]]:
        """All parameters at one rate."""
        return [{"params": list(self.network_.parameters()), "lr": self.rate, "weight_decay": self.weight_decay}]

    def output(self, x: Tensor, modality: str) -> Tensor:
        """Real-valued outputs in the common space, shape (m, e)."""
        return self.network_.latent(x, self.position(modality))
