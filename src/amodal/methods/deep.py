"""What deep methods share: networks in front of the loop, and encoding that does not depend on companions."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from amodal.codes import Codes
from amodal.data import Dataset, Observations
from amodal.methods.base import Method, as_codes
from amodal.methods.features import by_blocks, moments
from amodal.training import Batch, Batches, Outcome, Training, train

__all__ = ["DeepMethod", "NetworkMethod", "Standardise"]


class Standardise(nn.Module):
    """(x - mean) / sd of the observed training rows; part of every network, so that raw features go in.

    Args:
        dim: Width of the features.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    def fit(self, observations: Observations) -> None:
        """Take the moments of training rows."""
        mean, deviation = moments(observations)
        self.mean.copy_(torch.from_numpy(mean))
        self.deviation.copy_(torch.from_numpy(deviation))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised features, the shape of ``x``."""
        return (x - self.mean) / self.deviation

    def centre(self) -> Tensor:
        """The features that become 0, shape (d,)."""
        return self.mean


class NetworkMethod(Method):
    """A method whose codes come out of networks, however they learn.

    Attributes:
        seed: Seed of weights, order and noise.
        network_: All parameters and buffers.
    """

    seed: int
    network_: nn.Module

    @abstractmethod
    def build(self) -> nn.Module:
        """The networks, from ``widths_`` and ``classes_``; ready for ``load_state_dict``."""

    @abstractmethod
    def output(self, x: Tensor, modality: str) -> Tensor:
        """Real-valued outputs in evaluation, shape (m, r); their sign or direction is the code."""

    def draw(self) -> nn.Module:
        """``build`` with first weights that are a function of the seed alone."""
        with torch.random.fork_rng([]):
            torch.manual_seed(self.seed)
            return self.build()

    def prepare(self, data: Dataset) -> None:
        """Fit what is measured on the training data before learning; by default every ``Standardise``."""
        for name, module in self.network_.named_modules():
            if isinstance(module, Standardise):
                module.fit(data[data.names[int(name.split(".")[1])]])  # <part>.<position of the modality>.<...>

    def _encode(self, features: NDArray[np.float32], modality: str) -> Codes:
        self.network_.eval()
        device = next(self.network_.parameters()).device  # of training, while validation items are looked at

        def outputs(block: NDArray[np.float64]) -> NDArray[np.float64]:
            return self.output(torch.from_numpy(block).float().to(device), modality).double().cpu().numpy()

        with torch.inference_mode():
            return as_codes(by_blocks(outputs, features), self.card.returns)

    def state(self) -> dict[str, NDArray[Any]]:
        """Parameters and buffers."""
        return {name: value.detach().cpu().numpy() for name, value in self.network_.state_dict().items()}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Build the networks anew and fill them."""
        self.network_ = self.draw()
        self.network_.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
        self.network_.eval()


class DeepMethod(NetworkMethod):
    """A method whose networks learn in the common loop, all at once.

    Subclasses give ``build`` and ``output``, ``groups`` (parameters and rates) and ``step`` (the losses).

    Attributes:
        epochs: Passes over the data.
        batch_size: Items in a batch.
        outcome_: Which epoch was kept, and why; only where it was fitted, not on a loaded model.
    """

    epochs: int
    batch_size: int
    outcome_: Outcome

    @abstractmethod
    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups with their rates."""

    @abstractmethod
    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """The losses of a batch; see ``training.Learner``."""

    def optimizer(self) -> Optimizer:
        """AdamW over the groups; the loop decays the rates."""
        return AdamW(self.groups(), fused=True)

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """Nothing between epochs, unless a method says so."""

    def chosen(self, data: Dataset) -> Dataset:
        """The items to learn from: all, unless a method says otherwise."""
        return data

    def finish(self, data: Dataset) -> None:
        """Nothing after the last epoch, unless a method says so; the network is on the CPU, in evaluation."""

    def _learn(self, data: Dataset, validation: Dataset | None, training: Training | None) -> None:
        data = self.chosen(data)
        self.network_ = self.draw()
        self.prepare(data)
        score = None if validation is None else lambda: self.validation_score(validation)
        self.outcome_ = train(self, data, training or Training(), score)
        self.finish(data)
