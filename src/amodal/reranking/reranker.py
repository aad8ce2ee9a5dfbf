"""A matcher with the encoders of its parts, and the fragments of all indexed items."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from amodal.data import Dataset
from amodal.encoders import Encoder, FeatureCache, choose_encoders, encode_dataset
from amodal.encoders.parts import Regions, Words
from amodal.encoders.saving import open_encoders, save_encoders
from amodal.encoders.tuned import Tuned
from amodal.entries import Match
from amodal.errors import DataError, UsageError
from amodal.methods import get as get_method
from amodal.methods import load as load_method
from amodal.methods import save as save_method
from amodal.progress import Progress
from amodal.reranking.fragments import STORED, FragmentStore, Kept
from amodal.reranking.why import Why

if TYPE_CHECKING:
    from amodal.methods.card import Card
    from amodal.methods.matching import Matcher
    from amodal.methods.matching.tiles import Fragments
    from amodal.training import Training

__all__ = ["Reranker"]

DEFAULTS = {"picture": "efficientnet-lite0@5x5", "text": "minilm@32"}
FACTS, FRAGMENTS = "reranker.json", "fragments.sqlite"
BATCH = 512  #: observations whose fragments are written at once


class Reranker:
    """Puts the first answers of a search in the order of a matcher's scores, and of what recalled them.

        order by  z(score) + recall z(-distance)        z: less the mean, by the deviation, over what can be scored

    Args:
        matcher: Slug of a registered matcher, or a matcher.
        encoders: Part encoders by raw modality, by name or as object; packaged ones by default.
        backbones: Part encoders that learn together with the matcher, by raw modality: ``hf:`` models with a grid or a
            length, or a ``ModuleEncoder`` that gives parts.
        backbone_rate: Their learning rate.
        top: How many items are recalled and scored for a query.
        recall: Weight of the distances in the order; by default 1 where they were learned from pairs alone, and 0 where
            they were learned from labels, and say what is alike and not what belongs together.
        cache: Keep parts of encoded content, so that a second run does not encode again.

    Attributes:
        matcher: Fitted after ``fit``.
        encoders_: The part encoders in use, by modality; none for modalities given as parts.
        store: Fragments of all indexed items.

    Raises:
        UsageError: If the method is no matcher, ``top`` is less than 1, or ``recall`` is negative.
    """

    def __init__(
        self,
        matcher: str | Matcher,
        *,
        encoders: Mapping[str, str | Encoder] | None = None,
        backbones: Mapping[str, str | Encoder] | None = None,
        backbone_rate: float = 1e-5,
        top: int = 50,
        recall: float | None = None,
        cache: bool = True,
    ) -> None:
        chosen = get_method(matcher).create() if isinstance(matcher, str) else matcher
        if chosen.card.returns != "scores":
            raise UsageError(
                f"{chosen.card.slug} gives {chosen.card.returns}; what re-ranks is a matcher, such as causmatch. See: "
                "amodal list methods."
            )
        if top < 1:
            raise UsageError(f"top, the number of items that are scored for a query, is at least 1; got {top!r}.")
        self.matcher: Matcher = chosen  # type: ignore[assignment]
        if recall is not None and not 0 <= recall < np.inf:
            raise UsageError(f"recall, the weight of the distances beside the scores, is 0 or more; got {recall!r}.")
        self.recall = recall
        self.top, self._wanted, self._cache = top, {**(encoders or {}), **(backbones or {})}, cache
        self._learning, self._backbone_rate = tuple(backbones or {}), backbone_rate
        self.encoders_: dict[str, Encoder] = {}
        self.store = FragmentStore(None)

    def fit(
        self,
        items: Dataset,
        learning: Dataset,
        *,
        training: Training | None = None,
        progress: Progress | None = None,
        skip_bad: bool = False,
        problems: list[str] | None = None,
    ) -> None:
        """Learn from the pairs among some items. Nothing is kept of the items yet: see ``write``.

        Args:
            items: All items, which say what encoder a modality needs.
            learning: Those to learn from.
            training: Device, checkpoints and so on.
            progress: Told about encoding.
            skip_bad: Leave out content that has no parts.
            problems: Gets a sentence for each piece that was left out or cut off.

        Raises:
            DataError: If content cannot be encoded.
            UsageError: If a modality holds vectors: a matcher needs content itself, or parts.
            MethodError: If there are no pairs.
        """
        self.store.close()
        self.store = FragmentStore(None)  # what was kept before belongs to another matcher
        defaults = {name: DEFAULTS[kind] for name, kind in _kinds(items).items()}
        self.encoders_ = choose_encoders(items, {**defaults, **self._wanted})
        for name, encoder in self.encoders_.items():
            if not encoder.length:
                raise UsageError(
                    f'modality "{name}": {encoder.name} gives one vector, and a matcher compares parts. Name a part '
                    "encoder, such as efficientnet-lite0@5x5 or minilm@32."
                )
        backbones = {name: self.encoders_.pop(name) for name in self._learning}
        if backbones:
            from amodal.methods.end_to_end import fit_end_to_end

            rest = self.parts(learning, progress, skip_bad=skip_bad, problems=problems)
            self.encoders_ |= fit_end_to_end(
                self.matcher, rest, backbones, rate=self._backbone_rate, training=training, progress=progress
            )
        else:
            self.matcher.fit(self.parts(learning, progress, skip_bad=skip_bad, problems=problems), training=training)

    def parts(
        self,
        items: Dataset,
        progress: Progress | None = None,
        *,
        skip_bad: bool = False,
        problems: list[str] | None = None,
    ) -> Dataset:
        """The items with parts in the place of raw content, as far as there are encoders for it.

        Raises:
            DataError: If content cannot be encoded.
            UsageError: If a modality holds vectors.
        """
        for name, table in items.modalities.items():
            if len(table) and not table.raw and table.store.ndim != 3:
                raise UsageError(
                    f'modality "{name}" holds one vector per observation, and a matcher compares parts. Give the '
                    "pictures and texts themselves, or parts of shape (length, d); or do without rerank."
                )
        raw = {name: name for name in self.encoders_ if name in items.modalities and items[name].raw}
        encoded = encode_dataset(
            items.only(**raw),
            {name: self.encoders_[name] for name in raw},
            cache=FeatureCache() if raw and self._cache else None,
            progress=progress,
            skip_bad=skip_bad,
            problems=problems,
        )
        return replace(items, modalities={**items.modalities, **encoded.modalities})

    def fragments(
        self,
        items: Dataset,
        progress: Progress | None = None,
        *,
        skip_bad: bool = False,
        problems: list[str] | None = None,
    ) -> Iterator[Kept]:
        """What is to be kept of items so that they can be scored; all are encoded before the first is given.

        Args:
            items: The items, with content or with parts.
            progress: Told about encoding.
            skip_bad: Leave out content that has no parts; it is found, and stands behind what could be scored.
            problems: Gets a sentence for each such piece.

        Raises:
            DataError: If content cannot be encoded.
            UsageError: If a modality holds vectors.
        """
        return self._embedded(self.parts(items, progress, skip_bad=skip_bad, problems=problems))

    def _embedded(self, parts: Dataset) -> Iterator[Kept]:
        for modality, table in parts.modalities.items():
            if modality not in self.matcher.widths_:
                continue
            order = np.argsort(table.item, kind="stable")
            numbers = np.arange(len(order)) - np.searchsorted(table.item[order], table.item[order])
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                fragments = self.matcher.embed(table.read(rows), modality, dtype=STORED)
                ids = parts.ids[table.item[rows]].tolist()
                yield Kept(ids, modality, numbers[start : start + BATCH].tolist(), fragments)

    def write(
        self,
        items: Dataset,
        progress: Progress | None = None,
        *,
        skip_bad: bool = False,
        problems: list[str] | None = None,
        replacing: bool = False,
    ) -> None:
        """Keep the fragments of items, so that they can be scored.

        Args:
            items: As for ``fragments``, and so the next three.
            progress: Told about encoding.
            skip_bad: Leave out content that has no parts.
            problems: Gets a sentence for each such piece.
            replacing: Forget first what was kept of these items.
        """
        found = self.fragments(items, progress, skip_bad=skip_bad, problems=problems)
        if replacing:
            self.store.delete(items.ids.tolist())
        for kept in found:
            self.store.put(kept)

    def query(self, content: Any, modality: str) -> dict[str, Fragments]:
        """Fragments of one piece of content, by its modality.

        Args:
            content: A text, a picture, its path, or parts (length, d).
            modality: Its modality.

        Raises:
            DataError: If it cannot be encoded.
        """
        return {modality: self.matcher.embed(self._parts_of(content, modality)[None], modality)}

    def of_item(self, item: str) -> dict[str, Fragments]:
        """Fragments of an indexed item, by modality; of those that it has."""
        found = {name: self.store.get([item], name, self._width)[1] for name in self.matcher.widths_}
        return {name: fragments for name, fragments in found.items() if len(fragments)}

    def order(
        self,
        asking: Mapping[str, Fragments],
        matches: Sequence[Match],
        into: str | None = None,
        *,
        by: Card | None = None,
    ) -> list[Match]:
        """The matches with the best first, each with its score; those that cannot be scored follow as they were.

        The score of an item is that of its best observation in any modality other than the one that asks.

        Args:
            asking: Fragments of the query, by modality.
            matches: What was recalled, nearest first.
            into: Only this modality of the items is scored.
            by: The card of the method that recalled them, from which ``recall`` follows if it was not given; without,
                it is 0.
        """
        items = [match.item for match in matches]
        best = np.full(len(items), -np.inf, np.float32)
        for target in self.matcher.widths_ if into is None else (into,):
            sources = [name for name in asking if name != target]
            if target not in self.matcher.widths_ or not sources:
                continue
            owner, fragments = self.store.get(items, target, self._width)
            for source in sources:
                scores = self.matcher.match(asking[source], fragments, modalities=(source, target))
                np.maximum.at(best, owner, scores.max(axis=0))
        scored = np.flatnonzero(best > -np.inf)
        distances = np.array([matches[k].distance for k in scored.tolist()])
        learned_from_pairs = by is not None and not by.needs_labels
        recall = float(learned_from_pairs) if self.recall is None else self.recall
        value = _standard(best[scored]) + recall * _standard(-distances) if recall and len(scored) else best[scored]
        order = scored[np.argsort(-value, kind="stable")].tolist()
        ranked = [replace(matches[k], score=float(best[k])) for k in order]
        return ranked + [match for match, score in zip(matches, best, strict=True) if score == -np.inf]

    def explain(self, content: Any, modality: str, match: Match) -> Why:
        """Why an item answers a query, as the matcher sees it.

        Args:
            content: The query: a text, a picture or its path.
            modality: Of the query.
            match: What was found, in another modality.

        Raises:
            UsageError: If query and answer are of one modality, or are bare parts.
            DataError: If their content cannot be read any more.
        """
        if match.modality == modality:
            raise UsageError(
                f"query and answer are both {modality}; a matcher explains how two modalities meet. Search with "
                "into=, another modality."
            )
        sides = {modality: content, match.modality: match.content}
        # an encoder that learned names its words and regions as the one it started from
        found = {name: self.encoders_.get(name) for name in sides}
        named = {name: one.base if isinstance(one, Tuned) else one for name, one in found.items()}
        pictures = {name: one for name, one in named.items() if isinstance(one, Regions)}
        texts = {name: one for name, one in named.items() if isinstance(one, Words)}
        if len(pictures) != 1 or len(texts) != 1 or match.content is None:
            raise UsageError(
                "only how a text and a picture meet can be shown, and only where the model was given the texts and "
                "pictures themselves."
            )
        ((picture, regions),), ((text, words),) = pictures.items(), texts.items()
        parts = (self._parts_of(sides[name], name) for name in (picture, text))
        return Why.of(
            self.matcher.explain(*parts, modalities=(picture, text)),
            tuple(words.words(sides[text])),
            regions.boxes(sides[picture]),
            item=match.item,
            regions=picture,
            words=text,
            picture=sides[picture],
            text=str(sides[text]),
        )

    def save(self, folder: Path) -> None:
        """Write matcher, encoders and fragments to a new folder."""
        folder.mkdir(parents=True)
        save_method(self.matcher, folder / "matcher")
        facts = {"top": self.top, "recall": self.recall, "encoders": save_encoders(self.encoders_, folder / "encoders")}
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        self.store.copy_to(folder / FRAGMENTS)

    @classmethod
    def load(cls, folder: Path, *, readonly: bool = False, encoders: Mapping[str, Encoder] | None = None) -> Self:
        """Open what ``save`` wrote.

        Args:
            folder: Where it was saved.
            readonly: Whether fragments may only be read.
            encoders: Part encoders of one's own, by modality.

        Raises:
            DataError: If something is missing or damaged.
        """
        matcher = load_method(folder / "matcher")
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            found = cls(matcher, top=facts["top"], recall=facts.get("recall"))  # type: ignore[arg-type]
            saved = facts["encoders"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: {FACTS} cannot be read ({error}). Restore it, or fit again.") from error
        found.encoders_ = open_encoders(saved, folder / "encoders", encoders)
        if not (folder / FRAGMENTS).is_file():
            raise DataError(f"{folder} is damaged: {FRAGMENTS} is missing. Restore it, or fit again.")
        found.store = FragmentStore(folder / FRAGMENTS, readonly=readonly)
        return found

    def writing(self) -> Self:
        """The same with a connection of its own that can write, while this one reads; a store in memory is shared.

        Raises:
            DataError: If the fragments cannot be opened.
        """
        other = copy(self)
        if self.store.path is not None:
            other.store = FragmentStore(self.store.path)
        return other

    def close(self) -> None:
        """Release the fragments."""
        self.store.close()

    @property
    def _width(self) -> int:
        return self.matcher.width * len(self.matcher.network_)

    def _parts_of(self, content: Any, modality: str) -> Any:
        """Parts of one piece of content, shape (length, d)."""
        if isinstance(content, np.ndarray):
            return content
        if modality not in self.encoders_:
            raise UsageError(f'modality "{modality}" was learned from bare parts; give parts (length, d).')
        return self.encoders_[modality].encode([content])[0]


def _kinds(items: Dataset) -> dict[str, str]:
    """Whether a raw modality holds pictures or texts."""
    from amodal.encoders import guess_kind

    return {name: guess_kind(t.read(slice(100)).tolist()) for name, t in items.modalities.items() if t.raw and len(t)}


def _standard(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Less their mean, by their deviation; zeros where all are alike but for rounding."""
    apart = values.astype(np.float64) - values.mean(dtype=np.float64)
    spread = apart.std()
    return apart / spread if spread > 1e-9 * np.abs(values).max() else np.zeros(len(values))
