"""The one object most people need: encoders, a method and an index, from data with gaps to search in any direction."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from amodal import home
from amodal import index as indexes
from amodal.codes import Codes
from amodal.data import Dataset
from amodal.encoders import Encoder, FeatureCache, choose_encoders, cut_from, encode_dataset
from amodal.encoders.saving import open_encoders
from amodal.entries import (
    Match,
    check_new,
    codes_of,
    columns_of,
    entries_of,
    first_of,
    nearest_items,
    of_items,
    spec_for,
    write,
)
from amodal.errors import DataError, MethodError, ShapeError, UsageError
from amodal.index import Field, Index, Where
from amodal.index.where import parse
from amodal.methods import Method
from amodal.methods import get as get_method
from amodal.methods import load as load_method
from amodal.methods import names as method_names
from amodal.methods.imputation import Imputation
from amodal.progress import Progress

if TYPE_CHECKING:
    from amodal.reranking import Reranker, Why
    from amodal.training import Training

__all__ = ["Match", "Retriever"]


class Retriever:
    """Search across modalities that learns from items with gaps.

    Args:
        method: Slug of a registered method, or a method object.
        bits: Code length; the method's own, usually 64, by default.
        encoders: Encoder of each raw modality, by name or as object; packaged ones by default.
        backbones: Encoders that learn together with the method, by raw modality; names of ``hf:`` models and packaged
            ones, or a ``ModuleEncoder``. For deep methods that learn as one network.
        backbone_rate: Their learning rate.
        rerank: A matcher that puts the first answers in order: its slug, or a ``Reranker`` with encoders and options
            of its own. It learns from the pairs among the items.
        cache: Keep features of encoded content, so that a second run does not encode again.
        params: Further arguments of the method.

    Attributes:
        method: The method, fitted after ``fit``.
        encoders_: The encoders in use, by modality; none for modalities given as features.
        index_: The index; None before ``fit``.
        reranker: What re-ranks; None without.
        left_out: A sentence for each piece of content that could not be encoded and was skipped.

    Example:
        >>> from amodal.data import toy
        >>> shop = Retriever("dch", bits=16).fit(toy(60))
        >>> len(shop.search(id=toy(60).ids[0], k=3))
        3
    """

    def __init__(
        self,
        method: str | Method = "cich",
        *,
        bits: int | None = None,
        encoders: Mapping[str, str | Encoder] | None = None,
        backbones: Mapping[str, str | Encoder] | None = None,
        backbone_rate: float = 1e-5,
        rerank: str | Reranker | None = None,
        cache: bool = True,
        **params: Any,
    ) -> None:
        if bits is not None:
            params["bits"] = bits
        if isinstance(method, str):
            method = get_method(method).create(**params)
        elif params:
            raise UsageError(f"{', '.join(params)}: arguments belong to a method given by name; yours is an object.")
        self.method = method
        self._wanted, self._cache = {**(encoders or {}), **(backbones or {})}, cache
        self._learning, self._backbone_rate = tuple(backbones or {}), backbone_rate
        self.reranker = _reranker(rerank, cache=cache) if isinstance(rerank, str) else rerank
        self._home: Path | None = None
        self.encoders_: dict[str, Encoder] = {}
        self.index_: Index | None = None
        self.left_out: list[str] = []

    def fit(
        self,
        items: Dataset,
        *,
        validation: Dataset | None = None,
        training: Training | None = None,
        progress: Progress | None = None,
        skip_bad: bool = False,
    ) -> Self:
        """Encode raw content, learn, and index every item.

        Items of the split "train" are learned from if there is such a split, else all; all are indexed.

        Args:
            items: The data.
            validation: Items that may choose a stopping point.
            training: Device, checkpoints and so on.
            progress: Told about encoding and, if ``training`` does not say otherwise, learning.
            skip_bad: Leave out content that cannot be encoded and list it in ``left_out``, instead of stopping.

        Returns:
            Itself.

        Raises:
            DataError: If content cannot be encoded, or the method refuses the data.
            MethodError: If the data lack what the method needs.
        """
        from amodal.training import Training

        self.left_out = []
        training = training or Training()
        if training.progress is None:
            training = replace(training, progress=progress)
        encoders = choose_encoders(items, self._wanted)
        backbones = {name: encoders.pop(name) for name in self._learning}
        items_seen = self._encoded(items, encoders, progress, skip_bad=skip_bad, but=self._learning)
        held = validation and self._encoded(validation, encoders, progress, skip_bad=skip_bad, but=self._learning)
        self.close()
        self.index_ = self._home = None  # what was indexed before belongs to another model
        if backbones:
            from amodal.methods.end_to_end import fit_end_to_end

            tuned = fit_end_to_end(
                self.method,
                _to_learn(items_seen),
                backbones,
                rate=self._backbone_rate,
                validation=held,
                training=training,
                progress=progress,
            )
            features = self._encoded(items_seen, tuned, progress, skip_bad=skip_bad)
        else:
            tuned, features = {}, items_seen
            self.method.fit(_to_learn(features), validation=held, training=training)
        self.encoders_ = {**encoders, **tuned}
        if self.reranker is not None:
            self.reranker.fit(items, _to_learn(items), training=training.stage("rerank"), progress=progress,
                              skip_bad=skip_bad, problems=self.left_out)  # fmt: skip
        first = next(name for name in features.names if len(features[name]))
        codes = self.method.encode(features[first].read([0]), first)
        self.index_ = indexes.open("memory:", create=spec_for(items, codes, self.method.fingerprint()))
        self._write(items, features, progress, replacing=False, skip_bad=skip_bad)
        return self

    def add(
        self, items: Dataset, *, progress: Progress | None = None, skip_bad: bool = False, flush: bool = True
    ) -> int:
        """Index further items, or further modalities of known ones. Returns the number of entries written.

        All items are checked before the first is written.

        Args:
            items: The items.
            progress: Told about encoding.
            skip_bad: Leave out content that cannot be encoded.
            flush: Let the index fold the writes in at once. Who writes often and little leaves that to the index.

        Raises:
            DataError: If an item's modality is there already (use ``upsert``), or content, features or columns do not
                fit.
            MissingModality: If the model never learned a modality of the items.
        """
        features = self.features(items, progress, skip_bad=skip_bad)
        return self._write(items, features, progress, replacing=False, flush=flush, skip_bad=skip_bad)

    def upsert(
        self, items: Dataset, *, progress: Progress | None = None, skip_bad: bool = False, flush: bool = True
    ) -> int:
        """Index items, replacing those that are there as a whole. Returns the number of entries written.

        An item that has fewer modalities than before loses the others. Arguments as for ``add``.

        Raises:
            DataError: If content, features or columns do not fit.
            MissingModality: If the model never learned a modality of the items.
        """
        features = self.features(items, progress, skip_bad=skip_bad)
        return self._write(items, features, progress, replacing=True, flush=flush, skip_bad=skip_bad)

    def delete(self, ids: Sequence[str], *, flush: bool = True) -> int:
        """Take items out of the index; ids that are not there are passed over. Returns how many items were removed."""
        index = self._index()
        entries = of_items(index, [str(one) for one in ids])
        if self.reranker is not None:
            self.reranker.store.delete([str(one) for one in ids])
        items = {entry.attributes["item"] for entry in index.get(entries) if entry is not None}
        index.delete(entries)
        if flush:
            index.flush()
        return len(items)

    def search(
        self,
        *,
        k: int = 10,
        into: str | None = None,
        id: str | None = None,
        vector: Codes | None = None,
        where: Where | str | Mapping[str, Any] | None = None,
        radius: float | None = None,
        after: tuple[float, int] | None = None,
        rerank: bool | None = None,
        problems: list[str] | None = None,
        **query: Any,
    ) -> list[Match]:
        """The nearest items to one query; with a reranker the first of them in its order.

        Name exactly one thing to search by: a modality with its content (``text="red shoes"``, ``image="shoe.jpg"``, or
        a feature vector), the ``id`` of an indexed item, or a ``vector`` of codes.

        Args:
            k: How many items, at least 1.
            into: Search this modality only; all of them by default, where an item is as near as its nearest part.
            id: An indexed item, which is itself left out of the answer.
            vector: A code or an embedding of this model; of several the nearest counts.
            where: Only entries for which this holds, for instance ``"year >= 1990"``.
            radius: Only entries at most this far: bits, or 1 - cosine.
            after: Go on behind this place, the ``place`` of the last match of an earlier answer to the same query. What
                was added meanwhile neither repeats nor pushes out what was there.
            rerank: Whether the matcher puts the first in order; by default where there is one that can: not for a
                ``vector``, which has no parts, and not behind a place.
            problems: Takes in sentences that would else be warnings.
            query: The modality and its content.

        Returns:
            At most k items, nearest first; of equally near ones always in the same order. Re-ranked: those that could
            be scored, best first, then the others.

        Warns:
            UserWarning: If a text has more words than a part encoder keeps.

        Raises:
            UsageError: If not exactly one query is given, the filter is wrong, or there is nothing to re-rank with.
            MissingModality: If the model never learned the query's or the target's modality.
            DataError: If the id is not indexed, or the content cannot be encoded.
        """
        given = [name for name, value in {"id": id, "vector": vector, **query}.items() if value is not None]
        if len(given) != 1:
            raise UsageError(f"search by exactly one of id, vector or a modality; got {', '.join(given) or 'nothing'}.")
        if not isinstance(k, int | np.integer) or k < 1:
            raise UsageError(f"k, the number of items to find, is at least 1; got {k!r}.")
        if into is not None:
            self.method.require_learned(into)
        if id is not None:
            codes = codes_of(self._index(), str(id))
        else:
            _tell(self.cut_off(query, rerank=rerank is not False), problems)
            codes = vector if vector is not None else self.encode(query[given[0]], given[0])
        condition = parse(where) if where is not None else None
        if into is not None:
            condition = (Field("modality") == into) if condition is None else condition & (Field("modality") == into)
        can = self.reranker is not None and vector is None and after is None
        if rerank and not can:
            raise UsageError(
                "nothing can be re-ranked: it takes a retriever made with rerank=, and a query that has parts: not a "
                "vector, and not behind a place."
            )
        if self.reranker is None or not can or rerank is False:
            return nearest_items(self._index(), codes, k, where=condition, radius=radius, without=id, after=after)
        most = max(k, self.reranker.top)
        found = nearest_items(self._index(), codes, most, where=condition, radius=radius, without=id)
        asking = self.reranker.of_item(str(id)) if id is not None else self.reranker.query(query[given[0]], given[0])
        return self.reranker.order(asking, found, into, by=self.method.card)[:k]

    def explain(self, item: str, *, into: str | None = None, problems: list[str] | None = None, **query: Any) -> Why:
        """Why an item answers a query: which words look at which regions, and what that is worth.

        Args:
            item: Id of an indexed item.
            into: The modality of the item to explain; its first one that is not the query's, by default.
            problems: Takes in sentences that would else be warnings.
            query: The modality of the query and its content: ``text="a dog"``.

        Raises:
            UsageError: If there is no matcher, not exactly one query, or no text and picture to show.
            DataError: If the item is not indexed, lacks the modality, or content cannot be encoded.
        """
        if self.reranker is None:
            raise UsageError("only a matcher can explain. Make the retriever with rerank=, for instance scan.")
        if len(query) != 1:
            raise UsageError(f"explain one query, a modality with its content; got {', '.join(query) or 'nothing'}.")
        ((modality, content),) = query.items()
        for name in [modality] if into is None else [modality, into]:
            self.method.require_learned(name)
        _tell(self.cut_off(query), problems)
        targets = [into] if into is not None else [name for name in self.method.widths_ if name != modality]
        for target in targets:
            if (match := first_of(self._index(), item, target)) is not None:
                return self.reranker.explain(content, modality, match)
        raise DataError(f'item "{item}" is not indexed with {" or ".join(targets)}, so nothing can be explained.')

    def encode(self, content: Any, modality: str) -> Codes:
        """The code of one piece of content: text, picture, path, or a feature vector (d,).

        Raises:
            MissingModality: If the model never learned the modality.
            UsageError: If the modality was learned from bare features, and this is none.
            DataError: If the content cannot be encoded.
        """
        self.method.require_learned(modality)
        if not isinstance(content, np.ndarray):
            if modality not in self.encoders_:
                raise UsageError(f'modality "{modality}" was learned from bare features; give a feature vector (d,).')
            content = self.encoders_[modality].encode([content])
        parts = modality in self.method.parts_
        return self.method.encode(content[None] if content.ndim == 1 + parts else content, modality)

    def cut_off(self, query: Mapping[str, Any], *, rerank: bool = True) -> list[str]:
        """A sentence for each encoder in use that keeps less of a query, ``{"text": "..."}``, than there is."""
        used = [self.encoders_, self.reranker.encoders_ if rerank and self.reranker is not None else {}]
        read = {name: [encoders[name] for encoders in used if name in encoders] for name in query}
        return [sentence for name, some in read.items() for sentence in cut_from(query[name], name, some)]

    def features(self, items: Dataset, progress: Progress | None = None, *, skip_bad: bool = False) -> Dataset:
        """The items with features in the place of raw content, as the method takes them.

        Raises:
            MissingModality: If the model never learned a modality of the items.
            UsageError: If a modality is raw here and was learned from bare features.
            DataError: If content cannot be encoded and ``skip_bad`` is not set.
        """
        for name, table in items.modalities.items():
            if len(table):
                self.method.require_learned(name)
        return self._encoded(items, self.encoders_, progress, skip_bad=skip_bad)

    def impute(self, items: Dataset, modality: str, *, progress: Progress | None = None) -> Imputation:
        """Imagine a modality for the items that lack it, where the method can.

        Raises:
            MethodError: If the method cannot impute; names those that can.
            MissingModality: If the model never learned the modality.
        """
        if not self.method.card.imputes:
            able = ", ".join(slug for slug in method_names() if get_method(slug).card.imputes)
            raise MethodError(f"{self.method.card.slug} cannot imagine a missing modality. Methods that can: {able}.")
        return self.method.impute(self.features(items, progress), modality)

    def __len__(self) -> int:
        return 0 if self.index_ is None else self.index_.count()

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write encoders' names, model and index as one folder, which appears complete or not at all.

        A retriever that was loaded from this very folder is in it already, whatever was added since.

        Args:
            folder: Where to.
            force: Replace a retriever that is there already.

        Raises:
            UsageError: If the folder exists and ``force`` is not set, or is no retriever.
            DataError: If it cannot be written.
        """
        target = Path(folder)
        if self._home is not None and target.resolve() == self._home:
            return target
        self._index()
        return home.save(target, self, force=force)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        readonly: bool = False,
        encoders: Mapping[str, Encoder] | None = None,
        part_encoders: Mapping[str, Encoder] | None = None,
    ) -> Self:
        """Open what ``save`` wrote. Whatever is added or deleted from then on is durable at once.

        Args:
            folder: Where it was saved.
            readonly: Whether the index may only be searched.
            encoders: Encoders of one's own, by modality, which cannot be opened by name.
            part_encoders: The same for those of the matcher that re-ranks.

        Raises:
            DataError: If the folder is no retriever, or is damaged.
            UsageError: If an encoder was an object of one's own and is not handed in.
            IndexMismatch: If model, encoders and index do not belong together.
        """
        place = Path(folder)
        facts = home.facts_of(place)
        found = cls(load_method(place / "method"))
        found.encoders_ = open_encoders(facts["encoders"], place / home.ENCODERS, encoders)
        if not (place / "index" / "catalogue.sqlite").is_file():
            raise DataError(f"{place} is damaged: its index is missing. Restore it, or fit again.")
        fingerprint = found.method.fingerprint()
        found.index_ = indexes.open(str(place / "index"), readonly=readonly, fingerprint=fingerprint)
        if facts.get("rerank"):
            from amodal.reranking import Reranker

            found.reranker = Reranker.load(place / home.RERANKER, readonly=readonly, encoders=part_encoders)
        found._home = place.resolve()
        return found

    def close(self) -> None:
        """Release the index. ``with Retriever.load(folder) as shop: ...`` does so at the end."""
        if self.index_ is not None:
            self.index_.close()
        if self.reranker is not None:
            self.reranker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _index(self) -> Index:
        if self.index_ is None:
            raise MethodError("nothing is indexed yet. Call fit, or load a saved retriever.")
        return self.index_

    def _encoded(
        self,
        items: Dataset,
        encoders: Mapping[str, Encoder],
        progress: Progress | None,
        *,
        skip_bad: bool,
        but: Sequence[str] = (),
    ) -> Dataset:
        """The items with features; a raw modality without any observation, or one of ``but``, stays as it is."""
        raw = {name: name for name, table in items.modalities.items() if table.raw and len(table) and name not in but}
        for name in raw:
            if name not in encoders:
                raise UsageError(
                    f'modality "{name}" was learned from bare features, but here it holds raw content. Encode it in '
                    "the way that made those features."
                )
        encoded = encode_dataset(
            items.only(**raw),
            {name: encoders[name] for name in raw},
            cache=FeatureCache() if raw and self._cache else None,
            progress=progress,
            skip_bad=skip_bad,
            problems=self.left_out,
        )
        return replace(items, modalities={**items.modalities, **encoded.modalities})

    def _write(
        self,
        items: Dataset,
        features: Dataset,
        progress: Progress | None,
        *,
        replacing: bool,
        flush: bool = True,
        skip_bad: bool = False,
    ) -> int:
        """Index items of which ``features`` are the features; nothing is written unless all can be."""
        index = self._index()
        columns = columns_of(items, index.spec.attributes)
        self._check_features(features)
        if not replacing:
            check_new(index, features)
        if self.reranker is not None:  # first, so that whatever is found can be scored
            self.reranker.write(items, progress, skip_bad=skip_bad, problems=self.left_out, replacing=replacing)
        written = write(index, items.ids, entries_of(items, features, self.method, columns), replacing=replacing)
        if flush:
            index.flush()
        return written

    def _check_features(self, features: Dataset) -> None:
        for name, table in features.modalities.items():
            if len(table):
                self.method.require_learned(name)
                if table.dim != self.method.widths_[name]:
                    raise ShapeError(
                        f'modality "{name}" was learned with features of width {self.method.widths_[name]}; these '
                        f"items have width {table.dim}."
                    )
                table.check_finite(name, features.ids)


def _to_learn(items: Dataset) -> Dataset:
    """Items of the split "train" if there is one, with any modality, and the classes they have."""
    chosen = items.part("train") if items.split is not None and "train" in items.split else items
    return chosen.take(np.flatnonzero(chosen.presence().any(axis=1))).seen_classes()


def _tell(sentences: list[str], problems: list[str] | None) -> None:
    """To the caller of the caller: as warnings, or added to ``problems``."""
    for sentence in sentences:
        if problems is None:
            warnings.warn(sentence, stacklevel=3)
        else:
            problems.append(sentence)


def _reranker(slug: str, *, cache: bool) -> Reranker:
    from amodal.reranking import Reranker

    return Reranker(slug, cache=cache)
