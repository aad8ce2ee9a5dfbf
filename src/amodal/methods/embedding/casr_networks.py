"""The networks of CASR: members with an attention for each environment, and what imagines a missing side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from amodal.methods.cues import Erasure
from amodal.methods.networks import Scale

__all__ = ["Adapters", "Attention", "CASRNetwork", "Fusion", "Imagination", "MemberClasses", "Pooling", "Rows"]

HEADS = 4


def _drawn(*shape: int) -> nn.Parameter:
    """Weights of layers side by side, shape (..., inputs, outputs), as ``nn.Linear`` draws them."""
    return nn.Parameter(torch.empty(*shape).uniform_(-1, 1) / math.sqrt(shape[-2]))


class Adapters(nn.Module):
    """Features of one modality to the spaces of K members: x_k = LN(W2_k ReLU(W1_k x)), side by side.

    Args:
        dim: Width d of the features.
        members: Number K.
        hidden: Width of each hidden layer.
        width: Width e of each member's space.
        dropout: Share of input features, and of hidden units, left out in training.
        cues: Largest number of directions that may be erased.

    Attributes:
        standardise: One scale for all features.
        erase: What takes cues out of scaled features.
    """

    def __init__(
        self, dim: int, members: int, hidden: int, width: int, dropout: tuple[float, float], cues: int
    ) -> None:
        super().__init__()
        self.standardise, self.erase = Scale(dim), Erasure(dim, cues)
        self.first, self.second = nn.Linear(dim, members * hidden), _drawn(members, hidden, width)
        self.second_offset = nn.Parameter(torch.zeros(members, 1, width))
        self.drop_input, self.drop_hidden = (nn.Dropout(share) for share in dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Adapted features, shape (K, ..., e), of features (..., d)."""
        a = self.drop_hidden(F.relu(self.first(self.drop_input(self.scaled(x)))))
        members, hidden, width = self.second.shape
        z = torch.baddbmm(self.second_offset, a.reshape(-1, members, hidden).transpose(0, 1), self.second)
        return F.layer_norm(z, (width,)).view(members, *x.shape[:-1], width)

    def scaled(self, x: Tensor) -> Tensor:
        """Scaled features without cues, the shape of ``x``."""
        out: Tensor = self.erase(self.standardise(x))
        return out


