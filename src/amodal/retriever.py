"""The one object most people need: encoders, a method and an index, from data with gaps to search in any direction."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from amodal import index as indexes
from amodal.codes import BinaryCodes, Codes, Embeddings
from amodal.data import Dataset
from amodal.encoders import Encoder, FeatureCache, choose_encoders, encode_dataset, get
from amodal.entries import Match, entries_of, nearest_items, spec_for
from amodal.errors import DataError, IndexMismatch, MethodError, MissingModality, UsageError, nearest
from amodal.index import Field, Index, Where
from amodal.index.copying import copy
from amodal.index.where import parse
from amodal.methods import Method
from amodal.methods import get as get_method
from amodal.methods import load as load_method
from amodal.methods import save as save_method
from amodal.methods.imputation import Imputation
from amodal.progress import Progress

if TYPE_CHECKING:
    from amodal.training import Training

__all__ = ["Match", "Retriever"]

FORMAT = 1


class Retriever:
    """Search across modalities that learns from items with gaps.

    Args:
        method: Slug of a registered method, or a method object.
        bits: Code length, for methods that have one.
        encoders: Encoder of each raw modality, by name or as object; packaged ones by default.
        cache: Keep features of encoded content, so that a second run does not encode again.
        params: Further arguments of the method.

    Attributes:
        method: The method, fitted after ``fit``.
        encoders_: The encoders in use, by modality; none for modalities given as features.
        index_: The index; None before ``fit``.
        left_out: A sentence for each piece of content that could not be encoded and was skipped.

    Example:
        >>> from amodal.data import toy
        >>> shop = Retriever("cich", bits=16, epochs=2).fit(toy(60))
        >>> len(shop.search(id=toy(60).ids[0], k=3))
        3
    """

    def __init__(
        self,
        method: str | Method = "cich",
        *,
        bits: int = 64,
        encoders: Mapping[str, str | Encoder] | None = None,
        cache: bool = True,
        **params: Any,
    ) -> None:
        if isinstance(method, str):
            chosen = get_method(method)
            if chosen.accepts("bits"):
                params["bits"] = bits
            method = chosen.create(**params)
        elif params:
            raise UsageError(f"arguments {', '.join(params)} belong to a method given by name; yours is an object.")
        self.method = method
        self._wanted, self._cache = encoders, cache
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

        self.encoders_ = choose_encoders(items, self._wanted)
        features = self.features(items, progress, skip_bad=skip_bad)
        split = features.split
        learned = features.part("train") if split is not None and "train" in split else features
        training = training or Training()
        if training.progress is None:
            training = replace(training, progress=progress)
        held = None if validation is None else self.features(validation, progress, skip_bad=skip_bad)
        self.method.fit(learned.seen_classes(), validation=held, training=training)
        first = next(name for name in features.names if len(features[name]))
        codes = self.method.encode(features[first].read([0]), first)
        self.index_ = indexes.open("memory:", create=spec_for(items, codes, self.method.fingerprint()))
        self._write(items, features, replacing=False)
        return self

    def add(self, items: Dataset, *, progress: Progress | None = None, skip_bad: bool = False) -> int:
        """Index further items, or further modalities of known ones. Returns the number of entries written.

        Raises:
            DataError: If an observation is there already; use ``upsert``.
            MissingModality: If the model never learned a modality of the items.
        """
        return self._write(items, self.features(items, progress, skip_bad=skip_bad), replacing=False)

    def upsert(self, items: Dataset, *, progress: Progress | None = None, skip_bad: bool = False) -> int:
        """Index items, replacing those that are there as a whole. Returns the number of entries written."""
        return self._write(items, self.features(items, progress, skip_bad=skip_bad), replacing=True)

    def delete(self, ids: Sequence[str]) -> int:
        """Take items out of the index; ids that are not there are passed over. Returns how many items were removed."""
        index, removed = self._index(), 0
        for one in dict.fromkeys(map(str, ids)):
            entries = index.ids(where=Field("item") == one)
            removed += bool(len(entries) and index.delete(entries))
        index.flush()
        return removed

    def search(
        self,
        *,
        k: int = 10,
        into: str | None = None,
        id: str | None = None,
        vector: Codes | None = None,
        where: Where | str | Mapping[str, Any] | None = None,
        radius: float | None = None,
        **query: Any,
    ) -> list[Match]:
        """The nearest items to one query.

        Name exactly one thing to search by: a modality with its content (``text="red shoes"``, ``image="shoe.jpg"``, or
        a feature vector), the ``id`` of an indexed item, or a ``vector`` of codes.

        Args:
            k: How many items.
            into: Search this modality only; all of them by default, where an item is as near as its nearest part.
            id: An indexed item, which is itself left out of the answer.
            vector: Codes or embeddings of this model.
            where: Only entries for which this holds, for instance ``"year >= 1990"``.
            radius: Only entries at most this far.
            query: The modality and its content.

        Returns:
            At most k items, nearest first.

        Raises:
            UsageError: If not exactly one query is given, or the filter is wrong.
            MissingModality: If the model never learned the query's or the target's modality.
            DataError: If the id is not indexed, or the content cannot be encoded.
        """
        given = [name for name, value in {"id": id, "vector": vector, **query}.items() if value is not None]
        if len(given) != 1:
            raise UsageError(f"search by exactly one of id, vector or a modality; got {', '.join(given) or 'nothing'}.")
        if into is not None:
            self._check_modality(into)
        if id is not None:
            codes = self._stored(str(id))
        else:
            codes = vector if vector is not None else self.encode(query[given[0]], given[0])
        condition = parse(where) if where is not None else None
        if into is not None:
            condition = (Field("modality") == into) if condition is None else condition & (Field("modality") == into)
        return nearest_items(self._index(), codes, k, where=condition, radius=radius, without=id)

    def encode(self, content: Any, modality: str) -> Codes:
        """The code of one piece of content: text, picture, path, or a feature vector (d,).

        Raises:
            MissingModality: If the model never learned the modality.
            UsageError: If the modality was learned from bare features, and this is none.
            DataError: If the content cannot be encoded.
        """
        self._check_modality(modality)
        if not isinstance(content, np.ndarray):
            if modality not in self.encoders_:
                raise UsageError(f'modality "{modality}" was learned from bare features; give a feature vector (d,).')
            content = self.encoders_[modality].encode([content])
        return self.method.encode(np.atleast_2d(content), modality)

    def features(self, items: Dataset, progress: Progress | None = None, *, skip_bad: bool = False) -> Dataset:
        """The items with features in the place of raw content, as the method takes them.

        Raises:
            MissingModality: If the model never learned a raw modality of the items.
            DataError: If content cannot be encoded and ``skip_bad`` is not set.
        """
        raw = [name for name, table in items.modalities.items() if table.raw]
        if not raw:
            return items
        for name in raw:
            if self.encoders_ and name not in self.encoders_:
                self._check_modality(name)
        chosen = {name: self.encoders_[name] for name in raw if name in self.encoders_}
        cache = FeatureCache() if self._cache else None
        return encode_dataset(items, chosen, cache=cache, progress=progress, skip_bad=skip_bad, problems=self.left_out)

    def impute(self, items: Dataset, modality: str, *, progress: Progress | None = None) -> Imputation:
        """Imagine a modality for the items that lack it, where the method can.

        Raises:
            MethodError: If the method cannot impute; names those that can.
        """
        return self.method.impute(self.features(items, progress, skip_bad=False), modality)

    def __len__(self) -> int:
        return 0 if self.index_ is None else self.index_.count()

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write encoders' names, model and index as one folder, which appears complete or not at all.

        Raises:
            UsageError: If the folder exists and ``force`` is not set.
        """
        source, target = self._index(), Path(folder)
        if target.exists() and not force:
            raise UsageError(f"{target} exists already. Choose another place, or pass force=True (--force).")
        draft = target.with_name(f".{target.name}.part")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        save_method(self.method, draft / "method")
        encoders = {
            m: {"name": e.name, "kind": e.kind, "fingerprint": e.fingerprint} for m, e in self.encoders_.items()
        }
        (draft / "retriever.json").write_text(json.dumps({"format": FORMAT, "encoders": encoders}, indent=2) + "\n")
        with indexes.open(str(draft / "index"), create=source.spec) as target_index:
            copy(source, target_index)
        if target.exists():
            shutil.rmtree(target)
        draft.rename(target)
        return target

    @classmethod
    def load(cls, folder: str | Path, *, readonly: bool = False) -> Self:
        """Open what ``save`` wrote. Whatever is added or deleted from then on is durable at once.

        Raises:
            DataError: If the folder is no retriever, or is damaged.
            IndexMismatch: If model, encoders and index do not belong together.
        """
        place = Path(folder)
        try:
            facts = json.loads((place / "retriever.json").read_text())
        except (OSError, ValueError) as error:
            raise DataError(f"{place} is no saved retriever: retriever.json cannot be read ({error}).") from error
        if facts.get("format") != FORMAT:
            raise DataError(f"{place} has format {facts.get('format')}; this version reads format {FORMAT}.")
        found = cls(load_method(place / "method"))
        for modality, wanted in facts["encoders"].items():
            encoder = get(wanted["name"], kind=wanted["kind"])
            if encoder.fingerprint != wanted["fingerprint"]:
                raise IndexMismatch(
                    f'{place}: modality "{modality}" was encoded by {wanted["name"]} {wanted["fingerprint"]}, but here '
                    f"that encoder is {encoder.fingerprint}. Install the versions it was made with, or fit again."
                )
            found.encoders_[modality] = encoder
        fingerprint = found.method.fingerprint()
        found.index_ = indexes.open(str(place / "index"), readonly=readonly, fingerprint=fingerprint)
        return found

    def close(self) -> None:
        """Release the index."""
        if self.index_ is not None:
            self.index_.close()

    def _index(self) -> Index:
        if self.index_ is None:
            raise MethodError("nothing is indexed yet. Call fit, or load a saved retriever.")
        return self.index_

    def _check_modality(self, name: str) -> None:
        self.method.require_fitted()
        if name not in self.method.widths_:
            raise MissingModality(nearest(name, self.method.widths_, what="modality") + " The model never learned it.")

    def _write(self, items: Dataset, features: Dataset, *, replacing: bool) -> int:
        index, written = self._index(), 0
        for name, table in features.modalities.items():
            if len(table):
                self._check_modality(name)
        stale = (
            {int(entry) for one in items.ids.tolist() for entry in index.ids(where=Field("item") == one)}
            if replacing
            else set()
        )
        for entries in entries_of(items, features, self.method, index.spec.attributes):
            (index.upsert if replacing else index.add)(entries.keys, entries.codes, entries.attributes)
            written += len(entries.keys)
            stale.difference_update(indexes.id_of(key) for key in entries.keys)
        # entries that an item no longer has go last, so that a process killed in between has lost nothing
        if stale:
            index.delete(sorted(stale))
        index.flush()
        return written

    def _stored(self, item: str) -> Codes:
        index = self._index()
        entries = index.get(index.ids(where=Field("item") == item))
        vectors = [entry.vector for entry in entries if entry is not None]
        if not vectors:
            raise DataError(f'no item "{item}" is indexed.')
        stacked = np.stack(vectors)
        return BinaryCodes(stacked, index.spec.bits) if index.spec.bits else Embeddings(stacked)
