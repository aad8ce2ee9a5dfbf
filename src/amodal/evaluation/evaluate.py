"""How well a fitted method answers, in every direction between modalities."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from amodal.codes import BinaryCodes, Codes
from amodal.data import Dataset
from amodal.data.files import replacing
from amodal.errors import DataError, MethodError, UsageError
from amodal.evaluation.arrange import Arrangement
from amodal.evaluation.evaluation import CUTOFFS, Evaluation, health
from amodal.evaluation.pairs import evaluate_pair_codes, evaluate_pair_scores
from amodal.evaluation.protocol import PROTOCOLS, PairProtocol
from amodal.methods import Method
from amodal.metrics import RadiusCurve, chance_hit, measure, pair, share_label

if TYPE_CHECKING:
    from amodal.methods.matching.base import Matcher

__all__ = ["encode_items", "encode_roles", "evaluate", "evaluate_codes", "save_codes"]

RANKED = ("map", "map.optimistic", "map.pessimistic")
GRADED = ("ndcg@100.binary", "precision@100")
PLACES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  #: of the NDCG curve


def encode_items(method: Method, data: Dataset) -> dict[str, Codes]:
    """Codes of every observation, each from its own modality alone.

    Args:
        method: Fitted.
        data: Items with features; modalities without observations are left out.
    """
    return {name: method.encode_table(data[name], name) for name in data.names if len(data[name])}


def save_codes(path: str | Path, codes: dict[str, Codes], data: Dataset) -> None:
    """Write codes as a NumPy archive: per modality ``<name>`` (packed bits or embeddings) and ``<name>.id``.

    Args:
        path: The file; it is there as a whole or not at all.
        codes: From ``encode_items``.
        data: The items they belong to.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, rows in codes.items():
        arrays[name] = rows.packed if isinstance(rows, BinaryCodes) else rows.vectors
        arrays[f"{name}.id"] = data.ids[data[name].item]
        if isinstance(rows, BinaryCodes):
            arrays["bits"] = np.array(rows.bits)
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def evaluate(method: Method, arrangement: Arrangement, *, threads: int = 1) -> Evaluation:
    """Measure all ordered pairs of modalities under a protocol.

    Relevant is what shares a label; where the partner of a query is in its database, pair recall is measured too. Under
    a ``PairProtocol`` only the partners are relevant, and matchers can be measured as well.

    Args:
        method: Fitted on ``arrangement.train``.
        arrangement: Who asks, and who is searched.
        threads: Blocks of queries at once; the numbers do not depend on it.

    Returns:
        The evaluation. A direction whose database is empty is absent, with the reason.

    Raises:
        DataError: If the items have no labels where they are needed, or no direction can be measured.
        MethodError: If learned database codes are asked for and the method has none; if a matcher is to be measured
            under a protocol of labels.
        UsageError: If learned database codes are asked for and the database holds other than training items.
    """
    if method.card.returns == "scores":
        if not isinstance(arrangement.protocol, PairProtocol):
            pairs = ", ".join(name for name, protocol in PROTOCOLS.items() if isinstance(protocol, PairProtocol))
            raise MethodError(
                f"{method.card.slug} scores pairs and has no codes, which protocol {arrangement.protocol.name} "
                f"measures. Choose a protocol of pairs: {pairs}."
            )
        return evaluate_pair_scores(cast("Matcher", method), arrangement, threads=threads)
    _require_labels(arrangement)
    return evaluate_codes(*encode_roles(method, arrangement), arrangement, threads=threads)


def encode_roles(method: Method, arrangement: Arrangement) -> tuple[dict[str, Codes], dict[str, Codes]]:
    """Codes of who asks and of who is searched, as the protocol wants them; one and the same where the items are.

    Args:
        method: Fitted on ``arrangement.train``.
        arrangement: Who asks, and who is searched.

    Raises:
        MethodError: If learned database codes are asked for and the method has none.
        UsageError: If learned database codes are asked for and the database holds other than training items.
    """
    queries, database = arrangement.queries, arrangement.database
    asked = encode_items(method, queries)
    if arrangement.protocol.db_codes == "learned":
        return asked, _learned(method, arrangement)
    return asked, asked if database is queries else encode_items(method, database)


def evaluate_codes(
    asked: dict[str, Codes], searched: dict[str, Codes], arrangement: Arrangement, *, threads: int = 1
) -> Evaluation:
    """``evaluate``, of codes that are there already.

    Args:
        asked: Codes of the queries, from ``encode_roles``.
        searched: Codes of the database.
        arrangement: Who asks, and who is searched.
        threads: Blocks of queries at once.

    Raises:
        DataError: If the items have no labels where they are needed, or no direction can be measured.
    """
    if isinstance(arrangement.protocol, PairProtocol):
        return evaluate_pair_codes(asked, arrangement, threads=threads)
    _require_labels(arrangement)
    found = Evaluation({}, {}, {}, {}, {}, health(asked))
    for a, b in permutations(arrangement.queries.names, 2):
        direction = f"{a}->{b}"
        if a not in asked or b not in searched:
            side, role = (b, "database") if a in asked else (a, "query")
            found.absent[direction] = f'no {role} item has the modality "{side}".'
            continue
        _direction(found, direction, arrangement, asked[a], searched[b], a, b, threads)
    if not found.counts:
        raise DataError("nothing can be measured: " + " ".join(found.absent.values()))
    return found


