"""A dual encoder: a head for each modality, partners find each other by contrast, and others follow where it began."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from itertools import combinations
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from amodal.data import Dataset
from amodal.errors import MethodError
from amodal.losses import supervised_contrastive
from amodal.losses.matching import matching_hinge
from amodal.methods.card import Card
from amodal.methods.correlated import correlated_maps
from amodal.methods.matching.blocks import real_parts
from amodal.methods.matching.encoders import PartScale
from amodal.methods.networks import FeatureMethod, Scale
from amodal.methods.pairs import Ranking, mean_rsum
from amodal.metrics import measure
from amodal.training import Batch

__all__ = ["DualEncoder", "Head"]

#: Logits are never sharper than this, as CLIP has it.
SHARPEST = math.log(100.0)
MARGIN = 0.2  # of the hardest negative, as in VSE++


class Head(nn.Module):
    """Features of one modality to the common space: scaled, pooled if they are parts, a linear map and a correction.

        x = sum_i softmax_i(w . x_i) x_i        over the parts that are no padding; w = 0 at first, which is their mean
        z = A x + b + V relu(U x + u)           V = 0 at first

    Args:
        width: Width of the features.
        dim: Width of the common space.
        hidden: Width of the correction; 0 for none.
        noise: Share of the features at their mean, in training.
        dropout: Share of the correction's units left out, in training.
        parts: Whether an observation is parts (length, d).

    Attributes:
        start: A and b as they were at first, shape (dim, width + 1); known in training only.
    """

    start: Tensor

    def __init__(self, width: int, dim: int, hidden: int, *, noise: float, dropout: float, parts: bool) -> None:
        super().__init__()
        self.standardise = PartScale(width) if parts else Scale(width)
        self.query = nn.Parameter(torch.zeros(width)) if parts else None
        self.noise = nn.Dropout(noise)
        self.linear = nn.Linear(width, dim)
        self.correction: nn.Module | None = None
        if hidden:
            last = nn.Linear(hidden, dim, bias=False)
            nn.init.zeros_(last.weight)
            self.correction = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), last)
        self.register_buffer("start", torch.zeros(dim, width + 1), persistent=False)

    def pooled(self, x: Tensor, query: Tensor | None = None) -> Tensor:
        """Scaled features, one vector per observation, shape (m, d); the mean of parts without a query."""
        scaled: Tensor = self.standardise(x)
        if x.ndim == 2:
            return scaled
        scores = scaled.new_zeros(scaled.shape[:2]) if query is None else scaled @ query
        real = real_parts(x)
        # an observation of nothing but padding is 0, the mean
        weights = scores.masked_fill(~real, -1e9).softmax(dim=1) * real
        return torch.einsum("ml,mld->md", weights, scaled)

    def forward(self, x: Tensor) -> Tensor:
        """Unit embeddings, shape (m, dim)."""
        x = self.noise(self.pooled(x, self.query))
        z: Tensor = self.linear(x)
        if self.correction is not None:
            z = z + self.correction(x)
        return F.normalize(z, dim=1, eps=1e-8)

    def begin(self, weight: Tensor, bias: Tensor) -> None:
        """Let the linear map start here: weight (k, width), bias (k,), k <= dim; the other outputs are 0."""
        with torch.no_grad():
            self.linear.weight.zero_()[: len(weight)] = weight
            self.linear.bias.zero_()[: len(bias)] = bias
            self.start = torch.cat([self.linear.weight, self.linear.bias[:, None]], dim=1).clone()

    @torch.no_grad()
    def at_first(self, x: Tensor) -> Tensor:
        """Unit embeddings as they were before learning, without noise, shape (m, dim)."""
        return F.normalize(F.linear(self.pooled(x), self.start[:, :-1], self.start[:, -1]), dim=1, eps=1e-8)


class Heads(nn.Module):
    """A head for each modality, and the sharpness of the contrast, learned as its logarithm."""

    def __init__(self, heads: list[Head], tau: float) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(heads)
        self.sharpness = nn.Parameter(torch.tensor(-math.log(tau)))

    def scale(self) -> Tensor:
        """What cosines are multiplied by: 1 / tau."""
        return self.sharpness.clamp(max=SHARPEST).exp()


class DualEncoder(FeatureMethod):
    """Two towers, one contrast: an observation finds its partner among all of the other modality in the batch.

        s_ij = exp(sharpness) <z_i, z_j>,    s0_ij = <z0_i, z0_j> / guide_tau,   z0 = z before learning
        contrast = -1/2 [ mean_i log softmax_j(s_ij) + mean_j log softmax_i(s_ij) ]     over pairs (i, j)
        guidance = -1/2 [ mean_i sum_j softmax_j(s0_ij) log softmax_j(s_ij) + the same with i and j exchanged ]
                                                                                        over i, j without a partner
        L = contrast + guide guidance + hardest (hinge of VSE++ on pairs),     mean over each two modalities

    Learning starts at regularised canonical correlations of the pairs (``cca_itq``, real-valued), which a few hundred
    pairs determine better than contrast does. What has no partner is a negative for what has one, and keeps its own
    neighbours as they were at first: without that, contrast on few pairs forgets them.

    Args:
        dim: Width of the common space.
        hidden: Width of the hidden layer beside the linear map; 0 for a linear head.
        noise: Share of the features at their mean, in training.
        dropout: Share of hidden units left out, in training.
        ridge: Regularisation of the canonical correlations at the start, in mean eigenvalues of a covariance.
        tau: Temperature at first.
        guide: Weight of the guidance.
        guide_tau: Temperature of the neighbours at first.
        hardest: Weight of the hinge with the hardest negative of the batch.
        fill: "mask" learns from all items, "drop" from complete ones only.
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate.
        weight_decay: Weight decay.
        seed: Seed of weights, order and dropout.

    Paper: symmetric contrast with a learned temperature: Radford et al., CLIP, ICML 2021; hardest negative: Faghri et
    al., VSE++, BMVC 2018. Start and guidance are ours.
    """

    card: ClassVar[Card] = Card(
        slug="dual_encoder",
        name="Dual encoder",
        summary="A head for each modality, in which partners find each other by contrast; no labels.",
        paper="Radford et al.: Learning Transferable Visual Models From Natural Language Supervision, ICML 2021",
        url="https://proceedings.mlr.press/v139/radford21a.html",
        family="embedding",
        returns="embeddings",
        takes=("vectors", "parts"),
        needs_labels=False,
        needs_pairs="yes",
        native="any",
        fills=("mask", "drop"),
        checked="loss against a loop over pairs; at the start, equality with the canonical correlations",
        departures=(
            "heads on ready features; whole networks are trained through amodal.methods.end_to_end",
            "starts at regularised canonical correlations of the pairs; the paper starts at random. rSum on the dev "
            "split of flickr8k, one seed: 289 against 263; with a tenth of the pairs it starts at 170",
            "what has no partner keeps the neighbours that it has at the start: with a tenth of the pairs 180 against "
            "147 without (one seed)",
            "parts are pooled by a learned query, padding left out",
        ),
        reference_code="openai/CLIP, MIT; read, not used",
    )
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "dim": (128, 256, 512),
        "hidden": (0, 512, 1024),
        "noise": (0.2, 0.5, 0.8),
        "ridge": (1.0, 4.0, 10.0),
        "guide": (1.0, 4.0, 10.0),
        "hardest": (0.0, 1.0),
        "rate": (1e-4, 3e-4, 1e-3),
    }

    network_: Heads

    def __init__(
        self,
        dim: int = 256,
        *,
        hidden: int = 1024,
        noise: float = 0.5,
        dropout: float = 0.5,
        ridge: float = 4.0,
        tau: float = 0.07,
        guide: float = 4.0,
        guide_tau: float = 0.02,
        hardest: float = 0.0,
        fill: Literal["mask", "drop"] = "mask",
        epochs: int = 30,
        batch_size: int = 512,
        rate: float = 3e-4,
        weight_decay: float = 0.01,
        seed: int = 0,
    ) -> None:
        self.dim, self.hidden, self.noise, self.dropout, self.ridge = dim, hidden, noise, dropout, ridge
        self.tau, self.guide, self.guide_tau, self.hardest, self.fill = tau, guide, guide_tau, hardest, fill
        self.epochs, self.batch_size, self.rate, self.weight_decay, self.seed = (
            epochs, batch_size, rate, weight_decay, seed,
        )  # fmt: skip

    def build(self) -> Heads:
        """A head for every modality."""
        heads = [
            Head(width, self.dim, self.hidden, noise=self.noise, dropout=self.dropout, parts=name in self.parts_)
            for name, width in self.widths_.items()
        ]
        return Heads(heads, self.tau)

    def prepare(self, data: Dataset) -> None:
        """Also the canonical correlations to start at."""
        super().prepare(data)
        vectors = {name: self._head(name).pooled for name in data.names}
        for name, start in correlated_maps(data, vectors, self.dim, self.ridge).items():
            # of length 1 on average, beside which the correction is to have a say
            self._head(name).begin(*start)

    def groups(self) -> list[dict[str, Any]]:
        """All parameters at one rate; weights of the correction decay, others do not."""
        decayed = [p for name, p in self.network_.named_parameters() if "correction" in name and p.ndim > 1]
        others = [p for name, p in self.network_.named_parameters() if not ("correction" in name and p.ndim > 1)]
        return [
            {"params": decayed, "lr": self.rate, "weight_decay": self.weight_decay},
            {"params": others, "lr": self.rate, "weight_decay": 0.0},
        ]

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; each two modalities count the same."""
        z = {name: self._head(name)(batch.x[name]) for name in self.widths_}
        twos = list(combinations(self.widths_, 2))
        contrast = guidance = hinge = batch.labels.new_zeros(())
        for a, b in twos:
            if not (len(z[a]) and len(z[b])):
                continue
            cosines = z[a] @ z[b].T
            partner = torch.zeros_like(cosines)
            here, there = batch.pairs(a, b)
            partner[here, there] = 1
            contrast = contrast + _both_ways(cosines * self.network_.scale(), partner) / len(twos)
            if self.guide:
                near = self._head(a).at_first(batch.x[a]) @ self._head(b).at_first(batch.x[b]).T / self.guide_tau
                guidance = guidance + self._guidance(cosines, near, partner) / len(twos)
            if self.hardest:
                items = batch.index[batch.rows[a][here]]
                hinge = hinge + matching_hinge(cosines[here][:, there], items, MARGIN, reduction="mean") / len(twos)
        loss = contrast + self.guide * guidance + self.hardest * hinge
        return {"loss": loss, "contrast": contrast, "guidance": guidance, "hinge": hinge}

    def validation_score(self, validation: Dataset) -> float:
        """The rSum of held-out pairs, as of a matcher: what belongs together needs no labels.

        Raises:
            MethodError: If no held-out item has a pair.
        """

        def rankings(both: Dataset, a: str, b: str) -> tuple[Ranking, Ranking]:
            x, y = self.encode_table(both[a], a), self.encode_table(both[b], b)
            return partial(measure, x, y), partial(measure, y, x)

        return mean_rsum(validation, list(self.widths_), rankings)

    def _guidance(self, cosines: Tensor, near: Tensor, partner: Tensor) -> Tensor:
        """How far anchors without partner are from the neighbours they had at first."""
        logits = cosines * self.network_.scale()
        alone, alone_there = 1 - partner.amax(dim=1, keepdim=True), 1 - partner.amax(dim=0, keepdim=True).T
        forth = supervised_contrastive(logits, near.softmax(dim=1) * alone)
        back = supervised_contrastive(logits.T, near.T.softmax(dim=1) * alone_there)
        return (forth + back) / 2

    def output(self, x: Tensor, modality: str) -> Tensor:
        """Unit embeddings, shape (m, dim)."""
        z: Tensor = self._head(modality)(x)
        return z

    def _head(self, modality: str) -> Head:
        head: Head = self.network_.encoder[self.position(modality)]  # type: ignore[assignment]
        return head

    def _check_pairs(self, data: Dataset) -> None:
        paired = data.presence().sum(axis=1) > 1
        for name in data.names:
            if not (paired & data.present(name)).any():
                raise MethodError(
                    f'dual_encoder learns from pairs, and no item with the modality "{name}" has another one. Give '
                    "some items both, or take a method that learns from labels alone, for instance label_contrastive."
                )


def _both_ways(logits: Tensor, partner: Tensor) -> Tensor:
    """Contrast of both directions, mean of the two."""
    return (supervised_contrastive(logits, partner) + supervised_contrastive(logits.T, partner.T)) / 2
