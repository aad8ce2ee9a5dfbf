"""What methods with one row per item take in: who takes part, kernel features of each modality, and gaps filled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from amodal.errors import MethodError, UsageError, nearest
from amodal.methods.features import Kernel, item_means

if TYPE_CHECKING:
    from amodal.data import Dataset

__all__ = ["FILLS", "Rows", "above_zero", "kernel_rows", "labelled", "one_of", "participants"]

Array = NDArray[np.float64]
#: Items and their features of one modality: numbers (i,) and values (i, d).
Rows = tuple[NDArray[np.int64], Array]

#: What is done about an absent modality. mask: its terms are left out; drop: only items with every modality are learned
#: from; zero: its centred kernel features are 0; mean: its features are the mean of the observed ones.
FILLS = ("mask", "drop", "zero", "mean")


def one_of(value: str, known: Iterable[str], *, what: str) -> None:
    """Refuse a word that is none of those known.

    Raises:
        UsageError: Naming the nearest known one.
    """
    if value not in known:
        raise UsageError(nearest(str(value), known, what=what))


def above_zero(slug: str, **arguments: Any) -> None:
    """Refuse arguments that must be numbers above 0 and are not.

    Raises:
        UsageError: Naming the first such argument.
    """
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise UsageError(f"{name} of {slug} must be a number above 0; got {value!r}.")


def participants(data: Dataset, fill: str) -> NDArray[np.int64]:
    """Items to learn from: those with every modality if ``fill`` is "drop", else those with any.

    Raises:
        MethodError: If there is none.
    """
    presence = data.presence()
    items = np.flatnonzero(presence.all(axis=1) if fill == "drop" else presence.any(axis=1))
    if not len(items):
        raise MethodError('fill="drop" leaves nothing to learn from: no item has every modality. Choose another fill.')
    return items


def labelled(data: Dataset) -> tuple[NDArray[np.int64], Array]:
    """Items with at least one known class, shape (i,), and their multi-hot labels, shape (i, c).

    Raises:
        MethodError: If there is none.
    """
    items = np.array([], dtype=np.int64)
    if data.labels is not None:
        items = np.flatnonzero(data.labels.known & (data.labels.per_row > 0))
    if data.labels is None or not len(items):
        raise MethodError("none of the items to learn from has a label.")
    return items, data.labels.dense(items).astype(np.float64)


def kernel_rows(
    data: Dataset,
    *,
    fill: str,
    anchors: int,
    random: np.random.Generator,
    choice: str = "random",
    width: float = 2.0,
) -> tuple[dict[str, Kernel], dict[str, Rows]]:
    """Kernel features of every modality, one row per item (the mean of its observations), gaps filled.

    Kernels are fitted on observed rows only.

    Args:
        data: The participants.
        fill: One of ``FILLS``.
        anchors: Anchors of each kernel; 0 for centred features as they are.
        random: Source of the anchors.
        choice: Of the anchors, see ``Kernel.fit``.
        width: Of the kernel, see ``Kernel.fit``.

    Raises:
        MethodError: If no participant has one of the modalities.

    Returns:
        Kernels by modality; items and their kernel features by modality: all of the items for "zero" and "mean".
    """
    kernels: dict[str, Kernel] = {}
    rows: dict[str, Rows] = {}
    for name in data.names:
        items, x = item_means(data[name])
        if not len(items):
            raise MethodError(f'none of the items that can be learned from has the modality "{name}".')
        kernels[name] = kernel = Kernel.fit(x, anchors, random, choice=choice, width=width)
        rows[name] = items, kernel(x)
        if fill in ("zero", "mean"):
            filled = np.zeros((len(data), rows[name][1].shape[1]))
            if fill == "mean":
                filled += kernel(x.mean(axis=0, keepdims=True))
            filled[items] = rows[name][1]
            rows[name] = np.arange(len(data)), filled
    return kernels, rows
