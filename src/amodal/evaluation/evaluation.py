"""What an evaluation found: the object that records, tables and tests are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.codes import BinaryCodes, Codes

__all__ = ["CUTOFFS", "Evaluation", "health"]

CUTOFFS = (1, 5, 10)  #: of pair recall


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found, by measure and direction.

    Attributes:
        metrics: ``metrics["map"]["image->text"]`` and so on; None where a measure has no meaning, see ``absent``.
            mAP, NDCG and precision lie in [0, 1]; ``recall@K`` of pairs is in percent, as is customary. ``rsum``, at
            most 600, belongs to two directions, ``metrics["rsum"]["image<->text"]``.
        counts: Per direction: queries, unanswerable ones, database size, relevant items per query.
        absent: Why a direction or a measure is missing.
        curves: Per direction: binary NDCG (``ndcg``) of the first ``places``; for codes also precision and recall by
            Hamming radius, micro and macro.
        per_query: Average precision of each query, by direction; in pair retrieval what it adds to rSum: the sum of its
            recalls in percent, at most 300.
        health: Per modality, for codes: their number, distinct ones, and the share of ones of each bit.
    """

    metrics: dict[str, dict[str, float | None]]
    counts: dict[str, dict[str, Any]]
    absent: dict[str, str]
    curves: dict[str, dict[str, list[float]]]
    per_query: dict[str, NDArray[np.float64]]
    health: dict[str, dict[str, Any]]

    def mean(self, name: str = "map") -> float:
        """A measure averaged over directions.

        Args:
            name: Its name.
        """
        return float(np.mean([value for value in self.metrics[name].values() if value is not None]))


def health(codes: Mapping[str, Codes]) -> dict[str, dict[str, Any]]:
    """Of binary codes by modality: their number, distinct ones, and the share of ones of each bit."""
    return {name: _health(found) for name, found in codes.items() if isinstance(found, BinaryCodes)}


def _health(codes: BinaryCodes) -> dict[str, Any]:
    ones = (codes.signs() > 0).mean(axis=0)
    return {"codes": len(codes), "distinct": len(np.unique(codes.packed, axis=0)), "ones": ones.round(4).tolist()}
