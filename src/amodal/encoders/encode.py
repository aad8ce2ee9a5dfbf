"""Raw modalities of a data set replaced by features."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.data import Dataset, Observations
from amodal.encoders.base import Encoder, Features, Progress
from amodal.encoders.cache import FeatureCache
from amodal.encoders.registry import default_for, get, guess_kind
from amodal.encoders.vectors import Vectors
from amodal.errors import DataError, UsageError, nearest

__all__ = ["choose_encoders", "cut_from", "encode_dataset"]

_KEEP_EVERY = 64
"""Rows between two writes to the cache: what an interruption may cost, about two seconds of pictures."""


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
            # an encoder that was chosen before knows better than a guess from a few rows
            if encoder.kind != kind and (isinstance(wanted, str) or encoder.kind == Vectors.kind):
                raise UsageError(
                    f'modality "{modality}" holds {kind} content; encoder "{encoder.name}" takes {encoder.kind}.'
                )
            chosen[modality] = encoder
    return chosen


def distinct_content(observations: Observations) -> list[str]:
    """Raw content without repetitions, in order of appearance: what the rows of an encoded table's store stand for."""
    return list(dict.fromkeys(str(one) for one in observations.read().tolist()))


def encode_dataset(
    dataset: Dataset,
    encoders: Mapping[str, str | Encoder] | None = None,
    *,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
    skip_bad: bool = False,
    problems: list[str] | None = None,
) -> Dataset:
    """The same data with features in the place of pictures and texts.

    Equal content is encoded once. With a cache, interrupted work goes on where it stopped, and work done before needs
    neither the network nor torch. Modalities that hold features already are passed on.

    Features that are parts are written to a file, float16, which is mapped into memory and vanishes with the last use
    of it; ``save_archive`` keeps them. What an encoder cuts off is told, as a problem or else as a warning.

    Args:
        dataset: Any data.
        encoders: Names or encoders by raw modality; see ``choose_encoders`` for the default.
        cache: Where features are kept; nowhere by default.
        progress: Told after each distinct piece of content, with the modality's name as ``what``.
        skip_bad: Leave out observations that cannot be encoded and go on; their items stay.
        problems: A list to which a sentence is added for every observation that was left out, and for what was cut off.

    Raises:
        DataError: If content cannot be encoded and is not to be skipped; names modality, item and file.
        UsageError: As ``choose_encoders``.

    Example:
        >>> features = encode_dataset(items, cache=FeatureCache(), skip_bad=True)  # doctest: +SKIP
    """
    tables = dict(dataset.modalities)
    for modality, encoder in choose_encoders(dataset, encoders).items():
        features, number, errors = _encode_table(dataset[modality], encoder, modality, cache, progress, not skip_bad)
        table = dataset[modality]
        for observation in np.flatnonzero(np.isin(number, list(errors))):
            sentence = (
                f'modality "{modality}", item "{dataset.ids[table.item[observation]]}": {errors[number[observation]]}'
            )
            if not skip_bad:
                raise DataError(sentence)
            if problems is not None:
                problems.append(sentence)
        good = np.flatnonzero(~np.isin(number, list(errors)))
        tables[modality] = Observations(features, table.item, number).select(good)
        if encoder.length and (cut := _cut_off(table.select(good), encoder, dataset.ids)):
            if problems is None:
                warnings.warn(f'modality "{modality}": {cut}', stacklevel=2)
            else:
                problems.append(f'modality "{modality}": {cut}')
    return replace(dataset, modalities=tables)


def _encode_table(
    table: Observations,
    encoder: Encoder,
    modality: str,
    cache: FeatureCache | None,
    progress: Progress | None,
    stop_at_error: bool,
) -> tuple[NDArray[Any], NDArray[np.int64], dict[int, DataError]]:
    """Features of the distinct content (u, ...), each observation's number among them (m,), and what went wrong."""
    content = [str(one) for one in table.read().tolist()]
    distinct = {one: k for k, one in enumerate(distinct_content(table))}
    features = _room((len(distinct), *encoder.shape), cache)
    errors: dict[int, DataError] = {}
    with closing(_outcomes(encoder, list(distinct), cache)) as outcomes:
        for done, (row, outcome) in enumerate(outcomes, 1):
            if isinstance(outcome, DataError):
                errors[row] = outcome
                if stop_at_error:
                    break
            else:
                features[row] = outcome
            if progress is not None:
                progress(done, len(distinct), modality)
    return features, np.array([distinct[one] for one in content], dtype=np.int64), errors


def _room(shape: tuple[int, ...], cache: FeatureCache | None) -> NDArray[Any]:
    """Zeros: of vectors in memory, of parts in a nameless file, beside the cache if there is one."""
    if len(shape) == 2 or not all(shape):
        return np.zeros(shape, dtype=np.float32)
    if cache is not None:
        cache.path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=None if cache is None else cache.path.parent) as file:
        return np.memmap(file, dtype=np.float16, mode="w+", shape=shape)


def _cut_off(table: Observations, encoder: Encoder, ids: NDArray[np.str_]) -> str | None:
    """How much content has more parts than the encoder keeps, as a sentence, if any."""
    content = [str(one) for one in table.read().tolist()]
    excess = {one: encoder.excess(one) for one in dict.fromkeys(content)}
    longer = [observation for observation, one in enumerate(content) if excess[one]]
    if not longer:
        return None
    first = longer[0]
    return (
        f"{len(longer):,} of {len(content):,} observations have more than {encoder.length} parts and were cut off "
        f'there (first: item "{ids[table.item[first]]}", by {excess[content[first]]}).'
    )


def cut_from(content: Any, modality: str, encoders: Iterable[Encoder]) -> list[str]:
    """A sentence for each encoder that keeps less of a query than there is.

    Args:
        content: The query; only text is ever cut.
        modality: What it is of, for the sentence.
        encoders: Those that will read it.
    """
    excess = {encoder.name: encoder.excess(content) for encoder in encoders} if isinstance(content, str) else {}
    return [
        f"the {modality} of the query has {parts} parts more than {name} keeps; they take no part in the search. Ask "
        "in fewer words, or fit with an encoder that keeps more."
        for name, parts in excess.items()
        if parts
    ]


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
        known = cache.get(encoder.fingerprint, key, encoder.shape)
        if known is None:
            rest.append((row, key))
        else:
            yield row, known
    fresh: list[tuple[bytes, Features]] = []
    try:
        for (row, key), outcome in zip(rest, encoder.outcomes([content[row] for row, _ in rest]), strict=True):
            if not isinstance(outcome, DataError):
                fresh.append((key, outcome))
            yield row, outcome
            if len(fresh) == _KEEP_EVERY:
                cache.put(encoder.fingerprint, fresh)
                fresh = []
    finally:
        cache.put(encoder.fingerprint, fresh)
