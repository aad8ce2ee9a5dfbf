"""What attention might have been: other weights in its place, to see what the learned ones do."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from amodal.errors import UsageError, nearest

__all__ = ["Intervention", "check_intervention", "intervene", "other_asker"]

Intervention = Literal["none", "random", "uniform", "shuffle", "reverse", "swap"]


def check_intervention(kind: str) -> None:
    """Refuse a kind that does not exist.

    Raises:
        UsageError: Naming the nearest one.
    """
    if kind not in get_args(Intervention):
        raise UsageError(nearest(kind, get_args(Intervention), what="counterfactual"))


def intervene(kind: Intervention, weights: Tensor, real: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Other weights over the same keys, which sum to 1 over the keys that are real.

        random    u / sum u,  u ~ U(0, 2)             uniform   1 / k
        shuffle   the same weights, dealt to other keys: one permutation per pair of items
        swap      those of the same keys and another asker of the block, by one shift for all; keys that the other asker
                  did not have weigh nothing, and what is left is scaled up. One asker alone keeps its own.
        reverse   max + min - weights, scaled: the largest goes where the smallest was

    Args:
        kind: One of these.
        weights: Shape (p, k, n, q): p items of k keys, q askers of n fragments; sum over keys is 1.
        real: Which keys are no padding, bool; broadcasts to the shape of ``weights``.
        generator: Source of chance, on the CPU.

    Returns:
        Weights of the same shape and device; 0 at padding.
    """
    if kind == "shuffle":
        return _shuffled(weights, real, generator)
    if kind == "swap":
        other = weights.roll(other_asker(weights.shape[-1], generator), dims=-1)
    elif kind == "reverse":
        lowest = weights.masked_fill(~real, float("inf")).amin(dim=1, keepdim=True)
        other = weights.amax(dim=1, keepdim=True) + lowest - weights
    elif kind == "random":
        other = 2 * torch.rand(weights.shape, generator=generator).to(weights)
    else:
        other = torch.ones_like(weights)
    other = other * real
    return other / other.sum(dim=1, keepdim=True).clamp_min(1e-8)


def other_asker(count: int, generator: torch.Generator | None) -> int:
    """How many places away the asker is whose attention all askers of a block take, in a swap.

    Args:
        count: Askers.
        generator: Source of chance, on the CPU.
    """
    return int(torch.randint(1, max(count, 2), (), generator=generator))


def _shuffled(weights: Tensor, real: Tensor, generator: torch.Generator | None) -> Tensor:
    p, k, _, q = weights.shape
    keys = real.expand(p, k, -1, q)[:, :, :1]
    noise = torch.rand((p, k, 1, q), generator=generator).to(weights.device)
    # the i-th real key in the order of the noise takes the weight of the i-th real key
    order = noise.masked_fill(~keys, 2).argsort(dim=1)
    place = keys.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    source = torch.empty_like(order).scatter_(1, place, order)
    return weights.gather(1, source.expand_as(weights))
