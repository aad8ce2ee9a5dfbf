"""Parts to fragments: a projection, or word embeddings and a recurrent network, and unit length."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from amodal.data import Observations
from amodal.methods.deep import Standardise
from amodal.methods.features import chunk_size
from amodal.methods.matching.blocks import compact, real_parts

__all__ = ["FragmentEncoder", "PartScale", "linear"]


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer with the first weights of SCAN and SGRAF: Xavier's, and no offset.

    An offset drawn at random would drown what (a - w)^2 says in ``sgraf``: squares of differences of unit vectors are
    small.

    Args:
        inputs: Width of what goes in.
        outputs: Width of what comes out.
    """
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class PartScale(Standardise):
    """(x - mean) / g with one g for all features, the root of the mean variance, measured on real parts only."""

    def fit(self, observations: Observations) -> None:
        """Measure on training observations, shape (m, length, d)."""
        count, total, squares = 0, np.zeros(observations.dim), np.zeros(observations.dim)
        shift: np.ndarray | None = None
        for chunk in observations.chunks(chunk_size(observations)):
            parts = chunk[(chunk != 0).any(axis=-1)].astype(np.float64)
            if shift is None and len(parts):
                shift = parts.mean(axis=0)  # sums of squares around it do not cancel
            if shift is not None:
                count, total = count + len(parts), total + (parts - shift).sum(axis=0)
                squares += ((parts - shift) ** 2).sum(axis=0)
        if shift is None:
            return
        offset = total / count
        self.mean.copy_(torch.from_numpy(shift + offset))
        self.deviation.fill_(float(np.sqrt(np.maximum(squares / count - offset**2, 0).mean())) or 1.0)


class FragmentEncoder(nn.Module):
    """Parts of one modality to unit fragments; padding stays zero.

    Regions, or words as features:      standardise, dropout, Linear
    words as features, in order:        standardise, dropout, Linear to ``embedding``, bidirectional GRU
    words as numbers 1, 2, ...:         embedding table, dropout, bidirectional GRU
    The two directions of the GRU are averaged.

    Args:
        dim: Width of the parts; 1 for word numbers.
        width: Width of the fragments.
        embedding: Width in front of the GRU.
        vocabulary: Highest word number, 0 for parts that are features. Higher ones are unknown: vectors of zeros.
        recurrent: Whether features are read in order by a GRU; word numbers always are.
        dropout: Share of units left out in training, in front of the Linear or the GRU.
    """

    def __init__(
        self, dim: int, width: int, *, embedding: int, vocabulary: int, recurrent: bool, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        if vocabulary:
            self.table = nn.Embedding(vocabulary + 1, embedding, padding_idx=0)
            nn.init.uniform_(self.table.weight[1:], -0.1, 0.1)
        else:
            self.standardise = PartScale(dim)
            self.linear = linear(dim, embedding if recurrent else width)
        self.vocabulary = vocabulary
        self.recurrent = (
            nn.GRU(embedding, width, batch_first=True, bidirectional=True) if vocabulary or recurrent else None
        )

    def pooled(self, x: Tensor) -> Tensor:
        """Mean of the parts as the linear map takes them, shape (m, d), for parts that are features (m, length, d)."""
        x = compact(x)  # a mean must not depend on how many places are padded, not even by rounding
        real = real_parts(x)[..., None]
        mean: Tensor = (self.standardise(x) * real).sum(dim=1) / real.sum(dim=1).clamp_min(1)
        return mean

    @torch.no_grad()
    def begin(self, weight: Tensor, bias: Tensor) -> None:
        """Let the linear map start here: weight (k, d), bias (k,), k <= width, for vectors of mean squared length 1.

        Made as long as what Xavier's weights give, so that the same rate suits both; the other outputs keep those, too
        small to be heard at first. Were they 0 in both modalities, they would have no gradient.
        """
        length = len(self.linear.weight) ** 0.5
        self.linear.weight.mul_(0.01)[: len(weight)] = length * weight
        self.linear.bias[: len(bias)] = length * bias

    def forward(self, x: Tensor) -> Tensor:
        """Unit fragments, shape (m, length, width), for parts (m, length, d) with padding last."""
        real = real_parts(x)
        if self.vocabulary:
            words = x[..., 0].long()
            states = self.dropout(self.table(words * (words <= self.vocabulary)))
        else:
            states = self.linear(self.dropout(self.standardise(x)))
        if self.recurrent is not None and len(x):
            states = self._read(states, real)
        return F.normalize(states, dim=-1, eps=1e-8) * real[..., None]

    def _read(self, states: Tensor, real: Tensor) -> Tensor:
        """States of the GRU at each word, mean of both directions."""
        assert self.recurrent is not None  # noqa: S101 - asked for only where there is one
        counts = real.sum(dim=1).clamp_min(1).cpu()
        packed = pack_padded_sequence(states, counts, batch_first=True, enforce_sorted=False)
        read, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=states.shape[1])
        forwards, backwards = read.chunk(2, dim=-1)
        return (forwards + backwards) / 2
