"""The encoder of content that needs none: vectors that are ready."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from amodal.encoders.base import Encoder, Kind, Outcomes
from amodal.errors import DataError

__all__ = ["Vectors"]


class Vectors(Encoder):
    """Passes ready features on, checked: every row a vector of finite numbers, all of one width.

    Args:
        dim: Width d that the vectors must have; 0 takes the width of the first.
    """

    name = "features"
    kind: Kind = "features"
    fingerprint = "features"

    def __init__(self, dim: int = 0) -> None:
        self.dim = dim

    def outcomes(self, content: Sequence[Any]) -> Outcomes:
        """For each vector in order the same numbers as float32, or the reason why they cannot be used."""
        width = self.dim or (np.size(content[0]) if len(content) else 0)
        for row, one in enumerate(content):
            vector = np.asarray(one, dtype=np.float32)
            if vector.shape != (width,):
                yield DataError(f"vector {row} has shape {vector.shape}, but {(width,)} was expected.")
            elif not np.isfinite(vector).all():
                yield DataError(f"vector {row} holds NaN or infinity. Repair it, or leave it out with --skip-bad.")
            else:
                yield vector
