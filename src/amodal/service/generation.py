"""A model with its index, open: what answers until another takes its place."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from amodal import index as indexes
from amodal.codes import Codes
from amodal.errors import DataError, UsageError
from amodal.index import Index
from amodal.index.flat import FlatIndex
from amodal.reranking import Why
from amodal.retriever import Match, Retriever
from amodal.service.keys import now
from amodal.service.uploads import Uploads

__all__ = ["Generation", "place_of"]

HIDDEN = (
    "content",
    "number",
)  #: attributes that no filter may name: one compared to content could spell out file names

SAMPLES: Mapping[str, Any] = {"text": "a", "picture": Image.linear_gradient("L").convert("RGB")}


class Generation:
    """A retriever to search in and, unless it is read only, one to write with, over one model.

    They have an index handle each where the index is a folder, so that searches do not wait for writes.

    Args:
        model: Folder of a saved retriever; a symbolic link is followed now and not again.
        index: URL of its index; the one in the folder by default.
        readonly: Whether the index may only be searched.

    Attributes:
        folder: Where the model lies.
        id: Of the model; cursors hold within one.
        loaded: When it was opened.
        place: What tells its files from others that take their names.
        reader: To search in.
        writer: To write with; None if read only.
        uploads: Pictures that came over the network.

    Raises:
        DataError: If the model or the index is damaged or missing.
        IndexMismatch: If they do not belong together.
        UsageError: If somebody else writes to the index.
    """

    def __init__(self, model: Path, index: str | None, *, readonly: bool) -> None:
        self.folder = model.resolve()
        self.loaded = now()
        self.uploads = Uploads(self.folder / "uploads")
        self._encoding = threading.Lock()
        self.place = place_of(model, index)
        self.reader = Retriever.load(self.folder, readonly=True)
        self.id = self.reader.method.fingerprint()
        if index is not None:
            self.reader.close()
            self.reader.index_ = indexes.open(index, readonly=readonly or _is_folder(index), fingerprint=self.id)
        self.writer = None if readonly else self._open_writer(index)

    def _open_writer(self, index: str | None) -> Retriever:
        writer = Retriever(self.reader.method, cache=False)
        writer.encoders_ = self.reader.encoders_
        if self.reader.reranker is not None:
            writer.reranker = self.reader.reranker.writing()
        if isinstance(self.index, FlatIndex):
            try:
                writer.index_ = indexes.open(index or str(self.folder / "index"), fingerprint=self.id)
            except BaseException:
                self.reader.close()
                raise
        else:
            writer.index_ = self.index
        return writer

    @property
    def index(self) -> Index:
        """The index that is searched."""
        assert self.reader.index_ is not None  # noqa: S101 - opened by the constructor
        return self.reader.index_

    def warm(self) -> None:
        """Encode and search once, so that the first request is no slower than the next.

        Networks and word lists are loaded, and the scan is compiled, when they are first used.
        """
        for modality in self.widths():
            if (kind := self.kind(modality)) in SAMPLES:
                self.reader.encode(SAMPLES[kind], modality)
        for encoder in () if self.reader.reranker is None else self.reader.reranker.encoders_.values():
            encoder.encode([SAMPLES[encoder.kind]])
        first = self.index.ids()[:1]
        entry = self.index.get(first)[0] if len(first) else None
        if entry is not None:
            self.index.search(entry.vector[None], 1)

    def close(self) -> None:
        """Release the index, folded, so that the next opening is fast."""
        if self.writer is not None and self.writer.index_ is not None:
            with suppress(DataError):  # what was written is safe
                self.writer.index_.flush()
            self.writer.close()
        self.reader.close()

    def kind(self, modality: str) -> str:
        """What a modality takes: picture, text or features."""
        encoder = self.reader.encoders_.get(modality)
        return "features" if encoder is None else encoder.kind

    def widths(self) -> Mapping[str, int]:
        """The modalities that the model learned, and the width of their features."""
        return self.reader.method.widths_

    def sole(self, kind: str) -> str:
        """The only modality that takes something.

        Raises:
            UsageError: If there is none, or several.
        """
        able = [name for name in self.widths() if self.kind(name) == kind]
        if len(able) != 1:
            known = ", ".join(f"{name} ({self.kind(name)})" for name in self.widths())
            raise UsageError(
                f'{"several modalities take" if able else "no modality takes"} a {kind}; name one as "modality". The '
                f"model knows: {known}."
            )
        return able[0]

    def encode(self, content: Any, modality: str) -> Codes:
        """The code of one piece of content; one at a time, since encoders use several threads themselves."""
        with self._encoding:
            return self.reader.encode(content, modality)

    def rerank(self, **search: Any) -> list[Match]:
        """A search in which the matcher puts the first in order; one at a time, as ``encode``."""
        with self._encoding:
            return self.reader.search(rerank=True, **search)

    def explain(self, item: str, modality: str, content: Any, *, problems: list[str]) -> Why:
        """Why an item answers a query; one at a time, as ``encode``."""
        with self._encoding:
            return self.reader.explain(item, problems=problems, **{modality: content})

    def filterable(self) -> dict[str, str]:
        """Attributes that a filter may name, and their types."""
        return {name: kind for name, kind in self.index.spec.attributes.items() if name not in HIDDEN}


def place_of(model: Path, index: str | None) -> tuple[int | None, int | None]:
    """What tells the files of a model and an index from others under the same names.

    Raises:
        DataError: If there is no model.
    """
    try:
        facts = (model / "retriever.json").stat().st_ino
    except OSError as error:
        raise DataError(f"{model} holds no saved retriever ({error.strerror}).") from None
    if index is not None and not _is_folder(index):
        return facts, None
    catalogue = (model / "index" if index is None else Path(index.removeprefix("file:"))) / "catalogue.sqlite"
    return facts, catalogue.stat().st_ino if catalogue.exists() else None


def _is_folder(url: str) -> bool:
    """Whether an index is a folder, of which a writer and readers may be open side by side."""
    head, colon, _ = url.partition(":")
    return not colon or head.lower() == "file" or len(head) == 1
