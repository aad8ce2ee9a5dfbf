"""Precision and recall by Hamming radius."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from amodal.errors import UsageError, nearest
from amodal.metrics.levels import Histograms

__all__ = ["RadiusCurve", "precision_within", "radius_curve"]

_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RadiusCurve:
    """Precision and recall at every radius rho = 0..b. Curves over different queries are added, which is exact.

    Attributes:
        queries: Number of queries.
        positives: Sum of R over the queries.
        found: Sum over the queries of relevant items within rho, int64, shape (b + 1,).
        returned: Sum over the queries of items within rho, int64.
        answered: Number of queries with at least one item within rho, int64.
        precisions: Sum over these queries of the precision at rho, float64.
        recalls: Sum over the queries of the recall at rho, float64.
    """

    queries: int
    positives: int
    found: NDArray[np.int64]
    returned: NDArray[np.int64]
    answered: NDArray[np.int64]
    precisions: _Floats
    recalls: _Floats

    def __add__(self, other: RadiusCurve) -> RadiusCurve:
        return RadiusCurve(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def micro_precision(self) -> _Floats:
        """Found / returned, summed over the queries first; 0 where nothing is returned."""
        return np.asarray(self.found / np.maximum(self.returned, 1))

    @property
    def micro_recall(self) -> _Floats:
        """Found / all relevant, summed over the queries first."""
        return np.asarray(self.found / max(self.positives, 1))

    def macro_precision(self, empty: Literal["zero", "skip"] = "zero") -> _Floats:
        """Mean precision of the queries.

        Args:
            empty: A query with nothing within rho counts 0 (``zero``) or is left out there (``skip``).

        Returns:
            One value per radius; 0 where no query is left.

        Raises:
            UsageError: If ``empty`` is neither.
        """
        if empty not in ("zero", "skip"):
            raise UsageError(nearest(empty, ("zero", "skip"), what="rule for empty balls"))
        return np.asarray(self.precisions / np.maximum(self.queries if empty == "zero" else self.answered, 1))

    @property
    def macro_recall(self) -> _Floats:
        """Mean recall of the queries."""
        return np.asarray(self.recalls / max(self.queries, 1))

    @property
    def coverage(self) -> _Floats:
        """Share of the queries with at least one item within rho."""
        return np.asarray(self.answered / max(self.queries, 1))


def radius_curve(histograms: Histograms, among: NDArray[np.bool_] | None = None) -> RadiusCurve:
    """Precision and recall at every Hamming radius.

    Args:
        histograms: Level histograms over Hamming distances.
        among: Which queries to take, shape (q,); all by default. A query without relevant item has precision and
            recall 0.

    Returns:
        The curve.

    Raises:
        UsageError: If levels are not Hamming distances.
    """
    returned, found = _cumulated(histograms)
    positives = histograms.positives
    if among is not None:
        returned, found, positives = returned[among], found[among], positives[among]
    return RadiusCurve(
        queries=len(positives),
        positives=int(positives.sum()),
        found=found.sum(axis=0),
        returned=returned.sum(axis=0),
        answered=np.count_nonzero(returned, axis=0),
        precisions=(found / np.maximum(returned, 1)).sum(axis=0),
        recalls=(found / np.maximum(positives, 1)[:, None]).sum(axis=0),
    )


def precision_within(histograms: Histograms, radius: int) -> tuple[_Floats, NDArray[np.bool_]]:
    """Precision among the items within a Hamming radius.

    Args:
        histograms: Level histograms over Hamming distances.
        radius: Largest distance, 0 to the code length.

    Returns:
        One value per query, 0 where nothing is that near; and whether something is, of which the mean is the coverage.

    Raises:
        UsageError: If levels are not Hamming distances or the radius is out of range.
    """
    returned, found = _cumulated(histograms)
    bits = returned.shape[1] - 1
    if not 0 <= radius <= bits:
        raise UsageError(f"codes have {bits} bits, radius={radius}; the radius must be between 0 and {bits}.")
    return found[:, radius] / np.maximum(returned[:, radius], 1), returned[:, radius] > 0


def _cumulated(histograms: Histograms) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if not histograms.radial:
        raise UsageError("a Hamming radius needs binary codes ranked with ties left open; these levels are scores.")
    return np.cumsum(histograms.items, axis=1), np.cumsum(histograms.relevant, axis=1)
