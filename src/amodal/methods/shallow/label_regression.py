"""Label regression: each modality predicts the classes by itself. The control beside every learned method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from amodal.codes import BinaryCodes, Codes, Embeddings
from amodal.data.splits import hold_out
from amodal.errors import MethodError
from amodal.methods.base import Method
from amodal.methods.card import Card
from amodal.methods.features import by_blocks, moments
from amodal.methods.shallow.inputs import above_zero, one_of
from amodal.methods.shallow.logistic import logistic_path
from amodal.methods.shallow.solvers import frame, itq

if TYPE_CHECKING:
    from amodal.data import Dataset, Labels
    from amodal.training.settings import Training

__all__ = ["LabelRegression"]

Array = NDArray[np.float64]

GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
CODES = ("real", "itq", "srp", "srp-sqrt")
#: Share and largest number of items held back to choose C.
HELD_BACK, MOST = 0.2, 2000
#: The search for C ends after this many values worse than the best.
PATIENCE = 2
#: C where nothing can be measured: no two modalities of the items held back share a class.
FALLBACK = 0.03


class LabelRegression(Method):
    """Class probabilities of each modality by logistic regression; items are ranked by how well these agree.

    Each modality learns alone from its own labelled observations, so a missing modality costs training rows and nothing
    else, and pairs are never used. With x standardised on the observed training rows and t = x W + a:

        one class per item:  min  sum_i -log softmax(t_i)[y_i]          + |W|^2 / (2 C),   p = softmax(t)
        several:             min  sum_ik softplus(t_ik) - y_ik t_ik     + |W|^2 / (2 C),   p = 1 / (1 + e^-t)

    The wanted ranking is by <p_v(x), p_t(y)> with one class per item, by the cosine of p with several. ``Embeddings``
    are compared by cosine, so they are p / |p| in the second case. In the first, M coordinates are appended, of which
    a row fills that of its own modality with sqrt(1 - |p|^2) and leaves the others 0: every row then has length 1, and
    across modalities the inner product is still <p_v, p_t>. (Within one modality it is not: the filled coordinate adds
    to it, which favours uncertain rows.)

    Codes: q = p, or sqrt(p) for "srp-sqrt", minus its mean over all observed training rows of all modalities; then
    sgn(q G) with one matrix G for all modalities. "srp": G normal. "itq": principal axes if bits <= c, else a random
    frame with orthonormal rows, each followed by the rotation that quantises the training rows best.

    Args:
        C: Inverse regularisation, or "auto": the value of 0.001, 0.003, 0.01 ... 10 that gives the highest mean mAP
            over all ordered pairs of modalities, on the validation data of ``fit`` or, without them, on a random fifth
            of the items (at most 2,000), after which all items are learned from. The search rises from the smallest
            value and ends after two values worse than the best.
        code: "real" for embeddings, or a way to binary codes: "itq", "srp", "srp-sqrt".
        bits: Length of binary codes; "real" has no use for it.
        seed: Of the items held back and of G.

    Attributes:
        strength_: The C in use.
        single_: Whether items have one class each.
        weights_: W and a by modality, for features as they come (standardisation folded in), shape (d + 1, c).
        centre_: What is subtracted from q, shape (c,); absent for "real".
        projection_: G, shape (c, bits); absent for "real".

    Paper: none; a baseline of category-level retrieval that has long been known.
    Reference code: none needed; the fits agree with scikit-learn's LogisticRegression.
    """

    card = Card(
        slug="label_regression",
        name="Label regression",
        summary="Class probabilities by logistic regression, one classifier per modality, ranked by their agreement.",
        paper="none; the control that every learned method is shown beside",
        family="shallow",
        returns="embeddings",
        needs_labels=True,
        needs_pairs="no",
        native="any",
        checked="Fits equal scikit-learn's; mAP on Wikipedia and Corel5k within .01 of an independent tuned run.",
        reference_code="none",
    )
    search_space: ClassVar = {"C": GRID, "code": CODES, "bits": (16, 32, 64, 128)}

    strength_: float
    single_: bool
    weights_: dict[str, Array]
    centre_: Array
    projection_: Array

    def __init__(self, *, C: float | str = "auto", code: str = "real", bits: int = 64, seed: int = 0) -> None:
        self.C, self.code, self.bits, self.seed = C, code, bits, seed

    def _learn(self, data: Dataset, validation: Dataset | None, training: Training | None) -> None:
        one_of(self.code, CODES, what="code of label_regression")
        above_zero("label_regression", bits=self.bits, **({} if self.C == "auto" else {"C": self.C}))
        self.single_ = bool(_labels(data).per_row.max() == 1)
        for name in data.names:
            if not self._taught(data)[data[name].item].any():
                raise MethodError(f'no observation of "{name}" belongs to an item with labels; nothing can teach it.')
        self.strength_ = self._choose(data, validation) if self.C == "auto" else float(self.C)
        self.weights_ = next(self._path(data, [self.strength_]))
        if self.code != "real":
            self._learn_code(data, np.random.default_rng(self.seed))

    def _taught(self, data: Dataset) -> NDArray[np.bool_]:
        """Items to learn from: labelled, and with one class each those that have it."""
        labels = _labels(data)
        return labels.known & (labels.per_row > 0) if self.single_ else labels.known

    def _choose(self, data: Dataset, validation: Dataset | None) -> float:
        """The C under which items that were not learned from find each other best."""
        if validation is None:
            data, validation = hold_out(data, min(HELD_BACK, MOST / len(data)), seed=self.seed)
        taught = self._taught(data)
        if not (_directions(validation) and all(taught[data[name].item].any() for name in data.names)):
            return FALLBACK
        best, strength, worse = -np.inf, FALLBACK, 0
        for C, weights in zip(GRID, self._path(data, GRID), strict=True):
            self.weights_ = weights
            score = self._score(validation)
            if score > best:
                best, strength, worse = score, C, 0
            elif (worse := worse + 1) == PATIENCE:
                break
        return strength

    def _score(self, validation: Dataset) -> float:
        """Mean mAP of the embeddings over all ordered pairs of modalities that share a class."""
        from amodal.metrics import mean_average_precision

        tables = {name: _labelled_rows(validation, name) for name in validation.names}
        embeddings = {name: self._embed(validation[name].read(rows), name) for name, (rows, _) in tables.items()}
        scores = [
            mean_average_precision(embeddings[a], embeddings[b], tables[a][1], tables[b][1])
            for a, b in _directions(validation)
        ]
        return float(np.mean(scores))

    def _path(self, data: Dataset, strengths: Sequence[float]) -> Iterator[dict[str, Array]]:
        """The classifiers of all modalities for each C."""
        paths = [self._modality_path(data, name, strengths) for name in data.names]
        for weights in zip(*paths, strict=True):
            yield dict(zip(data.names, weights, strict=True))

    def _modality_path(self, data: Dataset, name: str, strengths: Sequence[float]) -> Iterator[Array]:
        table, labels = data[name], _labels(data)
        mean, deviation = moments(table)
        rows = np.flatnonzero(self._taught(data)[table.item])
        x = ((table.read(rows) - mean) / deviation).astype(np.float32)
        for weights, offsets in logistic_path(x, labels.dense(table.item[rows]), strengths, single=self.single_):
            scaled = weights / deviation[:, None]
            yield np.vstack([scaled, offsets - mean @ scaled])

    def _learn_code(self, data: Dataset, random: np.random.Generator) -> None:
        q = np.concatenate([self._class_features(data[name].read(), name) for name in data.names])
        self.centre_ = q.mean(axis=0)
        q -= self.centre_
        classes = q.shape[1]
        if self.code != "itq":
            self.projection_ = random.standard_normal((classes, self.bits))
            return
        if self.bits <= classes:
            axes = np.linalg.eigh(q.T @ q)[1][:, : -self.bits - 1 : -1]
        else:
            axes = frame(classes, self.bits, random)
        self.projection_ = axes @ itq(q @ axes, random)

    def probabilities(self, features: NDArray[np.float32], modality: str) -> Array:
        """Class probabilities p.

        Args:
            features: Shape (m, d), as for ``encode``.
            modality: Name of the modality.

        Returns:
            Shape (m, c), columns in the order of ``classes_``; rows sum to 1 if items have one class each.
        """
        weights = self.weights_[modality]
        logits = by_blocks(lambda x: x @ weights[:-1] + weights[-1], features)
        return np.asarray(softmax(logits, axis=1) if self.single_ else expit(logits))

    def _class_features(self, features: NDArray[np.float32], modality: str) -> Array:
        p = self.probabilities(features, modality)
        return np.sqrt(p) if self.code == "srp-sqrt" else p

    def _embed(self, features: NDArray[np.float32], modality: str) -> Embeddings:
        p = self.probabilities(features, modality)
        if not self.single_:
            return Embeddings.from_vectors(p)
        own = np.zeros((len(p), len(self.widths_)))
        own[:, list(self.widths_).index(modality)] = np.sqrt(np.maximum(1 - (p**2).sum(axis=1), 0))
        return Embeddings.from_vectors(np.hstack([p, own]))

    def _encode(self, features: NDArray[np.float32], modality: str) -> Codes:
        if self.code == "real":
            return self._embed(features, modality)
        q = self._class_features(features, modality) - self.centre_
        return BinaryCodes.from_outputs(by_blocks(lambda x: x @ self.projection_, q))

    def state(self) -> dict[str, NDArray[Any]]:
        """Classifiers, the C in use, whether items have one class each, and what codes are made with."""
        state: dict[str, NDArray[Any]] = {f"weights.{name}": weights for name, weights in self.weights_.items()}
        if self.code != "real":
            state |= {"centre": self.centre_, "projection": self.projection_}
        return state | {"single": np.array([self.single_]), "strength": np.array([self.strength_])}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """The inverse of ``state``."""
        self.weights_ = {name: state[f"weights.{name}"] for name in self.widths_}
        self.single_, self.strength_ = bool(state["single"][0]), float(state["strength"][0])
        if self.code != "real":
            self.centre_, self.projection_ = state["centre"], state["projection"]


def _labels(data: Dataset) -> Labels:
    if data.labels is None:
        raise MethodError("label_regression learns from labels, and chooses C by labels; the data have none.")
    return data.labels


def _labelled_rows(data: Dataset, name: str) -> tuple[NDArray[np.int64], Any]:
    """Observations whose items have known labels, and those labels."""
    rows = np.flatnonzero(_labels(data).known[data[name].item])
    return rows, _labels(data).matrix[data[name].item[rows]]


def _directions(data: Dataset) -> list[tuple[str, str]]:
    """Ordered pairs of modalities in which some query has a relevant item."""
    counts = {name: _labelled_rows(data, name)[1].sum(axis=0) for name in data.names}
    return [(a, b) for a, b in permutations(data.names, 2) if np.multiply(counts[a], counts[b]).any()]
