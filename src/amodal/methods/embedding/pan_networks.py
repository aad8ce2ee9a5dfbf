"""The networks of PAN, and the rows with several modalities from whose neighbourhood a missing side is rebuilt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amodal.losses import prototype_scores
from amodal.methods.embedding.class_embed import ClassNetwork

__all__ = ["PANNetwork", "Paired", "lifted"]

#: How fast residuals follow the batches: 1 - .9 of [D].
FOLLOW = 0.1


class PANNetwork(ClassNetwork):
    """An encoder for each modality, and one prototype per class that all of them share.

    Args:
        dims: Width of the features of each modality, in order.
        dim: Width e of the common space.
        widths: Widths of the hidden layers of an encoder.
        dropout: Share of hidden units left out in training.
        classes: Number of classes c.

    Attributes:
        prototypes: C, shape (c, e).
        offsets: What a class needs where classes are independent, shape (c,).
        residuals: rho, how a modality differs from the prototype of a class, a running mean; shape (M, c, e).
        longest: Length of the longest z of a training row.
    """

    residuals: Tensor
    longest: Tensor

    def __init__(self, dims: Sequence[int], dim: int, widths: Sequence[int], dropout: float, *, classes: int) -> None:
        super().__init__(dims, dim, widths, dropout)
        self.prototypes = nn.Parameter(nn.init.kaiming_normal_(torch.empty(classes, dim)))
        self.offsets = nn.Parameter(torch.zeros(classes))
        self.register_buffer("residuals", torch.zeros(len(dims), classes, dim))
        self.register_buffer("longest", torch.zeros(()))

    @torch.no_grad()
    def measure(self, z: Tensor) -> None:
        """Note the longest of these rows, shape (m, e), if it is longer than all before."""
        self.longest.copy_(torch.linalg.vector_norm(z, dim=1).max().clamp_min(self.longest))

    @torch.no_grad()
    def follow(self, z: Tensor, labels: Tensor, prototypes: Tensor, modality: int) -> None:
        """Move the residuals of the classes that these rows have towards the mean of z - C_k over the rows of class k.

        Args:
            z: Rows of one modality, shape (m, e).
            labels: Multi-hot, shape (m, c).
            prototypes: C as it is compared with, shape (c, e).
            modality: Its position.
        """
        count = labels.sum(dim=0)[:, None]
        found = labels.T @ z / count.clamp_min(1) - prototypes
        self.residuals[modality] += FOLLOW * (count > 0) * (found - self.residuals[modality])


@dataclass
class Paired:
    """Training rows that have two modalities, as the encoders see them.

    Attributes:
        source: The side that others have too, shape (p, e).
        target: The side that they lack, shape (p, e).
    """

    source: Tensor
    target: Tensor

    def near(self, z: Tensor, k: int, temperature: float) -> Tensor:
        """sum_j s_ij target_j over the k rows whose source is nearest, s_ij = softmax_j(-|z_i - source_j|^2 / T).

        Args:
            z: The side that is there, shape (m, e).
            k: How many; fewer if there are not so many.
            temperature: T.

        Returns:
            Shape (m, e).
        """
        scores, rows = prototype_scores(z, self.source, temperature).topk(min(k, len(self.source)), dim=1)
        return torch.einsum("mk,mke->me", torch.softmax(scores, dim=1), self.target[rows])


def lifted(z: Tensor, radius: Tensor) -> Tensor:
    """Points on a sphere, so that the order of their cosines is that of their Euclidean distances before.

        (z, sqrt(radius^2 - |z|^2))

    The squared distance of two lifted points is |z - z'|^2 + (a - a')^2, where the last is at most
    (rho / radius)^2 / (1 - (rho / radius)^2) of the first for points of length up to rho.

    Args:
        z: Points, shape (m, e).
        radius: Of the sphere, a scalar. Points beyond it are moved to it, radially, by the unit length of embeddings.

    Returns:
        Shape (m, e + 1).
    """
    height = (radius**2 - (z**2).sum(dim=1, keepdim=True)).clamp_min(0).sqrt()
    return torch.cat([z, height], dim=1)
