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

__all__ = ["Sides", "alignment", "plain_risk"]

#: Temperature of the contrast of aligned sides with each other.
TAU = 0.1


@dataclass
class Sides:
    """Observed sides of one modality of labelled items.

    Attributes:
        modality: Its position.
        seen: Adapted features as each environment and member sees them, shape (Q, K, m, e).
        labels: Multi-hot, shape (m, c).
        weights: Of each row for every environment and member, shape (m, Q, K); 0 where the member may not see it.
    """

    modality: int
    seen: Tensor
    labels: Tensor
    weights: Tensor


def alignment(network: CASRNetwork, sides: list[Sides], *, contrast: bool) -> dict[str, Tensor]:
    """The terms of ECA, each the mean over modalities; a member in an environment counts as one environment.

        risk        R_env without SupCon: mean over environments of the likelihood of labels
        contrast    SupCon of each environment, over sides of all modalities together
        invariance  ``losses.invariance_penalty``
        compact     ``losses.compactness``
        spread      ``losses.attention_spread`` of the attentions

    Args:
        network: The networks.
        sides: Of each modality that has any; at least one.
        contrast: Whether to compute SupCon, which costs most.
    """
    single, share = bool(network.single), 1 / len(network.attention)
    zero = network.priors.new_zeros(())
    terms = dict.fromkeys(("risk", "invariance", "compact", "contrast"), zero)
    aligned = [network.aligned(side.seen, side.modality) for side in sides]
    for f, side in zip(aligned, sides, strict=True):
        scores, weights = network.classes(f).flatten(0, 1), side.weights.flatten(1)
        risk = environment_mean(label_nll(scores, side.labels, single=single), weights)
        terms["risk"] = terms["risk"] + share * risk
        penalty = invariance_penalty(scores, side.labels, weights, single=single)
        terms["invariance"] = terms["invariance"] + share * penalty
        terms["compact"] = terms["compact"] + share * compactness(f.flatten(0, 1), side.labels, weights)
    if contrast and sides:
        labels, weights = torch.cat([s.labels for s in sides]), torch.cat([s.weights for s in sides]).flatten(1)
        terms["contrast"] = _contrast(torch.cat(aligned, dim=2).flatten(0, 1), labels, weights)
    terms["spread"] = torch.stack([attention_spread(theta) for theta in network.thetas()]).mean()
    return terms


def plain_risk(network: CASRNetwork, seen: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """L_plain: the likelihood of labels without any attention, the mean over members.

    Args:
        network: The networks.
        seen: Adapted features, shape (K, m, e).
        labels: Multi-hot, shape (m, c).
        weights: Of each row for every member, shape (m, K).
    """
    return environment_mean(label_nll(network.plain(seen), labels, single=bool(network.single)), weights)


def _contrast(f: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    others = ~torch.eye(len(labels), dtype=torch.bool, device=f.device)
    alike = share_label(labels, labels)
    terms = [
        supervised_contrastive(own @ own.T / TAU, alike, others, anchors=p) for own, p in zip(f, weights.T, strict=True)
    ]
    return torch.stack(terms).mean()
