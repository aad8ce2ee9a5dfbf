"""Settings of incompleteness: which share of the items keeps which modalities."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from amodal.errors import UsageError, nearest

__all__ = ["NAMED", "Pattern", "Setting", "apportion", "resolve", "share_of"]

Pattern = tuple[str, ...]
"""The modalities that an item keeps, in the order of the data."""

NAMED = {
    "complete": "every item keeps everything",
    "easy": "50 % complete, the rest keep one modality, in equal parts",
    "medium": "30 % complete, the rest keep one modality, in equal parts",
    "hard": "10 % complete, the rest keep one modality, in equal parts",
    "one-sided-<modality>-missing-<p>": "p % complete, the rest lack that modality: one-sided-text-missing-50",
    "pdr-<x>": "partial data ratio: a share x keeps one modality, in equal parts: pdr-0.6",
}
"""The named settings and what they mean, for lists and messages."""

_COMPLETE = {"complete": Fraction(1), "easy": Fraction(1, 2), "medium": Fraction(3, 10), "hard": Fraction(1, 10)}


@dataclass(frozen=True)
class Setting:
    """A distribution over presence patterns.

    Attributes:
        name: How it was asked for.
        complete: Share of the items that keep every modality.
        partial: Share of each other pattern, in the order of the data. With ``complete`` they sum to 1.
        published: Round as the literature does: complete = floor(share * n), then the rest in parts. Otherwise all
            shares are rounded together by largest remainder.
    """

    name: str
    complete: Fraction
    partial: Mapping[Pattern, Fraction]
    published: bool

    def counts(self, n: int) -> list[int]:
        """How many of n items are reduced to each partial pattern; the others stay complete.

        Example:
            >>> resolve("hard", ("image", "text")).counts(18_015)
            [8107, 8107]
        """
        shares = list(self.partial.values())
        if self.published:
            return apportion(n - math.floor(self.complete * n), shares)
        return apportion(n, [self.complete, *shares])[1:]


def apportion(total: int, weights: Sequence[Fraction]) -> list[int]:
    """Whole numbers in proportion to weights, summing to ``total``, by largest remainder; of equals the later wins.

    Example:
        >>> apportion(5, [Fraction(1, 2), Fraction(1, 2)])
        [2, 3]
    """
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    quotas = [total * weight / whole for weight in weights]
    counts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda p: (quotas[p] - counts[p], p), reverse=True)
    for p in by_remainder[: total - sum(counts)]:
        counts[p] += 1
    return counts


def resolve(
    setting: str | None,
    names: tuple[str, ...],
    *,
    rates: Mapping[str, float] | None = None,
    presence: Mapping[str, float] | None = None,
) -> Setting:
    """The setting that was asked for, by name, by rates or by pattern shares.

    Args:
        setting: One of ``NAMED``.
        names: The modalities of the data, in order.
        rates: Share of the items that lose each modality. Losses are laid out so that they overlap as little as
            possible; no item loses everything.
        presence: Share of each pattern, for instance ``{"image+text": .4, "image": .5, "text": .1}``.

    Raises:
        UsageError: If not exactly one of the three is given, a name is unknown, or the shares cannot be had.
    """
    if sum(given is not None for given in (setting, rates, presence)) != 1:
        raise UsageError('say how much to remove in exactly one way: a setting such as "hard", rates=, or presence=.')
    if setting is not None:
        return _named(setting, names)
    return _by_rates(rates, names) if rates is not None else _by_pattern(presence or {}, names)


def _named(setting: str, names: tuple[str, ...]) -> Setting:
    one_sided = re.fullmatch(r"one-sided-(.+)-missing-(\d+)", setting)
    ratio = re.fullmatch(r"pdr-(\d*\.?\d+)", setting)
    if one_sided:
        modality, percent = one_sided[1], int(one_sided[2])
        complete = Fraction(percent, 100)
        patterns = [_without({_known(modality, names)}, names)]
    elif ratio or setting in _COMPLETE:
        complete = 1 - Fraction(ratio[1]) if ratio else _COMPLETE[setting]
        patterns = [(name,) for name in names]
    else:
        raise UsageError(nearest(setting, NAMED, what="setting"))
    if not 0 <= complete <= 1:
        raise UsageError(f'setting "{setting}" asks for a share outside 0 to 1.')
    if complete < 1 and len(names) < 2:
        raise UsageError(f'setting "{setting}" needs at least two modalities; the data have {", ".join(names)}.')
    share = (1 - complete) / len(patterns)
    return Setting(setting, complete, dict.fromkeys(patterns, share) if share else {}, published=True)


def _by_rates(rates: Mapping[str, float], names: tuple[str, ...]) -> Setting:
    losses = {_known(name, names): share_of(rate, f'rate of "{name}"') for name, rate in rates.items()}
    if sum(losses.values()) > len(names) - 1:
        raise UsageError(
            f"rates sum to {float(sum(losses.values())):g}, so some items would lose everything; with {len(names)} "
            f"modalities they may sum to {len(names) - 1} at most."
        )
    # Losses are arcs laid one after the other around a circle of circumference 1, so that every point of the circle is
    # covered equally often, give or take one (McNaughton's wrap-around rule).
    arcs: list[tuple[str, Fraction, Fraction]] = []
    start = Fraction(0)
    for name in names:
        arcs.append((name, start, start + losses.get(name, Fraction(0))))
        start = arcs[-1][2]
    cuts = sorted({Fraction(0), Fraction(1), *(end % 1 for _, _, end in arcs)})
    shares: dict[Pattern, Fraction] = {}
    for low, high in itertools.pairwise(cuts):
        lost = {name for name, begin, end in arcs if any(begin <= low + turn < end for turn in range(len(names)))}
        pattern = _without(lost, names)
        shares[pattern] = shares.get(pattern, Fraction(0)) + high - low
    return _from_shares(
        "rates " + " ".join(f"{name}={rates[name]:g}" for name in names if name in rates), shares, names
    )


def _by_pattern(presence: Mapping[str, float], names: tuple[str, ...]) -> Setting:
    shares: dict[Pattern, Fraction] = {}
    for key, value in presence.items():
        kept = {_known(part.strip(), names) for part in key.split("+")}
        shares[_without(set(names) - kept, names)] = share_of(value, f'share of "{key}"')
    total = sum(shares.values(), Fraction(0))
    if abs(total - 1) > Fraction(1, 10**6):
        raise UsageError(f"the shares in presence= sum to {float(total):g}; they must sum to 1.")
    name = "presence " + " ".join(f"{key}={value:g}" for key, value in presence.items())
    return _from_shares(name, {pattern: share / total for pattern, share in shares.items()}, names)


def _from_shares(name: str, shares: dict[Pattern, Fraction], names: tuple[str, ...]) -> Setting:
    complete = shares.pop(names, Fraction(0))
    # Longer patterns first, then in the order of the data, whatever the order they were named in.
    order = sorted(shares, key=lambda pattern: (-len(pattern), [names.index(part) for part in pattern]))
    return Setting(name, complete, {pattern: shares[pattern] for pattern in order if shares[pattern]}, published=False)


def _without(lost: set[str], names: tuple[str, ...]) -> Pattern:
    return tuple(name for name in names if name not in lost)


def _known(name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise UsageError(nearest(name, names, what="modality"))
    return name


def share_of(value: float, what: str) -> Fraction:
    """A share as the fraction that was meant: .1 is a tenth, not the nearest double."""
    if not 0 <= value <= 1:
        raise UsageError(f"{what} is {value:g}; it must be between 0 and 1.")
    return Fraction(float(value)).limit_denominator(10**6)
