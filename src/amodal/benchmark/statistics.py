"""What the seeds and the queries allow to be said: differences, robustness, ranks over data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amodal.benchmark.summary import Row, Values
from amodal.errors import DataError
from amodal.metrics.significance import holm, randomisation_test, sign_flip_test

__all__ = [
    "LEVEL",
    "Difference",
    "Ranks",
    "compare",
    "correct",
    "query_differences",
    "rank_methods",
    "robustness",
    "seed_differences",
]

LEVEL = 0.05  #: of every test


@dataclass(frozen=True)
class Difference:
    """How far a method is from a reference, and whether that is more than luck.

    Attributes:
        effect: Mean over shared seeds of method minus reference, each the mean over shared directions.
        interval: Where the effect lies at 95 %, by Student's t over seeds; NaN if it cannot be told.
        seeds: Number of shared seeds.
        p_seeds: Paired t over seeds, two-sided: speaks about the methods. None where it cannot be had.
        p_flips: Exact sign-flip test over seeds; it cannot fall below 2 / 2^seeds.
        p_queries: Paired randomisation over queries, averaged over seeds first: speaks about these trained models.
        untested: Why a test is missing, in words; empty if none is.
    """

    effect: float
    interval: tuple[float, float]
    seeds: int
    p_seeds: float | None
    p_flips: float | None
    p_queries: float | None
    untested: tuple[str, ...] = ()

    @property
    def beyond_noise(self) -> bool:
        """Whether the seeds tell method and reference apart."""
        return self.p_seeds is not None and self.p_seeds < LEVEL

    @property
    def verdict(self) -> str:
        """``above``, ``below``, ``within noise`` or ``not tested``."""
        if self.p_seeds is None:
            return "not tested"
        if not self.beyond_noise:
            return "within noise"
        return "above" if self.effect > 0 else "below"


def seed_differences(values: Values, reference: Values) -> NDArray[np.float64]:
    """Method minus reference for every seed that both have, over the directions that both have; shape (s,).

    Args:
        values: Of the method, by direction and seed.
        reference: Of what it is compared with.
    """
    ways = [way for way in values if way in reference and way != "mean"]
    found = []
    for seed in sorted({seed for way in ways for seed in values[way].keys() & reference[way].keys()}):
        both = [way for way in ways if seed in values[way] and seed in reference[way]]
        found.append(np.mean([values[way][seed] - reference[way][seed] for way in both]))
    return np.array(found, dtype=np.float64)


def query_differences(
    folder: Path, records: Sequence[dict[str, Any]], references: Sequence[dict[str, Any]]
) -> NDArray[np.float64]:
    """What each query contributes to the difference of mAP, averaged over seeds; the sum is the effect.

    Args:
        folder: Where the records lie, with ``per_query``.
        records: One per seed.
        references: Those of the reference, in the same order of seeds.

    Returns:
        Float64, one value per query and direction that all have.

    Raises:
        DataError: If a file is missing, or they did not answer the same queries.
    """
    total: dict[str, NDArray[np.float64]] = {}
    for record, reference in zip(records, references, strict=True):
        if any(record["hashes"][name] != reference["hashes"][name] for name in ("data", "protocol")):
            raise DataError("they answered different queries.")
        one, other = _read(folder, record), _read(folder, reference)
        for way in sorted(one.keys() & other.keys()):
            if one[way].shape != other[way].shape:
                raise DataError("they answered different numbers of queries.")
            counts = record["counts"][way]
            counted = counts["queries"] - (counts["unanswerable"] if record["unanswerable"] == "skip" else 0)
            total[way] = total.get(way, 0) + (one[way] - other[way]) / counted
    if not total:
        raise DataError("they share no direction.")
    return np.concatenate(list(total.values())) / (len(total) * len(records))


def _read(folder: Path, record: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    try:
        with np.load(folder / record["per_query"]["file"]) as file:
            return dict(file)
    except (OSError, KeyError, ValueError):
        raise DataError("average precision of single queries was not kept.") from None


def compare(
    row: Row, reference: Row | Values, records: Mapping[str, dict[str, Any]] | None = None, folder: Path | None = None
) -> Difference:
    """Compare a method with another on the same data, setting and protocol, seed by seed and query by query.

    Args:
        row: The method.
        reference: What it is compared with; bare values, as of a control that was not run for itself, have no queries.
        records: By key; together with ``folder`` for the test over queries.
        folder: Where the records lie.

    Returns:
        Effect and p values as they are, for :func:`correct` to correct.

    Raises:
        DataError: If no seed is shared.
    """
    values = reference.values if isinstance(reference, Row) else reference
    differences = seed_differences(row.values, values)
    n = len(differences)
    if not n:
        raise DataError(f"{row.method} on {row.dataset} shares no seed with what it is compared with.")
    effect, interval = float(differences.mean()), (float("nan"), float("nan"))
    p_seeds = p_flips = p_queries = None
    untested = []
    if n < 2:
        untested.append("one seed, so no test over seeds")
    elif np.ptp(differences) < 1e-12:
        untested.append("the same difference with every seed, so no test over seeds")
    else:
        from scipy.stats import t

        error = float(differences.std(ddof=1)) / np.sqrt(n)
        p_seeds = float(2 * t.sf(abs(effect) / error, n - 1))
        reach = float(t.ppf(1 - LEVEL / 2, n - 1)) * error
        interval = (effect - reach, effect + reach)
        p_flips = sign_flip_test(differences) if n <= 20 else randomisation_test(differences)
    if folder is not None and records is not None and isinstance(reference, Row):
        seeds = sorted(row.keys.keys() & reference.keys.keys())
        try:
            single = query_differences(
                folder, *([records[one.keys[seed]] for seed in seeds] for one in (row, reference))
            )
            p_queries = randomisation_test(single)
        except DataError as error:
            untested.append(f"no test over queries: {str(error).rstrip('.')}")
    return Difference(effect, interval, n, p_seeds, p_flips, p_queries, tuple(untested))


def correct(differences: Sequence[Difference]) -> list[Difference]:
    """Holm's correction, each kind of test as a family of its own; missing tests stay missing and do not count.

    Args:
        differences: From one reference to all others.
    """
    seeds, flips, queries = (
        _corrected([getattr(one, name) for one in differences]) for name in ("p_seeds", "p_flips", "p_queries")
    )
    return [replace(one, p_seeds=seeds[k], p_flips=flips[k], p_queries=queries[k]) for k, one in enumerate(differences)]


def _corrected(given: list[float | None]) -> list[float | None]:
    corrected = iter(holm([p for p in given if p is not None]).tolist())
    return [None if p is None else next(corrected) for p in given]


def robustness(complete: Row, thinned: Row) -> tuple[float, float, int]:
    """What a method loses from complete data to incomplete: complete minus thinned, paired by seed.

    Args:
        complete: Its row at setting ``complete``.
        thinned: Its row at another.

    Returns:
        Mean, sample standard deviation (NaN for one seed) and number of seeds; NaN, NaN and 0 if none is shared.
    """
    losses = seed_differences(complete.values, thinned.values)
    if not len(losses):
        return float("nan"), float("nan"), 0
    return float(losses.mean()), float(losses.std(ddof=1)) if len(losses) > 1 else float("nan"), len(losses)


@dataclass(frozen=True)
class Ranks:
    """Mean ranks over cases, 1 being the best, with Friedman's test and Nemenyi's critical difference.

    Attributes:
        names: Methods, best first.
        ranks: Their mean ranks.
        cases: Number of cases.
        p: Friedman's test that all methods are alike.
        critical: Mean ranks less than this apart are not told apart (Nemenyi, 5 %).
        groups: Largest runs of methods that are not told apart, as first and last place in ``names``.
    """

    names: tuple[str, ...]
    ranks: tuple[float, ...]
    cases: int
    p: float
    critical: float
    groups: tuple[tuple[int, int], ...]


def rank_methods(names: Sequence[str], scores: ArrayLike) -> Ranks:
    """Rank methods over cases, for instance data sets and directions.

        chi2 = ((k - 1) * sum over methods of (R - N (k + 1) / 2)^2) / (sum of squared ranks - N k (k + 1)^2 / 4)
        critical = q / sqrt(2) * sqrt(k (k + 1) / (6 N))

    R are sums of ranks, tied ones averaged; q is the 95 % point of the studentised range for k groups.

    Args:
        names: Of the k methods.
        scores: Higher is better, finite, shape (N, k).

    Raises:
        DataError: If there are fewer than two methods or two cases, or a score is not finite.

    Paper: Demšar, JMLR 7, 2006.
    """
    from scipy.stats import chi2, rankdata, studentized_range

    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2 or table.shape[1] != len(names) or not np.isfinite(table).all():
        raise DataError("ranks need at least two methods and two cases, with a finite score for each.")
    n, k = table.shape
    each = rankdata(-table, axis=1)
    spread = float((each**2).sum() - n * k * (k + 1) ** 2 / 4)
    statistic = (k - 1) * float(((each.sum(axis=0) - n * (k + 1) / 2) ** 2).sum()) / spread if spread else 0.0
    mean = each.mean(axis=0)
    order = np.argsort(mean, kind="stable")
    ranks = mean[order]
    critical = float(studentized_range.ppf(1 - LEVEL, k, np.inf)) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n))
    return Ranks(
        tuple(names[i] for i in order),
        tuple(ranks.tolist()),
        n,
        float(chi2.sf(statistic, k - 1)),
        float(critical),
        _groups(ranks, float(critical)),
    )


def _groups(ranks: NDArray[np.float64], critical: float) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = int(np.flatnonzero(ranks - rank < critical)[-1])
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)
