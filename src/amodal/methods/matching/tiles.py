"""Pairs of two tables of items, all or some of them, in tiles of bounded size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amodal.methods.matching.blocks import Pair, Side, real_parts
from amodal.methods.matching.scorer import MatchNetwork, Scorer

__all__ = ["AT_ONCE", "Fragments", "Held", "Table", "score_some", "score_tiles", "tile_shape"]

Fragments = NDArray[np.floating[Any]]

#: Values held at once, in a tile of pairs or a chunk of items: 8 MiB, which stay near the processor.
AT_ONCE = 2**21

#: Pairs with one item that are scored together. Of a few dozen, in order of length, little is padding.
TOGETHER = 128

Judge = Callable[[Scorer, Pair], Tensor]


class Table:
    """Items of one modality, in order of how many fragments they have, so that a tile holds little padding.

    Args:
        fragments: As ``Matcher.embed`` gives them: of all networks side by side, shape (m, length, networks x width).
        networks: The networks.
        position: Of the modality.
        device: Where they are compared.

    Attributes:
        mean_count: Fragments of an item, on average.
    """

    def __init__(
        self, fragments: Fragments, networks: Sequence[MatchNetwork], position: int, device: torch.device
    ) -> None:
        self.fragments, self.networks, self.position, self.device = fragments, networks, position, device
        step = max(AT_ONCE // max(int(np.prod(fragments.shape[1:])), 1), 1)
        chunks = [slice(start, start + step) for start in range(0, len(fragments), step)]
        self.counts = np.concatenate([(fragments[chunk] != 0).any(axis=-1).sum(axis=1) for chunk in chunks])
        self.order = np.argsort(self.counts, kind="stable")
        self.mean_count = max(float(self.counts.mean()), 1.0)
        self.wholes = [self._wholes(k, chunks) for k, network in enumerate(networks) if len(network.whole)]

    def __len__(self) -> int:
        return len(self.fragments)

    def tiles(self, size: int) -> Iterator[tuple[NDArray[np.int64], list[Side]]]:
        """Rows of some items, and what each network compares of them."""
        for start in range(0, len(self), size):
            rows = self.order[start : start + size]
            yield rows, self.sides(rows)

    def sides(self, rows: NDArray[np.int64]) -> list[Side]:
        """What each network compares of some items."""
        real = np.arange(max(int(self.counts[rows].max()), 1)) < self.counts[rows, None]
        return [self._side(k, rows, real) for k in range(len(self.networks))]

    def _side(self, k: int, rows: NDArray[np.int64], real: NDArray[np.bool_]) -> Side:
        place, item = np.nonzero(real.T)
        width = self.fragments.shape[-1] // len(self.networks)
        chosen = self.fragments[rows[item], place, k * width : (k + 1) * width]
        packed = torch.from_numpy(np.ascontiguousarray(chosen, np.float32)).to(self.device)
        whole = self.wholes[k][torch.from_numpy(rows)] if self.wholes else None
        return Side(None, torch.from_numpy(real).to(self.device), whole, packed=packed)

    def _values(self, k: int, chunk: slice) -> Tensor:
        longest = max(int(self.counts[chunk].max()), 1)
        width = self.fragments.shape[-1] // len(self.networks)
        chosen = self.fragments[chunk, :longest, k * width : (k + 1) * width]
        return torch.from_numpy(np.ascontiguousarray(chosen, np.float32)).to(self.device)

    def _wholes(self, k: int, chunks: Sequence[slice]) -> Tensor:
        values = (self._values(k, chunk) for chunk in chunks)
        return torch.cat([self.networks[k].whole[self.position](x, real_parts(x)) for x in values])


class Held:
    """Items that are there as they are compared, in order of how many fragments they have.

    Args:
        side: The items.

    Attributes:
        mean_count: Fragments of an item, on average.
    """

    def __init__(self, side: Side) -> None:
        self.side, self.order = side, side.counts.argsort(stable=True)
        self.mean_count = max(float(side.counts.float().mean()), 1.0)

    def __len__(self) -> int:
        return len(self.side)

    def tiles(self, size: int) -> Iterator[tuple[Tensor, Side]]:
        """Rows of some items, and what is compared of them."""
        for start in range(0, len(self), size):
            rows = self.order[start : start + size]
            yield rows, self.side.take(rows)


def tile_shape(regions: Sized, words: Sized, footprint: float) -> tuple[int, int]:
    """How many items of both make a tile of all pairs: a square has the least to read for its pairs.

    Args:
        regions: Items of the modality that comes first.
        words: Items of the other.
        footprint: Values that a pair takes.
    """
    area = max(AT_ONCE / footprint, 1)
    columns = min(len(words), max(int(area / min(len(regions), math.sqrt(area))), 1))
    return min(len(regions), max(int(area / columns), 1)), columns


def score_tiles(regions: Table, words: Table, scorers: Sequence[Scorer], judge: Judge) -> NDArray[np.float32]:
    """Scores of all pairs, mean over the networks.

    Args:
        regions: Items of the modality that comes first.
        words: Items of the other.
        scorers: One for each network.
        judge: What is asked of a scorer.

    Returns:
        Shape (regions, words).
    """
    rows, columns = tile_shape(regions, words, _footprint(regions, words, scorers))
    scores = np.zeros((len(regions), len(words)), np.float32)
    for below, lower in regions.tiles(rows):
        for beside, upper in words.tiles(columns):
            scores[np.ix_(below, beside)] = _judged(scorers, lower, upper, judge)
    return scores


def score_some(
    regions: Table,
    words: Table,
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    scorers: Sequence[Scorer],
    judge: Judge,
) -> NDArray[np.float32]:
    """Scores of some pairs, mean over the networks: an item with those that it is to be scored with, some at a time.

    Args:
        regions: Items of the modality that comes first.
        words: Items of the other.
        pairs: Row of each pair in both, shape (N,) each.
        scorers: One for each network.
        judge: What is asked of a scorer.

    Returns:
        Shape (N,).
    """
    scores, tables = np.zeros(len(pairs[0]), np.float32), (regions, words)
    if not len(scores):
        return scores
    size = min(max(int(AT_ONCE / _footprint(regions, words, scorers)), 1), TOGETHER)
    # each item of the side that has fewer has more to be scored with
    one = int(len(np.unique(pairs[0])) > len(np.unique(pairs[1])))
    others = 1 - one
    order = np.lexsort((tables[others].counts[pairs[others]], pairs[one]))
    for group in np.split(order, np.flatnonzero(np.diff(pairs[one][order])) + 1):
        single = tables[one].sides(pairs[one][group[:1]])
        for start in range(0, len(group), size):
            places = group[start : start + size]
            sides = [single, tables[others].sides(pairs[others][places])]
            scores[places] = _judged(scorers, sides[one], sides[others], judge).ravel()
    return scores


def _footprint(regions: Table, words: Table, scorers: Sequence[Scorer]) -> float:
    width = regions.fragments.shape[-1] // len(scorers)
    return max(scorer.footprint(regions.mean_count, words.mean_count, width) for scorer in scorers)


def _judged(scorers: Sequence[Scorer], regions: list[Side], words: list[Side], judge: Judge) -> NDArray[np.float32]:
    found = [judge(*each) for each in zip(scorers, map(Pair, regions, words), strict=True)]
    return torch.stack(found).mean(dim=0).cpu().numpy()
