"""Methods that make features of one modality from those of another: what they imagine, and how far to trust it."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from numpy.typing import NDArray
from torch import Tensor

from amodal.data import Dataset
from amodal.methods.embedding.feature_embed import FeatureEmbed
from amodal.methods.features import by_blocks, item_means
from amodal.methods.imputation import Imputation

__all__ = ["Translating"]


class Translating(FeatureEmbed):
    """An embedding method that translates, and so imputes in the width and scale of the features that it was given."""

    @abstractmethod
    def translated(self, x: Tensor, source: str, target: str) -> Tensor:
        """Features of ``target`` made from those of ``source``, both as given, not scaled; row by row, no noise."""

    def impute(self, data: Dataset, modality: str) -> Imputation:
        """Imagine a modality for the items that lack it, the mean of what is made from each that they have.

        Args:
            data: Items with features.
            modality: What to imagine.

        Returns:
            Features, and as their trust the cosine between the embedding of what is there and of what was made from
            it, or 0 where that is negative; the mean over the modalities that are there.

        Raises:
            MissingModality: If the model never learned the modality.
            DataError: If a feature is NaN or infinite.
        """
        self.require_learned(modality)
        sources = [name for name in data.names if name in self.widths_ and name != modality]
        absent = ~data.present(modality) if modality in data.names else np.ones(len(data), bool)
        there = np.array([data.present(name) for name in sources], dtype=bool).reshape(len(sources), len(data))
        items = np.flatnonzero(absent & there.any(axis=0))
        part, total = data.take(items), np.zeros((len(items), self.widths_[modality] + 1))
        for source in sources:
            rows, x = item_means(part[source])
            total[rows] += self._made(self._checked(x, source), source, modality)
        mean = (total / there[:, items].sum(axis=0)[:, None]).astype(np.float32)
        return Imputation(modality, items, mean[:, :-1], mean[:, -1])

    @torch.no_grad()
    def _made(self, x: NDArray[np.float32], source: str, target: str) -> NDArray[np.float64]:
        """Features and, in a last column, their trust, shape (m, d + 1)."""

        def made(block: NDArray[np.float64]) -> NDArray[np.float64]:
            given = torch.from_numpy(block).float()
            found = self.translated(given, source, target)
            trust = F.cosine_similarity(self.output(given, source), self.output(found, target)).clamp(0, 1)
            return torch.cat([found, trust[:, None]], dim=1).double().numpy()

        return by_blocks(made, x)
