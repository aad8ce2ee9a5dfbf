"""What a method imagines of a missing modality, with how far it may be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.data.files import replacing
from amodal.errors import ShapeError

__all__ = ["Imputation", "save_imputation"]


@dataclass(frozen=True, eq=False)
class Imputation:
    """Imagined content of one modality for some items.

    Attributes:
        modality: The modality that was missing.
        items: Rows of the items in the data set, int64, shape (m,).
        values: Imagined features float32 (m, d) in the modality's input space or in its latent space, or ±1 codes int8
            (m, bits), as asked for.
        trust: Between 0 and 1, shape (m,); comparable within one model and modality only.

    Raises:
        ShapeError: If the three differ in length.
    """

    modality: str
    items: NDArray[np.int64]
    values: NDArray[Any]
    trust: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not len(self.items) == len(self.values) == len(self.trust):
            raise ShapeError(
                f"an imputation needs one value and one trust per item; got {len(self.items)} items, "
                f"{len(self.values)} values, {len(self.trust)} trusts."
            )

    def __len__(self) -> int:
        return len(self.items)


def save_imputation(path: str | Path, imputation: Imputation, ids: NDArray[np.str_]) -> None:
    """Write ids, values and trust as a NumPy archive, which is there as a whole or not at all.

    Args:
        path: The file.
        imputation: What was imagined.
        ids: Ids of all items of the data set it was imagined for.
    """
    with replacing(path) as part, part.open("wb") as file:
        np.savez(
            file,
            id=ids[imputation.items],
            modality=np.array(imputation.modality),
            values=imputation.values,
            trust=imputation.trust,
        )
