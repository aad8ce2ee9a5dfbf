"""A protocol applied to data: who learns, who asks, who is searched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amodal.data import Dataset, Mask, random_split
from amodal.errors import DataError
from amodal.evaluation.protocol import Protocol

__all__ = ["Arrangement", "arrange"]

VALIDATION = ("dev", "val", "valid", "validation")


@dataclass(frozen=True)
class Arrangement:
    """The three roles in one evaluation.

    Attributes:
        protocol: The rule.
        setting: Name of the missing setting of the training rows.
        seed: Seed of the mask, and of a sample of training rows.
        train: What is learned from, with its gaps.
        validation: Items that may choose a stopping point or a regularisation; None if the data have no such split.
        queries: Items whose observations ask.
        database: Items whose observations are searched.
        mask: What was removed from the training rows; None if nothing.
    """

    protocol: Protocol
    setting: str
    seed: int
    train: Dataset
    validation: Dataset | None
    queries: Dataset
    database: Dataset
    mask: Mask | None

    def teaching(self) -> tuple[Dataset, Dataset | None]:
        """What ``fit`` takes: training and validation items, with the classes that training items have."""
        train = self.train.seen_classes()
        if self.validation is None or train.labels is None:
            return train, self.validation
        return train, self.validation.with_classes(train.labels.names)


def arrange(
    dataset: Dataset,
    protocol: Protocol,
    setting: str = "complete",
    *,
    seed: int = 0,
    mechanism: str = "random",
    mask: Mask | None = None,
) -> Arrangement:
    """Divide data as a protocol says, and remove from the training rows what the setting says.

    Test items are those of the split "test"; data without a split are divided 80/20 at random, always the same way.
    A split "dev" or "validation" is kept for choosing; the rows of any other split take no part.

    Args:
        dataset: All items.
        protocol: The rule.
        setting: A missing setting, see ``amodal.incomplete``.
        seed: Of the mask, and of the sample of training rows if the protocol takes one.
        mechanism: Why observations go missing.
        mask: A mask drawn before, in place of ``setting`` and ``seed``.

    Raises:
        UsageError: If the setting is unknown, or the data have a split but no "train" or "test".
        DataError: If no training item is left.
    """
    if dataset.split is None:
        dataset = random_split(dataset)
    train, queries = dataset.part("train"), dataset.part("test")
    assert dataset.split is not None  # noqa: S101 - random_split and part saw to it
    held = [name for name in VALIDATION if name in dataset.split]
    validation = dataset.part(held[0]) if held else None
    rest = dataset.take(np.isin(dataset.split, ["train", *held])) if protocol.database == "rest" else train
    if protocol.sample is not None and len(train) > protocol.sample:
        # Of the training split, although the database is larger: what may choose must not teach
        train = train.take(np.sort(np.random.default_rng((seed, 0x736D70)).permutation(len(train))[: protocol.sample]))
    if mask is None and setting != "complete":
        mask = Mask.draw(train, setting, seed=seed, mechanism=mechanism)
    gaps = mask.apply(train) if mask is not None else train
    paired = gaps.take(gaps.presence().sum(axis=1) > 1)
    databases = {"test": queries, "training": gaps, "paired": paired, "rest": rest}
    learned = paired if protocol.learns == "paired" else gaps
    if not len(learned):
        raise DataError(
            f"protocol {protocol.name} at setting {setting} leaves no training item"
            + (" with two modalities." if protocol.learns == "paired" else ".")
            + " Choose a milder setting or another protocol."
        )
    return Arrangement(
        protocol,
        mask.setting if mask is not None else setting,
        seed,
        learned,
        validation,
        queries,
        databases[protocol.database],
        mask,
    )