def _require_labels(arrangement: Arrangement) -> None:
    if isinstance(arrangement.protocol, PairProtocol):
        return
    if arrangement.queries.labels is None or arrangement.database.labels is None:
        raise DataError(
            f"{arrangement.queries.name} has no labels, and evaluation needs them: what shares a label is relevant."
        )


def _direction(
    found: Evaluation,
    direction: str,
    arrangement: Arrangement,
    asked: Codes,
    searched: Codes,
    a: str,
    b: str,
    threads: int,
) -> None:
    protocol, queries, database = arrangement.protocol, arrangement.queries, arrangement.database
    relevance = share_label(_labels(queries, a), _labels(database, b))
    graded = [name for name in GRADED if len(searched) >= 100]
    places = [k for k in PLACES if k <= len(searched)]
    names = dict.fromkeys([*RANKED, *graded, *(f"ndcg@{k}.binary" for k in places)])
    result = measure(
        asked,
        searched,
        relevance,
        list(names),
        ties=protocol.ties,
        unanswerable=protocol.unanswerable,
        direction=direction,
        threads=threads,
    )
    summary = result.summary()
    for name in (*RANKED, *GRADED, "chance"):
        found.metrics.setdefault(name, {})[direction] = summary.get(name)
    for name in set(GRADED) - set(graded):
        found.absent[f"{direction} {name}"] = f"the database has {len(searched)} items, fewer than 100."
    found.counts[direction] = {key: summary[key] for key in ("queries", "unanswerable", "database", "relevant")}
    found.per_query[direction] = result.per_query["map"]
    found.curves[direction] = {
        "places": [float(k) for k in places],
        "ndcg": [round(result.value(f"ndcg@{k}.binary"), 6) for k in places],
        **(_curve(result.curve) if result.curve is not None else {}),
    }
    if protocol.pairs:
        _pairs(found, direction, queries, asked, searched, a, b, threads)


def _pairs(
    found: Evaluation, direction: str, items: Dataset, asked: Codes, searched: Codes, a: str, b: str, threads: int
) -> None:
    relevance = pair(items[a].item, items[b].item)
    if not np.isin(items[a].item, items[b].item).any():
        found.absent[f"{direction} recall"] = "no query has a partner in its database."
        return
    cutoffs = [k for k in CUTOFFS if k <= len(searched)]
    for k in set(CUTOFFS) - set(cutoffs):
        found.absent[f"{direction} recall@{k}"] = f"the database has {len(searched)} items, fewer than {k}."
    names = [f"hit@{k}" for k in cutoffs]
    result = measure(asked, searched, relevance, (*names, "rank.median"), direction=direction, threads=threads)
    partnered = result.answerable
    for k in cutoffs:
        chance = chance_hit(result.database[partnered], result.positives[partnered], k).mean()
        found.metrics.setdefault(f"recall@{k}", {})[direction] = 100 * result.value(f"hit@{k}")
        found.metrics.setdefault(f"chance.recall@{k}", {})[direction] = 100 * float(chance)
    found.metrics.setdefault("rank.median", {})[direction] = result.value("rank.median")


def _learned(method: Method, arrangement: Arrangement) -> dict[str, Codes]:
    codes: BinaryCodes | None = getattr(method, "training_codes_", None)
    if codes is None:
        raise MethodError(f'{method.card.slug} fits no codes of its training items; use db_codes="hashed".')
    place = {item: row for row, item in enumerate(arrangement.train.ids.tolist())}
    database = arrangement.database
    if not place.keys() >= set(database.ids.tolist()):
        raise UsageError('db_codes="learned" needs a protocol whose database are training items.')
    rows = np.array([place[item] for item in database.ids.tolist()])
    return {name: codes[rows[database[name].item]] for name in database.names if len(database[name])}


def _labels(data: Dataset, modality: str) -> sparse.csr_matrix:
    assert data.labels is not None  # noqa: S101 - evaluate has checked
    return data.labels.matrix[data[modality].item]


def _curve(curve: RadiusCurve) -> dict[str, list[float]]:
    parts = {
        "micro.precision": curve.micro_precision,
        "micro.recall": curve.micro_recall,
        "macro.precision": curve.macro_precision("zero"),
        "macro.recall": curve.macro_recall,
        "coverage": curve.coverage,
    }
    return {name: values.round(6).tolist() for name, values in parts.items()}
