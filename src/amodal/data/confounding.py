"""Spurious correlation, planted in real data: a cue that goes with a class at one rate here and another rate there.

Every class gets a cue: a direction in feature space, or a word. Every labelled item carries one cue. At a rate that
depends on where the item is (its environment) that is the cue of a class of its own, otherwise that of another class.
Labels never change. What a cue says about the class differs between environments, what the content says does not: so
an ideal invariant learner takes no notice of cues. It scores the same at every test rate, and the same as on the data
before; for features it would drop what lies along ``cue_directions``, for texts the words. A learner that takes the
cue for the class gains where the rate of training holds, and loses where it is turned round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.labels import Labels
from amodal.data.observations import Observations
from amodal.data.readers.base import strings
from amodal.data.settings import apportion, share_of
from amodal.errors import DataError, UsageError

__all__ = ["cue_agreement", "cue_directions", "plant_directions", "plant_words"]

Rates = Mapping[str, float | Sequence[float]]
"""By split, the rate at which the cue is that of the item's own class; several rates make as many environments."""


def plant_directions(
    dataset: Dataset, rates: Rates, strength: Mapping[str, float] | None = None, *, seed: int = 0
) -> Dataset:
    """Add to the features of each item the direction of its cue.

        x' = x + strength * deviation_k * u_k

    where k is the class of the cue, u_k its unit vector, and deviation_k the standard deviation along u_k of the
    features of split ``train`` (of all, if there is none). So strength counts deviations, whatever the scale of the
    features. All observations of an item and all places of a sequence get the same; padding, which is 0, stays 0.

    Args:
        dataset: The data, with labels and a split; not changed.
        rates: ``{"train": 0.9, "test": 0.1}``, or with environments ``{"train": (0.95, 0.8), "test": 0.1}``: the items
            of a split are divided into as many equal parts at random. floor(rate * n) items of an environment carry the
            cue of one of their own classes, the others that of a class they do not have. Other splits are left as
            they are. At 1/c the cue says nothing about single labels of c classes.
        strength: Deviations by modality, ``{"image": 3.0}``; 3 in every modality with features by default. The cue of
            an item is the same in all of them.
        seed: Of cues, environments and directions. What an item gets does not depend on the order of the items.

    Returns:
        The data with two more attributes: ``environment`` (the split, with its number where there are several: "train
        0"; empty for items without cue) and ``cue`` (the class whose cue is carried). Items without known labels, or
        with none or all of the classes, carry no cue. Features of planted modalities are copied.

    Raises:
        UsageError: If a split or modality is unknown or holds raw content, a rate is not between 0 and 1, or other cues
            were planted before.
        DataError: If the data have no labels or no split.

    Paper: M. Arjovsky, L. Bottou, I. Gulrajani, D. Lopez-Paz, "Invariant Risk Minimization", 2019, section 5 (colours
    that go with digits at rates .9 and .8 in training and .1 in test); here for any features and number of classes.

    Example:
        >>> from amodal.data import cue_agreement, toy
        >>> cue_agreement(plant_directions(toy(100, test=0.5), {"train": (0.96, 0.8), "test": 0.1}))
        {'test': 0.1, 'train 0': 0.96, 'train 1': 0.8}
    """
    cue, environment = _drawn(dataset, rates, seed)
    if strength is None:
        strength = {name: 3.0 for name in dataset.names if not dataset[name].raw}
    tables = dict(dataset.modalities)
    for name, deviations in strength.items():
        steps = deviations * cue_directions(dataset, name, seed=seed)
        table = dataset[name]
        features, carried = table.read(), cue[table.item]
        shift = np.where(carried[:, None] >= 0, steps[carried], 0).astype(np.float32)
        if features.ndim == 3:
            shift = shift[:, None] * features.any(axis=2, keepdims=True)
        tables[name] = Observations(features + shift, table.item)
    return _recorded(dataset.with_tables(tables), cue, environment)


def cue_directions(dataset: Dataset, modality: str, *, seed: int = 0) -> NDArray[np.float64]:
    """What ``plant_directions`` adds for the cue of each class at strength 1: deviation_k * u_k.

    The u_k are drawn from the sphere by the seed and the name of the modality. They are nearly orthogonal where the
    features are much wider than there are classes; where they are not wider at all, nothing would be left without what
    lies along the cues.

    Args:
        dataset: The data before planting.
        modality: A modality with features.
        seed: Of the plant.

    Returns:
        Shape (classes, d), float64.

    Raises:
        UsageError: If the modality holds raw content.
        DataError: If the data have no labels.
    """
    table = dataset[modality]
    if table.raw:
        raise UsageError(
            f'modality "{modality}" holds raw content; use plant_words for texts, or encode the data first.'
        )
    rng = np.random.default_rng([seed, 0x64697265, *modality.encode()])
    units = rng.standard_normal((_labels(dataset).classes, table.dim))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    if dataset.split is not None and "train" in dataset.split:
        table = table.select(dataset.split[table.item] == "train")
    count, total, squares = 0, np.zeros(len(units)), np.zeros(len(units))
    for chunk in table.chunks():
        rows = chunk.reshape(-1, table.dim).astype(np.float64)
        along = rows[rows.any(axis=1)] @ units.T
        count, total, squares = count + len(along), total + along.sum(axis=0), squares + (along**2).sum(axis=0)
    variance = squares / max(count, 1) - (total / max(count, 1)) ** 2
    scaled: NDArray[np.float64] = units * np.sqrt(np.maximum(variance, 0))[:, None]
    return scaled


