"""What adversarial hashing methods share: discriminators that learn beside the encoders they judge.

The common loop has one optimiser and one backward pass per batch, so both players step at once. The encoders' term
runs through ``Discriminator.fixed``, whose parameters get no gradient; the discriminators' own loss sees features that
are cut off. The two losses have disjoint parameters and are summed; how fast a discriminator learns is its rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from amodal.losses import gradient_penalty
from amodal.methods.hashing.feature_hash import FeatureHash

__all__ = ["AdversarialHash", "Discriminator", "slope_penalty"]


class Discriminator(nn.Module):
    """Rows to one number each: for every width Linear and ReLU, then Linear to 1.

    Args:
        dim: Width of the rows.
        widths: Widths of the hidden layers.
    """

    def __init__(self, dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip([dim, *widths], widths, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits or scores, shape (m,)."""
        out: Tensor = self.layers(x)
        return out.squeeze(1)

    def fixed(self, x: Tensor) -> Tensor:
        """The same, with a gradient in ``x`` and none in the parameters."""
        out: Tensor = functional_call(self, {name: value.detach() for name, value in self.named_parameters()}, (x,))
        return out


class AdversarialHash(FeatureHash):
    """A ``FeatureHash`` whose network has a part ``discriminator`` that learns at a rate of its own.

    Attributes:
        rate_discriminator: Learning rate of the discriminators.
        betas: Of Adam for the discriminators; a class constant.
    """

    rate_discriminator: float
    betas: ClassVar[tuple[float, float]] = (0.5, 0.9)

    def groups(self) -> list[dict[str, Any]]:
        """The discriminators, and everything else."""
        judging = list(self.network_.discriminator.parameters())  # type: ignore[union-attr]
        apart = {id(parameter) for parameter in judging}
        others = [parameter for parameter in self.network_.parameters() if id(parameter) not in apart]
        return [
            {"params": others, "lr": self.rate, "weight_decay": self.weight_decay},
            {"params": judging, "lr": self.rate_discriminator, "betas": self.betas},
        ]


def slope_penalty(discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
    """``losses.gradient_penalty`` at random points between real rows and as many fake ones of a batch."""
    share = torch.rand(min(len(real), len(fake)), 1, device=real.device)
    return gradient_penalty(discriminator, real, fake, share)
