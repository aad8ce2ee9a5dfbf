"""What an encoder is: raw content in, for each piece of content one float32 feature vector or several parts out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from amodal.errors import DataError

__all__ = ["Encoder", "Features", "Kind", "Outcomes", "Progress"]

Kind = Literal["picture", "text", "features"]
"""What an encoder takes: pictures (paths, bytes or Pillow images), texts (strings), or vectors that are ready."""

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, what)`` while long work runs."""

Features = NDArray[np.float32]
"""Features, float32: one vector (d,) or parts (length, d); or one of these per piece of content: (m, ...)."""

Outcomes = Generator[Features | DataError, None, None]
"""For each piece of content in order its features, or the reason why it has none."""


class Encoder(ABC):
    """Turns raw content of one kind into features: a vector (dim,), or parts (length, dim) padded with zeros.

    The features of a piece of content depend on that content and on ``fingerprint`` alone: not on its companions, their
    order, or the number of threads. That is what allows features to be cached and interrupted work to be continued.

    Attributes:
        name: Name in the registry.
        kind: What it takes.
        dim: Width d of its features; 0 if it passes on whatever width it is given.
        length: The most parts that a piece of content may have, such as the regions of a picture; 0 if its features are
            one vector. Parts are rounded to half precision, in which they are kept.
        device: Where its network runs. On the processor, features are reproduced bit for bit; elsewhere, where rows are
            computed in batches, up to the rounding of that device.
    """

    name: str
    kind: Kind
    dim: int
    length: int = 0
    device: str = "cpu"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the features of one piece of content: (dim,), or (length, dim) of parts."""
        return (self.length, self.dim) if self.length else (self.dim,)

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of all that the features depend on beside the content: weights, preparation, version.

        It loads no network, so that cached features are found without one.
        """

    @abstractmethod
    def outcomes(self, content: Sequence[Any]) -> Outcomes:
        """For each piece of content in order its features, or the reason why it has none.

        Content is read while the generator runs; closing it early stops the work.
        """

    def excess(self, one: Any) -> int:
        """How many parts of a piece of content are beyond ``length`` and cut off; needs no network."""
        return 0

    def encode(self, content: Sequence[Any], *, progress: Progress | None = None) -> Features:
        """Features of all the content, shape (m, dim) or (m, length, dim), float32.

        Args:
            content: m pieces of content of the encoder's kind.
            progress: Told after every piece; silent by default.

        Raises:
            DataError: Naming the first piece of content that cannot be encoded.
        """
        rows: list[Features] = []
        with closing(self.outcomes(content)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, DataError):
                    raise outcome
                rows.append(outcome)
                if progress is not None:
                    progress(len(rows), len(content), self.name)
        return np.stack(rows) if rows else np.empty((0, *self.shape), dtype=np.float32)
