"""Protocols of cross-modality re-identification: who is searched for, in which gallery, drawn how often."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from amodal.data import Dataset
from amodal.errors import DataError, UsageError, nearest

__all__ = ["GALLERY_PROTOCOLS", "GalleryProtocol", "cameras", "get", "people"]


@dataclass(frozen=True, kw_only=True)
class GalleryProtocol:
    """A rule of re-identification. Data need the attribute ``identity``, and ``camera`` if cameras matter.

    Attributes:
        name: Its name.
        summary: One sentence for tables' captions.
        directions: Ordered pairs (who asks, who is searched) of modalities.
        query_cameras: Cameras whose pictures ask; None for all.
        gallery_cameras: Cameras whose pictures may be searched; None for all.
        same_place: Pairs of cameras (of queries, of the gallery) that look at one place: those gallery pictures are
            left out for those queries.
        shots: Pictures of each identity and camera in the gallery; None for all.
        trials: Galleries drawn, each evaluated; 1 where nothing is drawn.
        cmc: "identity" counts places of distinct identities, "image" of pictures.
    """

    name: str
    summary: str
    directions: tuple[tuple[str, str], ...]
    query_cameras: tuple[int, ...] | None = None
    gallery_cameras: tuple[int, ...] | None = None
    same_place: tuple[tuple[int, int], ...] = ()
    shots: int | None = None
    trials: int = 1
    cmc: Literal["identity", "image"]

    @property
    def sha256(self) -> str:
        """Hash of every field."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def queries(self, data: Dataset, modality: str) -> NDArray[np.int64]:
        """Observations that ask: numbers into the table of the modality.

        Args:
            data: Test items.
            modality: Who asks.

        Raises:
            DataError: If the data lack an attribute, or none of the cameras took a picture.
        """
        return self._seen(data, modality, self.query_cameras)

    def gallery(self, data: Dataset, modality: str, trial: int) -> NDArray[np.int64]:
        """Observations that are searched: numbers into the table of the modality.

        Identity after identity, camera after camera, ``shots`` pictures are drawn among those sorted by id, with
        Python's generator seeded by the trial: the draw of the released code, which publishes ten fixed galleries.

        Args:
            data: Test items.
            modality: Who is searched.
            trial: From 0.

        Raises:
            DataError: As for ``queries``.
        """
        rows = self._seen(data, modality, self.gallery_cameras)
        if self.shots is None:
            return rows
        item = data[modality].item[rows]
        group = people(data)[item], cameras(data)[item]
        rows = rows[order := np.lexsort((data.ids[item], group[1], group[0]))]
        fresh = np.ones(len(rows), dtype=bool)
        fresh[1:] = np.any([column[order][1:] != column[order][:-1] for column in group], axis=0)
        drawn: list[int] = []
        generator = random.Random(trial)  # noqa: S311 - the galleries of the literature come from this generator
        for pictures in np.split(rows, np.flatnonzero(fresh)[1:]):
            some = pictures.tolist()
            drawn += [generator.choice(some)] if self.shots == 1 else generator.sample(some, min(self.shots, len(some)))
        return np.array(drawn, dtype=np.int64)

    def _seen(self, data: Dataset, modality: str, those: tuple[int, ...] | None) -> NDArray[np.int64]:
        rows = np.arange(len(data[modality]))
        if those is not None:
            rows = rows[np.isin(cameras(data)[data[modality].item], those)]
        if not len(rows):
            where = f" from camera {', '.join(map(str, those))}" if those else ""
            raise DataError(
                f'{data.name} has no "{modality}" picture{where} to evaluate, as protocol {self.name} does.'
            )
        return rows


def people(data: Dataset) -> NDArray[Any]:
    """Who is on the pictures of each item, shape (n,).

    Raises:
        DataError: If the data do not say so.
    """
    return _attribute(data, "identity")


def cameras(data: Dataset) -> NDArray[np.int64]:
    """The number of the camera that saw each item, shape (n,).

    Raises:
        DataError: If the data do not say so, or not by numbers.
    """
    column = _attribute(data, "camera")
    try:
        return column.astype(np.int64)
    except ValueError as error:
        raise DataError(f'{data.name}: the attribute "camera" must hold numbers of cameras ({error}).') from error


def _attribute(data: Dataset, name: str) -> NDArray[Any]:
    if name not in data.attributes:
        raise DataError(
            f'{data.name} has no attribute "{name}", which re-identification needs. The readers of SYSU-MM01 and RegDB '
            "give it; in a table it is a column of that name."
        )
    return data.attributes[name]


def _sysu(search: Literal["all", "indoor"], shots: int) -> GalleryProtocol:
    seen = (1, 2, 4, 5) if search == "all" else (1, 2)
    return GalleryProtocol(
        name=f"sysu-{search}" + ("-multi" if shots > 1 else ""),
        summary=f"SYSU-MM01, {search} search: infrared pictures of cameras 3 and 6 ask; the gallery has {shots} "
        f"visible picture{'s' * (shots > 1)} of each identity from each of the cameras {', '.join(map(str, seen))}, "
        "drawn ten times; camera 3 does not search camera 2, which sees the same place.",
        directions=(("infrared", "visible"),),
        query_cameras=(3, 6),
        gallery_cameras=seen,
        same_place=((3, 2),),
        shots=shots,
        trials=10,
        cmc="identity",
    )


GALLERY_PROTOCOLS: dict[str, GalleryProtocol] = {
    protocol.name: protocol
    for protocol in (
        *(_sysu(search, shots) for search in ("all", "indoor") for shots in (1, 10)),
        GalleryProtocol(
            name="regdb",
            summary="RegDB: every picture of one camera asks, every picture of the other is searched, both ways; the "
            "people are divided in ten ways, a model is learned for each, and the ten are averaged.",
            directions=(("visible", "infrared"), ("infrared", "visible")),
            cmc="image",
        ),
    )
}
"""The protocols by name: ``sysu-all``, ``sysu-all-multi``, ``sysu-indoor``, ``sysu-indoor-multi``, ``regdb``."""


def get(name: str) -> GalleryProtocol:
    """A protocol of re-identification by name.

    Raises:
        UsageError: Naming the nearest.
    """
    if name not in GALLERY_PROTOCOLS:
        raise UsageError(nearest(name, GALLERY_PROTOCOLS, what="protocol of re-identification"))
    return GALLERY_PROTOCOLS[name]
