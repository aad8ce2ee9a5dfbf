"""Explicit causal alignment: what is asked of every environment's attention, and of all of them together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from amodal.losses import (
    attention_spread,
    compactness,
    environment_mean,
    invariance_penalty,
    label_nll,
    share_label,
    supervised_contrastive,
)
from amodal.methods.embedding.casr_networks import CASRNetwork

__all__ = ["Sides", "alignment"]

#: Temperature of the contrast of aligned sides with each other.
TAU = 0.1


@dataclass
class Sides:
    """Sides of one modality, observed or imagined, of labelled items.

    Attributes:
        modality: Its position.
        x: Adapted features, shape (m, e).
        labels: Multi-hot, shape (m, c).
        weights: Of each in every environment, shape (m, K); of imagined ones, times their trust.
    """

    modality: int
    x: Tensor
    labels: Tensor
    weights: Tensor


def alignment(network: CASRNetwork, sides: list[Sides], *, contrast: bool) -> dict[str, Tensor]:
    """The terms of ECA, each the mean over modalities.

        risk        R_env without SupCon: mean over environments of the likelihood of labels
        contrast    SupCon of each environment, over sides of all modalities together
        invariance  ``losses.invariance_penalty``
        compact     ``losses.compactness``
        spread      ``losses.attention_spread`` of the gates

    Args:
        network: The networks.
        sides: Of each modality that has any; at least one.
        contrast: Whether to compute SupCon, which costs most.
    """
    single, share = bool(network.single), 1 / len(network.attention)
    zero = network.priors.new_zeros(())
    terms = dict.fromkeys(("risk", "invariance", "compact", "contrast"), zero)
    aligned = [network.aligned(side.x, side.modality) for side in sides]
    for f, side in zip(aligned, sides, strict=True):
        scores = network.classes(f)
        risk = environment_mean(label_nll(scores, side.labels, single=single), side.weights)
        terms["risk"] = terms["risk"] + share * risk
        penalty = invariance_penalty(scores, side.labels, side.weights, single=single)
        terms["invariance"] = terms["invariance"] + share * penalty
        terms["compact"] = terms["compact"] + share * compactness(f, side.labels, side.weights)
    if contrast and sides:
        labels, weights = torch.cat([s.labels for s in sides]), torch.cat([s.weights for s in sides])
        terms["contrast"] = _contrast(torch.cat(aligned, dim=1), labels, weights)
    terms["spread"] = torch.stack([attention_spread(gate.layers()) for gate in network.gates()]).mean()
    return terms


def _contrast(f: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    others = ~torch.eye(len(labels), dtype=torch.bool, device=f.device)
    alike = share_label(labels, labels)
    terms = [
        supervised_contrastive(own @ own.T / TAU, alike, others, anchors=p) for own, p in zip(f, weights.T, strict=True)
    ]
    return torch.stack(terms).mean()
