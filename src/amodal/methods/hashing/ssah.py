"""Self-Supervised Adversarial Hashing: image and text networks imitate a network that sees the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from amodal.data import Dataset
from amodal.losses import discriminator_loss, fooling_loss, pair_likelihood, share_label
from amodal.methods.card import Card
from amodal.methods.hashing.adversaries import AdversarialHash
from amodal.methods.hashing.feature_hash import HashNetwork, signs
from amodal.methods.networks import FILLS, Discriminator
from amodal.training import Batch, Batches

__all__ = ["SSAH"]


class SSAHNetwork(HashNetwork):
    """``HashNetwork``, a label network beside it, a class head for each, and a discriminator per modality."""

    def __init__(self, dims: list[int], classes: int, bits: int, hidden: int, latent: int, dropout: float) -> None:
        super().__init__(dims, bits, (hidden, latent), dropout)
        self.label = nn.Sequential(nn.Linear(classes, hidden), nn.ReLU(), nn.Linear(hidden, latent), nn.ReLU())
        self.label_head = nn.Linear(latent, bits)
        self.label_classes = nn.Linear(latent, classes)
        self.classes = nn.ModuleList([nn.Linear(latent, classes) for _ in dims])
        self.discriminator = nn.ModuleList([Discriminator(latent, (latent, latent // 2)) for _ in dims])

    def label_outputs(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Semantic features and real-valued codes of label vectors, shapes (m, e) and (m, r)."""
        feature = self.label(labels)
        return feature, torch.tanh(self.label_head(feature))