class Pooling(nn.Module):
    """Parts to one vector, for every environment and member: sum_t softmax_t(u tanh(V x_t)) x_t over real parts.

    Args:
        environments: Number Q.
        members: Number K.
        width: Width e.
    """

    def __init__(self, environments: int, members: int, width: int) -> None:
        super().__init__()
        half = max(width // 2, 1)
        self.inner, self.outer = _drawn(environments, members, width, half), _drawn(environments, members, half, 1)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """Pooled parts of every environment, shape (Q, K, m, e).

        Args:
            x: Adapted parts, shape (K, m, T, e).
            there: Which are real, bool, shape (m, T); an observation without any is pooled to 0.
        """
        return self._pooled(x, there, self.inner, self.outer)

    def mean(self, x: Tensor, there: Tensor) -> Tensor:
        """The same with weights that are the mean over environments, shape (K, m, e)."""
        return self._pooled(x, there, *(theta.mean(dim=0, keepdim=True) for theta in self.layers()))[0]

    def layers(self) -> tuple[Tensor, ...]:
        """Theta: the weights of each layer for all environments."""
        return self.inner, self.outer

    @staticmethod
    def _pooled(x: Tensor, there: Tensor, inner: Tensor, outer: Tensor) -> Tensor:
        hidden = torch.tanh(torch.einsum("kmte,qkeh->qkmth", x, inner))
        scores = torch.einsum("qkmth,qkhi->qkmt", hidden, outer).masked_fill(~there, -1e4)
        return torch.einsum("qkmt,kmte->qkme", torch.softmax(scores, dim=-1) * there, x)


class Attention(nn.Module):
    """Gates side by side, one for each environment and member: A_qk(x) * x.

        A_qk(x) = sigmoid(W2_qk ReLU(W1_qk x + b1_qk) + b2_qk)

    Args:
        environments: Number Q.
        members: Number K.
        width: Width e.
    """

    def __init__(self, environments: int, members: int, width: int) -> None:
        super().__init__()
        half = max(width // 2, 1)
        self.first, self.second = _drawn(environments, members, width, half), _drawn(environments, members, half, width)
        self.first_offset = nn.Parameter(torch.zeros(environments, members, 1, half))
        self.second_offset = nn.Parameter(torch.zeros(environments, members, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Attended features, shape (Q, K, m, e), of features seen in each environment, shape (Q, K, m, e)."""
        return self._attended(x, *self.layers())

    def mean(self, x: Tensor) -> Tensor:
        """Features (K, m, e) attended by one gate for each member, whose weights are the mean over environments."""
        return self._attended(x[None], *(theta.mean(dim=0, keepdim=True) for theta in self.layers()))[0]

    def layers(self) -> tuple[Tensor, ...]:
        """Theta: the weights of each layer for all environments."""
        return self.first, self.first_offset, self.second, self.second_offset

    @staticmethod
    def _attended(x: Tensor, first: Tensor, first_offset: Tensor, second: Tensor, offset: Tensor) -> Tensor:
        inner = F.relu(x @ first + first_offset)
        return torch.sigmoid(inner @ second + offset) * x


class MemberClasses(nn.Module):
    """Classes as directions of each member's space: s_kc = scale cos(z_k, w_kc) + d_kc.

    Args:
        members: Number K.
        width: Width e.
        classes: Number c.
        scale: Factor of the cosine.
    """

    def __init__(self, members: int, width: int, classes: int, scale: float) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(members, classes, width) / math.sqrt(width))
        self.offsets = nn.Parameter(torch.zeros(members, 1, classes))
        self.scale = scale

    def forward(self, z: Tensor) -> Tensor:
        """Scores, shape (..., K, m, c), for z of shape (..., K, m, e)."""
        directions = F.normalize(self.directions, dim=-1, eps=1e-8).transpose(1, 2)
        return self.scale * F.normalize(z, dim=-1, eps=1e-8) @ directions + self.offsets


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

        q = LN(W [e ; x]),   h = LN(q + attention(q; keys and values: context and e)),   x' = LN(e + g * (h + FFN(h)))

    Without anything to attend to, x' is a function of x alone. The gains g begin small, so that imagination begins with
    what is known of the classes.

    Args:
        dim: Width e.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.fusion = nn.Linear(2 * dim, dim), Fusion(dim)
        self.norm_query, self.norm_context = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.feedforward = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.gain = nn.Parameter(torch.full((dim,), 0.1))
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
        expected = torch.zeros_like(x) if prior is None else prior
        q = self.norm_query(self.query(torch.cat([expected, x], dim=1)))
        if prior is not None:
            context = torch.cat([context, prior[:, None]], dim=1)
            there = torch.cat([there, there.new_ones(len(x), 1)], dim=1)
        h = self.norm_context(q + self.fusion(q, context, there))
        return self.norm_out(expected + self.gain * (h + self.feedforward(h))), self.trust(h.detach()).squeeze(1)


class Rows(nn.Module):
    """What is known of training rows beside their features; stands in checkpoints, but not in a saved model.

    Args:
        environment: Weights p of the rows in each environment, shape (n, Q).
        guess: Labels guessed of rows that have none, shape (n, c); zeros elsewhere. (0, c) if none are.
    """

    environment: Tensor
    guess: Tensor

    def __init__(self, environment: Tensor, guess: Tensor) -> None:
        super().__init__()
        self.register_buffer("environment", environment)
        self.register_buffer("guess", guess)


class CASRNetwork(nn.Module):
    """All that CASR learns by descent.

    Args:
        dims: Width of the features of each modality, in order.
        parts: Which modalities come in parts.
        members: Number K.
        hidden: Width of each hidden layer of an adapter.
        width: Width e of each member's space.
        dropout: Share of input features, and of hidden units, left out in training.
        classes: Number of classes c.
        environments: Number Q of attentions of each modality and member.
        scale: Factor of the cosine with a class.

    Attributes:
        single: Whether items have one class each; else classes are independent.
        reach: Squared length of the longest semantic embedding that is expected; see ``share_vectors``.
        temperature: Factor of the scores of each modality before they become probabilities, shape (M,).
        priors: T, what the classes lead one to expect of each modality, shape (M, c, K e).
        rows: What is known of training rows; only in training.
    """

    single: Tensor
    reach: Tensor
    temperature: Tensor
    rows: Rows

    def __init__(
        self,
        dims: Sequence[int],
        parts: Sequence[bool],
        *,
        members: int,
        hidden: int,
        width: int,
        dropout: tuple[float, float],
        classes: int,
        environments: int,
        scale: float,
    ) -> None:
        super().__init__()
        self.members, self.width, self.environments = members, width, environments
        self.register_buffer("single", torch.tensor(data=True))
        self.register_buffer("reach", torch.ones(()))
        self.register_buffer("temperature", torch.ones(len(dims)))
        self.encoder = nn.ModuleList([Adapters(dim, members, hidden, width, dropout, classes) for dim in dims])
        self.pooling = nn.ModuleDict({str(k): Pooling(environments, members, width) for k, p in enumerate(parts) if p})
        self.attention = nn.ModuleList([Attention(environments, members, width) for _ in dims])
        self.head, self.head_offset = _drawn(members, width, width), nn.Parameter(torch.zeros(members, 1, width))
        self.classes = MemberClasses(members, width, classes, scale)
        self.plain = MemberClasses(members, width, classes, scale)
        latent = members * width
        self.priors = nn.Parameter(torch.randn(len(dims), classes, latent))
        self.imagine = nn.ModuleDict({f"{a}-{b}": Imagination(latent) for a, b in permutations(range(len(dims)), 2)})

    def seen(self, x: Tensor, modality: int) -> tuple[Tensor, Tensor]:
        """Adapted features of one modality, pooled if they are of parts.

        Args:
            x: Features (m, d), or parts (m, T, d).
            modality: Its position.

        Returns:
            As each environment sees them, shape (Q, K, m, e), and as their mean does, shape (K, m, e).
        """
        adapted: Tensor = self.encoder[modality](x)
        if str(modality) not in self.pooling:
            return adapted.expand(self.environments, *adapted.shape), adapted
        pooling, there = self.pooling[str(modality)], (x != 0).any(dim=-1)
        return pooling(adapted, there), pooling.mean(adapted, there)  # type: ignore[operator]

    def latent(self, x: Tensor, modality: int) -> Tensor:
        """What all members make of some features, side by side, shape (m, K e)."""
        return self.seen(x, modality)[1].transpose(0, 1).flatten(1)

    def members_of(self, latent: Tensor) -> Tensor:
        """The inverse of putting members side by side, shape (K, m, e)."""
        return latent.view(len(latent), self.members, self.width).transpose(0, 1)

    def aligned(self, seen: Tensor, modality: int) -> Tensor:
        """F of every environment and member, unit rows, shape (Q, K, m, e), of what is seen in each."""
        return self._projected(self.attention[modality](seen))

    def causal(self, seen: Tensor, modality: int) -> Tensor:
        """F of the mean attention, unit rows, shape (K, m, e), of what the mean sees, shape (K, m, e)."""
        return self._projected(self.attention[modality].mean(seen))  # type: ignore[operator]

    def thetas(self) -> list[tuple[Tensor, ...]]:
        """The weights of all attentions, by modality, each (Q, ...)."""
        return [part.layers() for part in (*self.attention, *self.pooling.values())]

    def probabilities(self, scores: Tensor) -> Tensor:
        """Class probabilities of scores: softmax if items have one class, else logistic."""
        return torch.softmax(scores, dim=-1) if self.single else torch.sigmoid(scores)

    def evidence(self, seen: Tensor, modality: int, fold: Tensor | None = None) -> Tensor:
        """What members say of the classes: logarithms, or log-odds, of probabilities, shape (m, c).

        Args:
            seen: What the mean attention sees, shape (K, m, e).
            modality: Its position.
            fold: For training rows, the member that has not learned from each, shape (m,); the mean of all otherwise.
        """
        p = self.probabilities(self.classes(self.causal(seen, modality)) * self.temperature[modality])
        p = p.mean(dim=0) if fold is None else p[fold, torch.arange(len(fold), device=fold.device)]
        p = p.clamp(1e-6, 1 - 1e-6)
        return p.log() if self.single else torch.logit(p)

    def _projected(self, attended: Tensor) -> Tensor:
        return F.normalize(attended @ self.head + self.head_offset, dim=-1, eps=1e-8)
