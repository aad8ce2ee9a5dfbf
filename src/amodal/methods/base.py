"""The contract of everything that learns: ``fit`` a data set with gaps, then ``encode`` one modality at a time."""

from __future__ import annotations

import hashlib
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import permutations
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amodal.codes import BinaryCodes, Codes, Embeddings, concatenate
from amodal.errors import DataError, MethodError, MissingModality, ShapeError, UsageError, nearest
from amodal.methods.card import Card
from amodal.methods.imputation import Imputation

if TYPE_CHECKING:
    from amodal.data import Dataset, Observations
    from amodal.training.settings import Training

__all__ = ["Method"]

State = dict[str, NDArray[Any]]


class Method(ABC):
    """A way to learn codes or embeddings in which modalities meet.

    The constructor only stores its keyword arguments, whose defaults are the paper's values or, where a card says so,
    ours. ``fit`` checks and learns; learnt attributes end in an underscore. A code is a function of the item and the
    fitted model alone: never of other items, of chance, or of another modality.

    Class attributes:
        card: What the method is and needs.
        search_space: Values worth trying for each argument, by name.
        presets: Published configurations, by name.

    Attributes:
        widths_: Width of the features of each modality learned from.
        parts_: The modalities among them whose observations are parts (length, d), not one vector (d,).
        classes_: Names of the classes learned from; empty without labels.
    """

    card: ClassVar[Card]
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    widths_: dict[str, int]
    parts_: tuple[str, ...] = ()
    classes_: tuple[str, ...]

    def params(self) -> dict[str, Any]:
        """The constructor's arguments with their values."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @classmethod
    def accepts(cls, name: str) -> bool:
        """Whether the constructor has an argument of that name."""
        return name in inspect.signature(cls).parameters

    @classmethod
    def create(cls, preset: str | None = None, **params: Any) -> Self:
        """Construct, with a sentence instead of a traceback for an argument that does not exist.

        Args:
            preset: One of ``presets``: a published configuration to start from.
            params: Arguments of the constructor; they override the preset's.

        Raises:
            UsageError: Naming the nearest right argument or preset.
        """
        if preset is not None:
            if preset not in cls.presets:
                raise UsageError(nearest(preset, cls.presets, what=f"preset of {cls.card.slug}"))
            params = {**cls.presets[preset], **params}
        for name, value in params.items():
            if not cls.accepts(name):
                raise UsageError(nearest(name, inspect.signature(cls).parameters, what=f"argument of {cls.card.slug}"))
            default = inspect.signature(cls).parameters[name].default
            if type(default) in (int, float) and not isinstance(value, Real):
                raise UsageError(f"{name} of {cls.card.slug} is a number, {default} by default; got {value!r}.")
        return cls(**params)

    def fit(self, data: Dataset, *, validation: Dataset | None = None, training: Training | None = None) -> Self:
        """Learn from a data set with gaps.

        Args:
            data: Items with features; any of them may lack labels or modalities, as far as the card allows.
            validation: Items that may choose a stopping point. Never the items that will judge.
            training: Device, precision, checkpoints, progress; defaults suit a laptop. Closed-form methods ignore
                what they have no use for.

        Returns:
            The method itself, fitted.

        Raises:
            DataError: If features are raw, NaN, or absent altogether.
            MethodError: If the data lack labels or pairs that the method needs; says which.
        """
        self.meet(data)
        self._learn(data, validation, training)
        return self

    def meet(self, data: Dataset) -> None:
        """Check the data, and note the modalities and classes to be learned: what ``fit`` does first.

        Args:
            data: Items with features.

        Raises:
            DataError: As ``fit``.
            MethodError: As ``fit``.
        """
        self._check(data)
        self.widths_ = {name: data[name].dim for name in data.names}
        self.parts_ = tuple(name for name in data.names if data[name].store.ndim == 3)
        self.classes_ = data.labels.names if data.labels is not None else ()

    @abstractmethod
    def _learn(self, data: Dataset, validation: Dataset | None, training: Training | None) -> None:
        """Learn; everything general has been checked."""

    @abstractmethod
    def _encode(self, features: NDArray[np.float32], modality: str) -> Codes:
        """Encode checked features."""

    @abstractmethod
    def state(self) -> State:
        """Everything learnt, as named arrays; the inverse of ``restore``."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """Take back what ``state`` gave; ``widths_`` and ``classes_`` are set already."""

    def encode(self, features: ArrayLike, modality: str) -> Codes:
        """Codes or embeddings of items of one modality.

        Args:
            features: Shape (m, d), d as learned from, finite; or (m, length, d) where learned from parts.
            modality: Name of the modality, as in the training data.

        Raises:
            MissingModality: If the model never learned that modality.
            ShapeError: If the width is not that of training.
            DataError: If a feature is NaN or infinite.
        """
        return self._encode(self._checked(features, modality), modality)

    def encode_table(self, observations: Observations, modality: str) -> Codes:
        """Codes of a table of observations, read in chunks so that it may be larger than memory.

        Args:
            observations: At least one, with features.
            modality: Its name.
        """
        return concatenate([self.encode(chunk, modality) for chunk in observations.chunks()])

    def impute(self, data: Dataset, modality: str) -> Imputation:
        """Imagine a modality for the items that lack it and have another.

        Args:
            data: Items with features.
            modality: What to imagine.

        Returns:
            One row per such item, with a trust.

        Raises:
            MethodError: If the method cannot impute.
            MissingModality: If the model never learned the modality.
        """
        raise MethodError(f"{self.card.slug} cannot imagine a missing modality; see which methods can: amodal list.")

    def require_fitted(self) -> None:
        """Refuse to go on before ``fit``.

        Raises:
            MethodError: If the method has not been fitted.
        """
        if not hasattr(self, "widths_"):
            raise MethodError(f"{self.card.slug} has not learned anything yet. Call fit, or load a saved model.")

    def require_learned(self, modality: str) -> None:
        """Refuse a modality that was not learned.

        Raises:
            MethodError: If the method has not been fitted.
            MissingModality: If it has, without that modality.
        """
        self.require_fitted()
        if modality not in self.widths_:
            raise MissingModality(nearest(modality, self.widths_, what="modality") + " The model never learned it.")

    def fingerprint(self) -> str:
        """A hash of method, arguments and everything learnt; an index remembers whose codes it holds."""
        # as JSON, so that a model read back has the hash it was saved with: 64 is np.int64(64), and a list a tuple
        facts = json.dumps([self.card.slug, self.params()], sort_keys=True, default=lambda value: value.item())
        digest = hashlib.sha256(facts.encode())
        for name, array in sorted(self.state().items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def validation_score(self, validation: Dataset) -> float:
        """Mean tie-aware mAP over all ordered pairs of modalities of held-out items: what selection looks at."""
        from amodal.metrics import mean_average_precision

        if validation.labels is None:
            raise MethodError("validation items need labels: model selection measures mAP by shared labels.")
        here = [name for name in validation.names if len(validation[name])]
        codes = {name: self.encode_table(validation[name], name) for name in here}
        labels = {name: validation.labels.matrix[validation[name].item] for name in here}
        scores = [mean_average_precision(codes[a], codes[b], labels[a], labels[b]) for a, b in permutations(here, 2)]
        return float(np.mean(scores))

    def _checked(self, features: ArrayLike, modality: str) -> NDArray[np.float32]:
        """Features as ``encode`` takes them, or the error that it documents."""
        self.require_learned(modality)
        values = np.asarray(features, dtype=np.float32)
        parts = modality in self.parts_
        if values.ndim != 2 + parts or values.shape[-1] != self.widths_[modality]:
            raise ShapeError(
                f'modality "{modality}" was learned with {"parts" if parts else "features"} of width '
                f"{self.widths_[modality]}; got an array of shape {values.shape}."
            )
        bad = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        if bad.any():
            raise DataError(f'modality "{modality}": row {int(np.flatnonzero(bad)[0])} holds NaN or infinity.')
        return values

    def _check(self, data: Dataset) -> None:
        bits = getattr(self, "bits", 1)
        if not isinstance(bits, int | np.integer) or bits < 1:
            raise UsageError(f"bits of {self.card.slug} must be a whole number of at least 1; got {bits!r}.")
        present = [name for name in data.names if len(data[name])]
        if missing := [name for name in data.names if name not in present]:
            raise MissingModality(
                f'no training item has the modality "{missing[0]}". Leave it out, or give items that have it.'
            )
        if len(present) < 2:
            raise MethodError(
                f"{self.card.slug} needs at least two modalities; the data have {', '.join(present) or 'none'}. No "
                "registered method learns from one: encode it with an encoder and search its vectors, or add a second."
            )
        for name in present:
            if data[name].raw:
                raise DataError(
                    f'modality "{name}" holds raw content. Encode it first, or use amodal.Retriever, which does.'
                )
            parts = data[name].store.ndim == 3
            if parts and "parts" not in self.card.takes:
                raise ShapeError(
                    f'modality "{name}" holds parts of shape {data[name].store.shape[1:]}; {self.card.slug} learns '
                    "from one vector per observation. Average them, or use a method that takes parts: amodal list."
                )
            if not parts and "vectors" not in self.card.takes:
                raise ShapeError(
                    f'modality "{name}" holds one vector per observation; {self.card.slug} learns from parts (length, '
                    "d), such as regions and words. Encode with a part encoder, or use a method that takes vectors."
                )
            data[name].check_finite(name, data.ids)
        if self.card.needs_labels:
            self._check_labels(data)
        if self.card.needs_pairs == "yes":
            self._check_pairs(data)

    def _check_pairs(self, data: Dataset) -> None:
        labelled = data.labels is not None and bool((data.labels.known & (data.labels.per_row > 0)).any())
        if not (data.presence().sum(axis=1) > 1).any():
            able = self._others(lambda card: card.needs_pairs != "yes" and (labelled or not card.needs_labels))
            raise MethodError(
                f"{self.card.slug} learns from pairs, and no item has two modalities. Give some items that have both; "
                f"without pairs{' and labels' * (not labelled)}, these could learn: {able}."
            )

    def _others(self, able: Callable[[Card], bool]) -> str:
        """Slugs of registered methods on observations of the same kind whose card fits."""
        from amodal.methods.registry import get, names

        cards = [get(slug).card for slug in names()]
        return ", ".join(c.slug for c in cards if set(c.takes) & set(self.card.takes) and able(c)) or "none"

    def _check_labels(self, data: Dataset) -> None:
        if data.labels is None or not (data.labels.known & (data.labels.per_row > 0)).any():
            paired = bool((data.presence().sum(axis=1) > 1).any())
            able = self._others(lambda card: not card.needs_labels and (paired or card.needs_pairs != "yes"))
            raise MethodError(
                f"{self.card.slug} learns from labels, and no item has any. Give labels for some items; without "
                f"labels{' and pairs' * (not paired)}, these could learn: {able}."
            )
        seen = np.asarray(data.labels.matrix[data.labels.known & data.presence().any(axis=1)].sum(axis=0)).ravel()
        if (seen == 0).any():
            name = data.labels.names[int(np.flatnonzero(seen == 0)[0])]
            raise DataError(
                f'{int((seen == 0).sum())} of {len(seen)} classes have no training example (first: "{name}"). '
                "Remove those columns with Dataset.seen_classes(), or give items of that class."
            )


def as_codes(outputs: NDArray[Any], returns: str) -> Codes:
    """Signs packed to codes, or rows scaled to unit length, as a card says.

    Args:
        outputs: Real-valued outputs, shape (m, b).
        returns: "codes" or "embeddings".
    """
    return BinaryCodes.from_outputs(outputs) if returns == "codes" else Embeddings.from_vectors(outputs)
