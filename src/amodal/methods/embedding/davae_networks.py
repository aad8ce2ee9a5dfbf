"""The networks of DA-VAE: an encoder to a Gaussian and a decoder of latents for each modality, one classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from amodal.data import Observations
from amodal.losses import reconstruction
from amodal.methods.embedding.feature_embed import EmbedNetwork
from amodal.methods.networks import Scale

__all__ = ["DAVAENetwork", "Decoder"]

#: From which share of zeros on features without negatives are taken for words or tags.
SPARSE = 0.8
#: Bound of the logarithm of variances: exp of it must neither overflow nor vanish.
BOUND = 8.0


class Decoder(nn.Module):
    """Latents to features: for every width Linear and ReLU, then Linear; with the likelihood of features.

    Gaussian: of scaled features, with unit variance. Bernoulli: of which features are there (x > 0); one that is has
    its mean, so that expected features are P(there) times it.

    Args:
        dim: Width e of latents.
        widths: Widths of the hidden layers.
        features: Width d of the features.

    Attributes:
        bernoulli: Which of the two it is.
        amount: Of the Bernoulli form, mean of each feature where there is any, shape (d,).
        surprise: Likewise, nats per feature of a decoder that knows how often each is there, and no more.
    """

    bernoulli: Tensor
    amount: Tensor
    surprise: Tensor

    def __init__(self, dim: int, widths: Sequence[int], features: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip([dim, *widths], widths, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear([dim, *widths][-1], features))
        self.register_buffer("bernoulli", torch.tensor(data=False))
        self.register_buffer("amount", torch.zeros(features))
        self.register_buffer("surprise", torch.ones(()))

    def fit(self, observations: Observations) -> None:
        """Take the Bernoulli form if these features are sparse and never negative, as counts of words are."""
        there, amount, least = np.zeros(observations.dim), np.zeros(observations.dim), 0.0
        for chunk in observations.chunks():
            there += (chunk > 0).sum(axis=0)
            amount += chunk.sum(axis=0, dtype=np.float64)
            least = min(least, float(chunk.min()))
        share = there / len(observations)
        self.bernoulli.fill_(least == 0 and share.mean() <= 1 - SPARSE)
        self.amount.copy_(torch.from_numpy(amount / np.maximum(there, 1)))
        p = np.clip(share, 1e-6, 1 - 1e-6)
        self.surprise.fill_(float(-(p * np.log(p) + (1 - p) * np.log1p(-p)).mean()))

    def loss(self, z: Tensor, x: Tensor, scale: Scale) -> Tensor:
        """Negative log-likelihood per feature, in units in which knowing nothing but means costs 1/2; 0 without rows.

        Args:
            z: Latents, shape (m, e).
            x: Features as given, shape (m, d).
            scale: Of the modality.
        """
        out: Tensor = self.layers(z)
        if not self.bernoulli:
            return reconstruction(out, scale(x))
        if not len(out):
            return out.sum()
        return F.binary_cross_entropy_with_logits(out, (x > 0).to(out.dtype)) / (2 * self.surprise)

    def features(self, z: Tensor, scale: Scale) -> Tensor:
        """Expected features as given, shape (m, d)."""
        out: Tensor = self.layers(z)
        return torch.sigmoid(out) * self.amount if self.bernoulli else scale.inverse(out)


class DAVAENetwork(EmbedNetwork):
    """All that DA-VAE learns.

    Args:
        dims: Width of the features of each modality, in order.
        dim: Width e of latents.
        widths: Widths of the hidden layers of encoders; of decoders, from the last to the first.
        dropout: Share of hidden units of encoders left out in training.
        classes: Number of classes c.
    """

    def __init__(self, dims: Sequence[int], dim: int, widths: Sequence[int], dropout: float, *, classes: int) -> None:
        super().__init__(dims, 2 * dim, widths, dropout)
        self.decoder = nn.ModuleList([Decoder(dim, widths[::-1], width) for width in dims])
        self.classes = nn.Linear(dim, classes)

    def posterior(self, x: Tensor, modality: int) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent of given features, each of shape (m, e)."""
        mean, log_variance = self.latent(x, modality).chunk(2, dim=1)
        return mean, log_variance.clamp(-BOUND, BOUND)

    def scale(self, modality: int) -> Scale:
        """How the features of a modality are scaled."""
        scale: Scale = self.encoder[modality].standardise  # type: ignore[assignment]
        return scale

    def loss(self, z: Tensor, x: Tensor, modality: int) -> Tensor:
        """How badly latents tell the features of a modality; see ``Decoder.loss``."""
        loss: Tensor = self.decoder[modality].loss(z, x, self.scale(modality))  # type: ignore[operator]
        return loss

    def features(self, z: Tensor, modality: int) -> Tensor:
        """Features of a modality that go with latents, as given."""
        x: Tensor = self.decoder[modality].features(z, self.scale(modality))  # type: ignore[operator]
        return x

    def generated(self, mean: Tensor, modality: int) -> Tensor:
        """Latents that another modality would have: E_b(D_b(mean)), with a gradient in E_b alone; shape (m, e)."""
        return self.posterior(self.features(mean, modality).detach(), modality)[0]
