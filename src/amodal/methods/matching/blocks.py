"""Blocks of pairs: some items of one modality against some of another, all their fragments against all; and lists."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import torch
from torch import Tensor

__all__ = ["Couples", "Direction", "Pair", "Side", "View", "compact", "real_parts"]

#: Who asks whom, as the papers call it: with "t2i" each word attends to regions, with "i2t" each region to words.
Direction = Literal["t2i", "i2t"]


def real_parts(x: Tensor) -> Tensor:
    """Which parts are no padding, bool, shape (m, length): a part that is all zeros is.

    Args:
        x: Parts, shape (m, length, d).
    """
    return (x.amax(dim=-1) != 0) | (x.amin(dim=-1) != 0)  # ten times as fast as (x != 0).any(dim=-1)


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

    def still(self) -> Side:
        """The same without gradient."""
        return Side(self.values.detach(), self.real, None if self.whole is None else self.whole.detach())

    def take(self, rows: Tensor) -> Side:
        """Some of the items, cut to the longest of them."""
        real = self.real[rows]
        longest = max(int(real.sum(dim=1).max()), 1) if len(real) else 1
        return Side(self.values[rows, :longest], real[:, :longest], None if self.whole is None else self.whole[rows])


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

    @property
    def real(self) -> Tensor:
        """Which keys are no padding, bool; broadcasts with ``s``."""
        return self.keys.real[:, :, None, None]

    def spread(self, weights: Tensor) -> Tensor:
        """Inner products of each key with what is attended to, gram weights, shape as ``weights`` (p, k, n, q)."""
        return (self.keys.gram @ weights.flatten(2)).view_as(weights)

    def shifted(self, shift: int) -> View:
        """The same keys, and the askers of another item: so many places before."""
        return View(self.keys, self.askers, self.s.roll(shift, dims=-1))


class Pair:
    """A block: all items of one side against all of the other.

    Args:
        regions: Items of the modality that comes first in the data.
        words: Items of the other.
    """

    def __init__(self, regions: Side, words: Side) -> None:
        self.regions, self.words = regions, words
        self._views: dict[Direction, View] = {}

    def still(self) -> Self:
        """The same pairs, whose fragments have no gradient."""
        return type(self)(self.regions.still(), self.words.still())

    def facing(self, direction: Direction) -> View:
        """The block as words see regions ("t2i"), or regions words ("i2t"); both from the same cosines."""
        if direction not in self._views:
            self._views[direction] = self._view(direction)
        return self._views[direction]

    @cached_property
    def _s(self) -> Tensor:
        regions, words = self.regions.values, self.words
        (p, k, d), (q, n) = regions.shape, words.real.shape
        s = regions.reshape(p * k, d) @ words.packed.T
        if not words.full:
            s = s.new_zeros(p * k, n * q).index_copy(1, words.place, s)
        return s.view(p, k, n, q)

    def _view(self, direction: Direction) -> View:
        if direction == "t2i":
            return View(self.regions, self.words, self._s)
        return View(self.words, self.regions, self._s.permute(3, 2, 1, 0).contiguous())

    def seen_from(self, direction: Direction, scores: Tensor) -> Tensor:
        """Scores of a view, shape (p, q), as (regions' items, words' items)."""
        return scores if direction == "t2i" else scores.T

    def contexts(self, weights: Tensor) -> Tensor:
        """What each word attends to, sum_k weights_k v_k, shape (p, N, d), for weights (p, k, n, q) of "t2i"."""
        return weights.flatten(2).index_select(2, self.words.place).transpose(1, 2) @ self.regions.values

    def differences(self) -> Tensor:
        """Of the vectors of whole items, shape (p, q, d)."""
        assert self.regions.whole is not None and self.words.whole is not None  # noqa: S101 - summary() is given
        return self.regions.whole[:, None] - self.words.whole


class Couples(Pair):
    """A list of pairs, each item of one side against that of the other in the same row.

    To a scorer it is a block of one row: p = 1, q is the number of pairs, and keys differ along q.
    """

    def _view(self, direction: Direction) -> View:
        sides = (self.regions, self.words)
        keys, askers = sides if direction == "t2i" else sides[::-1]
        return _CouplesView(keys, askers, _paired(keys, askers.values))

    def seen_from(self, direction: Direction, scores: Tensor) -> Tensor:
        """The scores as they are, shape (1, pairs)."""
        return scores

    def contexts(self, weights: Tensor) -> Tensor:
        """Shape (1, N, d)."""
        found = weights[0].permute(2, 1, 0) @ self.regions.values  # (pairs, n, d)
        return found.transpose(0, 1).flatten(0, 1).index_select(0, self.words.place)[None]

    def differences(self) -> Tensor:
        """Shape (1, pairs, d)."""
        assert self.regions.whole is not None and self.words.whole is not None  # noqa: S101 - summary() is given
        return (self.regions.whole - self.words.whole)[None]


class _CouplesView(View):
    """A list of pairs as one side sees the other."""

    @property
    def real(self) -> Tensor:
        return self.keys.real.T[None, :, None]

    def spread(self, weights: Tensor) -> Tensor:
        return (self.keys.gram @ weights[0].permute(2, 0, 1)).permute(1, 2, 0)[None]

    def shifted(self, shift: int) -> View:
        return _CouplesView(self.keys, self.askers, _paired(self.keys, self.askers.values.roll(shift, dims=0)))


def _paired(keys: Side, askers: Tensor) -> Tensor:
    """Cosines of the fragments of items in the same rows, shape (1, k, n, pairs)."""
    return (keys.values @ askers.transpose(1, 2)).permute(1, 2, 0)[None]
