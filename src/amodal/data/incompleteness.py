"""Making data incomplete on purpose: pure functions of data, a setting and a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.labels import Labels
from amodal.data.mask import Mask
from amodal.data.observations import Observations
from amodal.errors import UsageError

__all__ = ["incomplete", "unalign"]


def incomplete(
    dataset: Dataset,
    setting: str | None = None,
    *,
    rates: Mapping[str, float] | None = None,
    presence: Mapping[str, float] | None = None,
    seed: int = 0,
    mechanism: str = "random",
    strength: float = 2.0,
    split: str | None = None,
    stratify: str | None = None,
) -> Dataset:
    """Remove observations so that the shares of a setting hold exactly; the items stay.

    The same call removes the same things, whatever the order of the items. Settings in the same proportions are nested
    for one seed: what ``hard`` keeps, ``medium`` keeps, and what that keeps, ``easy`` keeps. Shares are of the items
    that have every modality; an item that already lacks one is left as it is, so none ever loses its last.

    Args:
        dataset: The data; not changed.
        setting: ``complete``, ``easy``, ``medium``, ``hard``, ``one-sided-text-missing-50`` (50 % complete, the rest
            without text), ``pdr-0.6`` (a share .6 keeps one modality). With more than two modalities a setting keeps
            its share of complete items, and the rest keep exactly one modality, in equal parts.
        rates: Instead of a setting: share of the items that lose each modality, ``{"image": .45, "text": .45}``.
            Losses overlap as little as possible.
        presence: Instead of a setting: share of each pattern, ``{"image+text": .4, "image": .5, "text": .1}``.
        seed: Of the mask alone; nothing else shares it.
        mechanism: Why things go missing: ``random``, ``class``, ``observed`` or ``content``
            (see ``amodal.data.MECHANISMS``).
        strength: Log-odds of losing a modality per standard deviation of the mechanism's score; 0 is ``random``.
        split: Only items of this split lose anything.
        stratify: "label" gives every class the same shares; by default they vary as chance has it.

    Raises:
        UsageError: If a name is unknown or the shares cannot be had.
        DataError: If no item has every modality, or the mechanism needs labels that are not there.

    Example:
        >>> from amodal.data import toy
        >>> incomplete(toy(100), "hard").presence().sum(axis=0).tolist()
        [55, 55]
    """
    mask = Mask.draw(
        dataset,
        setting,
        rates=rates,
        presence=presence,
        seed=seed,
        mechanism=mechanism,
        strength=strength,
        split=split,
        stratify=stratify,
    )
    return mask.apply(dataset)


def unalign(
    dataset: Dataset, share_aligned: float, *, seed: int = 0, split: str | None = None
) -> tuple[Dataset, NDArray[np.str_]]:
    """Keep every observation, but forget which belong together (partially aligned data).

    floor(share_aligned * n) items stay as they are. Each of the others is taken apart into one item per modality,
    without labels, under a new id, in an order that is shuffled for each modality on its own. What stays together does
    not depend on the order of the items, and is nested: what does at .1 does at .2 too, for one seed.

    Args:
        dataset: The data; not changed.
        share_aligned: Share of the items that stay together and labelled, 0 to 1.
        seed: Of the choice and the shuffling.
        split: Only items of this split are taken apart.

    Returns:
        The data, and the original id of every item in them. The second is for scoring only: no method may see it.
        Attributes are dropped, since they could tell which sides belong together.

    Raises:
        UsageError: If the share is not between 0 and 1, or the split unknown.
    """
    if not 0 <= share_aligned <= 1:
        raise UsageError(f"share_aligned is {share_aligned:g}; it must be between 0 and 1.")
    rng = np.random.default_rng([seed, 0x616C6967])
    chosen = dataset.ids if split is None else dataset.part(split).ids
    by_id = np.argsort(dataset.ids)
    scope = by_id[np.isin(dataset.ids[by_id], chosen)]
    aligned = math.floor(Fraction(float(share_aligned)).limit_denominator(10**6) * len(scope))
    apart = np.zeros(len(dataset), dtype=bool)
    apart[rng.permutation(scope)[aligned:]] = True

    origin = [np.flatnonzero(~apart)]
    ids = [dataset.ids[~apart]]
    tables = {}
    for name, table in dataset.modalities.items():
        alone = rng.permutation(by_id[(apart & dataset.present(name))[by_id]])
        place = np.zeros(len(dataset), dtype=np.int64)
        place[origin[0]] = np.arange(len(origin[0]))
        place[alone] = sum(len(rows) for rows in origin) + np.arange(len(alone))
        origin.append(alone)
        ids.append(np.array([f"{name} {number}" for number in range(len(alone))], dtype=np.str_))
        order = np.argsort(place[table.item], kind="stable")
        tables[name] = Observations(table.store, place[table.item[order]], table.select(order).rows)
    rows = np.concatenate(origin)
    labels = dataset.labels and _only_first(dataset.labels.take(rows), len(origin[0]))
    parted = replace(
        dataset,
        ids=np.concatenate(ids),
        modalities=tables,
        labels=labels,
        split=None if dataset.split is None else dataset.split[rows],
        attributes={},
    )
    return parted, dataset.ids[rows]


def _only_first(labels: Labels, count: int) -> Labels:
    """Labels that are known for the first rows only."""
    known = labels.known.copy()
    known[count:] = False
    return Labels.from_multihot(labels.matrix.multiply(known[:, None]), known, labels.names)
