"""Adversary Guided Asymmetric Hashing: triplets, learned codes of classes, attention to classes, and two critics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn
from torch.optim import Adamax, Optimizer

from amodal.losses import kernel, share_label, triplet_loss, wasserstein_gap
from amodal.methods.card import Card
from amodal.methods.hashing.adversaries import AdversarialHash, slope_penalty
from amodal.methods.hashing.feature_hash import HashNetwork, Memory, signs
from amodal.methods.networks import FILLS, Discriminator
from amodal.training import Batch, Batches

__all__ = ["AGAH", "next_class_codes"]

PENALTY = 10.0  #: weight of the critics' gradient penalty
SLOPE = 5.0  #: of the attention


class AGAHNetwork(HashNetwork):
    """``HashNetwork`` with a feature and a code for each class, and a critic for each modality.

    Attributes:
        map: Unit feature of each class, shape (c, e); codes depend on it.
        class_codes: Code of each class, +-1, shape (c, r).
        scale: By modality, what the norm of a batch would be, shape (M,); only for ``norm="batch"``.
    """

    map: Tensor
    class_codes: Tensor
    scale: Tensor

    def __init__(
        self, dims: list[int], classes: int, bits: int, widths: Sequence[int], dropout: float, mix: float, norm: str
    ) -> None:
        super().__init__(dims, bits, widths, dropout)
        self.mix, self.norm = mix, norm
        latent = widths[-1]
        self.discriminator = nn.ModuleList([Discriminator(latent, (latent, latent // 2)) for _ in dims])
        self.register_buffer("map", torch.zeros(classes, latent))
        self.register_buffer("class_codes", signs(torch.randn(classes, bits)))
        self.register_buffer("scale", torch.ones(len(dims)))

    def feature(self, x: Tensor, modality: int) -> Tensor:
        """Latent features of length 1; with norm="batch" all rows of a training batch together have length 1."""
        feature = super().feature(x, modality)
        if self.norm == "row":
            return F.normalize(feature, eps=1e-8)
        return feature / (feature.norm().clamp_min(1e-8) if self.training else self.scale[modality])

    def code(self, feature: Tensor, modality: int) -> Tensor:
        """Codes of features that are drawn to those of the classes they resemble.

        f' = mix f + (1 - mix) a map / sum_k a_k,   a = sigmoid(5 f map^T)
        """
        attention = torch.sigmoid(SLOPE * feature @ self.map.T)  # (m, c)
        drawn = attention @ self.map / attention.sum(dim=1, keepdim=True)
        return super().code(self.mix * feature + (1 - self.mix) * drawn, modality)


class AGAH(AdversarialHash):
    """Adversary Guided Asymmetric Hashing.

    Codes of one modality should be nearer to similar codes of another than to dissimilar ones. Every class has a +-1
    code to which items regress, and a feature to which theirs are drawn. A Wasserstein critic per modality tells its
    features from those of the others, which learn to pass.

        L   = sum_{a != b} T(a, b) / (M - 1) - mu sum_m mean D_m(f^others)
              + sum_m [ alpha mean sigmoid(-cos(|h|, 1)) + gamma mean (<h, C_k> - r (2 L_k - 1))^2 / r^2
                        + eta mean |h - sign h|^2 / r ]
        T   : ``losses.triplet_loss`` over cosine distances of codes, positives share a label
        D_m : + mean D_m(f^others) - mean D_m(f^m) + 10 ``losses.gradient_penalty``
        C   : ``next_class_codes``;  map: mean unit feature of each class, both anew before each epoch

    Args:
        bits: Code length r.
        hidden: Width of the first layer of every encoder.
        latent: Width e of the features that the critics see.
        dropout: Share of units left out in training.
        alpha: Weight of outputs of equal size.
        gamma: Weight of the regression to class codes.
        eta: Weight of the distance to signs.
        mu: Weight of the critics in the encoders' loss.
        mix: Share of an item's own feature; 1 for no attention to classes.
        margin: Of the triplets.
        feature_norm: Length 1 by "row"; or the released "batch", for which a training item depends on its companions.
            Encoding divides by what a batch would have on average.
        code_map_target: Class codes for the loss above, "paper"; or "released", with labels in {0, 1} in their step.
        reduction: "mean" as above, or the released "sum" over triplets, rows and entries.
        fill: What is done about an absent modality: "mask", "drop" or "mean".
        solver: "adam", or the released "adamax".
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate.
        rate_discriminator: Learning rate of the critics.
        weight_decay: Weight decay.
        seed: Seed of weights, order and noise.

    Paper: Gu et al., ICMR 2019.
    Reference code: WendellGul/AGAH (no licence; read, not used).
    """

    card: ClassVar[Card] = Card(
        slug="agah",
        name="AGAH",
        summary="Triplets across modalities, codes learned for classes, attention to classes, and Wasserstein critics.",
        paper="Gu, Gu, Gu, Li, Xiong, Wang: Adversary Guided Asymmetric Hashing for Cross-Modal Retrieval, ICMR 2019",
        url="https://doi.org/10.1145/3323873.3325045",
        family="hashing",
        returns="codes",
        needs_labels=True,
        needs_pairs="no",
        native="any",
        fills=FILLS,
        checked="triplets against loops; the step of the class codes never raises its objective; codes of items alone",
        departures=(
            "read from released code and abstract; the full paper was not at hand",
            "networks on ready features in place of CNN-F and raw words",
            "means in place of sums (preset), and weights of .003 to .01 beside the triplets: at 1 codes collapse",
            "encoders and critics step at once; released: critics first, then encoders, on each batch",
            "features of length 1 each; released: of a batch together, so that codes depend on companions (preset; "
            "when encoding, the norm of an average batch)",
            "one rate for all encoders, along a cosine; released: images a tenth of it, x .6 at epochs 0, 100, 200",
            "the step of the class codes reads the old ones; the released one overwrites them while it does",
            "a class without rows in any modality keeps its feature",
        ),
        reference_code="WendellGul/AGAH, no licence; read, not used",
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "released": {
            "hidden": 4096,
            "latent": 512,
            "dropout": 0.0,
            "alpha": 1.0,
            "gamma": 1e-3,
            "eta": 1.0,
            "mu": 1.0,
            "feature_norm": "batch",
            "code_map_target": "released",
            "reduction": "sum",
            "solver": "adamax",
            "epochs": 300,
            "rate": 1e-3,
            "rate_discriminator": 1e-3,
            "weight_decay": 5e-4,
        },
    }
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "alpha": (0.0, 0.01, 0.1),
        "gamma": (0.0, 0.003, 0.01),
        "eta": (0.0, 0.01, 0.1),
        "mu": (0.0, 0.01, 0.1),
        "mix": (0.6, 0.8, 1.0),
        "margin": (0.1, 0.3, 0.5),
        "dropout": (0.0, 0.2, 0.5),
        "rate": (3e-4, 1e-3, 3e-3),
        "rate_discriminator": (1e-5, 1e-4, 1e-3),
        "weight_decay": (0.0, 1e-4, 1e-3),
    }

    network_: AGAHNetwork

    def __init__(
        self,
        bits: int = 64,
        *,
        hidden: int = 512,
        latent: int = 256,  # released: 512; ours, for the cost of critics, as are epochs
        dropout: float = 0.5,
        # released: sums, where 1e5 triplets drown the other terms; at 1 each on means all codes become one, as from
        # four classes on C_k = -h for all of them comes nearest to <h, C_k> = r (2 L_k - 1)
        alpha: float = 0.01,
        gamma: float = 0.003,
        eta: float = 0.01,
        mu: float = 0.01,
        mix: float = 0.8,
        margin: float = 0.3,
        feature_norm: Literal["row", "batch"] = "row",
        code_map_target: Literal["paper", "released"] = "paper",
        reduction: Literal["mean", "sum"] = "mean",
        fill: Literal["mask", "drop", "mean"] = "mask",
        solver: Literal["adam", "adamax"] = "adam",
        epochs: int = 30,
        batch_size: int = 128,
        rate: float = 3e-3,
        rate_discriminator: float = 1e-4,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.bits, self.hidden, self.latent, self.dropout = bits, hidden, latent, dropout
        self.alpha, self.gamma, self.eta, self.mu, self.mix, self.margin = alpha, gamma, eta, mu, mix, margin
        self.feature_norm, self.code_map_target, self.reduction = feature_norm, code_map_target, reduction
        self.fill, self.solver, self.epochs, self.batch_size, self.seed = fill, solver, epochs, batch_size, seed
        self.rate, self.rate_discriminator, self.weight_decay = rate, rate_discriminator, weight_decay

    def build(self) -> AGAHNetwork:
        """All networks, and random class codes."""
        return AGAHNetwork(
            list(self.widths_.values()),
            len(self.classes_),
            self.bits,
            (self.hidden, self.latent),
            self.dropout,
            self.mix,
            self.feature_norm,
        )

    def optimizer(self) -> Optimizer:
        """Adam, or Adamax as released."""
        return super().optimizer() if self.solver == "adam" else Adamax(self.groups())

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """Before each epoch: features and codes of the classes."""
        network, names = self.network_, list(self.widths_)
        if self.feature_norm == "batch":
            network.scale.fill_(1)
            whole = self.remember(batches, device, self._feature)
            for k, m in enumerate(names):
                network.scale[k] = (self.batch_size * (whole.observed(m)[0] ** 2).sum(dim=1).mean()).sqrt()
        memory = self.remember(batches, device, self._feature)
        network.map.copy_(_class_features(memory, network.map))
        codes, targets = [], []
        for k, m in enumerate(names):
            feature, labels = memory.observed(m)
            known = labels.any(dim=1)
            with torch.no_grad():
                codes.append(signs(network.code(feature[known], k)))
            targets.append(labels[known] if self.code_map_target == "released" else 2 * labels[known] - 1)
        network.class_codes.copy_(next_class_codes(codes, targets, network.class_codes))

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; see the class."""
        batch, network, names = self.received(batch), self.network_, list(self.widths_)
        features = {m: self._feature(batch.x[m], m) for m in names}
        codes = {m: network.code(features[m], k) for k, m in enumerate(names)}
        total = batch.labels.new_zeros(())
        terms = dict.fromkeys(("triplets", "evenness", "classes", "distance", "adversary", "critics"), total)
        for a, b in permutations(names, 2):
            terms["triplets"] = terms["triplets"] + self._triplets(batch, codes, a, b) / (len(names) - 1)
        for k, m in enumerate(names):
            own, known = codes[m], batch.known[batch.rows[m]]
            target = self.bits * (2 * batch.labels[batch.rows[m][known]] - 1)
            uneven = torch.sigmoid(-F.cosine_similarity(own.abs(), torch.ones_like(own), eps=1e-8))
            apart = own[known] @ network.class_codes.T - target
            terms["evenness"] = terms["evenness"] + self._reduced(uneven)
            terms["classes"] = terms["classes"] + self._reduced(apart**2, self.bits**2)
            terms["distance"] = terms["distance"] + self._reduced((own - signs(own.detach())) ** 2)
            others = torch.cat([features[other] for other in names if other != m])
            critic: Discriminator = network.discriminator[k]  # type: ignore[assignment]
            if len(others):
                terms["adversary"] = terms["adversary"] - critic.fixed(others).mean()
            real, fake = features[m].detach(), others.detach()
            gap = wasserstein_gap(critic(real), critic(fake))
            terms["critics"] = terms["critics"] + gap + PENALTY * slope_penalty(critic, real, fake)
        weights = {
            "triplets": 1.0, "evenness": self.alpha, "classes": self.gamma, "distance": self.eta,
            "adversary": self.mu, "critics": 1.0,
        }  # fmt: skip
        return {"loss": sum((weights[name] * value for name, value in terms.items()), total), **terms}

    def _feature(self, x: Tensor, modality: str) -> Tensor:
        return self.network_.feature(x, self.position(modality))

    def _triplets(self, batch: Batch, codes: dict[str, Tensor], a: str, b: str) -> Tensor:
        """Anchors of ``a`` among codes of ``b``; rows without label take no part."""
        (anchors, la), (others, lb) = (
            (codes[m][batch.known[batch.rows[m]]], batch.labels[batch.rows[m][batch.known[batch.rows[m]]]])
            for m in (a, b)
        )
        return triplet_loss(1 - kernel(anchors, others), share_label(la, lb), self.margin, reduction=self.reduction)

    def _reduced(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """The sum, or the mean divided by a scale; 0 without rows."""
        return x.sum() if self.reduction == "sum" or not len(x) else x.mean() / scale


def _class_features(memory: Memory, old: Tensor) -> Tensor:
    """Mean feature of each class in each modality, averaged over those that have it, of length 1; else the old one."""
    total, found = torch.zeros_like(old), torch.zeros_like(old[:, :1])
    for m in memory.rows:
        feature, labels = memory.observed(m)
        count = labels.sum(dim=0)[:, None]
        total += labels.T @ feature / count.clamp_min(1)
        found += count > 0
    return torch.where(found > 0, F.normalize(total, eps=1e-8), old)


def next_class_codes(codes: Sequence[Tensor], targets: Sequence[Tensor], old: Tensor) -> Tensor:
    """Codes of classes after one pass over the bits, each the best one for the others as they stand.

        min_C  sum_m |U_m C^T - r Y_m|^2 + |C old^T - r (2 I - 1)|^2,   C in {-1, 1}^(c x r)

    Args:
        codes: By modality, codes U_m of its labelled rows, +-1, shape (n_m, r).
        targets: By modality, Y_m: 2 L - 1 of the labels of these rows, shape (n_m, c).
        old: The class codes before, +-1, shape (c, r).

    Returns:
        New class codes, +-1, shape (c, r). The objective never rises.

    Paper: Gu et al., AGAH, ICMR 2019.
    Reference code: WendellGul/AGAH (no licence; read, not used).
    """
    bits = old.shape[1]
    pull = 2 * old - old.sum(dim=0)  # (2 I - 1) old
    together = old.T @ old
    for u, y in zip(codes, targets, strict=True):
        pull = pull + y.T @ u
        together = together + u.T @ u
    new = old.clone()
    for k in range(bits):
        others = new @ together[:, k] - new[:, k] * together[k, k]
        new[:, k] = signs(bits * pull[:, k] - others)
    return new
