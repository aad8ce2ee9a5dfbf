"""How encoders run a network: row by row on the processor, in batches on an accelerator."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from amodal.encoders.base import Encoder, Features, Kind, Outcomes
from amodal.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Box", "NetworkEncoder", "PictureNetwork", "Pieces", "TextNetwork"]

Box = tuple[float, float, float, float]
"""A place in a picture as fractions of its width and height: left, top, right, bottom."""

_CHUNK = 32
"""Rows under way at once: the batch of an accelerator, and the bound on decoded pictures in memory."""


class NetworkEncoder(Encoder):
    """An encoder whose features come from a torch network.

    On the processor every row is computed by itself and by one thread, several rows at a time. Matrix products of
    different sizes round differently, so this is what makes features independent of their companions. Pictures
    are faster that way, as one fits the processor's cache and thirty-two do not; short texts take about twice as long.

    A subclass says how to load its network, how to prepare one piece of content, and how to compute a batch.

    Args:
        device: Where the network runs, as torch names it.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._network: Any = None
        self._loading = threading.Lock()

    @abstractmethod
    def load(self) -> Any:
        """The network in evaluation mode, on the device, with whatever else ``prepare`` and ``forward`` need."""

    @abstractmethod
    def prepare(self, one: Any) -> Tensor:
        """The network's input for one piece of content, without a batch axis.

        Raises:
            DataError: If the content is unreadable, naming it.
        """

    @abstractmethod
    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Features of k prepared inputs, shape (k, dim) or (k, length, dim)."""

    @property
    def network(self) -> Any:
        """What ``load`` gave, loaded when first used."""
        with self._loading:
            if self._network is None:
                self._network = self.load()
        return self._network

    def outcomes(self, content: Sequence[Any]) -> Outcomes:
        """For each piece of content in order its features, or the reason why it has none."""
        if not len(content):
            return
        _ = self.network
        with _single_threaded_rows(min(len(content), _CHUNK)) as rows:
            for start in range(0, len(content), _CHUNK):
                chunk = content[start : start + _CHUNK]
                yield from rows(self._row, chunk) if self.device == "cpu" else self._batch(list(rows(self._try, chunk)))

    def _try(self, one: Any) -> Tensor | DataError:
        try:
            return self.prepare(one)
        except DataError as error:
            return error

    def _row(self, one: Any) -> Features | DataError:
        prepared = self._try(one)
        return prepared if isinstance(prepared, DataError) else self._features([prepared])[0]

    def _batch(self, prepared: list[Tensor | DataError]) -> Iterator[Features | DataError]:
        good = [one for one in prepared if not isinstance(one, DataError)]
        features = iter(self._features(good) if good else ())
        for one in prepared:
            yield one if isinstance(one, DataError) else next(features)

    def _features(self, inputs: list[Tensor]) -> Features:
        import torch

        with torch.inference_mode():
            features: Features = self.forward([one.to(self.device) for one in inputs]).float().cpu().numpy()
        return features.astype(np.float16).astype(np.float32) if self.length else features


class PictureNetwork(NetworkEncoder):
    """A network for pictures that also says what it sees at each place.

    Attributes:
        part_dim: Width of the features of a place.
    """

    kind: Kind = "picture"
    part_dim: int

    @abstractmethod
    def feature_map(self, inputs: list[Tensor]) -> Tensor:
        """Features of the places in k pictures, before pooling, shape (k, part_dim, rows, columns)."""

    def seen(self, width: int, height: int) -> Box:
        """The part of a picture of some pixels that the network sees: all of it, unless a border is cut off."""
        return 0.0, 0.0, 1.0, 1.0


@dataclass(frozen=True)
class Pieces:
    """A text as a network takes it, and the words it consists of.

    Attributes:
        numbers: The network's tokens, t of them.
        words: For each token the number of the word that it is a piece of; -1 for tokens that stand for no word.
        spans: For each word of the text, also those beyond the network's longest text, where it begins and ends.
    """

    numbers: list[int]
    words: list[int]
    spans: list[tuple[int, int]]

    @classmethod
    def of(cls, text: str, encoding: Any) -> Pieces:
        """What a tokenizer made of a text.

        A word is what the tokenizer takes for one (in BERT a punctuation mark is a word too), but never reaches over
        white space: some tokenizers know no words.

        Args:
            text: The text.
            encoding: Its tokens, with what was cut off: an ``Encoding`` of the library tokenizers.
        """
        words: list[int] = []
        spans: list[tuple[int, int]] = []
        last = None
        for part in (encoding, *encoding.overflowing):
            for word, (start, end) in zip(part.word_ids, part.offsets, strict=True):
                if word is None or not text[start:end].strip():
                    words.append(-1)
                    continue
                if word != last or not spans or any(mark.isspace() for mark in text[spans[-1][1] : start + 1]):
                    spans.append((start, end))
                last = word
                spans[-1] = spans[-1][0], end
                words.append(len(spans) - 1)
        return cls(encoding.ids, words[: len(encoding.ids)], spans)


class TextNetwork(NetworkEncoder):
    """A network for texts that also says what it makes of each token.

    Attributes:
        part_dim: Width of the state of a token.
    """

    kind: Kind = "text"
    part_dim: int

    @abstractmethod
    def pieces(self, text: Any) -> Pieces:
        """The tokens and words of a text; needs a tokenizer, but no network.

        Raises:
            DataError: If it is no text.
        """

    @abstractmethod
    def states(self, inputs: list[Tensor]) -> Tensor:
        """States of the tokens of k prepared texts after the last layer, shape (k, t, part_dim)."""


@contextmanager
def _single_threaded_rows(rows: int) -> Iterator[Any]:
    """A ``map`` over several rows at a time, each on one thread; torch's own setting is put back at the end."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if min(threads, rows) == 1:
            yield map
        else:
            with ThreadPoolExecutor(min(threads, rows), initializer=torch.set_num_threads, initargs=(1,)) as pool:
                yield pool.map
    finally:
        torch.set_num_threads(threads)
