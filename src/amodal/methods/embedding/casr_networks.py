"""The networks of CASR: attentions of the environments, and what imagines a missing side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from amodal.methods.embedding.feature_embed import CosineClasses, EmbedNetwork

__all__ = ["Attention", "CASRNetwork", "Fusion", "Imagination", "Rows"]

HEADS = 4


class Attention(nn.Module):
    """K gates side by side, one for each environment: A_k(x) * x.

        A_k(x) = sigmoid(W2_k ReLU(W1_k x + b1_k) + b2_k)

    Args:
        dim: Width e.
        environments: Number K.
    """

    def __init__(self, dim: int, environments: int) -> None:
        super().__init__()
        half = max(dim // 2, 1)
        self.first = nn.Parameter(torch.empty(environments, dim, half).uniform_(-1, 1) / math.sqrt(dim))
        self.first_offset = nn.Parameter(torch.zeros(environments, 1, half))
        self.second = nn.Parameter(torch.empty(environments, half, dim).uniform_(-1, 1) / math.sqrt(half))
        self.second_offset = nn.Parameter(torch.zeros(environments, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Attended features of every environment, shape (K, m, e), of features (m, e)."""
        return self._attended(x, *self.layers())

    def mean(self, x: Tensor) -> Tensor:
        """Features attended by one gate whose weights are the mean over environments, shape (m, e)."""
        return self._attended(x, *(theta.mean(dim=0, keepdim=True) for theta in self.layers()))[0]

    def layers(self) -> tuple[Tensor, ...]:
        """Theta: the weights of each layer for all environments."""
        return self.first, self.first_offset, self.second, self.second_offset

    def _attended(self, x: Tensor, first: Tensor, first_offset: Tensor, second: Tensor, offset: Tensor) -> Tensor:
        inner = F.relu(torch.baddbmm(first_offset, x.expand(len(first), -1, -1), first))
        return torch.sigmoid(torch.baddbmm(offset, inner, second)) * x


