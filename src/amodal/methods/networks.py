"""What deep methods on ready features share: scales, encoders, discriminators, and what is done about gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from amodal.data import Dataset, Observations
from amodal.errors import MethodError, UsageError, nearest
from amodal.methods.deep import DeepMethod, Standardise
from amodal.methods.features import moments
from amodal.training import Batch

__all__ = ["FILLS", "Discriminator", "Encoder", "FeatureMethod", "Scale"]

#: What is done about an absent modality. mask: its terms are left out; drop: only items with every modality are learned
#: from; mean: its features are the mean of the observed ones, which is 0 after centring, so that there is no "zero".
FILLS = ("mask", "drop", "mean")


class Scale(Standardise):
    """(x - mean) / g with ONE g for all features, after a square root if no observed feature is negative.

    g is the root of the mean variance. Proportions between features stay: where most are rare (tags, word counts),
    dividing each by its own deviation blows up the rarest. The root (Hellinger's map) does the same for counts and
    histograms within a row.
    """

    root: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.register_buffer("root", torch.tensor(data=False))

    def fit(self, observations: Observations) -> None:
        """Measure on training rows."""
        root = all(bool((chunk >= 0).all()) for chunk in observations.chunks())
        mean, deviation = moments(observations, constant=0.0, function=np.sqrt if root else None)
        self.root.fill_(root)
        self.mean.copy_(torch.from_numpy(mean))
        self.deviation.fill_(float(np.sqrt((deviation**2).mean())) or 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Scaled features, the shape of ``x``."""
        return super().forward(x.clamp_min(0).sqrt() if self.root else x)

    def inverse(self, x: Tensor) -> Tensor:
        """The features that are scaled to these, where there are some, shape (m, d).

        Where features were under a root, what it never gives counts as a root of 0.
        """
        x = x * self.deviation + self.mean
        return x.clamp_min(0) ** 2 if self.root else x

    def centre(self) -> Tensor:
        """The features that become 0, shape (d,)."""
        return self.mean**2 if self.root else self.mean


class Encoder(nn.Module):
    """Features to a latent feature: standardise, then for every width Linear, ReLU, dropout.

    Args:
        dim: Width of the features.
        widths: Widths of the layers; the last one is that of the latent feature.
        dropout: Share of units left out in training, after each layer.
        standardise: How features are standardised; each by its own deviation, unless another kind is given.
    """

    def __init__(
        self, dim: int, widths: Sequence[int], dropout: float = 0.0, *, standardise: type[Standardise] = Standardise
    ) -> None:
        super().__init__()
        self.standardise = standardise(dim)
        layers: list[nn.Module] = []
        for before, after in zip([dim, *widths], widths, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Latent features, shape (m, e)."""
        out: Tensor = self.layers(self.standardise(x))
        return out


class Discriminator(nn.Module):
    """Rows to one number each: for every width Linear and ReLU, then Linear to 1.

    Args:
        dim: Width of the rows.
        widths: Widths of the hidden layers.
    """

    def __init__(self, dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip([dim, *widths], widths, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits or scores, shape (m,)."""
        out: Tensor = self.layers(x)
        return out.squeeze(1)

    def fixed(self, x: Tensor) -> Tensor:
        """The same, with a gradient in ``x`` and none in the parameters."""
        out: Tensor = functional_call(self, {name: value.detach() for name, value in self.named_parameters()}, (x,))
        return out


class FeatureMethod(DeepMethod):
    """A deep method on ready features, with one encoder per modality in ``network_.encoder``.

    Attributes:
        fill: What is done about an absent modality; one of ``FILLS``.
    """

    fill: str

    def position(self, modality: str) -> int:
        """Place of a modality in the networks."""
        return list(self.widths_).index(modality)

    def received(self, batch: Batch) -> Batch:
        """The batch as the fill policy wants it: with fill="mean" every item has every modality."""
        if self.fill != "mean":
            return batch
        x, everything = {}, torch.arange(len(batch.index), device=batch.index.device)
        for k, name in enumerate(self.widths_):
            mean: Tensor = self.network_.encoder[k].standardise.centre()  # type: ignore[union-attr, index]
            x[name] = mean.expand(len(everything), -1).clone().index_copy(0, batch.rows[name], batch.x[name])
        return replace(batch, x=x, rows=dict.fromkeys(self.widths_, everything))

    def chosen(self, data: Dataset) -> Dataset:
        """Complete items only if ``fill`` is "drop", else all.

        Raises:
            UsageError: If the fill policy is unknown.
            MethodError: If nothing is left.
        """
        if self.fill not in self.card.fills:
            raise UsageError(nearest(str(self.fill), self.card.fills, what="fill"))
        if self.fill != "drop":
            return data
        whole = data.take(np.flatnonzero(data.presence().all(axis=1)))
        if not len(whole):
            raise MethodError(
                'fill="drop" leaves nothing to learn from: no item has every modality. Choose another fill.'
            )
        return whole
