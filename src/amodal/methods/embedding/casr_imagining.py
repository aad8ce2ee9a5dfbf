"""How CASR imagines a missing side: category prior, context of like items that have it, and their fusion."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW, Optimizer

from amodal.data import Dataset
from amodal.losses import kernel, label_nll, supervised_contrastive
from amodal.methods.embedding.casr_networks import CASRNetwork
from amodal.training import Batch, Batches

__all__ = ["Bank", "ImaginationStage", "Imaginer", "Sources", "category_prior"]

#: Temperature of the contrast of imagined with true sides.
TAU = 0.07


def category_prior(p: Tensor, labels: Tensor, priors: Tensor) -> Tensor:
    """What the classes lead one to expect: e_i = mean of T_k over the item's classes.

    Without labels e_i = sum_k p_ik T_k / sum_k p_ik, with what the side that is there says of the classes.

    Args:
        p: Class probabilities of the side that is there, shape (m, c).
        labels: Multi-hot, shape (m, c); zeros where unknown.
        priors: T, shape (c, e).

    Returns:
        Shape (m, e).
    """
    weights = torch.where(labels.any(dim=1, keepdim=True), labels, p)
    return weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-8) @ priors


@dataclass
class Bank:
    """Training rows that have both of two sides.

    Attributes:
        index: Row of each in the training data, shape (p,).
        labels: Multi-hot labels, shape (p, c); zeros where unknown.
        source: The side that is there, shape (p, e).
        target: The other, shape (p, e).
    """

    index: Tensor
    labels: Tensor
    source: Tensor
    target: Tensor

    def near(self, x: Tensor, labels: Tensor, index: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
        """Targets of the k rows whose source is nearest by cosine; of a labelled row, among those that share a label.

        Args:
            x: The side that is there, shape (m, e).
            labels: Multi-hot, shape (m, c); zeros where unknown.
            index: Training row of each, which is not its own neighbour; None for unseen items.
            k: How many.

        Returns:
            Context, shape (m, k', e) with k' = min(k, p), and which of it is real, bool, shape (m, k').
        """
        alike = F.normalize(x, dim=1, eps=1e-8) @ F.normalize(self.source, dim=1, eps=1e-8).T
        strange = (labels @ self.labels.T == 0) & labels.any(dim=1, keepdim=True)
        if index is not None:
            strange = strange | (index[:, None] == self.index[None, :])
        found = alike.masked_fill(strange, float("-inf")).topk(min(k, len(self.index)), dim=1)
        return self.target[found.indices], torch.isfinite(found.values)


@dataclass
class Sources:
    """Sides that are there, as imagination takes them.

    Attributes:
        latent: What the members make of them, shape (m, K e).
        p: What they say of the classes, shape (m, c).
        labels: Multi-hot, shape (m, c); zeros where unknown or not to be used.
        index: Training row of each, or None for unseen items.
    """

    latent: Tensor
    p: Tensor
    labels: Tensor
    index: Tensor | None = None


@dataclass
class Imaginer:
    """Imagines one side of items from another.

    Attributes:
        network: The networks.
        names: The modalities, in the order of the networks.
        neighbours: Rows N of context; 0 for none.
        prior: Whether the category prior is used.
        banks: By (source, target), rows that have both.
        readout: By modality, coefficients from [imagined ; 1] to features, shape (K e + 1, d).
    """

    network: CASRNetwork
    names: list[str]
    neighbours: int
    prior: bool
    banks: dict[tuple[str, str], Bank] = field(default_factory=dict)
    readout: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, sources: Sources, source: str, target: str) -> tuple[Tensor, Tensor]:
        """Imagine sides as the members would see them.

        Args:
            sources: Sides of the source.
            source: The modality that is there.
            target: The one to imagine.

        Returns:
            Imagined sides, shape (m, K e), and the logit of their trust, shape (m,).
        """
        a, b = self.names.index(source), self.names.index(target)
        prior = category_prior(sources.p, sources.labels, self.network.priors[b]) if self.prior else None
        bank = self.banks[source, target]
        context, there = bank.near(sources.latent, sources.labels, sources.index, self.neighbours)
        out: tuple[Tensor, Tensor] = self.network.imagine[f"{a}-{b}"](sources.latent, prior, context, there)
        return out

    def remember(self, latents: Dataset, labels: Tensor) -> None:
        """Take rows with two modalities as context.

        Args:
            latents: What the members make of them, first K e columns of each table; one observation of each kind.
            labels: Multi-hot, shape (n, c); zeros where unknown.
        """
        width = self.network.priors.shape[2]
        for a, b in permutations(self.names, 2):
            both = np.flatnonzero(latents.present(a) & latents.present(b))
            if len(both):
                source, target = (torch.from_numpy(latents[m].of_items(both, len(latents)).read()) for m in (a, b))
                index = torch.from_numpy(both)
                self.banks[a, b] = Bank(index, labels[index], source[:, :width], target[:, :width])

    def to(self, device: str | torch.device) -> None:
        """Take the context to a device; networks go there by themselves."""
        self.banks = {
            way: Bank(**{part: value.to(device) for part, value in vars(bank).items()})
            for way, bank in self.banks.items()
        }

    def learn_readout(self, modality: str, imagined: Tensor, features: Tensor) -> None:
        """Ridge regression from imagined sides to the features that were really there.

        Args:
            modality: The modality.
            imagined: Of rows imagined as those of unlabelled items are, shape (m, K e).
            features: Shape (m, d).
        """
        f, x = self._extended(imagined).double(), features.double()
        gram = f.T @ f
        gram.diagonal()[:-1].add_(0.1 * len(f))  # imagined features are of variance 1
        solution: Tensor = torch.linalg.solve(gram, f.T @ x)
        self.readout[modality] = solution.float()

    def features(self, imagined: Tensor, modality: str) -> Tensor:
        """Input features that go with imagined sides, shape (m, d)."""
        return self._extended(imagined) @ self.readout[modality]

    @staticmethod
    def _extended(imagined: Tensor) -> Tensor:
        return torch.cat([imagined, imagined.new_ones(len(imagined), 1)], dim=1)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Banks and readouts as named arrays."""
        arrays = {
            f"bank.{self.names.index(a)}-{self.names.index(b)}.{part}": value.cpu().numpy()
            for (a, b), bank in self.banks.items()
            for part, value in vars(bank).items()
        }
        return arrays | {f"readout.{self.names.index(m)}": value.numpy() for m, value in self.readout.items()}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """The inverse of ``state``; arrays of other names are passed over."""
        parts: dict[tuple[str, str], dict[str, Tensor]] = {}
        for name, value in state.items():
            tensor = torch.from_numpy(np.array(value))
            match name.split("."):
                case ["readout", place]:
                    self.readout[self.names[int(place)]] = tensor
                case ["bank", way, part]:
                    a, b = (self.names[int(k)] for k in way.split("-"))
                    parts.setdefault((a, b), {})[part] = tensor
        self.banks = {way: Bank(**found) for way, found in parts.items()}


class ImaginationStage:
    """MMI, learned on pairs of which one side is hidden; all else rests.

        L = mean over ordered pairs of modalities of
            mean (1 - cos(x', x))^2 + classes nll(s(x'), l) + contrast InfoNCE(x', x) + bce(trust, cos(x', x))

    Half of the rows are imagined as if they had no labels, as new items have none. The data are what members make of
    each side, and what the classifiers that have not learned from it say of its classes, side by side.

    Args:
        imaginer: With its banks.
        classes: Weight of the classes.
        contrast: Weight of the contrast.
        rate: Learning rate.
        weight_decay: Decoupled weight decay.
        epochs: Passes over the pairs.
        batch_size: Pairs in a batch.
        seed: Seed of order, and of who is told the labels.
        arguments: The method's arguments; a checkpoint fits no others.
    """

    def __init__(
        self,
        imaginer: Imaginer,
        *,
        classes: float,
        contrast: float,
        rate: float,
        weight_decay: float,
        epochs: int,
        batch_size: int,
        seed: int,
        arguments: dict[str, Any],
    ) -> None:
        self.imaginer, self.network_ = imaginer, imaginer.network
        self.classes, self.contrast, self.rate, self.weight_decay = classes, contrast, rate, weight_decay
        self.epochs, self.batch_size, self.seed, self.arguments = epochs, batch_size, seed, arguments

    def params(self) -> dict[str, Any]:
        """The method's arguments."""
        return self.arguments

    def optimizer(self) -> Optimizer:
        """AdamW over what imagines, and over the priors."""
        learned = [*self.network_.imagine.parameters(), self.network_.priors]
        return AdamW(learned, lr=self.rate, weight_decay=self.weight_decay, fused=True)

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """Context, to the device."""
        self.imaginer.to(device)

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms."""
        recovery, trusted = batch.labels.new_zeros(()), batch.labels.new_zeros(())
        for a, b in self.imaginer.banks:
            here, there = batch.pairs(a, b)
            if len(here):
                found, trust = self._way(batch, a, b, here, there)
                recovery, trusted = recovery + found, trusted + trust
        count = max(len(self.imaginer.banks), 1)
        return {"loss": (recovery + trusted) / count, "recovery": recovery / count, "trust": trusted / count}

    def _way(self, batch: Batch, a: str, b: str, here: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        network, width = self.network_, self.network_.priors.shape[2]
        rows, true = batch.rows[a][here], batch.x[b][there, :width]
        told = torch.rand(len(rows), 1, device=true.device) < 0.5
        labels, known = batch.labels[rows], batch.known[rows]
        latent, p = torch.split(batch.x[a][here], [width, labels.shape[1]], dim=1)
        x, trust = self.imaginer(Sources(latent, p, labels * (told & known[:, None]), batch.index[rows]), a, b)
        cosine = F.cosine_similarity(x, true, dim=1, eps=1e-8)
        loss = ((1 - cosine) ** 2).mean()
        if known.any():
            seen = network.members_of(x[known])
            scores = network.classes(network.causal(seen, self.imaginer.names.index(b)))
            loss = loss + self.classes * label_nll(scores, labels[known], single=bool(network.single)).mean()
        own = torch.eye(len(x), device=x.device)
        loss = loss + self.contrast * supervised_contrastive(kernel(x, true) / TAU, own)
        return loss, F.binary_cross_entropy_with_logits(trust, cosine.detach().clamp(0, 1))
