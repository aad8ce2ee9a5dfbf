"""What people think of pairs, and how far the scores of a method go with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amodal.codes import BinaryCodes, Embeddings
from amodal.data import Dataset
from amodal.errors import DataError, ShapeError
from amodal.methods import Method

if TYPE_CHECKING:
    from amodal.methods.matching.base import Matcher

__all__ = ["Estimate", "Judgments", "agreement", "judge", "score_rows"]

Rows = NDArray[np.int64]


class Estimate(NamedTuple):
    """A number with its bootstrap interval of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Judgments:
    """Pairs of a picture and a caption, its own or another picture's, and how well people found them to fit.

    Attributes:
        pictures: Id of the picture, strings, shape (k,).
        captions: Id of the picture that the caption was written for, strings, shape (k,).
        numbers: Which caption of that picture it is, from 0, integers, shape (k,).
        scores: One score per person, higher fits better, shape (k, people).

    Raises:
        ShapeError: If the four do not fit each other.

    Paper: M. Hodosh, P. Young, J. Hockenmaier, "Framing Image Description as a Ranking Task", JAIR 47, 2013 (Flickr8k:
    three experts, 1 to 4).
    """

    pictures: NDArray[np.str_]
    captions: NDArray[np.str_]
    numbers: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = [np.shape(column) for column in (self.pictures, self.captions, self.numbers, self.scores)]
        if len({shape[:1] for shape in shapes}) != 1 or [len(shape) for shape in shapes] != [1, 1, 1, 2]:
            raise ShapeError(f"pictures, captions and numbers need shape (k,), scores (k, people); got {shapes}.")

    def rows(self, data: Dataset, modalities: tuple[str, str] = ("image", "text")) -> tuple[Rows, Rows]:
        """Which observations the pairs are made of: the first of the picture, and the caption.

        Args:
            data: Items with these pictures and captions.
            modalities: Of pictures and captions.

        Raises:
            DataError: If the data lack an item or an observation; names the first.
        """
        place = {name: row for row, name in enumerate(data.ids.tolist())}
        found = []
        for ids, numbers, modality in (
            (self.pictures, np.zeros_like(self.numbers), modalities[0]),
            (self.captions, self.numbers, modalities[1]),
        ):
            if missing := [name for name in ids.tolist() if name not in place]:
                raise DataError(f'people judged "{missing[0]}", which {data.name} does not have.')
            items, table = np.array([place[name] for name in ids.tolist()], dtype=np.int64), data[modality]
            if len(short := np.flatnonzero(numbers >= np.bincount(table.item, minlength=len(data))[items])):
                raise DataError(
                    f'people judged observation {numbers[short[0]]} of "{modality}" of "{ids[short[0]]}", which '
                    f"{data.name} does not have."
                )
            order = np.argsort(table.item, kind="stable")
            found.append(order[np.searchsorted(table.item[order], items) + numbers])
        return found[0], found[1]


def judge(
    method: Method,
    data: Dataset,
    judgments: Judgments,
    modalities: tuple[str, str] = ("image", "text"),
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """How far the scores of a method order pairs as people do.

    Args:
        method: Fitted; one that encodes is scored by cosine, or by Hamming distance with the sign turned.
        data: Items with what was judged.
        judgments: What people said; their mean is what scores are compared with.
        modalities: Of pictures and captions.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        As ``agreement``.

    Raises:
        DataError: If the data lack what was judged.
    """
    scores = score_rows(method, data, *judgments.rows(data, modalities), modalities)
    return agreement(scores, judgments.scores.mean(axis=1), judgments.pictures, resamples=resamples, seed=seed)


def score_rows(
    method: Method, data: Dataset, here: Rows, there: Rows, modalities: tuple[str, str]
) -> NDArray[np.float64]:
    """Scores of chosen pairs, higher is more similar.

    Args:
        method: Fitted.
        data: Items with features.
        here: Observations of the first modality, by number, shape (k,).
        there: Observations of the second, shape (k,).
        modalities: The two.
    """
    (first, one), (second, other) = (np.unique(rows, return_inverse=True) for rows in (here, there))
    tables = data[modalities[0]].select(first), data[modalities[1]].select(second)
    if method.card.returns == "scores":
        matcher, scores = cast("Matcher", method), np.empty(len(here))
        left, right = (matcher.embed_table(table, name) for table, name in zip(tables, modalities, strict=True))
        for row in range(len(first)):
            asked = np.flatnonzero(one == row)
            scores[asked] = matcher.match(left[row : row + 1], right[other[asked]], modalities=modalities)[0]
        return scores
    codes = [method.encode_table(table, name) for table, name in zip(tables, modalities, strict=True)]
    a, b = codes[0][one], codes[1][other]
    if isinstance(a, BinaryCodes) and isinstance(b, BinaryCodes):
        return np.asarray(-np.bitwise_count(a.packed ^ b.packed).sum(axis=1, dtype=np.float64))
    a, b = cast(Embeddings, a), cast(Embeddings, b)
    return np.asarray(np.einsum("kd,kd->k", a.vectors.astype(np.float64), b.vectors.astype(np.float64)))


def agreement(
    scores: ArrayLike, judged: ArrayLike, groups: ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """Rank correlations of two columns, with intervals from a bootstrap over groups.

    Kendall's tau-b and tau-c differ in how they allow for ties, of which judgments have many.

    Args:
        scores: Of a method, shape (k,).
        judged: By people, shape (k,).
        groups: What is drawn as a whole, for instance the picture of each pair, shape (k,).
        resamples: How often; the interval holds the middle 95 % of them.
        seed: Of the draws.

    Returns:
        ``kendall.b``, ``kendall.c`` and ``spearman``, in [-1, 1]; 0 where a column is constant.

    Example:
        >>> agreement([0.1, 0.4, 0.9], [1, 2, 4], [0, 1, 2], resamples=10)["spearman"].value
        1.0
    """
    columns = np.asarray(scores, dtype=np.float64), np.asarray(judged, dtype=np.float64)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        chosen = np.concatenate([members[one] for one in random.integers(len(members), size=len(members))])
        drawn.append(_correlations(columns[0][chosen], columns[1][chosen]))
    bounds = {name: np.percentile([one[name] for one in drawn], [2.5, 97.5]) for name in drawn[0]}
    return {
        name: Estimate(value, float(bounds[name][0]), float(bounds[name][1]))
        for name, value in _correlations(*columns).items()
    }


def _correlations(x: NDArray[np.float64], y: NDArray[np.float64]) -> dict[str, float]:
    from scipy.stats import kendalltau, rankdata

    if (x == x[0]).all() or (y == y[0]).all():
        return dict.fromkeys(("kendall.b", "kendall.c", "spearman"), 0.0)
    return {
        "kendall.b": float(kendalltau(x, y, method="asymptotic").statistic),
        "kendall.c": float(kendalltau(x, y, method="asymptotic", variant="c").statistic),
        "spearman": float(np.corrcoef(rankdata(x), rankdata(y))[0, 1]),
    }