def plant_words(
    dataset: Dataset, rates: Rates, modality: str = "text", words: Sequence[str] | None = None, *, seed: int = 0
) -> Dataset:
    """Put the word of its cue into every text of an item, between two words or at an end, at random.

    With the same rates and seed an item carries the same cue as with ``plant_directions``, so that a confounder can be
    in words and in features at once.

    Args:
        dataset: The data, with labels and a split; not changed.
        rates: As for ``plant_directions``.
        modality: The texts.
        words: One word for each class, in the order of the classes; made-up words by default ("bafe"), which stand for
            nothing but are words to any tokeniser.
        seed: Of cues, environments and places.

    Returns:
        The data with attributes ``environment`` and ``cue``, as for ``plant_directions``.

    Raises:
        UsageError: As for ``plant_directions``, or if the modality holds features, or the words are not one for each
            class, all different.
        DataError: If the data have no labels or no split.
    """
    table = dataset[modality]
    if not table.raw:
        raise UsageError(f'modality "{modality}" holds features, not texts; use plant_directions.')
    cue, environment = _drawn(dataset, rates, seed)
    classes = _labels(dataset).classes
    words = _made_up(classes) if words is None else list(words)
    if len(words) != classes or len(set(words)) != classes:
        raise UsageError(
            f"{len(set(words))} different words were given for {classes} classes; each class needs its own."
        )
    rng = np.random.default_rng([seed, 0x776F7264])
    places = np.empty(len(table))
    places[np.argsort(dataset.ids[table.item], kind="stable")] = rng.random(len(table))
    texts = table.read().astype(object)
    for row in np.flatnonzero(cue[table.item] >= 0).tolist():
        parts = str(texts[row]).split(" ")
        parts.insert(int(places[row] * (len(parts) + 1)), words[cue[table.item[row]]])
        texts[row] = " ".join(parts)
    tables = {**dataset.modalities, modality: Observations(strings(texts.tolist()), table.item)}
    return _recorded(dataset.with_tables(tables), cue, environment)


def cue_agreement(dataset: Dataset) -> dict[str, float]:
    """Share of the items of each environment whose cue is that of a class of their own, as it is in the data.

    Args:
        dataset: Planted data.

    Raises:
        UsageError: If nothing was planted.
    """
    if not {"cue", "environment"} <= dataset.attributes.keys():
        raise UsageError(f"{dataset.name} carries no cues; plant_directions and plant_words do that.")
    labels, environment = _labels(dataset), dataset.attributes["environment"]
    rows = np.flatnonzero(environment != "")
    column = {name: k for k, name in enumerate(labels.names)}
    cue = [column[name] for name in dataset.attributes["cue"][rows].tolist()]
    agrees = np.asarray(labels.matrix[rows, cue]).ravel() > 0 if len(rows) else np.zeros(0)
    return {str(name): float(agrees[environment[rows] == name].mean()) for name in np.unique(environment[rows])}


def _drawn(dataset: Dataset, rates: Rates, seed: int) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """The class whose cue each item carries, -1 for none, and the name of its environment, "" for none."""
    labels = _labels(dataset)
    if dataset.split is None:
        raise DataError(f"{dataset.name} has no split, and rates go by split; give it one with random_split.")
    rng = np.random.default_rng([seed, 0x637565])
    rows = np.argsort(dataset.ids)
    # All draws are made for every item in order of id, so that neither other splits nor other rates change them.
    lot, of_class = rng.random(len(rows)), rng.random((len(rows), labels.classes), dtype=np.float32)
    able = (labels.known & (labels.per_row > 0) & (labels.per_row < labels.classes))[rows]
    cue = np.full(len(rows), -1, dtype=np.int64)
    environment = np.full(len(rows), "", dtype=object)
    for split, given in rates.items():
        dataset.part(split)  # refuses an unknown name
        several = [given] if isinstance(given, int | float) else list(given)
        shares = [share_of(rate, f'a rate of split "{split}"') for rate in several]
        inside = np.flatnonzero(able & (dataset.split[rows] == split))
        inside = inside[np.argsort(lot[inside])]
        stops = np.cumsum(apportion(len(inside), [Fraction(1)] * len(shares)))
        for number, part in enumerate(np.split(inside, stops[:-1])):
            own = np.zeros(len(part), dtype=bool)
            own[: math.floor(shares[number] * len(part))] = True
            has = labels.dense(rows[part]) > 0
            cue[part] = np.argmax(of_class[part] + (has == own[:, None]), axis=1)
            environment[part] = split if len(shares) == 1 else f"{split} {number}"
    back = np.argsort(rows)
    return cue[back], environment[back].astype(np.str_)


def _recorded(dataset: Dataset, cue: NDArray[np.int64], environment: NDArray[np.str_]) -> Dataset:
    names = np.array([*_labels(dataset).names, ""], dtype=np.str_)
    record: dict[str, NDArray[Any]] = {"environment": environment, "cue": names[cue]}
    for name, column in record.items():
        if name in dataset.attributes and not np.array_equal(dataset.attributes[name], column):
            raise UsageError(
                f'the data have an attribute "{name}" that says otherwise. Cues can be planted twice only with the '
                "same rates and seed, since they are one confounder then."
            )
    return replace(dataset, attributes={**dataset.attributes, **record})


def _labels(dataset: Dataset) -> Labels:
    if dataset.labels is None:
        raise DataError(f"{dataset.name} has no labels, and a cue goes with a class.")
    return dataset.labels


def _made_up(count: int) -> list[str]:
    """Different made-up words of two syllables, and of three where those are not enough."""
    syllables = ["".join(pair) for pair in product("bfgkpvz", "aeiou")]
    pairs = ["".join(pair) for pair in product(syllables, syllables)]
    # A stride without common divisor, so that neighbouring classes have words that look different.
    return [pairs[(k * 437) % len(pairs)] + syllables[k // len(pairs)] * (k >= len(pairs)) for k in range(count)]
