"""Encoders whose networks were trained further, or are a torch module of one's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amodal.encoders.base import Kind
from amodal.encoders.network import NetworkEncoder
from amodal.encoders.pictures import open_picture
from amodal.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["PREFIX", "ModuleEncoder", "Tuned", "trainable"]

PREFIX = "tuned:"
"""What stands before the name of the encoder from which a tuned one started."""


class ModuleEncoder(NetworkEncoder):
    """A torch module of one's own as an encoder.

    Args:
        module: From a batch of prepared content, shape (k, ...), to features (k, dim), or to parts (k, length, dim).
        dim: Width of its features.
        kind: "picture" or "text".
        prepare: One piece of content to the module's input, without a batch axis. By default a picture becomes RGB of
            ``size`` x ``size`` pixels, (3, size, size), scaled to [-1, 1]; texts have no default.
        size: Side of the pictures of the default preparation.
        name: Stands in records; the module itself cannot be opened by it again.
        length: Number of parts; 0 if it gives one vector.

    Raises:
        UsageError: If texts come without ``prepare``.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        dim: int,
        kind: Kind = "picture",
        prepare: Callable[[Any], Tensor] | None = None,
        size: int = 224,
        name: str = "module",
        length: int = 0,
    ) -> None:
        super().__init__()
        if kind != "picture" and prepare is None:
            raise UsageError(f"a module that takes {kind} needs prepare: a function from one {kind} to a tensor.")
        self.module, self.dim, self.kind, self.name = module, dim, kind, name
        self.length = length
        self._prepare, self._size = prepare, size

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights."""
        return _hash(self.name, self.module)

    def load(self) -> nn.Module:
        """The module."""
        return self.module.eval()

    def prepare(self, one: Any) -> Tensor:
        """The module's input for one piece of content."""
        if self._prepare is not None:
            return self._prepare(one)
        import torch

        picture = open_picture(one, at_least=self._size).resize((self._size, self._size))
        scaled = np.asarray(picture, dtype=np.float32) / 127.5 - 1
        return torch.from_numpy(scaled).permute(2, 0, 1)  # (height, width, 3) -> (3, height, width)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Features of k prepared inputs, shape (k, dim) or (k, length, dim)."""
        import torch

        features: Tensor = self.module(torch.stack(inputs))
        return features


class Tuned(NetworkEncoder):
    """An encoder after further training: the preparation of its base, weights of its own.

    Args:
        base: The encoder from which it started; its network is the one that was trained.
    """

    def __init__(self, base: NetworkEncoder) -> None:
        super().__init__(base.device)
        self.base, self.kind, self.name = base, base.kind, PREFIX + base.name
        self.dim, self.length = base.dim, base.length

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the base's name and the weights, which must not change any more."""
        return _hash(self.name, trainable(self.base))

    def load(self) -> Any:
        """The base's network."""
        return self.base.network

    def prepare(self, one: Any) -> Tensor:
        """As the base prepares it."""
        _ = self.network
        return self.base.prepare(one)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """As the base computes it."""
        return self.base.forward(inputs)

    def excess(self, one: Any) -> int:
        """As the base cuts it off."""
        return self.base.excess(one)

    def save(self, path: Path) -> None:
        """Write the weights as safetensors."""
        from safetensors.torch import save_file

        state = trainable(self.base).state_dict()
        save_file({name: value.detach().cpu().clone().contiguous() for name, value in state.items()}, path)

    @classmethod
    def restore(cls, base: NetworkEncoder, path: Path) -> Tuned:
        """What ``save`` wrote.

        Args:
            base: A fresh encoder of the kind it started from.
            path: The weights.

        Raises:
            DataError: If the file is missing, damaged, or does not fit the base.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            trainable(base).load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise DataError(f"{path} does not hold weights for {base.name}: {error}") from error
        return cls(base)


def trainable(encoder: NetworkEncoder) -> nn.Module:
    """The network of an encoder as a module with parameters.

    Raises:
        UsageError: If it is none.
    """
    from torch import nn

    if not isinstance(encoder.network, nn.Module):
        raise UsageError(
            f'encoder "{encoder.name}" computes with fixed weights and cannot be trained further. Take a model that '
            'transformers opens, "hf:<folder>", or a ModuleEncoder.'
        )
    return encoder.network


def _hash(name: str, module: nn.Module) -> str:
    digest = hashlib.sha256(name.encode())
    for key, value in sorted(module.state_dict().items()):
        digest.update(key.encode() + np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()
