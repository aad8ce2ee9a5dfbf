"""What the deep hashing methods of the field share on ready features: encoders with heads, and memories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from amodal.methods.networks import Encoder, FeatureMethod
from amodal.training import Batches

__all__ = ["FeatureHash", "HashNetwork", "Memory", "signs"]


class HashNetwork(nn.Module):
    """An encoder and a linear hash head for each modality.

    Args:
        dims: Width of the features of each modality, in order.
        bits: Outputs of a head.
        widths: Widths of the layers of every encoder; none for a head on standardised features.
        dropout: Share of units left out in training.
        tanh: Whether outputs are relaxed codes in [-1, 1] or linear.
    """

    def __init__(
        self, dims: Sequence[int], bits: int, widths: Sequence[int], dropout: float = 0.0, *, tanh: bool = True
    ) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([Encoder(dim, widths, dropout) for dim in dims])
        self.head = nn.ModuleList([nn.Linear([dim, *widths][-1], bits) for dim in dims])
        self.tanh = tanh

    def feature(self, x: Tensor, modality: int) -> Tensor:
        """Latent features of one modality, by its position; shape (m, e)."""
        out: Tensor = self.encoder[modality](x)
        return out

    def code(self, feature: Tensor, modality: int) -> Tensor:
        """Real-valued codes of latent features, shape (m, r)."""
        out: Tensor = self.head[modality](feature)
        return torch.tanh(out) if self.tanh else out


@dataclass
class Memory:
    """Last outputs of all training rows, without gradient.

    Attributes:
        labels: Multi-hot labels, shape (n, c); zeros where unknown.
        rows: By modality, the rows that have it, shape (n_m,), increasing.
        values: By modality, outputs, shape (n, r); zeros where absent.
    """

    labels: Tensor
    rows: dict[str, Tensor]
    values: dict[str, Tensor]

    def store(self, modality: str, index: Tensor, outputs: Tensor) -> None:
        """Bring rows up to date.

        Args:
            modality: Its name.
            index: Rows, shape (m,).
            outputs: Shape (m, r); the gradient is cut.
        """
        self.values[modality][index] = outputs.detach()

    def observed(self, modality: str) -> tuple[Tensor, Tensor]:
        """Outputs and labels of the rows that have a modality, shapes (n_m, r) and (n_m, c)."""
        rows = self.rows[modality]
        return self.values[modality][rows], self.labels[rows]


class FeatureHash(FeatureMethod):
    """A deep method that hashes ready features, one network per modality.

    Attributes:
        bits: Code length r.
        hidden: Width of the first layer of every encoder.
        latent: Width of the latent features.
        dropout: Share of units left out in training.
        rate: Learning rate.
        weight_decay: Coupled weight decay, as Adam's in the released codes.
    """

    bits: int
    hidden: int
    latent: int
    dropout: float
    rate: float
    weight_decay: float
    network_: HashNetwork

    def build(self) -> HashNetwork:
        """Two layers and a head with tanh for every modality."""
        return HashNetwork(list(self.widths_.values()), self.bits, (self.hidden, self.latent), self.dropout)

    def groups(self) -> list[dict[str, Any]]:
        """All parameters at one rate."""
        return [{"params": list(self.network_.parameters()), "lr": self.rate, "weight_decay": self.weight_decay}]

    def optimizer(self) -> Optimizer:
        """Adam, as in the papers."""
        return Adam(self.groups(), fused=True)

    def output(self, x: Tensor, modality: str) -> Tensor:
        """Real-valued codes, shape (m, r)."""
        position = self.position(modality)
        return self.network_.code(self.network_.feature(x, position), position)

    @torch.no_grad()
    def remember(
        self, batches: Batches, device: torch.device, output: Callable[[Tensor, str], Tensor] | None = None
    ) -> Memory:
        """Outputs of all training rows as the networks stand.

        Anew before each epoch, and not carried over from the last: a resumed training finds the same. A first pass
        through random networks, where released codes start from zeros or noise, is what makes the first epoch learn.

        Args:
            batches: Of the training data.
            device: Where the networks are.
            output: What is remembered of features of a modality; by default the code.
        """
        self.network_.eval()
        data, output = batches.data, output or self.output
        labels = torch.zeros(len(data), len(self.classes_), device=device)
        rows: dict[str, list[Tensor]] = {name: [] for name in self.widths_}
        values: dict[str, list[Tensor]] = {name: [] for name in self.widths_}
        for start in range(0, len(data), 1024):
            index = np.arange(start, min(start + 1024, len(data)))
            batch = self.received(batches.gather(index).to(device))
            if self.classes_:
                labels[batch.index] = batch.labels * batch.known[:, None]
            for name in self.widths_:
                rows[name].append(batch.index[batch.rows[name]])
                values[name].append(output(batch.x[name], name))
        where = {name: torch.cat(parts) for name, parts in rows.items()}
        found = {name: torch.cat(parts) for name, parts in values.items()}
        return Memory(
            labels,
            where,
            {
                name: part.new_zeros(len(data), part.shape[1]).index_copy(0, where[name], part)
                for name, part in found.items()
            },
        )


def signs(x: Tensor) -> Tensor:
    """The codes of real values: +1 where x >= 0, else -1; never 0."""
    return torch.where(x >= 0, 1.0, -1.0)
