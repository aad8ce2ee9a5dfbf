"""Blocks of random unit fragments of any lengths."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows

from amodal.methods.matching.blocks import Pair, Side


def side(counts, width=8, *, seed=0, dtype=torch.float64, whole=True):
    """One item per count, with padding up to the longest; unit vectors of whole items too."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(len(counts), max(counts), width, generator=generator, dtype=dtype)
    real = torch.arange(max(counts))[None] < torch.tensor(counts)[:, None]
    wholes = torch.randn(len(counts), width, generator=generator, dtype=dtype)
    fragments = F.normalize(values, dim=-1) * real[..., None]
    return Side(fragments, real, F.normalize(wholes, dim=-1) if whole else None)


def block(regions=(4, 2, 3), words=(5, 1, 2, 3), **options):
    return Pair(side(regions, seed=1, **options), side(words, seed=2, **options))


def fragments(one, row):
    """The real fragments of an item, as an array."""
    return one.values[row][one.real[row]].detach().numpy()
