"""The networks of CICH: cross-fitted bottleneck encoders, predictors of a missing side, and one head for all codes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from amodal.methods.hashing.recovery import Latent, Predictors
from amodal.methods.networks import Scale

__all__ = ["CICHNetwork"]


class Members(nn.Module):
    """K small encoders of one modality, side by side in one wide layer, each with label prototypes of its own.

        a_k = ReLU(W_k x),   mu_k, log sigma_k^2 = V_k a_k,   z_k = mu_k + sigma_k eps (training), mu_k (else)
        s_kc = <ReLU(z_k), v_kc> + d_kc        prototypes v_kc of the labels, in the latent space

    Args:
        dim: Width d of the features.
        members: Number K.
        hidden: Width of each first layer.
        latent: Width e of each bottleneck.
        classes: Number of classes c.
        dropout: Share of input features, and of hidden ones, left out in training.
    """

    def __init__(
        self, dim: int, members: int, hidden: int, latent: int, classes: int, dropout: tuple[float, float]
    ) -> None:
        super().__init__()
        self.standardise = Scale(dim)
        self.first = nn.Linear(dim, members * hidden)
        self.second = nn.Parameter(torch.empty(members, hidden, 2 * latent).uniform_(-1, 1) / math.sqrt(hidden))
        self.second_offset = nn.Parameter(torch.zeros(members, 1, 2 * latent))
        self.prototypes = nn.Parameter(torch.empty(members, latent, classes).uniform_(-1, 1) / math.sqrt(latent))
        self.offsets = nn.Parameter(torch.zeros(members, 1, classes))
        self.drop_input, self.drop_hidden = (nn.Dropout(share) for share in dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the bottlenecks, each (m, K e)."""
        a = self.drop_hidden(F.relu(self.first(self.drop_input(self.standardise(x)))))
        a = a.view(len(x), *self.second.shape[:2]).transpose(0, 1)  # (K, m, h)
        mean, log_variance = torch.baddbmm(self.second_offset, a, self.second).chunk(2, dim=2)
        return mean.transpose(0, 1).flatten(1), log_variance.clamp(-8, 4).transpose(0, 1).flatten(1)

    def scores(self, feature: Tensor) -> Tensor:
        """How well latent features fit the label prototypes of each member, shape (m, K, c)."""
        f = feature.view(len(feature), *self.prototypes.shape[:2]).transpose(0, 1)  # (K, m, e)
        return torch.baddbmm(self.offsets, f, self.prototypes).transpose(0, 1)


class CICHNetwork(nn.Module):
    """All that CICH learns.

    Args:
        widths: Width of the features of each modality, in order.
        classes: Number of classes c.
        bits: Code length r.
        members: Encoders K of each modality.
        hidden: Width of each encoder's first layer.
        latent: Width e of each bottleneck.
        head: Width of the code head.
        dropout: Share of input features, and of hidden ones, left out in training.

    Attributes:
        width: Width K e of latent features.
        single: Whether items have one class each; else class probabilities are independent.
        temperature: Factor of the scores of each modality before they become probabilities, shape (M,).
    """

    single: Tensor
    temperature: Tensor

    def __init__(
        self,
        widths: list[int],
        classes: int,
        bits: int,
        *,
        members: int,
        hidden: int,
        latent: int,
        head: int,
        dropout: tuple[float, float],
    ) -> None:
        super().__init__()
        self.width = members * latent
        self.register_buffer("single", torch.tensor(data=True))
        self.register_buffer("temperature", torch.ones(len(widths)))
        self.members = nn.ModuleList([Members(dim, members, hidden, latent, classes, dropout) for dim in widths])
        self.imagine = Predictors(len(widths), self.width)
        self.head = nn.Sequential(nn.Linear(classes + len(widths), head), nn.ReLU(), nn.Linear(head, bits))
        self.prototype = nn.Linear(classes, bits, bias=False)  # p(l) = W_p l
        # similarity of codes to log-odds of sharing a label: codes x codes, codes x prototypes
        self.slope = nn.Parameter(torch.tensor([8.0, 8.0]))
        self.shift = nn.Parameter(torch.tensor([-4.0, -4.0]))

    def scaled(self, x: Tensor, modality: int) -> Tensor:
        """Features of a modality on one scale, as its members see them, shape (m, d)."""
        member = self.members[modality]
        assert isinstance(member, Members)  # noqa: S101 - as built
        out: Tensor = member.standardise(x)
        return out

    def scores(self, feature: Tensor, modality: int) -> Tensor:
        """How well latent features fit the prototypes of each member, shape (m, K, c)."""
        member = self.members[modality]
        assert isinstance(member, Members)  # noqa: S101 - as built
        return member.scores(feature)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Class probabilities of scores: softmax if items have one class, else logistic."""
        return torch.softmax(scores, dim=-1) if self.single else torch.sigmoid(scores)

    def posterior(self, feature: Tensor, modality: int, fold: Tensor | None = None) -> Tensor:
        """Class probabilities of latent features, shape (m, c).

        Args:
            feature: f, shape (m, K e).
            modality: Position of the modality.
            fold: For training rows, the member that did not learn from each, shape (m,); the mean of all otherwise.
        """
        p = self.probabilities(self.scores(feature, modality) * self.temperature[modality])
        return p.mean(dim=1) if fold is None else p[torch.arange(len(p), device=p.device), fold]

    def evidence(self, feature: Tensor, modality: int, fold: Tensor | None = None) -> Tensor:
        """Logarithms of ``posterior``, or log-odds where classes are independent; shape (m, c)."""
        p = self.posterior(feature, modality, fold).clamp(1e-6, 1 - 1e-6)
        return p.log() if self.single else torch.logit(p)

    def outputs(self, p: Tensor, modality: int) -> Tensor:
        """Real-valued outputs u of the code head, whose sign is the code; shape (m, r).

        Args:
            p: Class probabilities, shape (m, c).
            modality: Position of the modality, which the head is told.
        """
        flag = torch.full((len(p), len(self.members)), -1.0, device=p.device)
        flag[:, modality] = 1.0
        out: Tensor = self.head(torch.cat([p * math.sqrt(p.shape[1]), flag], dim=1))
        return out

    def predict(self, sample: Tensor, context: Tensor | None, source: int, target: int) -> Tensor:
        """The latent feature of ``target`` imagined from z of ``source``: q_ab, or q'_ab with context; (m, K e)."""
        out: Tensor = self.imagine(sample, context, source, target)
        return out

    def latent(self, x: Tensor, modality: int) -> Latent:
        """Everything about some features; with noise in training only."""
        mean, log_variance = self.members[modality](x)
        sample = mean + torch.exp(log_variance / 2) * torch.randn_like(mean) if self.training else mean
        feature = F.relu(sample)
        return Latent(mean, log_variance, sample, feature, self.code(feature, modality))

    def code(self, feature: Tensor, modality: int) -> Tensor:
        """Relaxed codes of latent features, shape (m, r)."""
        return torch.tanh(self.outputs(self.posterior(feature, modality), modality))
