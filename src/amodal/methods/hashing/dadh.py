"""Deep Adversarial Discrete Hashing: graded triplets, adversaries on features and codes, discrete codes of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from amodal.data import Dataset
from amodal.losses import discriminator_loss, fooling_loss, graded_relevance, kernel, share_label, triplet_loss
from amodal.methods.card import Card
from amodal.methods.deep import Standardise
from amodal.methods.hashing.adversaries import AdversarialHash, slope_penalty
from amodal.methods.hashing.feature_hash import HashNetwork, signs
from amodal.methods.networks import FILLS, Discriminator
from amodal.training import Batch, Batches

__all__ = ["DADH", "label_projection"]

PENALTY = 10.0  #: weight of the discriminators' gradient penalty
RELEASED = 10 * 1.1**2  #: what the released code multiplies its sum of triplets with, beside alpha


class NormedEncoder(nn.Module):
    """Features to a latent feature: standardise, then for every width Linear, LayerNorm, ReLU, dropout."""

    def __init__(self, dim: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.standardise = Standardise(dim)
        layers: list[nn.Module] = []
        for before, after in zip([dim, *widths], widths, strict=False):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(self.standardise(x))
        return out


class DADHNetwork(HashNetwork):
    """``HashNetwork`` with layer norms, discriminators of features and of codes, and the projection of labels to codes.

    Attributes:
        projection: P, shape (c, r).
    """

    projection: Tensor

    def __init__(self, dims: list[int], classes: int, bits: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__(dims, bits, widths, dropout)
        self.encoder = nn.ModuleList([NormedEncoder(dim, widths, dropout) for dim in dims])
        latent = widths[-1]
        self.discriminator = nn.ModuleDict(
            {
                "feature": Discriminator(latent, (latent // 2, latent // 4)),
                "code": Discriminator(bits, (latent // 4,)),
            }
        )
        self.register_buffer("projection", torch.zeros(classes, bits))


class DADH(AdversarialHash):
    """Deep Adversarial Discrete Hashing.

    Codes of one modality should be nearer to similar codes of another than to dissimilar ones, above all to those that
    share many labels. Discriminators tell features and codes of the first modality from those of the others, which
    learn to pass. A discrete code of each item, projected from its labels, pulls all its codes.

        L   = alpha sum_{a != b} T(a, b) / (M - 1) + beta sum_m mean |h^m - B|^2 / r
              + gamma [ mean softplus(-D_f(f)) + mean softplus(-D_h(h)) ],   f, h of all modalities but the first
        T   : ``losses.triplet_loss`` over cosine distances of codes, weighted by ``losses.graded_relevance``
        D   : ``losses.discriminator_loss``, the first modality is real, + 10 ``losses.gradient_penalty``
        B   = sign(L P + mu / 2 sum_m H_m), then P = ``label_projection`` of B, both anew before each epoch

    Args:
        bits: Code length r.
        hidden: Width of the first layer of every encoder.
        latent: Width e of the features that a discriminator sees.
        dropout: Share of units left out in training.
        alpha: Weight of the triplets.
        beta: Weight of the distance to the discrete code.
        gamma: Weight of the adversarial terms.
        mu: Weight of the networks' codes in B, beside the labels.
        ridge: Of the projection.
        margin: Of the triplets.
        graded: Triplets count by graded relevance, or all alike.
        adv_scope: The adversary of codes reaches the "encoder", or as released the "head" alone.
        reduction: "mean" of triplets; or "released": their sum times 10 x 1.1^2.
        fill: What is done about an absent modality: "mask", "drop" or "mean".
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate.
        rate_discriminator: Learning rate of the discriminators.
        weight_decay: Weight decay.
        seed: Seed of weights, first codes, order and noise.

    Paper: Bai et al., ICMR 2020.
    Reference code: Zjut-MultimediaPlus/DADH (no licence; read, not used).
    """

    card: ClassVar[Card] = Card(
        slug="dadh",
        name="DADH",
        summary="Triplets weighted by shared labels, adversaries on features and codes, and discrete codes of labels.",
        paper="Bai, Zeng, Ma, Zhang, Chen: Deep Adversarial Discrete Hashing for Cross-Modal Retrieval, ICMR 2020",
        url="https://doi.org/10.1145/3372278.3390711",
        family="hashing",
        returns="codes",
        needs_labels=True,
        needs_pairs="no",
        native="any",
        fills=FILLS,
        checked="weighted triplets against loops; the projection against ridge regression; codes of labels alone",
        departures=(
            "read from released code and abstract; the full paper was not at hand",
            "networks on ready features; layer norm in place of batch norm, as a batch may have one row of a modality",
            "means of triplets; released: sums with constants (preset)",
            "encoders and discriminators step at once; released: in turn on each batch",
            "the adversary of codes reaches the encoder; released: the hash layer alone (preset)",
            "graded relevance is a switch; in the released code it is on only where alpha is exactly 10",
            "features are standardised on training rows; released: pictures on all of them, queries included",
            "rates fall along a cosine; released: x .8 at epochs 0, 100, 200",
        ),
        reference_code="Zjut-MultimediaPlus/DADH, no licence; read, not used",
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "released": {
            "hidden": 4096,
            "latent": 2048,
            "dropout": 0.0,
            "adv_scope": "head",
            "reduction": "released",
            "epochs": 300,
            "rate": 5e-5,
            "rate_discriminator": 5e-5,
            "weight_decay": 5e-4,
        },
    }
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "alpha": (1.0, 3.0, 10.0),
        "beta": (0.1, 0.3, 1.1),
        "gamma": (0.0, 0.1, 1.0),
        "mu": (1e-5, 1e-2, 1.0),
        "margin": (0.2, 0.4, 0.6),
        "dropout": (0.0, 0.2, 0.5),
        "rate": (1e-4, 3e-4, 1e-3),
        "rate_discriminator": (1e-5, 1e-4, 1e-3),
        "weight_decay": (0.0, 1e-4, 1e-3),
    }

    network_: DADHNetwork
    _discrete: Tensor

    def __init__(
        self,
        bits: int = 64,
        *,
        hidden: int = 512,  # released: 8192, 4096, 2048
        latent: int = 512,
        dropout: float = 0.5,
        alpha: float = 10.0,
        beta: float = 1.1,
        gamma: float = 1.0,
        mu: float = 1e-5,
        ridge: float = 1.0,
        margin: float = 0.4,
        graded: bool = True,
        adv_scope: Literal["encoder", "head"] = "encoder",
        reduction: Literal["mean", "released"] = "mean",
        fill: Literal["mask", "drop", "mean"] = "mask",
        epochs: int = 30,
        batch_size: int = 128,
        rate: float = 1e-3,  # released: 5e-5, for 300 epochs
        rate_discriminator: float = 1e-4,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.bits, self.hidden, self.latent, self.dropout = bits, hidden, latent, dropout
        self.alpha, self.beta, self.gamma, self.mu, self.ridge, self.margin = alpha, beta, gamma, mu, ridge, margin
        self.graded, self.adv_scope, self.reduction, self.fill = graded, adv_scope, reduction, fill
        self.epochs, self.batch_size, self.rate, self.rate_discriminator, self.weight_decay, self.seed = (
            epochs, batch_size, rate, rate_discriminator, weight_decay, seed,
        )  # fmt: skip

    def build(self) -> DADHNetwork:
        """All networks."""
        widths = (self.hidden, self.latent)
        return DADHNetwork(list(self.widths_.values()), len(self.classes_), self.bits, widths, self.dropout)

    def prepare(self, data: Dataset) -> None:
        """Standardise; project labels to random codes of the items."""
        super().prepare(data)
        assert data.labels is not None  # noqa: S101 - fit has checked
        labels = torch.from_numpy(data.labels.dense() * data.labels.known[:, None])
        random = torch.from_numpy(np.random.default_rng(self.seed).standard_normal((len(data), self.bits))).float()
        self.network_.projection.copy_(label_projection(labels.float(), signs(random), self.ridge))

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """Before each epoch: the discrete codes, and the projection to them, from which the next ones come."""
        memory, projection = self.remember(batches, device), self.network_.projection
        total = sum(memory.values.values(), torch.zeros((), device=device))
        self._discrete = signs(memory.labels @ projection + 0.5 * self.mu * total)
        projection.copy_(label_projection(memory.labels, self._discrete, self.ridge))

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; see the class."""
        batch, network, names = self.received(batch), self.network_, list(self.widths_)
        features = [network.feature(batch.x[m], k) for k, m in enumerate(names)]
        codes = [network.code(feature, k) for k, feature in enumerate(features)]
        triplets = distance = batch.labels.new_zeros(())
        for a, b in permutations(range(len(names)), 2):
            triplets = triplets + self._triplets(batch, codes, a, b) / (len(names) - 1)
        for m, code in zip(names, codes, strict=True):
            if len(code):
                distance = distance + ((code - self._discrete[batch.index[batch.rows[m]]]) ** 2).mean()
        judged = codes
        if self.adv_scope == "head":
            judged = [network.code(feature.detach(), k) for k, feature in enumerate(features)]
        adversary, discriminators = self._opposed("feature", features)
        by_codes, own = self._opposed("code", judged)
        adversary, discriminators = adversary + by_codes, discriminators + own
        loss = self.alpha * triplets + self.beta * distance + self.gamma * adversary + discriminators
        return {
            "loss": loss,
            "triplets": triplets,
            "distance": distance,
            "adversary": adversary,
            "discriminators": discriminators,
        }

    def _triplets(self, batch: Batch, codes: list[Tensor], a: int, b: int) -> Tensor:
        """Anchors of modality ``a`` among codes of ``b``; rows without label take no part."""
        names = list(self.widths_)
        rows = [batch.rows[names[m]] for m in (a, b)]
        known = [batch.known[own] for own in rows]
        labels = [batch.labels[own[here]] for own, here in zip(rows, known, strict=True)]
        positives = (graded_relevance if self.graded else share_label)(*labels)
        distances = 1 - kernel(codes[a][known[0]], codes[b][known[1]])
        if self.reduction == "released":
            return RELEASED * triplet_loss(distances, positives, self.margin, reduction="sum")
        return triplet_loss(distances, positives, self.margin)

    def _opposed(self, kind: str, outputs: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The adversarial term of all modalities but the first, and the loss of the discriminator."""
        discriminator: Discriminator = self.network_.discriminator[kind]  # type: ignore[assignment]
        fakes = torch.cat(outputs[1:])
        real, fake = outputs[0].detach(), fakes.detach()
        own = discriminator_loss(discriminator(real), discriminator(fake))
        return fooling_loss(discriminator.fixed(fakes)), own + PENALTY * slope_penalty(discriminator, real, fake)


def label_projection(labels: Tensor, codes: Tensor, ridge: float) -> Tensor:
    """Ridge regression of codes on labels: P = (L^T L + ridge I)^-1 L^T B.

    Args:
        labels: L, multi-hot, zeros where unknown, shape (n, c), float.
        codes: B, shape (n, r), float.
        ridge: > 0.

    Returns:
        P, shape (c, r).

    Paper: Bai et al., DADH, ICMR 2020.
    """
    gram = labels.T @ labels + ridge * torch.eye(labels.shape[1], device=labels.device, dtype=labels.dtype)
    found: Tensor = torch.linalg.solve(gram, labels.T @ codes)
    return found
