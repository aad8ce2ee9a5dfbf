"""The networks of CICH: cross-fitted encoders, a bottleneck to imagine the missing side, one head for all codes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from amodal.methods.deep import Standardise
from amodal.methods.hashing.recovery import Latent, Predictors

__all__ = ["CICHNetwork"]


class Members(nn.Module):
    """K small encoders of one modality, side by side in one wide layer, each with label prototypes of its own.

        f_k = ReLU(W_k x + a_k),   s_kc = <f_k, v_kc> + d_kc        prototypes v_kc in the latent space

    Args:
        dim: Width d of the features.
        members: Number K.
        hidden: Width h of each.
        classes: Number of classes c.
        dropout: Share of input features, and of latent features, left out in training.
    """

    def __init__(self, dim: int, members: int, hidden: int, classes: int, dropout: tuple[float, float]) -> None:
        super().__init__()
        self.shape = members, hidden
        self.standardise = Standardise(dim, common=True)
        self.first = nn.Linear(dim, members * hidden)
        self.prototypes = nn.Parameter(torch.empty(members, hidden, classes).uniform_(-1, 1) / math.sqrt(hidden))
        self.offsets = nn.Parameter(torch.zeros(members, classes))
        self.drop_input, self.drop_latent = (nn.Dropout(share) for share in dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Latent features f, shape (m, K h)."""
        f: Tensor = F.relu(self.first(self.drop_input(self.standardise(x))))
        return f

    def scores(self, f: Tensor) -> Tensor:
        """How well each member's latent feature fits the label prototypes, shape (m, K, c)."""
        latent = self.drop_latent(f).view(len(f), *self.shape)
        return torch.einsum("mkh,khc->mkc", latent, self.prototypes) + self.offsets


class CICHNetwork(nn.Module):
    """All that CICH learns.

    Args:
        widths: Width of the features of each modality, in order.
        classes: Number of classes c.
        bits: Code length r.
        members: Encoders K of each modality.
        hidden: Width h of each encoder.
        latent: Width e of the bottleneck.
        head: Width of the code head.
        dropout: Share of input features, and of latent features, left out in training.
        single: Whether items have one class each; else class probabilities are independent.
    """

    single: Tensor

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
        self.width = members * hidden
        self.register_buffer("single", torch.tensor(data=True))
        self.members = nn.ModuleList([Members(dim, members, hidden, classes, dropout) for dim in widths])
        self.bottleneck = nn.ModuleList([nn.Linear(self.width, 2 * latent) for _ in widths])
        self.imagine = Predictors(len(widths), latent, self.width)
        self.head = nn.Sequential(nn.Linear(classes + len(widths), head), nn.ReLU(), nn.Linear(head, bits))
        self.prototype = nn.Linear(classes, bits, bias=False)  # p(l) = W_p l
        # similarity of codes to log-odds of sharing a label: codes x codes, codes x prototypes
        self.slope = nn.Parameter(torch.tensor([8.0, 8.0]))
        self.shift = nn.Parameter(torch.tensor([-4.0, -4.0]))

    def features(self, x: Tensor, modality: int) -> Tensor:
        """Latent features f, shape (m, K h)."""
        f: Tensor = self.members[modality](x)
        return f

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
            feature: f, shape (m, K h).
            modality: Position of the modality.
            fold: For training rows, the member that did not learn from each, shape (m,); the mean of all otherwise.
        """
        p = self.probabilities(self.scores(feature, modality))
        return p.mean(dim=1) if fold is None else p[torch.arange(len(p), device=p.device), fold]

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

    def bottlenecked(self, feature: Tensor, modality: int) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (in [-8, 8]) of the bottleneck, each (m, e)."""
        mean, log_variance = self.bottleneck[modality](feature).chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 8)

    def latent(self, x: Tensor, modality: int) -> Latent:
        """Everything about some features; in evaluation, so without chance."""
        feature = self.features(x, modality)
        mean, log_variance = self.bottlenecked(feature, modality)
        return Latent(mean, log_variance, mean, feature, self.code(feature, modality))

    def code(self, feature: Tensor, modality: int) -> Tensor:
        """Relaxed codes of latent features, shape (m, r)."""
        return torch.tanh(self.outputs(self.posterior(feature, modality), modality))
