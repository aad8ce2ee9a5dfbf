"""Class probabilities as embeddings, in which a cosine says how probably two items share a label."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["TERMS", "share_vectors"]

#: Terms of the series, for items with several labels.
TERMS = 3


def share_vectors(p: Tensor, modality: int, modalities: int, *, single: bool, reach: float = 1.0) -> Tensor:
    """Unit vectors whose inner product across modalities rises with P(share a label).

        one class per item:  <p_i, p_j> = P
        several:             sum_t <p_i^t, p_j^t> / t,  the series of -log(1 - P),  over ``reach``

    Lengths are made up to 1 by one further coordinate for each modality, which only its own rows fill, so that across
    modalities nothing is added to the inner product. (Within one it is, which favours uncertain rows.)

    Args:
        p: Class probabilities, shape (m, c).
        modality: Position of the modality.
        modalities: How many there are.
        single: Whether every item has exactly one class.
        reach: Squared length that becomes 1; rows that are longer are shortened to it.

    Returns:
        Shape (m, c + M), or (m, 3 c + M) for several labels.

    Example:
        >>> import torch
        >>> a, b = torch.tensor([[0.6, 0.4]]), torch.tensor([[0.5, 0.5]])
        >>> v, w = (share_vectors(p, m, 2, single=True) for m, p in enumerate((a, b)))
        >>> round(float(v @ w.T), 4), round(float(v.norm()), 4)
        (0.5, 1.0)
    """
    parts = p if single else torch.cat([p**t / t**0.5 for t in range(1, TERMS + 1)], dim=1) / reach**0.5
    length = (parts**2).sum(dim=1, keepdim=True)
    own = torch.zeros(len(p), modalities, dtype=p.dtype, device=p.device)
    own[:, modality : modality + 1] = (1 - length).clamp_min(0).sqrt()
    return torch.cat([parts, own], dim=1)