class SSAH(AdversarialHash):
    """Self-Supervised Adversarial Hashing.

    A label network learns semantic features f and codes h from label vectors. A network per modality is fitted to label
    sharing with the label network's features and codes of all items, and its discriminator is to take its features for
    those of labels.

        L   = sum_k [ alpha l(f^k, F) + gamma l(h^k, H) + beta |h^k - b|^2 / r + eta BCE(class head, labels) ]
              + sum_m [ delta mean softplus(-D_m(f^m)) + discriminator_loss(D_m(f^label), D_m(f^m)) ]
        k   : the label network and all modalities;  m: modalities
        l   : ``losses.pair_likelihood``, theta = <., .> / 2, against the distinct label vectors with their counts
        F, H: the label network's outputs on these, anew before each epoch, rows of the batch live
        b   = sign(H + sum_m H_m), anew before each epoch

    As f >= 0, l(f, F) costs at least log 2 for a dissimilar pair: it can be pushed to theta = 0 and no further.

    Args:
        bits: Code length r.
        hidden: Width of the first layer of every network.
        latent: Width e of the features that the discriminators see.
        dropout: Share of units left out in training.
        alpha: Weight of the likelihood of features.
        gamma: Weight of the likelihood of codes.
        beta: Weight of the distance to the common code.
        eta: Weight of the class heads.
        delta: Weight of the adversarial term.
        balance: Balance of the likelihoods, "half" or the paper's "none".
        pair_loss: "likelihood", or half its square as released: "squared".
        label_loss: Of the class heads: cross-entropy "bce", or the released "squared" error.
        quant_target: b as above, "common", or the sign of the code itself as released, "self".
        adversary: "encoders" as above; or "released": no gradient reaches the encoders, and each discriminator learns
            to be fooled as well.
        reduction: "mean" as above, or the published "sum" over pairs, bits and classes, divided by batch size and n.
        fill: What is done about an absent modality: "mask", "drop" or "mean".
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate.
        rate_discriminator: Learning rate of the discriminators; above ``rate`` they win early.
        weight_decay: Weight decay.
        seed: Seed of weights, order and dropout.

    Paper: Li et al., CVPR 2018.
    Reference code: lelan-li/SSAH (no licence; read, not used).
    """

    card: ClassVar[Card] = Card(
        slug="ssah",
        name="SSAH",
        summary="A network that sees labels teaches features and codes to the others; discriminators align features.",
        paper="Li, Deng, Li, Liu, Gao, Tao: Self-Supervised Adversarial Hashing Networks, CVPR 2018",
        url="https://arxiv.org/abs/1804.01223",
        family="hashing",
        returns="codes",
        needs_labels=True,
        needs_pairs="no",
        native="any",
        fills=FILLS,
        checked="gradient of the released form against a loop; distinct labels against the sum over all items",
        departures=(
            "read from released code and abstract; the full paper was not at hand",
            "networks on ready features in place of CNN-F and the six text scales; no response normalisation",
            'balance="half" and means of likelihoods; released: sums of half their squares (preset)',
            "the distance to b weighs .1, without which b of the first pass holds all codes (preset: 1, on sums)",
            "the adversary reaches the encoders; in the released code no gradient of it does (preset)",
            "all networks and discriminators learn on each batch; released: in turn, up to 27 passes each, with early "
            "breaks, at rates of their own",
            "S is 1 for similar pairs; released: .999",
            "rows without label take part in the adversary and the distance to b",
        ),
        reference_code="lelan-li/SSAH, no licence; read, not used",
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "released": {
            "beta": 1.0,
            "hidden": 4096,
            "dropout": 0.0,
            "balance": "none",
            "pair_loss": "squared",
            "label_loss": "squared",
            "quant_target": "self",
            "adversary": "released",
            "reduction": "sum",
            "epochs": 500,
            "rate": 10**-3.5,  # of the text network; images 10^-4.5, labels 10^-2
            "rate_discriminator": 1e-3,
        },
    }
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "alpha": (0.0, 0.1, 1.0),
        "beta": (0.01, 0.1, 1.0),
        "eta": (0.1, 1.0, 10.0),
        "delta": (0.0, 0.1, 1.0),
        "dropout": (0.0, 0.2, 0.5),
        "rate": (1e-4, 3e-4, 1e-3),
        "rate_discriminator": (1e-5, 1e-4, 1e-3),
        "weight_decay": (0.0, 1e-4, 1e-3),
    }
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)

    network_: SSAHNetwork
    _common: Tensor
    _features: Tensor
    _codes: Tensor

    def __init__(
        self,
        bits: int = 64,
        *,
        hidden: int = 512,  # released: 4096
        latent: int = 512,
        dropout: float = 0.5,
        alpha: float = 1.0,
        gamma: float = 1.0,
        beta: float = 0.1,  # released: 1, on sums; on means 1 holds all codes at b of the first pass, nearly constant
        eta: float = 1.0,
        delta: float = 1.0,
        balance: Literal["half", "none"] = "half",
        pair_loss: Literal["likelihood", "squared"] = "likelihood",
        label_loss: Literal["bce", "squared"] = "bce",
        quant_target: Literal["common", "self"] = "common",
        adversary: Literal["encoders", "released"] = "encoders",
        reduction: Literal["mean", "sum"] = "mean",
        fill: Literal["mask", "drop", "mean"] = "mask",
        epochs: int = 20,
        batch_size: int = 128,
        rate: float = 1e-3,
        rate_discriminator: float = 1e-5,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.bits, self.hidden, self.latent, self.dropout = bits, hidden, latent, dropout
        self.alpha, self.gamma, self.beta, self.eta, self.delta = alpha, gamma, beta, eta, delta
        self.balance, self.pair_loss, self.label_loss = balance, pair_loss, label_loss
        self.quant_target, self.adversary, self.reduction, self.fill = quant_target, adversary, reduction, fill
        self.epochs, self.batch_size, self.rate, self.rate_discriminator, self.weight_decay, self.seed = (
            epochs, batch_size, rate, rate_discriminator, weight_decay, seed,
        )  # fmt: skip

    def build(self) -> SSAHNetwork:
        """All networks."""
        dims = list(self.widths_.values())
        return SSAHNetwork(dims, len(self.classes_), self.bits, self.hidden, self.latent, self.dropout)

    def prepare(self, data: Dataset) -> None:
        """Standardise; find the distinct label vectors."""
        super().prepare(data)
        assert data.labels is not None  # noqa: S101 - fit has checked
        distinct, counts, which = data.labels.distinct()
        self._distinct, self._counts = torch.from_numpy(distinct), torch.from_numpy(counts).float()
        self._which = torch.from_numpy(which)  # -1 without label

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """Before each epoch: outputs of the label network, and the common codes."""
        self._distinct, self._counts, self._which = (
            part.to(device) for part in (self._distinct, self._counts, self._which)
        )
        memory = self.remember(batches, device)
        with torch.no_grad():
            self._features, self._codes = self.network_.label_outputs(self._distinct)
        total = sum(memory.values.values(), torch.zeros((), device=device))
        self._common = signs(total + self._codes[self._which] * (self._which >= 0)[:, None])

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; see the class."""
        batch, network = self.received(batch), self.network_
        labelled = batch.known.nonzero().squeeze(1)
        real, code = network.label_outputs(batch.labels[labelled])
        which = self._which[batch.index[labelled]]
        self._features[which], self._codes[which] = real.detach(), code.detach()
        terms = self._terms(batch, labelled, real, code, network.label_classes(real))
        for k, m in enumerate(self.widths_):
            feature = network.feature(batch.x[m], k)
            own = self._terms(batch, batch.rows[m], feature, network.code(feature, k), network.classes[k](feature))
            own |= self._opposed(network.discriminator[k], real, feature)  # type: ignore[arg-type]
            for name, value in own.items():
                terms[name] = terms[name] + value if name in terms else value
        weights = {
            "features": self.alpha, "codes": self.gamma, "distance": self.beta, "classes": self.eta,
            "adversary": self.delta, "discriminators": 1.0,
        }  # fmt: skip
        loss = sum((weights[name] * value for name, value in terms.items()), real.new_zeros(()))
        return {"loss": loss, **terms}

    def _terms(self, batch: Batch, rows: Tensor, feature: Tensor, code: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """What the label network and those of modalities have in common, for the rows of a batch that one sees."""
        known = batch.known[rows]
        labels = batch.labels[rows[known]]
        probability = torch.sigmoid(classes[known])
        target = signs(code.detach()) if self.quant_target == "self" else self._common[batch.index[rows]]
        distance = (code - target) ** 2
        wrong = (
            (probability - labels) ** 2
            if self.label_loss == "squared"
            else F.binary_cross_entropy_with_logits(classes[known], labels, reduction="none")
        )
        if self.reduction == "sum":  # over n: the published sums / (batch size x n)
            n = len(self._which)
            parts = [part.sum() / (max(len(part), 1) * n) for part in (distance, wrong)]
        else:
            parts = [part.mean() if len(part) else part.sum() for part in (distance, wrong)]
        return {
            "features": self._likelihood(feature[known], self._features, labels),
            "codes": self._likelihood(code[known], self._codes, labels),
            "distance": parts[0],
            "classes": parts[1],
        }

    def _likelihood(self, outputs: Tensor, memory: Tensor, labels: Tensor) -> Tensor:
        """Outputs of labelled rows against those of the label network for all items."""
        squared = self.pair_loss == "squared"
        theta = 0.5 * outputs @ memory.T  # (m, U)
        similar = share_label(labels, self._distinct)
        loss = pair_likelihood(theta, similar, self._counts, balance=self.balance, squared=squared)
        return 0.5 * loss if squared else loss

    def _opposed(self, discriminator: Discriminator, real: Tensor, feature: Tensor) -> dict[str, Tensor]:
        """The adversarial term of a modality, and the loss of its discriminator."""
        released = self.adversary == "released"
        judged = discriminator(feature.detach()) if released else discriminator.fixed(feature)
        own = discriminator_loss(discriminator(real.detach()), discriminator(feature.detach()))
        return {"adversary": fooling_loss(judged), "discriminators": own}
