"""Blocks of pairs: some items of one modality against some of another, all their fragments against all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Direction", "Pair", "Side", "View", "compact", "real_parts"]

#: Who asks whom, as the papers call it: with "t2i" each word attends to regions, with "i2t" each region to words.
Direction = Literal["t2i", "i2t"]


def real_parts(x: Tensor) -> Tensor:
    """Which parts are no padding, bool, shape (m, length): a part that is all zeros is.

    Args:
        x: Parts, shape (m, length, d).
    """
    return (x != 0).any(dim=-1)


def compact(x: Tensor) -> Tensor:
    """The same parts in the same order with padding last, cut to the longest item; at least one place is kept.

    Args:
        x: Parts, shape (m, length, d).
    """
    real = real_parts(x)
    longest = max(int(real.sum(dim=1).max()), 1) if len(x) else 1
    if bool(real[:, :longest].sum() < real.sum()):
        order = (~real).to(torch.uint8).argsort(dim=1, stable=True)
        x = x.gather(1, order[:, :, None].expand_as(x))
    return x[:, :longest]


class Side:
    """Items of one modality as a matcher compares them.

    Args:
        values: Fragments, unit rows, zeros where there is none, shape (m, length, d); padding comes last. None if
            ``packed`` is given.
        real: Which of them are fragments, bool, shape (m, length).
        whole: One unit vector per item, shape (m, d), for matchers that compare these too.
        packed: The fragments without padding, shape (N, d), in the order of ``place``.
    """

    def __init__(
        self, values: Tensor | None, real: Tensor, whole: Tensor | None = None, *, packed: Tensor | None = None
    ) -> None:
        self._values, self._packed, self.real, self.whole = values, packed, real, whole

    def __len__(self) -> int:
        return len(self.real)

    @property
    def values(self) -> Tensor:
        """Fragments, with zeros where there is none, shape (m, length, d)."""
        if self._values is None:
            packed, (m, length) = self.packed, self.real.shape
            laid_out = packed.new_zeros(length * m, packed.shape[1]).index_copy(0, self.place, packed)
            self._values = laid_out.view(length, m, -1).transpose(0, 1)
        return self._values

    @property
    def packed(self) -> Tensor:
        """Fragments without padding, shape (N, d), in the order of ``place``."""
        if self._packed is None:
            flat = self.values.transpose(0, 1).flatten(0, 1)
            self._packed = flat if self.full else flat.index_select(0, self.place)
        return self._packed

    @cached_property
    def full(self) -> bool:
        """Whether nothing is padded."""
        return bool(self.real.all())

    @cached_property
    def counts(self) -> Tensor:
        """Fragments of each item, shape (m,)."""
        return self.real.sum(dim=1)

    @cached_property
    def place(self) -> Tensor:
        """Where the fragments that are there stand among (length, m), in that order, shape (N,)."""
        return self.real.T.flatten().nonzero().squeeze(1)

    @cached_property
    def gram(self) -> Tensor:
        """Inner products of the fragments of each item, shape (m, length, length)."""
        return self.values @ self.values.transpose(1, 2)

    def take(self, rows: Tensor) -> Side:
        """Some of the items."""
        return Side(self.values[rows], self.real[rows], None if self.whole is None else self.whole[rows])


@dataclass
class View:
    """A block as one side sees the other.

    Attributes:
        keys: What is attended to; p items of k fragments.
        askers: What attends; q items of n fragments.
        s: Cosines of fragments, shape (p, k, n, q), 0 where either is padding. The items of the asking side come last:
            all sums run over earlier axes, along contiguous rows.
    """

    keys: Side
    askers: Side
    s: Tensor


class Pair:
    """A block: all items of one side against all of the other.

    Args:
        regions: Items of the modality that comes first in the data.
        words: Items of the other.
    """

    def __init__(self, regions: Side, words: Side) -> None:
        self.regions, self.words = regions, words

    @cached_property
    def _s(self) -> Tensor:
        regions, words = self.regions.values, self.words
        (p, k, d), (q, n) = regions.shape, words.real.shape
        s = regions.reshape(p * k, d) @ words.packed.T
        if not words.full:
            s = s.new_zeros(p * k, n * q).index_copy(1, words.place, s)
        return s.view(p, k, n, q)

    def facing(self, direction: Direction) -> View:
        """The block as words see regions ("t2i"), or regions words ("i2t"); both from the same cosines."""
        if direction == "t2i":
            return View(self.regions, self.words, self._s)
        return View(self.words, self.regions, self._s.permute(3, 2, 1, 0).contiguous())
