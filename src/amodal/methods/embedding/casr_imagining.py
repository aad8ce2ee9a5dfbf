"""How CASR imagines a missing side: category prior, context of like items that have it, and their fusion."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from numpy.typing import NDArray
from torch import Tensor

from amodal.losses import kernel, label_nll, supervised_contrastive
from amodal.methods.embedding.casr_networks import CASRNetwork
from amodal.training import Batch, Batches

__all__ = ["Bank", "Imaginer", "category_prior"]

CHUNK = 1024
#: Temperature of the contrast of imagined with true sides.
TAU = 0.07


def category_prior(x: Tensor, labels: Tensor, priors: Tensor, tau: float) -> Tensor:
    """What the classes lead one to expect: e_i = mean of T_k over the item's classes.

    Without labels e_i = sum_k softmax_k(cos(x_i, T_k) / tau) T_k.

    Args:
        x: The side that is there, shape (m, e).
        labels: Multi-hot, shape (m, c); zeros where unknown.
        priors: T, shape (c, e).
        tau: Temperature.

    Returns:
        Shape (m, e).
    """
    alike = F.normalize(x, dim=1, eps=1e-8) @ F.normalize(priors, dim=1, eps=1e-8).T
    guessed = torch.softmax(alike / tau, dim=1)
    count = labels.sum(dim=1, keepdim=True)
    return torch.where(count > 0, labels / count.clamp_min(1), guessed) @ priors


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
class Imaginer:
    """Imagines one side of items from another.

    Attributes:
        network: The networks.
        names: The modalities, in the order of the networks.
        neighbours: Rows N of context; 0 for none.
        prior: Whether the category prior is used.
        tau: Temperature of the prior of items without label.
        banks: By (source, target), rows that have both.
        readout: By modality, coefficients from [imagined ; 1] to features, shape (e + 1, d).
    """

    network: CASRNetwork
    names: list[str]
    neighbours: int
    prior: bool
    tau: float
    banks: dict[tuple[str, str], Bank] = field(default_factory=dict)
    readout: dict[str, Tensor] = field(default_factory=dict)

    def __call__(
        self, x: Tensor, labels: Tensor, index: Tensor | None, source: str, target: str
    ) -> tuple[Tensor, Tensor]:
        """Imagine sides in the common space.

        Args:
            x: Adapted features of the source, shape (m, e).
            labels: Multi-hot, shape (m, c); zeros where unknown.
            index: Training rows, or None for unseen items.
            source: The modality that is there.
            target: The one to imagine.

        Returns:
            Imagined sides, shape (m, e), and the logit of their trust, shape (m,).
        """
        way = f"{self.names.index(source)}-{self.names.index(target)}"
        prior = category_prior(x, labels, self.network.priors, self.tau) if self.prior else None
        context, there = self.banks[source, target].near(x, labels, index, self.neighbours)
        out: tuple[Tensor, Tensor] = self.network.imagine[way](x, prior, context, there)
        return out

    def recovery(self, batch: Batch, adapted: dict[str, Tensor], classes: float, contrast: float) -> dict[str, Tensor]:
        """Imagine sides that are there as if they were not; half of the rows as if they had no labels.

            L = mean (1 - cos(x', x))^2 + classes nll(s cos(x', plain classes), l) + contrast InfoNCE(x', x)

        Adapters and classes rest, so that features cannot shrink to please this loss. Trust learns to be
        cos(x', x), or 0 if that is negative.

        Args:
            batch: With zeros for unknown labels.
            adapted: Features of every modality after the adapters.
            classes: Weight of the classes.
            contrast: Weight of the contrast.

        Returns:
            "recovery", L summed over ordered pairs of modalities, and "trust".
        """
        network, recovery, trusted = self.network, batch.labels.new_zeros(()), batch.labels.new_zeros(())
        for a, b in self.banks:
            here, there = batch.pairs(a, b)
            if not len(here):
                continue
            rows, true = batch.rows[a][here], adapted[b][there].detach()
            labels, known = batch.labels[rows], batch.known[rows]
            told = torch.rand(len(rows), 1, device=true.device) < 0.5
            x, trust = self(adapted[a][here].detach(), labels * told, batch.index[rows], a, b)
            cosine = F.cosine_similarity(x, true, dim=1, eps=1e-8)
            likelihood = label_nll(network.plain.fixed(x[known]), labels[known], single=bool(network.single))
            own = torch.eye(len(x), device=x.device)
            recovery = recovery + ((1 - cosine) ** 2).mean() + classes * likelihood.sum() / max(len(likelihood), 1)
            recovery = recovery + contrast * supervised_contrastive(kernel(x, true) / TAU, own)
            trusted = trusted + F.binary_cross_entropy_with_logits(trust, cosine.detach().clamp(0, 1))
        return {"recovery": recovery, "trust": trusted}

    @torch.no_grad()
    def missing(
        self, batch: Batch, adapted: dict[str, Tensor], target: str, wanted: Tensor, *, unseen: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Imagine a modality of some rows, as the mean over the sides that they have.

        Args:
            batch: With zeros for unknown labels.
            adapted: Features of its modalities after the adapters.
            target: The modality to imagine.
            wanted: Which rows lack it, bool, shape (b,).
            unseen: Whether the rows are none of the training data.

        Returns:
            Imagined sides (m, e), their places in the batch (m,), and their trust in [0, 1] (m,).
        """
        total, sides = batch.labels.new_zeros(len(wanted), self.network.width), batch.labels.new_zeros(len(wanted))
        trust = torch.zeros_like(sides)
        for source, x in adapted.items():
            if (source, target) not in self.banks:
                continue
            here = wanted[batch.rows[source]]
            rows = batch.rows[source][here]
            found, logit = self(x[here], batch.labels[rows], None if unseen else batch.index[rows], source, target)
            total.index_add_(0, rows, found)
            trust.index_add_(0, rows, torch.sigmoid(logit))
            sides.index_add_(0, rows, torch.ones_like(logit))
        places = sides.nonzero().squeeze(1)
        return total[places] / sides[places, None], places, trust[places] / sides[places]

    @torch.no_grad()
    def remember(self, batches: Batches, rows: NDArray[np.int64], device: torch.device) -> None:
        """Take the paired rows as the adapters see them now.

        Args:
            batches: Of the training data.
            rows: Items with at least two modalities.
            device: Where the networks are.
        """
        self.network.eval()
        parts = [batches.gather(rows[start : start + CHUNK]).to(device) for start in range(0, len(rows), CHUNK)]
        adapted = [{m: self.network.adapted(part.x[m], k) for k, m in enumerate(self.names)} for part in parts]
        self.banks = {}
        for a, b in permutations(self.names, 2):
            pairs = [part.pairs(a, b) for part in parts]
            if not sum(len(here) for here, _ in pairs):
                continue
            places = [part.rows[a][here] for part, (here, _) in zip(parts, pairs, strict=True)]
            self.banks[a, b] = Bank(
                torch.cat([part.index[place] for part, place in zip(parts, places, strict=True)]),
                torch.cat([(p.labels * p.known[:, None])[place] for p, place in zip(parts, places, strict=True)]),
                torch.cat([some[a][here] for some, (here, _) in zip(adapted, pairs, strict=True)]),
                torch.cat([some[b][there] for some, (_, there) in zip(adapted, pairs, strict=True)]),
            )

    @torch.no_grad()
    def learn_readouts(self, batches: Batches, rows: NDArray[np.int64]) -> None:
        """Ridge regression from imagined sides, as of unlabelled items, to the features that were really there.

        Args:
            batches: Of the training data.
            rows: Items with at least two modalities; the networks are at rest.
        """
        for m in {target for _, target in self.banks}:
            imagined, true = [], []
            for start in range(0, len(rows), CHUNK):
                batch = batches.gather(rows[start : start + CHUNK])
                batch = replace(batch, labels=torch.zeros(len(batch.index), len(self.network.priors)))
                others = {a: self.network.adapted(batch.x[a], k) for k, a in enumerate(self.names) if a != m}
                here = torch.zeros(len(batch.index), dtype=torch.bool)
                here[batch.rows[m]] = True
                found, places, _ = self.missing(batch, others, m, here)
                imagined.append(found)
                true.append(batch.x[m][torch.searchsorted(batch.rows[m], places)])
            f, x = self._extended(torch.cat(imagined)).double(), torch.cat(true).double()
            gram = f.T @ f
            gram.diagonal()[:-1].add_(0.1 * len(f))  # imagined features are of variance 1
            solution: Tensor = torch.linalg.solve(gram, f.T @ x)
            self.readout[m] = solution.float()

    def features(self, adapted: Tensor, modality: str) -> Tensor:
        """Input features that go with imagined sides, shape (m, d)."""
        return self._extended(adapted) @ self.readout[modality]

    @staticmethod
    def _extended(adapted: Tensor) -> Tensor:
        return torch.cat([adapted, adapted.new_ones(len(adapted), 1)], dim=1)

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
