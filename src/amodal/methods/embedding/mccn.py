"""MCCN: clusters with margins that all modalities share, and missing sides generated over a graph of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor

from amodal.data import Dataset
from amodal.errors import UsageError, nearest
from amodal.losses import kernel, label_nll, margin_scores, supervised_contrastive
from amodal.methods.card import Card
from amodal.methods.embedding.class_embed import EMBEDDINGS, ClassEmbed
from amodal.methods.embedding.mccn_networks import MCCNNetwork, graph
from amodal.methods.embedding.transport import transport_plan
from amodal.methods.networks import FILLS
from amodal.training import Batch, Batches

__all__ = ["MCCN"]

LABELS = ("true", "pseudo")
CHUNK = 1024
#: Rounds of Sinkhorn's iteration, before each epoch.
ROUNDS = 100


class MCCN(ClassEmbed):
    """Multimodal Coordinated Clustering Network, as we read its abstract.

    Observations of all modalities lie around unit prototypes, one for each class, right by a margin. In every batch
    they form a graph, whose edges are pairs, shared classes and nearness within a modality; over it the side that an
    item lacks is generated from its neighbours that have it, and should be of the item's class as well.

        L = sum_m mcc(z^m) + generate sum_b mcc(z~^b) + align sum_{a<b} pair(z^a, z^b)

        mcc(z)    = mean cross-entropy of s (cos(z, C_k) - intra) for the own class k, s (cos(z, C_k) + inter) for
                    others; several labels: the same scores and an offset, each class by itself
        z~_i^b    = sum_j alpha_ij z_j^b over items j that have b and an edge to the observation i, which lacks b;
                    alpha by ``mccn_networks.GraphAttention``; rows without such neighbours are passed over
        pair      = mean of -log softmax_j(cos(z_i^a, z_j^b) / tau) at j = i, both ways

    With labels="pseudo" no label is looked at. After some epochs of ``pair`` alone, items are given clusters before
    each epoch: by optimal transport from cos(z, C), summed over the modalities of an item, with an equal share for each
    cluster, without which all items end up in one.

    Args:
        dim: Width e of the common space.
        hidden: Width of the hidden layer of every encoder; 0 for none.
        dropout: Share of hidden units left out in training.
        scale: Factor s of the cosine.
        intra: Margin to the own prototype.
        inter: Margin to the others.
        generate: Weight of generated sides; 0 for none.
        near: How many others of its modality an observation has an edge to.
        align: Weight of pairs.
        tau: Temperature of pairs.
        labels: "true" labels, or "pseudo" ones: clusters.
        clusters: How many there are, with labels="pseudo".
        warmup: Epochs of pairs alone, with labels="pseudo".
        epsilon: Weight of the entropy in transport, with labels="pseudo".
        embedding: "feature", z; or "semantic", class probabilities whose cosine rises with P(share a label).
        fill: What is done about an absent modality: "mask", "drop" or "mean".
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate.
        rate_prototype: Learning rate of the prototypes.
        weight_decay: Decoupled weight decay of all but the prototypes.
        seed: Seed of weights, order and dropout.

    Paper: Zeng et al., ACM MM 2021; neither full text nor code could be had.
    Reference code: no reference implementation.
    """

    card: ClassVar[Card] = Card(
        slug="mccn",
        name="MCCN",
        summary="Clusters with margins for all modalities; missing sides generated over a graph of the batch.",
        paper="Zeng et al.: MCCN: Multimodal Coordinated Clustering Network for Large-scale Cross-modal Retrieval, "
        "ACM MM 2021",
        url="https://doi.org/10.1145/3474085.3475670",
        family="embedding",
        returns="embeddings",
        needs_labels=True,
        needs_pairs="helpful",
        native="any",
        fills=FILLS,
        checked="losses against loops; closed forms and limits of every part; marginals of transport; no table",
        departures=(
            "all formulas and constants are ours, from the abstract: neither full text nor code could be had",
            "embeddings are those before the graph, which needs companions; a test sees that they have none",
            "nodes, prototypes and generated sides count by their directions alone: z has unit length in the graph",
            "in attention a linear form of each node stands for that of its query and key, which can say no more",
            "generated are the sides that are missing, of items whose class is known",
            "scale 8 for 16: better on validation parts (wikipedia .238 for .232, corel5k .421 for .402; one seed)",
            "of several labels the likelihood is a sum over classes, with an offset for each",
            "encoders of one hidden layer (512) without ReLU after the last",
            "embedding='semantic' is ours, and better on validation parts by .03 to .05; the reading ranks by z",
        ),
        reference_code="no reference implementation",
        reconstruction=True,
    )
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "scale": (8.0, 16.0, 32.0),
        "intra": (0.0, 0.1, 0.3),
        "inter": (0.0, 0.1, 0.3),
        "generate": (0.0, 0.5, 1.0),
        "align": (0.0, 0.1, 1.0),
        "tau": (0.05, 0.1, 0.3),
        "embedding": EMBEDDINGS,
        "dropout": (0.1, 0.3, 0.5),
        "rate": (3e-4, 1e-3, 3e-3),
    }

    network_: MCCNNetwork

    def __init__(
        self,
        *,
        dim: int = 512,
        hidden: int = 512,
        dropout: float = 0.5,
        scale: float = 8.0,
        intra: float = 0.1,
        inter: float = 0.1,
        generate: float = 0.5,
        near: int = 10,
        align: float = 1.0,
        tau: float = 0.1,
        labels: Literal["true", "pseudo"] = "true",
        clusters: int = 64,
        warmup: int = 10,
        epsilon: float = 0.05,
        embedding: Literal["feature", "semantic"] = "feature",
        fill: Literal["mask", "drop", "mean"] = "mask",
        epochs: int = 20,
        batch_size: int = 128,
        rate: float = 1e-3,
        rate_prototype: float = 1e-2,  # 10 times the rate
        weight_decay: float = 1e-2,
        seed: int = 0,
    ) -> None:
        self.dim, self.hidden, self.dropout, self.scale, self.intra, self.inter = (
            dim, hidden, dropout, scale, intra, inter,
        )  # fmt: skip
        self.generate, self.near, self.align, self.tau = generate, near, align, tau
        self.labels, self.clusters, self.warmup, self.epsilon = labels, clusters, warmup, epsilon
        self.embedding, self.fill = embedding, fill
        self.epochs, self.batch_size, self.rate, self.rate_prototype, self.weight_decay, self.seed = (
            epochs, batch_size, rate, rate_prototype, weight_decay, seed,
        )  # fmt: skip

    def build(self) -> MCCNNetwork:
        """All networks.

        Raises:
            UsageError: If a word is not what it may be.
        """
        for value, known, what in ((self.labels, LABELS, "labels"), (self.embedding, EMBEDDINGS, "embedding")):
            if value not in known:
                raise UsageError(nearest(str(value), known, what=what))
        classes = self.clusters if self.labels == "pseudo" else len(self.classes_)
        return MCCNNetwork(
            list(self.widths_.values()), self.dim, self.widths, self.dropout, classes=classes, scale=self.scale
        )

    def _check_labels(self, data: Dataset) -> None:
        if self.labels != "pseudo":
            super()._check_labels(data)

    def chosen(self, data: Dataset) -> Dataset:
        """The items that ``fill`` leaves; without their labels where these are not to be looked at."""
        data = super().chosen(data)
        return replace(data, labels=None) if self.labels == "pseudo" else data

    def groups(self) -> list[dict[str, Any]]:
        """Encoders and attention, which decay, and prototypes at a rate of their own."""
        prototypes = list(self.network_.classes.parameters())
        others = [p for name, p in self.network_.named_parameters() if not name.startswith("classes.")]
        return [
            {"params": others, "lr": self.rate, "weight_decay": self.weight_decay},
            {"params": prototypes, "lr": self.rate_prototype, "weight_decay": 0.0},
        ]

    @torch.no_grad()
    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """Before each epoch after the warm-up: clusters of all items, if these stand for labels."""
        if self.labels != "pseudo" or epoch < self.warmup:
            return
        self.network_.eval()
        n, scores = len(batches.data), []
        for start in range(0, n, CHUNK):
            batch = self.received(batches.gather(np.arange(start, min(start + CHUNK, n))).to(device))
            total = torch.zeros(len(batch.index), self.clusters, device=device)
            for m, z in self._located(batch).items():
                total.index_add_(0, batch.rows[m], self.network_.classes.cosine(z))
            scores.append(total)
        cost = -torch.cat(scores).double().cpu().numpy()
        shares = np.full(self.clusters, 1 / self.clusters)
        plan = transport_plan(cost, shares, epsilon=self.epsilon, steps=ROUNDS)
        self._clusters = torch.from_numpy(plan.argmax(axis=1)).to(device)

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; see the class."""
        batch = self._labelled(self.received(batch), epoch)
        z = self._located(batch)
        losses = dict.fromkeys(("classes", "generated", "pairs"), batch.labels.new_zeros(()))
        for m, here in z.items():
            known = batch.known[batch.rows[m]]
            losses["classes"] = losses["classes"] + self._clustered(here[known], batch.labels[batch.rows[m][known]])
        if self.generate and batch.known.any():
            losses["generated"] = self._generated(batch, z)
        for a, b in combinations(z, 2):
            here, there = batch.pairs(a, b)
            logits, own = kernel(z[a][here], z[b][there]) / self.tau, torch.eye(len(here), device=here.device)
            ways = supervised_contrastive(logits, own) + supervised_contrastive(logits.T, own)
            losses["pairs"] = losses["pairs"] + ways / 2
        loss = losses["classes"] + self.generate * losses["generated"] + self.align * losses["pairs"]
        return {"loss": loss, **losses}

    def _labelled(self, batch: Batch, epoch: int) -> Batch:
        """The batch with labels (zeros where unknown): true ones, or clusters once there are some."""
        if self.labels != "pseudo":
            return replace(batch, labels=batch.labels * batch.known[:, None])
        if epoch < self.warmup:
            return replace(batch, labels=batch.labels.new_zeros(len(batch.index), self.clusters))
        clusters = F.one_hot(self._clusters[batch.index], self.clusters).float()
        return replace(batch, labels=clusters, known=torch.ones_like(batch.known))

    def _located(self, batch: Batch) -> dict[str, Tensor]:
        """Unit z of every modality."""
        located = {m: self.network_.latent(batch.x[m], k) for k, m in enumerate(self.widths_)}
        return {m: F.normalize(z, dim=1, eps=1e-8) for m, z in located.items()}

    def _clustered(self, z: Tensor, labels: Tensor) -> Tensor:
        """Mcc: how well the prototypes tell the labels, margins against; 0 without rows."""
        classes, single = self.network_.classes, bool(self.network_.single)
        scores = margin_scores(classes.cosine(z), labels, self.scale, self.intra, self.inter)
        scores = scores if single else scores + classes.offsets
        return label_nll(scores, labels, single=single).sum() / max(len(z), 1)

    def _generated(self, batch: Batch, z: dict[str, Tensor]) -> Tensor:
        """Mcc of the sides that labelled items lack, generated from every side that they have."""
        item, nodes = torch.cat([batch.rows[m] for m in z]), torch.cat(list(z.values()))
        edges = graph(list(z.values()), [batch.rows[m] for m in z], batch.labels, self.near)
        towards = edges @ F.one_hot(item, len(batch.index)).to(edges)  # (nodes, items)
        total = nodes.new_zeros(())
        for m, others in z.items():
            wanted = batch.known.clone()
            wanted[batch.rows[m]] = False  # who has the side is not asked, for it would find itself
            weights = towards[:, batch.rows[m]]
            rows = (wanted[item] & weights.any(dim=1)).nonzero().squeeze(1)
            found = self.network_.attention(nodes[rows], others, weights[rows])
            total = total + self._clustered(found, batch.labels[item[rows]])
        return total

    def scores(self, z: Tensor) -> Tensor:
        """Scores of the classes, or of the clusters, without margins; shape (m, c)."""
        scores: Tensor = self.network_.classes(z)
        return scores
