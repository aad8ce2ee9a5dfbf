"""Codes that find the code of their own labels among the codes of all label vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from amodal.data import Dataset
from amodal.errors import UsageError, nearest
from amodal.losses import jaccard, kernel, supervised_contrastive
from amodal.methods.card import Card
from amodal.methods.hashing.feature_hash import FeatureHash, HashNetwork, signs
from amodal.methods.networks import FILLS
from amodal.training import Batch

__all__ = ["LabelContrastive"]

TARGETS = ("auto", "soft", "hard")
LABEL_ENCODERS = ("mlp", "linear")


class LabelledNetwork(HashNetwork):
    """Networks of the modalities, and one for label vectors.

    Args:
        dims: Width of the features of each modality, in order.
        bits: Outputs of a head.
        widths: Widths of the layers of every encoder.
        dropout: Share of units left out in training.
        label: From label vectors (u, c) to outputs (u, r).
    """

    def __init__(self, dims: Sequence[int], bits: int, widths: Sequence[int], dropout: float, label: nn.Module) -> None:
        super().__init__(dims, bits, widths, dropout)
        self.label = label

    def prototypes(self, vectors: Tensor) -> Tensor:
        """Codes of label vectors, shape (u, r)."""
        return torch.tanh(self.label(vectors))


class LabelContrastive(FeatureHash):
    """Contrast between the code of an item and the codes of label vectors.

    A label encoder g gives every distinct label vector u a code y_u. The code h of an item, from each modality on its
    own, should find the code of its labels among all of them, and the code of a label vector its items in the batch.

        s_iu = cos(h_i, y_u) / tau,  J = ``losses.jaccard`` of the labels of i and u
        items  = mean_i - sum_u q_iu log softmax_u(s_iu),   q_iu = 1[J = 1] ("hard") or J_iu / sum_u' J_iu' ("soft")
        labels = mean_u - mean over items i with labels u of log softmax_i(s_iu)
        L = sum_m [ (items + labels) / 2 + eta |h - sign h|^2 / r ] + eta |y - sign y|^2 / r

    Args:
        bits: Code length r.
        hidden: Width of the first layer of every encoder.
        latent: Width of the latent features, and of the hidden layer of the label encoder.
        dropout: Share of units left out in training.
        tau: Temperature.
        eta: Weight of the distance from binary codes.
        targets: "soft", "hard", or "auto": soft if any item has several labels. Hard ones punish a label vector that
            differs by one tag as much as one that has nothing in common.
        label_encoder: "mlp", or "linear", whose codes are those of the classes, added up.
        vectors: The contrast is with all distinct label vectors of the training items, if they are at most so many;
            else with those of the batch.
        fill: What is done about an absent modality: "mask", "drop" or "mean".
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate.
        weight_decay: Weight decay.
        seed: Seed of weights, order and dropout.

    Paper: what CICH (Luo et al., TKDE 2024) says in one sentence of its reference [6]; a reconstruction.
    """

    card: ClassVar[Card] = Card(
        slug="label_contrastive",
        name="Label contrast",
        summary="Codes of each modality, contrasted with the codes of their labels.",
        paper="Wu et al., as CICH cites it ([6] there); which paper that is could not be confirmed",
        family="hashing",
        returns="codes",
        needs_labels=True,
        needs_pairs="no",
        native="any",
        fills=FILLS,
        checked="equality with a normalised softmax classifier; invariance to the order of rows",
        departures=(
            "all but the idea is ours: neither full text nor code could be had, and no table can be checked against",
            "the label encoder is not linear: a linear one would be CICH's prototypes over again",
        ),
        reference_code="none",
        reconstruction=True,
    )
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "tau": (0.05, 0.1, 0.2, 0.5),
        "eta": (0.0, 0.01, 0.1),
        "targets": ("soft", "hard"),
        "label_encoder": LABEL_ENCODERS,
        "dropout": (0.0, 0.2, 0.5),
        "rate": (1e-4, 3e-4, 1e-3),
        "weight_decay": (0.0, 1e-4, 1e-3),
    }

    network_: LabelledNetwork
    _soft: bool
    _vectors: Tensor | None

    def __init__(
        self,
        bits: int = 64,
        *,
        hidden: int = 512,
        latent: int = 512,
        dropout: float = 0.5,
        tau: float = 0.2,
        eta: float = 0.01,
        targets: Literal["auto", "soft", "hard"] = "auto",
        label_encoder: Literal["mlp", "linear"] = "mlp",
        vectors: int = 4096,
        fill: Literal["mask", "drop", "mean"] = "mask",
        epochs: int = 30,
        batch_size: int = 128,
        rate: float = 1e-3,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.bits, self.hidden, self.latent, self.dropout = bits, hidden, latent, dropout
        self.tau, self.eta, self.targets, self.label_encoder = tau, eta, targets, label_encoder
        self.vectors, self.fill, self.epochs, self.batch_size = vectors, fill, epochs, batch_size
        self.rate, self.weight_decay, self.seed = rate, weight_decay, seed

    def build(self) -> LabelledNetwork:
        """Two layers and a head for every modality, and the label encoder."""
        if self.label_encoder not in LABEL_ENCODERS:
            raise UsageError(nearest(str(self.label_encoder), LABEL_ENCODERS, what="label_encoder"))
        dims, classes = list(self.widths_.values()), len(self.classes_)
        label: nn.Module = nn.Linear(classes, self.bits)
        if self.label_encoder == "mlp":
            label = nn.Sequential(nn.Linear(classes, self.latent), nn.ReLU(), nn.Linear(self.latent, self.bits))
        return LabelledNetwork(dims, self.bits, (self.hidden, self.latent), self.dropout, label)

    def prepare(self, data: Dataset) -> None:
        """Also the kind of targets, and the distinct label vectors."""
        super().prepare(data)
        if self.targets not in TARGETS:
            raise UsageError(nearest(str(self.targets), TARGETS, what="targets"))
        assert data.labels is not None  # noqa: S101 - checked by fit
        labelled = np.flatnonzero(data.labels.known & (data.labels.per_row > 0))
        several = bool((data.labels.per_row[labelled] > 1).any())
        self._soft = several if self.targets == "auto" else self.targets == "soft"
        distinct = torch.from_numpy(np.unique(data.labels.dense(labelled), axis=0))
        self._vectors = distinct if len(distinct) <= self.vectors else None

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; rows without label are only drawn to binary codes."""
        batch = self.received(batch)
        if self._vectors is None:
            vectors = torch.unique(batch.labels[batch.known], dim=0)
        else:
            vectors = self._vectors = self._vectors.to(batch.labels.device)
        prototypes = self.network_.prototypes(vectors)
        items = labels = batch.labels.new_zeros(())
        binary = _from_signs(prototypes)
        for m in self.widths_:
            codes, known = self.output(batch.x[m], m), batch.known[batch.rows[m]]
            likeness = kernel(codes[known], prototypes) / self.tau  # (m, u)
            shared = jaccard(batch.labels[batch.rows[m][known]], vectors)
            own = (shared == 1).to(shared)
            items = items + supervised_contrastive(likeness, shared if self._soft else own)
            labels = labels + supervised_contrastive(likeness.T, own.T)
            binary = binary + _from_signs(codes)
        return {"loss": (items + labels) / 2 + self.eta * binary, "items": items, "labels": labels, "binary": binary}


def _from_signs(x: Tensor) -> Tensor:
    """Mean squared distance from binary codes, per bit."""
    return ((x - signs(x)) ** 2).mean() if len(x) else x.sum()