class Fusion(nn.Module):
    """Attention of one query for each row to a few vectors of its own, with several heads.

    Keys and values are never projected one by one: the query goes to the space of the vectors, and their mean back.

    Args:
        dim: Width e.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        heads = HEADS if dim % HEADS == 0 else 1
        bound = 1 / math.sqrt(dim)
        self.query, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.key = nn.Parameter(torch.empty(heads, dim // heads, dim).uniform_(-bound, bound))
        self.value = nn.Parameter(torch.empty(heads, dim, dim // heads).uniform_(-bound, bound))

    def forward(self, q: Tensor, vectors: Tensor, there: Tensor) -> Tensor:
        """What each query finds, shape (m, e); zeros where it has nothing to attend to.

        Args:
            q: Queries, shape (m, e).
            vectors: Keys and values, shape (m, N, e).
            there: Which of them are real, bool, shape (m, N).
        """
        heads, width, _ = self.key.shape
        probe = torch.einsum("mhd,hde->mhe", self.query(q).view(len(q), heads, width), self.key)
        scores = torch.einsum("mhe,mne->mhn", probe, vectors) / math.sqrt(width)
        weights = torch.softmax(scores.masked_fill(~there[:, None], -1e4), dim=2) * there[:, None]
        found = torch.einsum("mhe,hed->mhd", torch.einsum("mhn,mne->mhe", weights, vectors), self.value)
        out: Tensor = self.out(found.flatten(1))
        return out * there.any(dim=1, keepdim=True)


class Imagination(nn.Module):
    """The missing side of an item, from the side that is there, its category prior and the context of like items.

        q = LN(W [e ; x]),   h = LN(q + attention(q; keys and values: context and e)),   x' = LN(h + FFN(h))

    Without anything to attend to, x' is a function of x alone. The last LN has no weights, as that of the adapters, so
    that imagined sides are of the length of true ones.

    Args:
        dim: Width e.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.fusion = nn.Linear(2 * dim, dim), Fusion(dim)
        self.norm_query, self.norm_context = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.feedforward = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.norm_out, self.trust = nn.LayerNorm(dim, elementwise_affine=False), nn.Linear(dim, 1)

    def forward(self, x: Tensor, prior: Tensor | None, context: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """What is imagined.

        Args:
            x: The side that is there, shape (m, e).
            prior: Category prior, shape (m, e), or None.
            context: Sides of like items, shape (m, N, e); N may be 0.
            there: Which of these are real, bool, shape (m, N).

        Returns:
            Imagined sides, shape (m, e), and the logit of how far to trust them, shape (m,).
        """
        q = self.norm_query(self.query(torch.cat([torch.zeros_like(x) if prior is None else prior, x], dim=1)))
        if prior is not None:
            context = torch.cat([context, prior[:, None]], dim=1)
            there = torch.cat([there, there.new_ones(len(x), 1)], dim=1)
        h = self.norm_context(q + self.fusion(q, context, there))
        return self.norm_out(h + self.feedforward(h)), self.trust(h.detach()).squeeze(1)


class Rows(nn.Module):
    """What is known of training rows beside their features; stands in checkpoints, but not in a saved model.

    Args:
        environment: Weights p of the rows in each environment, shape (n, K).
        guess: Labels guessed of rows that have none, shape (n, c); zeros elsewhere. (0, c) if none are.
    """

    environment: Tensor
    guess: Tensor

    def __init__(self, environment: Tensor, guess: Tensor) -> None:
        super().__init__()
        self.register_buffer("environment", environment)
        self.register_buffer("guess", guess)


class CASRNetwork(EmbedNetwork):
    """All that CASR learns.

    Args:
        dims: Width of the features of each modality, in order.
        dim: Width e of the common space.
        widths: Widths of the hidden layers of an adapter.
        dropout: Share of input features, and of hidden units, left out in training.
        classes: Number of classes c.
        environments: Number of attentions K of each modality.
        scale: Factor s of the cosine with a class.

    Attributes:
        reach: Squared length of the longest semantic embedding that is expected; see ``share_vectors``.
        rows: What is known of training rows; only in training.
    """

    reach: Tensor
    rows: Rows

    def __init__(
        self,
        dims: Sequence[int],
        dim: int,
        widths: Sequence[int],
        dropout: tuple[float, float],
        *,
        classes: int,
        environments: int,
        scale: float,
    ) -> None:
        super().__init__(dims, dim, widths, dropout[1])
        self.drop_input = nn.Dropout(dropout[0])
        self.norm = nn.ModuleList([nn.LayerNorm(dim, elementwise_affine=False) for _ in dims])
        self.width, self.environments = dim, environments
        self.attention = nn.ModuleList([Attention(dim, environments) for _ in dims])
        self.head = nn.Linear(dim, dim)
        self.classes = CosineClasses(dim, classes, scale)
        self.plain = CosineClasses(dim, classes, scale)
        self.priors = nn.Parameter(torch.randn(classes, dim))
        self.register_buffer("reach", torch.ones(()))
        self.imagine = nn.ModuleDict({f"{a}-{b}": Imagination(dim) for a, b in permutations(range(len(dims)), 2)})

    def adapted(self, x: Tensor, modality: int) -> Tensor:
        """Features of one modality after its adapter, shape (m, e)."""
        encoder = self.encoder[modality]
        scaled = self.drop_input(encoder.standardise(x))  # type: ignore[operator]
        out: Tensor = self.norm[modality](self.project[modality](encoder.layers(scaled)))  # type: ignore[operator]
        return out

    def aligned(self, adapted: Tensor, modality: int) -> Tensor:
        """F of every environment, unit rows, shape (K, m, e)."""
        return F.normalize(self.head(self.attention[modality](adapted)), dim=-1, eps=1e-8)

    def gates(self) -> list[Attention]:
        """The attentions of all modalities."""
        return [gate for gate in self.attention if isinstance(gate, Attention)]

    def causal(self, adapted: Tensor, modality: int) -> Tensor:
        """F of the mean attention, unit rows, shape (m, e)."""
        return F.normalize(self.head(self.gates()[modality].mean(adapted)), dim=-1, eps=1e-8)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Class probabilities of scores: softmax if items have one class, else logistic."""
        return torch.softmax(scores, dim=-1) if self.single else torch.sigmoid(scores)
