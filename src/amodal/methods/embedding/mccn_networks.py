"""The networks of MCCN, and the graph over what a batch has been seen to be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from amodal.losses import kernel, share_label
from amodal.methods.embedding.class_embed import ClassNetwork
from amodal.methods.embedding.feature_embed import CosineClasses

__all__ = ["GraphAttention", "MCCNNetwork", "graph"]

HEADS = 4


class GraphAttention(nn.Module):
    """Attention of nodes to others that they have an edge to.

        alpha_ij = mean over heads of  w_ij exp(LeakyReLU(a^T [q_i ; k_j])) / sum_j,   found_i = sum_j alpha_ij z_j

    q and k are linear in z, so that a^T [q_i ; k_j] is a linear form of z_i plus one of z_j, and no more is learned.

    Args:
        dim: Width e.

    Paper: Velickovic et al., Graph Attention Networks, ICLR 2018; there edges have no weight and values a map.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key = (nn.Linear(dim, HEADS, bias=False) for _ in range(2))

    def forward(self, z: Tensor, others: Tensor, weights: Tensor) -> Tensor:
        """What each node finds, shape (m, e).

        Args:
            z: Nodes that look, shape (m, e).
            others: Nodes that are looked at, shape (n, e).
            weights: w, of the edges, >= 0, shape (m, n); some edge in every row.
        """
        scores = F.leaky_relu(self.query(z)[:, None] + self.key(others)[None], 0.2)  # (m, n, heads)
        alpha = torch.softmax(scores + weights.log()[:, :, None], dim=1).mean(dim=2)
        return alpha @ others


class MCCNNetwork(ClassNetwork):
    """An encoder for each modality, unit prototypes that all of them share, and one layer of graph attention.

    Args:
        dims: Width of the features of each modality, in order.
        dim: Width e of the common space.
        widths: Widths of the hidden layers of an encoder.
        dropout: Share of hidden units left out in training.
        classes: Number of classes c.
        scale: Factor s of the cosine.

    Attributes:
        classes: Prototypes C as directions, and an offset for each class where items have several.
    """

    def __init__(
        self, dims: Sequence[int], dim: int, widths: Sequence[int], dropout: float, *, classes: int, scale: float
    ) -> None:
        super().__init__(dims, dim, widths, dropout)
        self.classes, self.attention = CosineClasses(dim, classes, scale), GraphAttention(dim)


@torch.no_grad()
def graph(z: Sequence[Tensor], items: Sequence[Tensor], labels: Tensor, near: int) -> Tensor:
    """Edges between all observations of a batch: 1[one item] + 1[shared class] + 1[near, within a modality].

    Args:
        z: Observations of each modality, shape (b_m, e).
        items: Position of their items in the batch, shape (b_m,).
        labels: Multi-hot, shape (b, c); zeros where unknown.
        near: How many others of its modality an observation is near to, by cosine; the relation is made symmetric.

    Returns:
        W, symmetric with zeros on the diagonal, shape (N, N), N = sum of b_m.
    """
    item = torch.cat(list(items))
    close = [_nearest(block, near) for block in z]
    near_by: Tensor = torch.block_diag(*close)  # type: ignore[no-untyped-call]
    edges = (item[:, None] == item) + share_label(labels, labels)[item][:, item] + near_by
    return edges.fill_diagonal_(0)


def _nearest(z: Tensor, near: int) -> Tensor:
    """1 where one of two rows is among the nearest of the other, shape (m, m)."""
    cosine = kernel(z, z).fill_diagonal_(float("-inf"))
    found = cosine.topk(max(min(near, len(z) - 1), 0), dim=1).indices
    close = torch.zeros_like(cosine).scatter_(1, found, 1.0)
    return torch.maximum(close, close.T)
