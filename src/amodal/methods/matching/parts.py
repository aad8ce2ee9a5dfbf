"""What is asked of parts before anything is learned or scored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.errors import DataError

__all__ = ["check_numbers", "check_parts"]


def check_parts(parts: NDArray[np.float32], modality: str, ids: NDArray[Any] | None = None) -> None:
    """Refuse an item without parts, such as an empty caption.

    Args:
        parts: Shape (m, length, d); all zeros are padding.
        modality: Its name.
        ids: What to call the items, shape (m,); their row by default.

    Raises:
        DataError: Naming the first one.
    """
    empty = ~parts.any(axis=(1, 2))
    if empty.any():
        row = int(np.flatnonzero(empty)[0])
        whose = f"row {row}" if ids is None else f'an observation of item "{ids[row]}"'
        raise DataError(
            f'modality "{modality}": {whose} has no part: all are zeros, which is padding. Was its content '
            f"empty? Leave it out, or give it at least one part ({int(empty.sum())} such in {len(parts)})."
        )


def check_numbers(parts: NDArray[np.float32], modality: str) -> None:
    """Refuse parts of width 1 that are no word numbers.

    Args:
        parts: Shape (m, length, 1).
        modality: Its name.

    Raises:
        DataError: Naming the first one.
    """
    wrong = ((parts != np.floor(parts)) | (parts < 0)).any(axis=(1, 2))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f'modality "{modality}": row {row} holds parts of width 1 that are no word numbers 1, 2, ... (0 is '
            f"padding); found {parts[row].min():g} to {parts[row].max():g}. Give such, or features wider than 1."
        )
