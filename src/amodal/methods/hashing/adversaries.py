"""What adversarial hashing methods share: discriminators learn beside the encoders they judge.

The common loop has one optimiser and one backward pass per batch, so both players step at once. The encoders' term
runs through ``Discriminator.fixed``, whose parameters get no gradient; the discriminators' own loss sees features that
are cut off. The two losses have disjoint parameters and are summed; how fast a discriminator learns is its rate.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from amodal.losses import gradient_penalty
from amodal.methods.hashing.feature_hash import FeatureHash
from amodal.methods.networks import Discriminator

__all__ = ["AdversarialHash", "slope_penalty"]


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
