"""How encoders run a network: row by row on the processor, in batches on an accelerator."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from amodal.encoders.base import Encoder, Features, Outcomes
from amodal.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NetworkEncoder"]

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
        """Features of k prepared inputs, shape (k, d)."""

    @property
    def network(self) -> Any:
        """What ``load`` gave, loaded when first used."""
        with self._loading:
            if self._network is None:
                self._network = self.load()
        return self._network

    def outcomes(self, content: Sequence[Any]) -> Outcomes:
        """For each piece of content in order its feature vector (d,), or the reason why it has none."""
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
        return features


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
