"""Embedding methods that score classes in the common space: items are ranked by where they lie, or by what they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from amodal.data import Dataset
from amodal.methods.embedding.feature_embed import EmbedNetwork, FeatureEmbed
from amodal.methods.embedding.semantics import TERMS, share_vectors

__all__ = ["EMBEDDINGS", "ClassEmbed", "ClassNetwork"]

EMBEDDINGS = ("feature", "semantic")


class ClassNetwork(EmbedNetwork):
    """Encoders into a common space in which classes are scored.

    Args:
        dims: Width of the features of each modality, in order.
        dim: Width e of the common space.
        widths: Widths of the hidden layers of an encoder.
        dropout: Share of hidden units left out in training.

    Attributes:
        reach: Squared length of the longest semantic embedding that is expected; see ``share_vectors``.
    """

    reach: Tensor

    def __init__(self, dims: Sequence[int], dim: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__(dims, dim, widths, dropout)
        self.register_buffer("reach", torch.ones(()))


class ClassEmbed(FeatureEmbed):
    """A method whose embedding is a point z of the common space, or the probabilities of the classes there.

    Attributes:
        embedding: "feature", z itself; or "semantic", probabilities as vectors whose inner product across modalities
            rises with P(share a label).
    """

    embedding: Literal["feature", "semantic"]
    network_: ClassNetwork

    @abstractmethod
    def scores(self, z: Tensor) -> Tensor:
        """Scores of the classes, shape (m, c), before softmax; before the logistic function for several labels."""

    def prepare(self, data: Dataset) -> None:
        """Also the length of semantic embeddings of items with several labels."""
        super().prepare(data)
        if data.labels is not None and not self.network_.single:
            most = float(data.labels.per_row[data.labels.known].max())
            self.network_.reach.fill_(most * sum(1 / t for t in range(1, TERMS + 1)))

    def placed(self, z: Tensor) -> Tensor:
        """Where an item lies, as cosines will compare it; z unless a method says otherwise."""
        return z

    def output(self, x: Tensor, modality: str) -> Tensor:
        """Embeddings: z, or as wide as ``share_vectors`` are."""
        z = super().output(x, modality)
        if self.embedding == "feature":
            return self.placed(z)
        network, scores = self.network_, self.scores(z)
        p = torch.softmax(scores, dim=1) if network.single else torch.sigmoid(scores)
        position, modalities = self.position(modality), len(self.widths_)
        return share_vectors(p, position, modalities, single=bool(network.single), reach=float(network.reach))
