"""What CICH imagines of a missing side: predictors, the neighbours that give them context, a way to features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from numpy.typing import NDArray
from torch import Tensor, nn

from amodal.data import Dataset, Observations
from amodal.errors import MethodError
from amodal.methods.deep import NetworkMethod
from amodal.methods.imputation import Imputation

__all__ = ["Imagines", "Imagining", "Latent", "Neighbours", "Predictors", "Recovery"]

CHUNK = 1024


@dataclass
class Latent:
    """What the encoder of one modality makes of a batch.

    Attributes:
        mean: mu of the bottleneck, shape (m, e).
        log_variance: log sigma^2 in [-8, 8], shape (m, e).
        sample: z: mu plus noise in training, mu otherwise; shape (m, e).
        feature: f, what is recovered when it is missing, shape (m, w).
        code: h of the code head, shape (m, r).
    """

    mean: Tensor
    log_variance: Tensor
    sample: Tensor
    feature: Tensor
    code: Tensor


class Predictors(nn.Module):
    """For every ordered pair of modalities a linear q_ab(z_a) and, with context, q'_ab([z_a ; context]).

    Args:
        modalities: How many.
        width: Width w of z, of latent features, and so of context.
    """

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        ways = [f"{a}-{b}" for a, b in permutations(range(modalities), 2)]
        self.plain = nn.ModuleDict({way: nn.Linear(width, width) for way in ways})
        self.contextual = nn.ModuleDict({way: nn.Linear(2 * width, width) for way in ways})

    def forward(self, sample: Tensor, context: Tensor | None, source: int, target: int) -> Tensor:
        """The latent feature of ``target`` imagined from ``source``, shape (m, w)."""
        way = f"{source}-{target}"
        out: Tensor = (
            self.plain[way](sample) if context is None else self.contextual[way](torch.cat([sample, context], dim=1))
        )
        return out


class Imagining(Protocol):
    """Networks that ``Recovery`` can work with.

    Attributes:
        width: Width w of latent features.
    """

    width: int

    def latent(self, x: Tensor, modality: int) -> Latent:
        """Encode features of one modality."""

    def predict(self, sample: Tensor, context: Tensor | None, source: int, target: int) -> Tensor:
        """The latent feature of ``target`` imagined from z of ``source``, with the context of neighbours or without."""

    def code(self, feature: Tensor, modality: int) -> Tensor:
        """Relaxed codes of latent features, shape (m, r)."""


@dataclass
class Neighbours:
    """Latent features of training rows that have both a source and a target modality.

    Attributes:
        index: Row of each in the training data, shape (p,).
        source: Latent features of the source side, shape (p, w).
        target: Latent features of the target side, shape (p, w).
    """

    index: Tensor
    source: Tensor
    target: Tensor

    def to(self, device: str | torch.device) -> Neighbours:
        """The same on a device."""
        return Neighbours(self.index.to(device), self.source.to(device), self.target.to(device))

    def context(self, queries: Tensor, index: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
        """The target side of the k rows whose source side is nearest, weighted by softmax(cosine / 0.1).

        Neighbours are sought by the source side, since a missing target cannot be searched.

        Args:
            queries: Source features, shape (m, e).
            index: Training row of each query, which must not be its own neighbour; None for unseen items.
            k: Number of neighbours; fewer if there are not so many.

        Returns:
            Context (m, e), zeros where a row has no neighbour; and the weighted mean cosine, shape (m,).
        """
        alike = F.normalize(queries, dim=1, eps=1e-8) @ F.normalize(self.source, dim=1, eps=1e-8).T
        if index is not None:
            alike = alike.masked_fill(index[:, None] == self.index[None, :], float("-inf"))
        nearest = alike.topk(min(k, alike.shape[1]), dim=1)
        real = torch.isfinite(nearest.values)
        weights = torch.softmax(nearest.values.masked_fill(~real, -1e4) / 0.1, dim=1) * real
        cosine = (weights * nearest.values.masked_fill(~real, 0.0)).sum(dim=1)
        return torch.einsum("mk,mke->me", weights, self.target[nearest.indices]), cosine


@dataclass
class Recovery:
    """Imagines latent features of one modality from another, and reads input features out of them.

    Attributes:
        network: The fitted networks.
        names: The modalities, in the order of the networks.
        k: Neighbours that give context; 0 for none.
        neighbours: By (source, target).
        readout: By modality, ridge coefficients from [f ; 1] to features, shape (e + 1, d).
    """

    network: Imagining
    names: list[str]
    k: int
    neighbours: dict[tuple[str, str], Neighbours] = field(default_factory=dict)
    readout: dict[str, Tensor] = field(default_factory=dict)

    def predict(self, sample: Tensor, feature: Tensor, index: Tensor | None, a: str, b: str) -> tuple[Tensor, ...]:
        """Latent features of ``b`` imagined from ``a``: q_ab, then q'_ab if there are neighbours; each (m, e).

        Args:
            sample: z of the source side, shape (m, e).
            feature: f of the source side, by which neighbours are found, shape (m, e).
            index: Training rows, or None for unseen items.
            a: Source.
            b: Target.
        """
        way = self.names.index(a), self.names.index(b)
        plain = self.network.predict(sample, None, *way)
        if not self.k or (a, b) not in self.neighbours:
            return (plain,)
        context, _ = self.neighbours[a, b].context(feature.detach(), index, self.k)
        return plain, self.network.predict(sample, context, *way)

    def learn_readout(self, table: Observations, modality: str, rows: NDArray[np.int64]) -> None:
        """Ridge regression from latent to input features on some observed rows."""
        x = torch.from_numpy(table.read(np.sort(rows)))
        with torch.no_grad():
            f = self.network.latent(x, self.names.index(modality)).feature
        f = torch.cat([f, torch.ones(len(f), 1)], dim=1).double()
        gram = f.T @ f
        gram.diagonal().add_(1e-3 * float(gram.diagonal().mean()))
        solution: Tensor = torch.linalg.solve(gram, f.T @ x.double())
        self.readout[modality] = solution.float()

    def impute(
        self,
        data: Dataset,
        modality: str,
        what: Literal["features", "latent", "code"],
        use: Literal["context", "plain"],
    ) -> Imputation:
        """See ``Imagines.impute``."""
        sources = [a for a in data.names if (a, modality) in self.neighbours]
        if not sources:
            others = " or ".join(name for name in data.names if name != modality)
            raise MethodError(
                f"this model has seen no pair of {modality} with {others}, so it cannot imagine one from the other. "
                "Fit with some items that have both."
            )
        absent = np.ones(len(data), bool) if modality not in data.modalities else ~data.present(modality)
        latent = torch.zeros(len(data), self.network.width)
        trust, sides = torch.zeros(len(data)), torch.zeros(len(data))
        for a in sources:
            table = data[a].select(np.flatnonzero(absent[data[a].item]))
            rows = torch.split(torch.from_numpy(table.item), CHUNK)
            for row, chunk in zip(rows, table.chunks(CHUNK), strict=False):  # split gives one empty part for no rows
                imagined, cosine = self._imagine(torch.from_numpy(chunk), a, modality, use)
                latent.index_add_(0, row, imagined)
                trust.index_add_(0, row, cosine)
                sides.index_add_(0, row, torch.ones(len(row)))
        items = torch.nonzero(sides).squeeze(1)
        feature = torch.relu(latent[items] / sides[items, None])
        sure = (trust[items] / sides[items]).clamp(0, 1)
        return Imputation(modality, items.numpy(), self._form(modality)[what](feature), sure.numpy())

    def _form(self, modality: str) -> dict[str, Callable[[Tensor], NDArray[np.generic]]]:
        def code(f: Tensor) -> NDArray[np.generic]:
            with torch.no_grad():
                signs = self.network.code(f, self.names.index(modality)) >= 0
            return np.where(signs.numpy(), 1, -1).astype(np.int8)

        def features(f: Tensor) -> NDArray[np.generic]:
            return (torch.cat([f, torch.ones(len(f), 1)], dim=1) @ self.readout[modality]).numpy()

        return {"latent": lambda f: f.numpy(), "code": code, "features": features}

    @torch.no_grad()
    def _imagine(self, x: Tensor, a: str, b: str, use: str) -> tuple[Tensor, Tensor]:
        """Latent features of ``b`` imagined from unseen features of ``a``, and the cosine to the neighbours."""
        way = self.names.index(a), self.names.index(b)
        source = self.network.latent(x, way[0])
        context, cosine = self.neighbours[a, b].context(source.feature, None, max(self.k, 1))
        informed = use == "context" and self.k > 0
        return self.network.predict(source.mean, context if informed else None, *way), cosine

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Neighbours and readouts as named arrays."""
        arrays = {
            f"neighbours.{self.names.index(a)}-{self.names.index(b)}.{part}": value.numpy()
            for (a, b), found in self.neighbours.items()
            for part, value in vars(found).items()
        }
        return arrays | {f"readout.{self.names.index(m)}": value.numpy() for m, value in self.readout.items()}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """The inverse of ``state``."""
        parts: dict[tuple[str, str], dict[str, Tensor]] = {}
        for name, value in state.items():
            kind, place, *part = name.split(".")
            tensor = torch.from_numpy(np.array(value))
            if kind == "readout":
                self.readout[self.names[int(place)]] = tensor
            else:
                a, b = (self.names[int(k)] for k in place.split("-"))
                parts.setdefault((a, b), {})[part[0]] = tensor
        self.neighbours = {way: Neighbours(**found) for way, found in parts.items()}


class Imagines(NetworkMethod):
    """A method that imagines missing sides.

    Attributes:
        recovery_: What imagines them.
    """

    recovery_: Recovery

    def impute(
        self,
        data: Dataset,
        modality: str,
        *,
        what: Literal["features", "latent", "code"] = "features",
        use: Literal["context", "plain"] = "context",
    ) -> Imputation:
        """Imagine a modality for the items that lack it: q'_ab (or q_ab), averaged over the sides that are there.

        Args:
            data: Items with features.
            modality: What to imagine.
            what: Features in the width of the modality, its latent features, or the code that the head gives them.
            use: With the context of neighbouring training pairs, or without.

        Returns:
            One row per item. Trust is the mean cosine to the training pairs that gave context, at least 0.

        Raises:
            MissingModality: If the model never learned the modality.
            MethodError: If the model has seen no pair of it with another modality.
        """
        self.require_learned(modality)
        return self.recovery_.impute(data, modality, what, use)
