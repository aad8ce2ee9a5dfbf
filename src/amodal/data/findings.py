"""What may be wrong with a data set: leaks between splits, repeated or empty content, gaps, order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.pictures import are_pictures, opened
from amodal.data.summary import describe

__all__ = ["Finding", "check"]

Severity = Literal["error", "warning", "note"]
_ERROR, _WARNING, _NOTE = get_args(Severity)


@dataclass(frozen=True)
class Finding:
    """One thing to know about the data.

    Attributes:
        severity: ``error`` (results would be wrong), ``warning`` (look at it) or ``note`` (know it).
        sentence: What it is, and how much.
        examples: Some of the items, classes or files concerned.
    """

    severity: Severity
    sentence: str
    examples: tuple[str, ...] = ()


def check(dataset: Dataset, problems: Sequence[str] = ()) -> list[Finding]:
    """Look for what spoils results: errors first, then warnings, then notes.

    Content is compared by hash, features are read in chunks, and every picture is opened once.

    Args:
        dataset: The data.
        problems: What was left out in reading (repeated ids, missing files; see ``amodal.read``), to be listed too.
    """
    found = [Finding(_ERROR, problem) for problem in problems]
    for look in (_pictures, _features, _repeats, _labels, _order, _gaps):
        found += look(dataset)
    return sorted(found, key=lambda finding: get_args(Severity).index(finding.severity))


def _some(values: Any) -> tuple[str, ...]:
    """The first five."""
    return tuple(str(value) for value in list(values)[:5])


def _percent(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / max(whole, 1):.1%})"


def _pictures(dataset: Dataset) -> Iterator[Finding]:
    for name, table in dataset.modalities.items():
        if are_pictures(table):
            seen = list(opened(table))
            bad = [f"{path} {trouble}" for _, path, trouble, _ in seen if trouble is not None]
            plain = [path for _, path, _, of_one_colour in seen if of_one_colour]
            if bad:
                yield Finding(_ERROR, f"{name}: {_percent(len(bad), len(table))} files cannot be used.", _some(bad))
            if plain:
                sentence = f"{name}: {_percent(len(plain), len(table))} pictures are of one colour."
                yield Finding(_WARNING, sentence, _some(plain))


def _features(dataset: Dataset) -> Iterator[Finding]:
    for name, table in dataset.modalities.items():
        if table.raw or not len(table):
            continue
        broken, zero, start = [], [], 0
        low, high = np.full(table.dim, np.inf), np.full(table.dim, -np.inf)
        for chunk in table.chunks():
            flat = chunk.reshape(len(chunk), -1)
            finite = np.isfinite(flat).all(axis=1)
            broken += (start + np.flatnonzero(~finite)).tolist()
            zero += (start + np.flatnonzero(~flat.any(axis=1))).tolist()
            rows = chunk[finite].reshape(-1, table.dim)
            low, high = (
                np.minimum(low, rows.min(axis=0, initial=np.inf)),
                np.maximum(high, rows.max(axis=0, initial=-np.inf)),
            )
            start += len(chunk)
        for bad, severity, what in ((broken, _ERROR, "hold NaN or infinity"), (zero, _WARNING, "are all zero")):
            if bad:
                sentence = f"{name}: {_percent(len(bad), len(table))} observations {what}."
                yield Finding(severity, sentence, _some(dataset.ids[table.item[bad]]))
        constant = np.flatnonzero(low >= high)
        if len(constant):
            sentence = f"{name}: {_percent(len(constant), table.dim)} feature columns are constant."
            yield Finding(_NOTE, sentence, _some(f"column {k}" for k in constant))


def _repeats(dataset: Dataset) -> Iterator[Finding]:
    keys = {name: _content_keys(dataset, name) for name in dataset.names}
    whole = np.unique(np.stack(list(keys.values()), axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    whole = np.where(dataset.presence().any(axis=1), whole, -1)
    yield from _leaks(dataset, whole, "everything", _ERROR)
    for name, key in keys.items():
        if len(keys) > 1:
            yield from _leaks(dataset, key, f"the same {name}", _WARNING)
        groups = key[key >= 0]
        repeated = len(groups) - len(np.unique(groups))
        if repeated:
            sentence = f"{name}: {_percent(repeated, len(groups))} items repeat the content of an earlier item."
            order = np.flatnonzero(key >= 0)
            first = np.unique(groups, return_index=True)[1]
            yield Finding(_NOTE, sentence, _some(dataset.ids[np.delete(order, first)]))


def _leaks(dataset: Dataset, key: NDArray[np.int64], what: str, severity: Severity) -> Iterator[Finding]:
    """Items of a later split whose content is in ``train``; -1 is no content."""
    if dataset.split is None:
        return
    train = dataset.split == "train"
    for name in np.unique(dataset.split[~train]).tolist():
        rows = (dataset.split == name) & (key >= 0)
        leaked = rows & np.isin(key, key[train])
        if leaked.any():
            sentence = f"split {name}: {_percent(int(leaked.sum()), int(rows.sum()))} items share {what} with train."
            yield Finding(severity, sentence, _some(dataset.ids[leaked]))


def _content_keys(dataset: Dataset, name: str) -> NDArray[np.int64]:
    """A number per item that is equal for equal content of a modality; -1 for none, or nothing but zeros."""
    table = dataset[name]
    digests: list[list[bytes]] = [[] for _ in range(len(dataset))]
    pictures, start = are_pictures(table), 0
    for chunk in table.chunks():
        for offset, value in enumerate(chunk):
            content = _bytes(value, pictures)
            if content.strip(b"\0"):
                item = table.item[start + offset]
                digests[item].append(hashlib.blake2b(content, digest_size=16).digest())
        start += len(chunk)
    numbers: dict[bytes, int] = {}
    keys = [numbers.setdefault(b"".join(sorted(parts)), len(numbers)) if parts else -1 for parts in digests]
    return np.array(keys, dtype=np.int64)


def _bytes(value: Any, picture: bool) -> bytes:
    if not isinstance(value, str):
        return bytes(value.tobytes())
    if not picture:
        return value.encode()
    try:
        return Path(value).read_bytes()
    except OSError:
        return b""


def _labels(dataset: Dataset) -> Iterator[Finding]:
    labels = dataset.labels
    if labels is None:
        yield Finding(_NOTE, "there are no labels.")
        return
    unknown, empty = ~labels.known, labels.known & (labels.per_row == 0)
    if unknown.any():
        sentence = f"{_percent(int(unknown.sum()), len(labels))} items have unknown labels."
        yield Finding(_NOTE, sentence, _some(dataset.ids[unknown]))
    if empty.any():
        sentence = f"{_percent(int(empty.sum()), len(labels))} items belong to no class, so no query can find them."
        yield Finding(_WARNING, sentence, _some(dataset.ids[empty]))
    used = np.asarray(labels.matrix.sum(axis=0)).ravel() > 0
    names = np.array(labels.names, dtype=np.str_)
    if not used.all():
        yield Finding(_NOTE, f"{int((~used).sum())} classes have no item at all.", _some(names[~used]))
    if dataset.split is not None and "train" in dataset.split:
        seen = np.asarray(labels.matrix[dataset.split == "train"].sum(axis=0)).ravel() > 0
        orphans = used & ~seen
        if orphans.any():
            yield Finding(_ERROR, f"{int(orphans.sum())} classes have no training example.", _some(names[orphans]))


def _order(dataset: Dataset) -> Iterator[Finding]:
    """Whether items are stored by class: a stable sort would then leak the label into every tie."""
    if dataset.labels is None or len(dataset) < 20:
        return
    rows = np.flatnonzero(dataset.labels.known & (dataset.labels.per_row > 0))
    neighbours = _sharing(dataset, rows)
    chance = _sharing(dataset, np.random.default_rng(0).permutation(rows))
    if neighbours - chance > 0.5 * (1 - chance):
        yield Finding(
            _WARNING,
            f"items are stored by class: {neighbours:.0%} of neighbours share a label, {chance:.0%} would by chance. "
            'Measures that break ties by position (ties="index") would profit from it.',
        )


def _sharing(dataset: Dataset, rows: NDArray[np.int64]) -> float:
    """Share of consecutive rows that have a class in common."""
    assert dataset.labels is not None  # noqa: S101 - the caller looked
    matrix = dataset.labels.matrix[rows]
    common = matrix[:-1].multiply(matrix[1:]).sum(axis=1)
    return float((np.asarray(common) > 0).mean()) if len(rows) > 1 else 0.0


def _gaps(dataset: Dataset) -> Iterator[Finding]:
    summary = describe(dataset)
    if dataset.split is None:
        yield Finding(_NOTE, "there is no split into train and test.")
    nothing = summary.all.patterns.get("nothing", 0)
    if nothing:
        empty = dataset.ids[~dataset.presence().any(axis=1)]
        yield Finding(_WARNING, f"{_percent(nothing, len(dataset))} items have no modality at all.", _some(empty))
    for where, group in {
        "": summary.all,
        **{f"split {name}: ": group for name, group in summary.splits.items()},
    }.items():
        gaps = [f"{name} {share:.1%}" for name, share in group.missing.items() if share]
        if gaps:
            yield Finding(_NOTE, f"{where}missing {', '.join(gaps)} of {group.items:,} items.")
    for name in dataset.names:
        bare = [key for key, group in summary.classes.items() if group.items and group.missing[name] == 1]
        if bare:
            yield Finding(_WARNING, f"{len(bare)} classes have no {name} at all.", _some(bare))
