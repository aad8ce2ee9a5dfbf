"""How well a fitted method finds people again in the pictures of another kind of camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.codes import Codes
from amodal.data import Dataset
from amodal.errors import DataError, UsageError
from amodal.evaluation.evaluate import encode_items
from amodal.evaluation.gallery import GalleryProtocol, cameras, people
from amodal.methods import Method
from amodal.metrics import identity, identity_hit_at, measure

__all__ = ["RANKS", "GalleryEvaluation", "evaluate_gallery", "evaluate_gallery_codes"]

RANKS = (1, 5, 10, 20)  #: of the cumulative matching characteristic


@dataclass(frozen=True)
class GalleryEvaluation:
    """What was found in each trial.

    Attributes:
        protocol: Name of the protocol.
        values: ``values["map"]["infrared->visible"]`` has one value for each trial; so have ``minp``, ``cmc@1`` to
            ``cmc@20``, and ``chance``, the mAP of a random ranking. All lie in [0, 1].
        counts: By direction and for each trial: queries, unanswerable ones, pictures in the gallery.
        absent: Why a cut-off is missing.
    """

    protocol: str
    values: dict[str, dict[str, list[float]]]
    counts: dict[str, list[dict[str, int]]]
    absent: dict[str, str]

    def mean(self, name: str, direction: str) -> float:
        """Mean of a measure over the trials.

        Args:
            name: For instance ``map``.
            direction: For instance ``infrared->visible``.
        """
        return float(np.mean(self.values[name][direction]))

    def sd(self, name: str, direction: str) -> float:
        """Standard deviation (n - 1) of a measure over the trials; 0 for a single one."""
        values = self.values[name][direction]
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    def summary(self) -> dict[str, Any]:
        """Mean, deviation and single values of everything, ready for JSON."""
        metrics = {
            name: {
                direction: {"mean": self.mean(name, direction), "sd": self.sd(name, direction), "trials": values}
                for direction, values in by_direction.items()
            }
            for name, by_direction in self.values.items()
        }
        return {"protocol": self.protocol, "metrics": metrics, "counts": self.counts, "absent": self.absent}

    @classmethod
    def together(cls, parts: Sequence[GalleryEvaluation]) -> GalleryEvaluation:
        """The trials of several evaluations as one, for instance of the ten models of RegDB.

        Args:
            parts: At least one, all of one protocol.

        Raises:
            UsageError: If there is none, or they differ in protocol or in what they measured.
        """
        if not parts or any(
            part.protocol != parts[0].protocol or part.values.keys() != parts[0].values.keys() for part in parts
        ):
            protocols = sorted({part.protocol for part in parts})
            raise UsageError(
                "evaluations can be taken together if they are of one protocol and measured the same; got "
                f"{len(parts)} of {', '.join(protocols) or 'none'}."
            )
        values = {
            name: {way: [value for part in parts for value in part.values[name][way]] for way in ways}
            for name, ways in parts[0].values.items()
        }
        counts = {way: [count for part in parts for count in part.counts[way]] for way in parts[0].counts}
        return cls(parts[0].protocol, values, counts, parts[0].absent)


def evaluate_gallery(
    method: Method, dataset: Dataset, protocol: GalleryProtocol, *, threads: int = 1
) -> GalleryEvaluation:
    """Measure a fitted method on the test pictures under a protocol of re-identification.

    Relevant is who has the same identity. For RegDB call it once for each trial, with the model learned on
    ``regdb_trial(dataset, k)``, and put the ten together with ``GalleryEvaluation.together``.

    Args:
        method: Fitted on training items; it has never seen the people of the test.
        dataset: Items with features and the attribute ``identity``; split ``test`` is used where there is one.
        protocol: Who asks whom.
        threads: Blocks of queries at once; the numbers do not depend on it.

    Raises:
        MissingModality: If the data lack a modality of the protocol.
        DataError: If an attribute or every picture is missing, or no query has its person in the gallery.

    Example:
        >>> from amodal.evaluation import GALLERY_PROTOCOLS
        >>> print(GALLERY_PROTOCOLS["sysu-indoor"].gallery_cameras, GALLERY_PROTOCOLS["regdb"].trials)
        (1, 2) 1
    """
    data = dataset if dataset.split is None else dataset.part("test")
    return evaluate_gallery_codes(encode_items(method, data), data, protocol, threads=threads)


def evaluate_gallery_codes(
    codes: Mapping[str, Codes], data: Dataset, protocol: GalleryProtocol, *, threads: int = 1
) -> GalleryEvaluation:
    """``evaluate_gallery``, of codes that are there already.

    Args:
        codes: By modality, a code for each observation in the order of its table.
        data: The test items.
        protocol: Who asks whom.
        threads: Blocks of queries at once.

    Raises:
        MissingModality: If the data lack a modality of the protocol.
        DataError: As for ``evaluate_gallery``, or if codes and observations differ in number.
    """
    found = GalleryEvaluation(protocol.name, {}, {}, {})
    for a, b in protocol.directions:
        for name in (a, b):
            if len(codes.get(name, ())) != len(data[name]):
                raise DataError(
                    f'{len(codes.get(name, ()))} codes were given for {len(data[name])} observations of "{name}"; each '
                    "needs one."
                )
        for trial in range(protocol.trials):
            _trial(found, codes, data, protocol, (a, b), trial, threads)
    return found


def _trial(
    found: GalleryEvaluation,
    codes: Mapping[str, Codes],
    data: Dataset,
    protocol: GalleryProtocol,
    direction: tuple[str, str],
    trial: int,
    threads: int,
) -> None:
    (a, b), name = direction, "->".join(direction)
    asking, searched = protocol.queries(data, a), protocol.gallery(data, b, trial)
    who, whom = data[a].item[asking], data[b].item[searched]
    places = _places(protocol, data, who, whom) if protocol.same_place else ()
    rule = identity(people(data)[who], people(data)[whom], *places, leave_out="place")
    ranks = [k for k in RANKS if k <= len(searched)]
    for k in set(RANKS) - set(ranks):
        found.absent[f"{name} cmc@{k}"] = f"the gallery has {len(searched)} pictures, fewer than {k}."
    hits = [f"hit@{k}" for k in ranks] if protocol.cmc == "image" else []
    result = measure(codes[a][asking], codes[b][searched], rule, ["map", "inp", *hits], direction=name, threads=threads)
    values = {"map": result.value("map"), "minp": result.value("inp"), "chance": result.chance}
    if protocol.cmc == "image":
        values |= {f"cmc@{k}": result.value(f"hit@{k}") for k in ranks}
    else:
        table = identity_hit_at(codes[a][asking], codes[b][searched], rule, ranks)[result.answerable]
        values |= {f"cmc@{k}": float(column.mean()) for k, column in zip(ranks, table.T, strict=True)}
    for key, value in values.items():
        found.values.setdefault(key, {}).setdefault(name, []).append(value)
    count = {
        "queries": len(asking),
        "unanswerable": int(np.count_nonzero(~result.answerable)),
        "gallery": len(searched),
    }
    found.counts.setdefault(name, []).append(count)


def _places(
    protocol: GalleryProtocol, data: Dataset, who: NDArray[np.int64], whom: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of places; a query and a gallery picture share one only where the protocol says so."""
    camera = cameras(data)
    asking, searched = np.full(len(who), -1), np.full(len(whom), -2)
    for place, (of_query, of_gallery) in enumerate(protocol.same_place):
        asking[camera[who] == of_query] = place
        searched[camera[whom] == of_gallery] = place
    return asking, searched
