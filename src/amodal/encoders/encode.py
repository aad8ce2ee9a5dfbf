"""Raw modalities of a data set replaced by features."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from amodal.data import Dataset, Observations
from amodal.encoders.base import Encoder, Features, Progress
from amodal.encoders.cache import FeatureCache
from amodal.encoders.registry import default_for, get, guess_kind
from amodal.encoders.vectors import Vectors
from amodal.errors import DataError, UsageError, nearest

__all__ = ["LeftOut", "choose_encoders", "encode_dataset"]

_KEEP_EVERY = 64
"""Rows between two writes to the cache: what an interruption may cost, about two seconds of pictures."""


@dataclass(frozen=True)
class LeftOut:
    """An observation that could not be encoded.

    Attributes:
        modality: Name of its modality.
        item: Id of the item it belongs to.
        content: The raw content: a path or a text.
        reason: A sentence: what was wrong and what to do.
    """

    modality: str
    item: str
    content: str
    reason: str


def choose_encoders(
    dataset: Dataset, encoders: Mapping[str, str | Encoder] | None = None, *, device: str = "cpu"
) -> dict[str, Encoder]:
    """The encoder of each raw modality: as named, else the default for pictures or for texts.

    Args:
        dataset: The data; modalities that hold features already need no encoder and get none.
        encoders: Names or encoders by modality.
        device: Where networks run that are chosen by name.

    Raises:
        UsageError: If a modality or an encoder is unknown, an encoder does not fit the content, or one is named for a
            modality that holds features already.
    """
    named = dict(encoders or {})
    for modality, wanted in named.items():
        if modality not in dataset.modalities:
            raise UsageError(nearest(modality, dataset.names, what="modality") + f" (data: {dataset.name})")
        if not dataset[modality].raw and Vectors.name not in (wanted, getattr(wanted, "name", None)):
            raise UsageError(f'modality "{modality}" holds features already; name no encoder for it, or "features".')
    chosen: dict[str, Encoder] = {}
    for modality, table in dataset.modalities.items():
        if table.raw:
            kind = guess_kind(table.read(slice(100)).tolist())
            wanted = named.get(modality, default_for(kind))
            encoder = get(wanted, kind=kind, device=device) if isinstance(wanted, str) else wanted
            if encoder.kind != kind:
                raise UsageError(
                    f'modality "{modality}" holds {kind} content; encoder "{encoder.name}" takes {encoder.kind}.'
                )
            chosen[modality] = encoder
    return chosen


def encode_dataset(
    dataset: Dataset,
    encoders: Mapping[str, str | Encoder] | None = None,
    *,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
    on_error: Callable[[LeftOut], None] | None = None,
) -> Dataset:
    """The same data with features in the place of pictures and texts.

    Equal content is encoded once. With a cache, interrupted work goes on where it stopped, and work done before needs
    neither the network nor torch. Modalities that hold features already are passed on.

    Args:
        dataset: Any data.
        encoders: Names or encoders by raw modality; see ``choose_encoders`` for the default.
        cache: Where features are kept; nowhere by default.
        progress: Told after each distinct piece of content, with the modality's name as ``what``.
        on_error: Called for each observation that cannot be encoded, which is then left out; its item stays. By
            default the first one ends the work.

    Raises:
        DataError: If content cannot be encoded and ``on_error`` is None; names modality, item and file.
        UsageError: As ``choose_encoders``.

    Example:
        >>> bad: list[LeftOut] = []
        >>> features = encode_dataset(items, cache=FeatureCache(), on_error=bad.append)  # doctest: +SKIP
    """
    tables = dict(dataset.modalities)
    for modality, encoder in choose_encoders(dataset, encoders).items():
        tables[modality] = _encode_table(dataset, modality, encoder, cache, progress, on_error)
    return replace(dataset, modalities=tables)


def _encode_table(
    dataset: Dataset,
    modality: str,
    encoder: Encoder,
    cache: FeatureCache | None,
    progress: Progress | None,
    on_error: Callable[[LeftOut], None] | None,
) -> Observations:
    table = dataset[modality]
    content = [str(one) for one in table.read().tolist()]
    number = {one: k for k, one in enumerate(dict.fromkeys(content))}
    rows = np.array([number[one] for one in content], dtype=np.int64)
    features = np.zeros((len(number), encoder.dim), dtype=np.float32)
    good = np.ones(len(number), dtype=bool)
    with closing(_outcomes(encoder, list(number), cache)) as outcomes:
        for done, (row, outcome) in enumerate(outcomes, 1):
            if not isinstance(outcome, DataError):
                features[row] = outcome
            else:
                good[row] = False
                for at in np.flatnonzero(rows == row):
                    left_out = LeftOut(modality, str(dataset.ids[table.item[at]]), content[at], str(outcome))
                    if on_error is None:
                        raise DataError(f'modality "{modality}", item "{left_out.item}": {outcome}') from outcome
                    on_error(left_out)
            if progress is not None:
                progress(done, len(number), modality)
    return Observations(features, table.item, rows).select(np.flatnonzero(good[rows]))


def _outcomes(
    encoder: Encoder, content: Sequence[str], cache: FeatureCache | None
) -> Generator[tuple[int, Features | DataError], None, None]:
    """Row and features of each piece of content, or why it has none: first what the cache knows, then the rest."""
    if cache is None:
        yield from enumerate(encoder.outcomes(content))
        return
    key_of = cache.content_of_file if encoder.kind == "picture" else cache.content_of_text
    rest: list[tuple[int, bytes]] = []
    for row, one in enumerate(content):
        try:
            key = key_of(one)
        except DataError as error:
            yield row, error
            continue
        known = cache.get(encoder.fingerprint, key)
        if known is None:
            rest.append((row, key))
        else:
            yield row, known
    fresh: list[tuple[bytes, Features]] = []
    try:
        for (row, key), outcome in zip(rest, encoder.outcomes([content[row] for row, _ in rest]), strict=True):
            yield row, outcome
            if not isinstance(outcome, DataError):
                fresh.append((key, outcome))
            if len(fresh) == _KEEP_EVERY:
                cache.put(encoder.fingerprint, fresh)
                fresh = []
    finally:
        cache.put(encoder.fingerprint, fresh)
