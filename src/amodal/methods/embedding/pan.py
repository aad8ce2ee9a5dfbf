"""PAN: a prototype per class that all modalities share, and missing sides rebuilt from prototypes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, permutations
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

from amodal.data import Dataset
from amodal.errors import UsageError, nearest
from amodal.losses import label_nll, prototype_scores
from amodal.methods.card import Card
from amodal.methods.embedding.class_embed import EMBEDDINGS, ClassEmbed
from amodal.methods.embedding.pan_networks import Paired, PANNetwork, lifted
from amodal.methods.networks import FILLS
from amodal.training import Batch, Batches

__all__ = ["PAN"]

METRICS = ("euclidean", "cosine")
PROPAGATIONS = ("label", "assignment")
CHUNK = 1024
#: Radius of the sphere on which Euclidean embeddings lie, over the length of the longest z. Squared distances are then
#: right to 1 part in 63; a larger sphere would cost float32 the digits of near neighbours.
REACH = 8.0


class PAN(ClassEmbed):
    """Prototype-based Adaptive Network, of which the loss of prototypes is known and the rest our reading.

    One prototype per class anchors the common space of all modalities. *Prototype propagation* rebuilds the side that
    an item lacks from the prototypes of its classes and from how that modality differs from them, so that incomplete
    rows of either kind weigh on the prototypes alike.

        L = sum_m mean [ dce(z) + compact |z - C_y|^2 / u ]                         rows of m that have labels
            + propagate sum_b mean [ dce(z~^b) + |sg(z~^b) - z^a|^2 / u ]           rows that have a and lack b
            + align sum_{a<b} mean |z^a - z^b|^2 / u                                pairs

        dce(z) = -log softmax_y( -|z - C_k|^2 / T );   several labels: sum_k ell( -|z - C_k|^2 / T + d_k, y_k )
        z~^b   = sum_k a_k (C_k + rho_k^b);   with neighbours: half of it, and half sum_j s_ij z_j^b over paired rows
        a      = the labels, shared out evenly ("label"), or softmax_k( -|z^a - C_k|^2 / T ) of rows without, and of
                 all rows with "assignment"
        rho_k^b: running mean of z^b - C_k over the rows of class k, without gradient

    where sg stops the gradient, C_y is the mean of the prototypes of an item's classes, and u the unit of squared
    distances: e, the number of features, or 1 where z and C are of unit length; T = temperature u.

    Args:
        dim: Width e of the common space.
        hidden: Width of the hidden layer of every encoder; 0 for none.
        dropout: Share of hidden units left out in training.
        metric: What embeddings are ranked by: "euclidean" distance of z, or "cosine", where z and C have unit length.
        temperature: Of distances to prototypes, in the unit of squared distances.
        compact: Weight of the distance to the own prototype.
        propagate: Weight of rebuilt sides; 0 for none.
        propagation: What a side is rebuilt from: the "label" where there is one, or the "assignment".
        neighbours: How many of the nearest paired rows have a say in it; 0 for none.
        memory: Most paired rows among which they are sought.
        align: Weight of the distance of pairs.
        embedding: "feature", z; or "semantic", class probabilities whose cosine rises with P(share a label).
        fill: What is done about an absent modality: "mask", "drop" or "mean".
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate.
        rate_prototype: Learning rate of the prototypes.
        weight_decay: Decoupled weight decay of the encoders.
        seed: Seed of weights, order and dropout.

    Paper: Zeng et al., SIGIR 2021; the full text could not be had.
    Reference code: no reference implementation. zhixiongz/CLIP4CMR restates the loss of prototypes (not used).
    """

    card: ClassVar[Card] = Card(
        slug="pan",
        name="PAN",
        summary="One prototype per class for all modalities; missing sides rebuilt from prototypes.",
        paper="Zeng et al.: PAN: Prototype-based Adaptive Network for Robust Cross-modal Retrieval, SIGIR 2021",
        url="https://doi.org/10.1145/3404835.3462867",
        family="embedding",
        returns="embeddings",
        needs_labels=True,
        needs_pairs="helpful",
        native="any",
        fills=FILLS,
        checked="losses against loops; limits and gradients of every part; no table of the paper",
        departures=(
            "of the paper only the loss of prototypes is known, as its first author restates it (divided twice by the "
            "batch, its regulariser overwritten; here both terms are means); the rest is our reading",
            "cosine by default, not Euclidean distance: on validation parts .24 for .22 (wikipedia), .43 for .37 "
            "(corel5k; one seed)",
            "an index ranks by cosine, so that metric='euclidean' puts z on a sphere of 8 times the longest length, "
            "where cosines have the order of distances, up to 1 part in 63 of a squared distance",
            "temperature .5, better on validation parts than .3 and, of several labels, than 1",
            "no neighbours by default (neighbours=0): 5 of them are no better on validation parts",
            "of several labels the likelihood is a sum over classes, and the own prototype is the mean of theirs",
            "encoders of one hidden layer (512) without ReLU after the last; prototypes at ten times the rate",
            "embedding='semantic' is ours, and better on validation parts by .02 to .03; the paper ranks by z",
        ),
        reference_code="no reference implementation",
        reconstruction=True,
    )
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "metric": METRICS,
        "temperature": (0.1, 0.3, 0.5, 1.0),
        "compact": (0.0, 0.1, 1.0),
        "propagate": (0.0, 0.5, 1.0),
        "neighbours": (0, 5),
        "align": (0.0, 0.1, 1.0),
        "embedding": EMBEDDINGS,
        "dropout": (0.1, 0.3, 0.5),
        "rate": (3e-4, 1e-3, 3e-3),
    }

    network_: PANNetwork

    def __init__(
        self,
        *,
        dim: int = 512,
        hidden: int = 512,
        dropout: float = 0.5,
        metric: Literal["euclidean", "cosine"] = "cosine",
        temperature: float = 0.5,
        compact: float = 0.1,
        propagate: float = 0.5,
        propagation: Literal["label", "assignment"] = "label",
        neighbours: int = 0,
        memory: int = 4096,
        align: float = 0.1,
        embedding: Literal["feature", "semantic"] = "feature",
        fill: Literal["mask", "drop", "mean"] = "mask",
        epochs: int = 20,
        batch_size: int = 128,
        rate: float = 1e-3,
        rate_prototype: float = 1e-2,
        weight_decay: float = 1e-4,
        seed: int = 0,
    ) -> None:
        self.dim, self.hidden, self.dropout, self.metric, self.temperature = dim, hidden, dropout, metric, temperature
        self.compact, self.propagate, self.propagation = compact, propagate, propagation
        self.neighbours, self.memory, self.align, self.embedding = neighbours, memory, align, embedding
        self.fill = fill
        self.epochs, self.batch_size, self.rate, self.rate_prototype, self.weight_decay, self.seed = (
            epochs, batch_size, rate, rate_prototype, weight_decay, seed,
        )  # fmt: skip

    def build(self) -> PANNetwork:
        """All networks.

        Raises:
            UsageError: If a word or the temperature is not what it may be.
        """
        for value, known, what in (
            (self.metric, METRICS, "metric"),
            (self.propagation, PROPAGATIONS, "propagation"),
            (self.embedding, EMBEDDINGS, "embedding"),
        ):
            if value not in known:
                raise UsageError(nearest(str(value), known, what=what))
        if not self.temperature > 0:
            raise UsageError(f"temperature of pan must be above 0; got {self.temperature!r}.")
        return PANNetwork(list(self.widths_.values()), self.dim, self.widths, self.dropout, classes=len(self.classes_))

    def groups(self) -> list[dict[str, Any]]:
        """Encoders, which decay, and prototypes at a rate of their own."""
        network = self.network_
        encoders = [*network.encoder.parameters(), *network.project.parameters()]
        return [
            {"params": encoders, "lr": self.rate, "weight_decay": self.weight_decay},
            {"params": [network.prototypes, network.offsets], "lr": self.rate_prototype, "weight_decay": 0.0},
        ]

    @property
    def unit(self) -> float:
        """Unit u of squared distances."""
        return float(self.dim) if self.metric == "euclidean" else 1.0

    def prepare(self, data: Dataset) -> None:
        """Also the paired rows among which neighbours are sought."""
        super().prepare(data)
        paired = np.flatnonzero(data.presence().sum(axis=1) > 1)
        self._rows = np.random.default_rng(self.seed).permutation(paired)[: self.memory if self.neighbours else 0]
        self._paired: dict[tuple[str, str], Paired] = {}

    @torch.no_grad()
    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """Before each epoch: the paired rows as the encoders see them now."""
        self.network_.eval()
        found: dict[tuple[str, str], list[tuple[Tensor, Tensor]]] = {}
        for start in range(0, len(self._rows), CHUNK):
            batch = batches.gather(self._rows[start : start + CHUNK]).to(device)
            z = self._located(batch)
            for a, b in permutations(z, 2):
                here, there = batch.pairs(a, b)
                found.setdefault((a, b), []).append((z[a][here], z[b][there]))
        joined = {way: Paired(*map(torch.cat, zip(*parts, strict=True))) for way, parts in found.items()}
        self._paired = {way: paired for way, paired in joined.items() if len(paired.source)}

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; see the class."""
        batch = self.received(batch)
        z, labels = self._located(batch), batch.labels * batch.known[:, None]
        self.network_.measure(torch.cat(list(z.values())))
        losses = self._anchored(batch, z, labels)
        loss = losses["classes"] + self.compact * losses["compact"]
        if self.propagate:
            losses["propagated"] = self._propagated(batch, z, labels)
            loss = loss + self.propagate * losses["propagated"]
        losses["pairs"] = loss.new_zeros(())
        for a, b in combinations(z, 2):
            here, there = batch.pairs(a, b)
            losses["pairs"] = losses["pairs"] + self._apart(z[a][here], z[b][there])
        return {"loss": loss + self.align * losses["pairs"], **losses}

    def _located(self, batch: Batch) -> dict[str, Tensor]:
        """The points z of every modality."""
        return {m: self._scaled(self.network_.latent(batch.x[m], k)) for k, m in enumerate(self.widths_)}

    def _scaled(self, points: Tensor) -> Tensor:
        """Points as they are compared: of unit length with the cosine, else as they are."""
        return F.normalize(points, dim=-1, eps=1e-8) if self.metric == "cosine" else points

    def _apart(self, a: Tensor, b: Tensor) -> Tensor:
        """Mean squared distance, row by row, in units; 0 without rows."""
        return ((a - b) ** 2).sum() / (self.unit * max(len(a), 1))

    def _closeness(self, z: Tensor) -> Tensor:
        """-|z - C_k|^2 / T, shape (m, c)."""
        return prototype_scores(z, self._scaled(self.network_.prototypes), self.temperature * self.unit)

    def scores(self, z: Tensor) -> Tensor:
        """Scores of the classes: closeness to prototypes, and of several labels an offset; shape (m, c)."""
        closeness = self._closeness(self._scaled(z))
        return closeness if self.network_.single else closeness + self.network_.offsets

    def placed(self, z: Tensor) -> Tensor:
        """The points z; on a sphere where cosines have the order of Euclidean distances, one coordinate more."""
        return z if self.metric == "cosine" else lifted(z, REACH * self.network_.longest)

    def _dce(self, z: Tensor, labels: Tensor) -> Tensor:
        """Mean likelihood of labels; 0 without rows."""
        return label_nll(self.scores(z), labels, single=bool(self.network_.single)).sum() / max(len(z), 1)

    def _anchored(self, batch: Batch, z: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Rows that have labels, and their prototypes; residuals follow."""
        prototypes = self._scaled(self.network_.prototypes)
        classes = compact = labels.new_zeros(())
        for k, m in enumerate(z):
            known = batch.known[batch.rows[m]]
            here, y = z[m][known], labels[batch.rows[m][known]]
            classes = classes + self._dce(here, y)
            compact = compact + self._apart(here, _evenly(y) @ prototypes)
            self.network_.follow(here, y, prototypes, k)
        return {"classes": classes, "compact": compact}

    def _propagated(self, batch: Batch, z: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Sides that rows lack, rebuilt from each side that they have: of their classes, and near what is there."""
        total = labels.new_zeros(())
        for b in z:
            lacking = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
            lacking[batch.rows[b]] = False
            sources, rebuilt, rows = [], [], []
            for a in z:
                absent = lacking[batch.rows[a]]
                rows.append(batch.rows[a][absent])
                sources.append(z[a][absent])
                rebuilt.append(self._rebuilt(sources[-1], labels[rows[-1]], a, b))
            source, imagined, places = torch.cat(sources), torch.cat(rebuilt), torch.cat(rows)
            known = batch.known[places]
            total = total + self._dce(imagined[known], labels[places[known]]) + self._apart(imagined.detach(), source)
        return total

    def _rebuilt(self, z: Tensor, labels: Tensor, source: str, target: str) -> Tensor:
        """z~: another side of rows of which ``source`` is there, shape (m, e)."""
        network = self.network_
        shares = torch.softmax(self._closeness(z), dim=1)
        if self.propagation == "label":
            shares = torch.where(labels.any(dim=1, keepdim=True), _evenly(labels), shares)
        found = shares @ (self._scaled(network.prototypes) + network.residuals[self.position(target)])
        if (source, target) in self._paired:
            near = self._paired[source, target].near(z, self.neighbours, self.temperature * self.unit)
            found = (found + near) / 2
        return self._scaled(found)


def _evenly(labels: Tensor) -> Tensor:
    """Multi-hot labels as shares, rows that sum to 1; zeros without labels."""
    return labels / labels.sum(dim=1, keepdim=True).clamp_min(1)
