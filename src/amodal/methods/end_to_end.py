"""Trainable backbones in front of any deep method: pictures and texts themselves teach, not features of theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from amodal.data import Dataset
from amodal.encoders import Encoder, encode_dataset
from amodal.encoders.network import NetworkEncoder
from amodal.encoders.tuned import Tuned, trainable
from amodal.errors import MethodError, UsageError
from amodal.methods.base import Method
from amodal.methods.deep import DeepMethod
from amodal.progress import Progress
from amodal.training import Batch, Batches, Training, train

__all__ = ["fit_end_to_end"]


def fit_end_to_end(
    method: Method,
    data: Dataset,
    backbones: Mapping[str, Encoder],
    *,
    rate: float = 1e-5,
    validation: Dataset | None = None,
    training: Training | None = None,
    progress: Progress | None = None,
) -> dict[str, Encoder]:
    """Train backbones together with a deep method, from raw content; the form in which most papers were published.

    Content is decoded batch by batch, never all at once. The method never knows: it sees the features of the backbones
    as they stand, with their gradients. Afterwards the backbones are encoders like any other, and ``method`` takes
    their features.

    Args:
        method: A deep method; is fitted.
        data: Items; those of ``backbones`` raw, other modalities as features.
        backbones: An encoder with a trainable network for each raw modality.
        rate: Learning rate of the backbones; the method's networks have their own.
        validation: Items of the same form that may choose a stopping point.
        training: Device, precision, checkpoints, progress.
        progress: Told while content is encoded for the first and the last time.

    Returns:
        The trained encoders, by modality.

    Raises:
        MethodError: If the method is not trained as one network in the common loop, or refuses the data.
        UsageError: If a backbone cannot be trained.
        DataError: If content cannot be decoded.
    """
    if not isinstance(method, DeepMethod):
        raise MethodError(
            f"{method.card.slug} does not learn as one network, so no backbone can be trained in front of it. Encode "
            "first, or take a method that does, for instance cich_paper."
        )
    networks = {}
    for name, encoder in backbones.items():
        if not isinstance(encoder, NetworkEncoder):
            raise UsageError(f'the backbone of "{name}" has no network to be trained; "{encoder.name}" is fixed.')
        networks[name] = encoder, trainable(encoder)
    features = encode_dataset(data, backbones, progress=progress)
    method.meet(features)
    data, features = method.chosen(data), method.chosen(features)
    learner = _Learner(method, features, networks, rate)
    score = None if validation is None else lambda: learner.score(validation)
    method.outcome_ = train(learner, data, training or Training(), score, front=learner.front)
    tuned: dict[str, Encoder] = {name: Tuned(encoder) for name, (encoder, _) in networks.items()}
    for encoder, _ in networks.values():
        encoder.device = "cpu"  # where the loop leaves its networks
    method.finish(encode_dataset(data, tuned, progress=progress))
    return tuned


class _Learner:
    """A deep method with its backbones, as the loop takes it.

    Args:
        method: The method; begins to be fitted.
        features: The training items with features of the backbones as they are.
        backbones: Encoder and network of each raw modality.
        rate: Learning rate of the backbones.
    """

    def __init__(
        self,
        method: DeepMethod,
        features: Dataset,
        backbones: Mapping[str, tuple[NetworkEncoder, nn.Module]],
        rate: float,
    ) -> None:
        self.method, self.backbones, self.rate = method, backbones, rate
        self.epochs, self.batch_size, self.seed = method.epochs, method.batch_size, method.seed
        method.network_ = method.draw()
        method.prepare(features)
        # read off before training: a checkpoint belongs to the weights that it started from
        self.origin = {name: encoder.fingerprint for name, (encoder, _) in backbones.items()}
        self.network_ = nn.ModuleList([method.network_, *(network for _, network in backbones.values())])

    @property
    def front(self) -> dict[str, Callable[[list[Any]], Tensor]]:
        """By modality, what turns raw content into features of the backbone, with gradients."""

        def features(encoder: NetworkEncoder, network: nn.Module) -> Callable[[list[Any]], Tensor]:
            def compute(content: list[Any]) -> Tensor:
                device = next(network.parameters()).device
                if not content:
                    return torch.zeros(0, *encoder.shape, device=device)
                return encoder.forward([encoder.prepare(one).to(device) for one in content])

            return compute

        return {name: features(encoder, network) for name, (encoder, network) in self.backbones.items()}

    def params(self) -> dict[str, Any]:
        """The method's arguments, and where the backbones started."""
        return {**self.method.params(), "backbones": self.origin, "backbone_rate": self.rate}

    def optimizer(self) -> Optimizer:
        """The method's own, with the backbones as one more group."""
        optimizer = self.method.optimizer()
        parameters = [p for _, network in self.backbones.values() for p in network.parameters() if p.requires_grad]
        optimizer.add_param_group({"params": parameters, "lr": self.rate})
        return optimizer

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """The method's losses."""
        return self.method.step(batch, epoch)

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """What the method does before an epoch; its view of the data needs no gradient of the backbones."""
        for _, network in self.backbones.values():
            network.eval()
        with torch.no_grad():
            self.method.between(batches, epoch, device)

    def score(self, validation: Dataset) -> float:
        """The validation score of the method on features of the backbones as they stand."""
        for encoder, network in self.backbones.values():
            encoder.device = str(next(network.parameters()).device)
        raw = {name: encoder for name, (encoder, _) in self.backbones.items() if len(validation[name])}
        return self.method.validation_score(replace(validation, modalities=encode_dataset(validation, raw).modalities))
