"""Encoders for parts: the regions of a picture, the words of a text."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from amodal.encoders.base import Kind
from amodal.encoders.network import NetworkEncoder, PictureNetwork, TextNetwork
from amodal.encoders.pictures import open_picture
from amodal.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Regions", "Words"]


class Regions(NetworkEncoder):
    """What a network sees at the places of a grid in a picture, shape (rows * columns, d).

    The picture is prepared as for the whole network, whose last feature map is averaged to the grid: a cell takes all
    places that it touches, so neighbours share some where the map is no multiple of the grid (7 x 7 to 5 x 5). A grid
    of the map's own size is the map itself. Region k is in row k // columns and column k % columns.

    Args:
        base: The network; a vision transformer gives the tokens of its patches.
        rows: Rows of the grid.
        columns: Columns of the grid.
    """

    kind: Kind = "picture"

    def __init__(self, base: PictureNetwork, rows: int, columns: int) -> None:
        super().__init__(base.device)
        self.base, self.rows, self.columns = base, rows, columns
        self.name, self.dim, self.length = f"{base.name}@{rows}x{columns}", base.part_dim, rows * columns

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the base's fingerprint and the grid."""
        return _hash(self.base, f"regions {self.rows}x{self.columns}; 1")

    def load(self) -> Any:
        """The base's network."""
        return self.base.network

    def prepare(self, one: Any) -> Tensor:
        """As the base prepares it.

        Raises:
            DataError: If the picture is of one colour, so that no region says more than another.
        """
        pixels = self.base.prepare(one)
        if bool((pixels == pixels[:, :1, :1]).all()):
            name = f'picture "{one}"' if isinstance(one, str | Path) else "a picture"
            raise DataError(
                f"{name} is of one colour: nothing tells its regions apart. Leave the row out with --skip-bad."
            )
        return pixels

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Features of the regions of k pictures, shape (k, rows * columns, d)."""
        from torch.nn.functional import adaptive_avg_pool2d

        found = self.base.feature_map(inputs)
        if found.shape[2] < self.rows or found.shape[3] < self.columns:
            raise UsageError(
                f"{self.base.name} sees {found.shape[2]} x {found.shape[3]} places in a picture, fewer than "
                f"{self.rows} x {self.columns}. Ask for a coarser grid."
            )
        # (k, d, high, wide) -> (k, d, rows, columns) -> (k, rows * columns, d)
        return adaptive_avg_pool2d(found, (self.rows, self.columns)).flatten(2).transpose(1, 2)

    def boxes(self, picture: Any) -> NDArray[np.float64]:
        """Where the regions of a picture lie: left, top, right, bottom as fractions of its width and height.

        They tile what the network sees. What it knows of a region reaches beyond, as its receptive fields do.

        Args:
            picture: A path, the bytes of a picture file, or a Pillow image.

        Returns:
            Float64, shape (rows * columns, 4), one row per region.
        """
        left, top, right, bottom = self.base.seen(*open_picture(picture).size)
        row, column = np.divmod(np.arange(self.length), self.columns)
        wide, high = (right - left) / self.columns, (bottom - top) / self.rows
        return np.stack(
            [left + column * wide, top + row * high, left + (column + 1) * wide, top + (row + 1) * high], axis=1
        )


class Words(NetworkEncoder):
    """What a network makes of each word of a text, shape (length, d); zeros after its last word.

    A word is the mean over its pieces of the last layer. What stands for the whole text ([CLS], [SEP] and the like) is
    read by the network and left out here: it is no word that could be shown. The whole text is read, so that a
    word's features do not depend on ``length``; words beyond it are cut off, and ``excess`` says how many.

    Args:
        base: The network.
        length: The most words that are kept.
    """

    kind: Kind = "text"

    def __init__(self, base: TextNetwork, length: int) -> None:
        super().__init__(base.device)
        self.base, self.length = base, length
        self.name, self.dim = f"{base.name}@{length}", base.part_dim

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the base's fingerprint and the length."""
        return _hash(self.base, f"words {self.length}; 1")

    def load(self) -> Any:
        """The base's network."""
        return self.base.network

    def words(self, text: str) -> list[str]:
        """The words of a text as they stand in it, one for each row of its features that is no padding.

        Example:
            >>> from amodal.encoders import get
            >>> get("minilm@4").words("A playhouse, unbelievably red.")
            ['A', 'playhouse', ',', 'unbelievably']
        """
        pieces = self.base.pieces(text)
        return [text[start:end].strip() for start, end in pieces.spans[: self._kept(pieces.words)]]

    def excess(self, one: Any) -> int:
        """How many words of a text are beyond ``length``, or beyond what the network reads, and cut off."""
        pieces = self.base.pieces(one)
        return len(pieces.spans) - self._kept(pieces.words)

    def _kept(self, words: list[int]) -> int:
        return min(max(words, default=-1) + 1, self.length)

    def prepare(self, one: Any) -> Tensor:
        """Token numbers of one text, and the number of the word that each is a piece of or -1; int64, shape (2, t).

        Raises:
            DataError: If the text has no words.
        """
        import torch

        pieces = self.base.pieces(one)
        if not pieces.spans:
            raise DataError(f"the text {one!r:.80} has no words. Write some, or leave the row out with --skip-bad.")
        return torch.tensor([pieces.numbers, pieces.words])

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Features of the words of k texts, shape (k, length, d)."""
        import torch

        states = self.base.states([numbers for numbers, _ in inputs])  # (k, t, d)
        words = torch.nn.utils.rnn.pad_sequence([of for _, of in inputs], batch_first=True, padding_value=-1)
        # (k, t) -> (k, length, t): which tokens are pieces of a word
        piece = (words[:, None] == torch.arange(self.length, device=words.device)[:, None]).to(states.dtype)
        return piece @ states / piece.sum(2, keepdim=True).clamp(min=1)


def _hash(base: NetworkEncoder, preparation: str) -> str:
    return hashlib.sha256(f"{base.fingerprint} {preparation}".encode()).hexdigest()
