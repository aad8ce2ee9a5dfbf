"""What paired training rows look like on the missing side: context from the nearest of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

__all__ = ["Neighbours"]


@dataclass
class Neighbours:
    """Latent features of training rows that have both a source and a target modality.

    Attributes:
        index: Row of each in the training data, shape (p,).
        source: Latent features of the source side, shape (p, e).
        target: Latent features of the target side, shape (p, e).
    """

    index: Tensor
    source: Tensor
    target: Tensor

    def context(self, queries: Tensor, index: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
        """The target side of the k rows whose source side is nearest, weighted by softmax(cosine / 0.1).

        Neighbours are sought by the source side, since a missing target cannot be searched.

        Args:
            queries: Source features, shape (m, e).
            index: Training row of each query, which must not be its own neighbour; None for unseen items.
            k: Number of neighbours; fewer if there are not so many.

        Returns:
            Context (m, e), zeros where a row has no neighbour; and the weighted mean cosine, shape (m,).
        """
        alike = F.normalize(queries, dim=1, eps=1e-8) @ F.normalize(self.source, dim=1, eps=1e-8).T
        if index is not None:
            alike = alike.masked_fill(index[:, None] == self.index[None, :], float("-inf"))
        nearest = alike.topk(min(k, alike.shape[1]), dim=1)
        real = torch.isfinite(nearest.values)
        weights = torch.softmax(nearest.values.masked_fill(~real, -1e4) / 0.1, dim=1) * real
        cosine = (weights * nearest.values.masked_fill(~real, 0.0)).sum(dim=1)
        return torch.einsum("mk,mke->me", weights, self.target[nearest.indices]), cosine
