"""CIMON: codes reproduce similarity that features and clusters agree on; an adaptation to several modalities."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans, SpectralClustering
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim import SGD, Optimizer

from amodal.data import Dataset, Observations
from amodal.errors import MethodError, UsageError, nearest
from amodal.losses import HalfGaussians, guessed_similarity, nt_xent, weighted_agreement
from amodal.methods.card import Card
from amodal.methods.features import item_means
from amodal.methods.hashing.feature_hash import FeatureHash
from amodal.methods.networks import FILLS
from amodal.training import Batch

__all__ = ["CIMON", "Guidance"]

Clustering = Literal["kmeans", "spectral"]

PAIRS = 200_000  #: sampled for the histogram of distances
SAMPLE = 20_000  #: rows that k-means looks for centres in
SPECTRAL = 10_000  #: items beyond which a graph of neighbours takes too long
NEIGHBOURS = 10  #: of each item in that graph


@dataclass
class Guidance:
    """What the features of one modality say about who is alike. Pairs are judged batch by batch, never all at once.

    Attributes:
        halves: Gaussians of the cosine distances.
        threshold: Distance up to which items are taken to be alike.
        clusters: Cluster of each training row, shape (n,); -1 where the modality is absent.
    """

    halves: HalfGaussians
    threshold: float
    clusters: Tensor

    def __call__(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """S and W of some training rows against each other; see ``losses.guessed_similarity``.

        Args:
            x: Their features, shape (m, d).
            rows: Which rows they are, shape (m,).
        """
        unit = normalize(x.detach().float(), dim=1, eps=1e-8)
        cluster = self.clusters.to(rows.device)[rows]
        return guessed_similarity(1 - unit @ unit.T, cluster[:, None] == cluster, self.halves, self.threshold)


class CIMON(FeatureHash):
    """CIMON, adapted from views of a picture to modalities of an item. Learns without labels.

    The features of each modality m guess who is alike, and how sure that is: S^m and W^m. The codes h of every modality
    reproduce the guesses of every other, and the two codes of an item find each other in the batch.

        L = sum_{a <= b} sum_m mean_ij W^m_ij (h^a_i h^b_j / r - S^m_ij)^2  +  eta sum_{a < b} NT-Xent(h^a, h^b; tau)

    Pairs (a, a) are the published terms, with modalities for views; a < b (``crossed``) is ours. Guesses are measured
    on observed features only, and a term runs over the items that have what it needs.

    Args:
        bits: Code length r.
        hidden: Width of the first layer of every encoder.
        latent: Width of the latent features.
        dropout: Share of units left out in training.
        threshold: Cosine distance up to which S = +1; None for where the two Gaussians of the distances cross.
        clusters: Clusters of each modality, and at most one for every 50 items.
        clustering: "kmeans", or the released "spectral", on a graph of nearest neighbours, up to 10,000 items.
        crossed: Whether codes of different modalities reproduce guesses together too.
        eta: Weight of the contrast.
        tau: Its temperature.
        fill: What is done about an absent modality: "mask", "drop" or "mean".
        solver: "adam", or the released "sgd" with momentum .9.
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate.
        weight_decay: Weight decay.
        seed: Seed of weights, order, dropout, sampled distances and clusters.

    Attributes:
        guidance_: What each modality says, by name; only where it was fitted, not on a loaded model.

    Paper: Luo et al., IJCAI 2021 (pictures only).
    Reference code: luoxiao12/CIMON (no licence; read, not used).
    """

    card: ClassVar[Card] = Card(
        slug="cimon",
        name="CIMON, cross-modal",
        summary="Unsupervised: codes reproduce similarity that distances and clusters agree on (an adaptation).",
        paper="Luo et al.: CIMON: Towards High-quality Hash Codes, IJCAI 2021",
        url="https://arxiv.org/abs/2010.07804",
        family="hashing",
        returns="codes",
        needs_labels=False,
        needs_pairs="yes",
        native="any",
        fills=FILLS,
        checked="guesses of a batch against the dense matrices of the released form; limits of the weights",
        departures=(
            "an adaptation: the paper hashes pictures, and its two views are two croppings; here they are modalities",
            "codes of different modalities reproduce the guesses together too (crossed=False leaves that out)",
            "networks on ready features in place of VGG16; hidden 256, latent 256, 30 epochs, batch 128, Adam are ours",
            "similar up to where the Gaussians of the distances cross; released: .1, tuned to its features (preset)",
            "distances are sampled, and S and W made batch by batch; released: four dense n x n matrices",
            "k-means, with at most one cluster per 50 items, in place of spectral clusters (clustering)",
            "a deviation is at least .001, where a histogram has one side only",
        ),
        reference_code="luoxiao12/CIMON, no licence; read, not used",
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "released": {
            "hidden": 4096,
            "latent": 4096,
            "threshold": 0.1,
            "clustering": "spectral",
            "crossed": False,
            "solver": "sgd",
            "epochs": 150,
            "batch_size": 24,
            "weight_decay": 1e-5,
        }
    }
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "clusters": (20, 40, 70, 100),
        "crossed": (True, False),
        "eta": (0.1, 0.3, 1.0, 3.0),
        "tau": (0.1, 0.3, 0.5),
        "dropout": (0.0, 0.2, 0.5),
        "rate": (1e-4, 3e-4, 1e-3),
        "weight_decay": (0.0, 1e-5, 1e-4),
    }

    guidance_: dict[str, Guidance]

    def __init__(
        self,
        bits: int = 64,
        *,
        hidden: int = 256,
        latent: int = 256,
        dropout: float = 0.0,
        threshold: float | None = None,
        clusters: int = 70,
        clustering: Clustering = "kmeans",
        crossed: bool = True,
        eta: float = 0.3,
        tau: float = 0.5,
        fill: Literal["mask", "drop", "mean"] = "mask",
        solver: Literal["adam", "sgd"] = "adam",
        epochs: int = 30,
        batch_size: int = 128,
        rate: float = 1e-3,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.bits, self.hidden, self.latent, self.dropout = bits, hidden, latent, dropout
        self.threshold, self.clusters, self.clustering = threshold, clusters, clustering
        self.crossed, self.eta, self.tau, self.fill, self.solver = crossed, eta, tau, fill, solver
        self.epochs, self.batch_size, self.rate, self.weight_decay, self.seed = (
            epochs, batch_size, rate, weight_decay, seed,
        )  # fmt: skip

    def optimizer(self) -> Optimizer:
        """Adam, or SGD as released."""
        return super().optimizer() if self.solver == "adam" else SGD(self.groups(), momentum=0.9)

    def prepare(self, data: Dataset) -> None:
        """Fit the standardisation, and the guidance: of data and seed alone, so that a resumed training has it too."""
        super().prepare(data)
        if self.clustering not in get_args(Clustering):
            raise UsageError(nearest(str(self.clustering), get_args(Clustering), what="clustering"))
        self.guidance_ = {name: self._guidance(data[name], len(data)) for name in data.names}

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; see the class."""
        full, names = self.received(batch), list(self.widths_)
        codes = {m: self.output(full.x[m], m) for m in names}
        semantic = contrast = batch.labels.new_zeros(())
        for m in names:
            similar, weights = self.guidance_[m](batch.x[m], batch.index[batch.rows[m]])
            seen = {a: codes[a][torch.isin(full.rows[a], batch.rows[m])] for a in names}
            place = {a: torch.isin(batch.rows[m], full.rows[a]) for a in names}
            for a, b in combinations_with_replacement(names, 2):
                if a == b or self.crossed:
                    products = seen[a] @ seen[b].T / self.bits
                    block = (part[place[a]][:, place[b]] for part in (similar, weights))
                    semantic = semantic + weighted_agreement(products, *block)
        for a, b in combinations(names, 2):
            first, second = full.pairs(a, b)
            contrast = contrast + nt_xent(codes[a][first], codes[b][second], self.tau)
        return {"loss": semantic + self.eta * contrast, "semantic": semantic, "contrast": contrast}

    def _guidance(self, observations: Observations, n: int) -> Guidance:
        items, means = item_means(observations)
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-8)
        unit = means.astype(np.float32)
        del means
        random = np.random.default_rng(self.seed)
        halves = HalfGaussians.fit(_sampled_distances(unit, random))
        clusters = torch.full((n,), -1)
        clusters[torch.from_numpy(items)] = torch.from_numpy(self._clusters(unit, random)).long()
        return Guidance(halves, halves.crossing if self.threshold is None else self.threshold, clusters)

    def _clusters(self, unit: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.int32]:
        """Cluster of each row, shape (n_m,)."""
        n, state = len(unit), int(random.integers(2**31))
        count = max(min(self.clusters, n // 50), 1)
        if self.clustering == "kmeans":
            sample = unit if n <= SAMPLE else unit[random.choice(n, SAMPLE, replace=False)]
            nearest_centre: NDArray[np.int32] = KMeans(count, n_init=1, random_state=state).fit(sample).predict(unit)
            return nearest_centre
        if n > SPECTRAL:
            raise MethodError(
                f'clustering="spectral" looks for neighbours among all {n} items, and stops at {SPECTRAL}. '
                'Use clustering="kmeans".'
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Graph is not fully connected")  # clusters of their own, then
            spectral = SpectralClustering(
                count, affinity="nearest_neighbors", n_neighbors=min(NEIGHBOURS, n), random_state=state
            )
            labels: NDArray[np.int32] = spectral.fit_predict(unit)
        return labels


def _sampled_distances(unit: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Cosine distances of random pairs of different rows."""
    n = len(unit)
    first = random.integers(n, size=PAIRS)
    second = (first + random.integers(1, max(n, 2), size=PAIRS)) % n
    parts = np.array_split(np.stack([first, second], axis=1), PAIRS // 1000)
    return np.concatenate([1 - np.einsum("ij,ij->i", unit[part[:, 0]], unit[part[:, 1]]) for part in parts])
