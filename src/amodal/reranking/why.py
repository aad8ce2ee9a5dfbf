"""Why a matcher thinks that an item answers a query, in words and regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.methods.matching import Explanation

__all__ = ["Why"]


@dataclass(frozen=True, eq=False)
class Why:
    """What a matcher sees in a query and an item.

    Attributes:
        item: Id of the item.
        score: Of the pair, higher is more similar.
        effect: What the learned attention adds to the score against one that looks everywhere alike.
        regions: The modality that gives the regions.
        words: The modality that gives the words.
        picture: Content of the regions' side: the path of a picture, its bytes, or a Pillow image.
        text: Content of the words' side.
        named: The words, one for each row of ``attention``.
        boxes: Where the regions lie: left, top, right, bottom as fractions, shape (regions, 4).
        attention: How much each word looks at each region, shape (words, regions); a row sums to 1.
        similarity: Cosine of each word and what it looks at, shape (words,).
        effects: What looking there, and not everywhere alike, adds to that cosine, shape (words,).
    """

    item: str
    score: float
    effect: float
    regions: str
    words: str
    picture: Any
    text: str
    named: tuple[str, ...]
    boxes: NDArray[np.float64]
    attention: NDArray[np.float32]
    similarity: NDArray[np.float32]
    effects: NDArray[np.float32]

    @classmethod
    def of(cls, found: Explanation, named: tuple[str, ...], boxes: NDArray[np.float64], **facts: Any) -> Why:
        """From what a matcher sees in parts, of which those beyond the words and the regions are padding."""
        n, k = len(named), len(boxes)
        return cls(
            score=found.score,
            effect=found.effect,
            named=named,
            boxes=boxes,
            attention=found.attention[:n, :k],
            similarity=found.similarity[:n],
            effects=found.effects[:n],
            **facts,
        )

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON: each word with its cosine, effect and weights of the regions."""
        rows = zip(self.named, self.similarity.tolist(), self.effects.tolist(), self.attention.tolist(), strict=True)
        return {
            "item": self.item,
            "score": self.score,
            "effect": self.effect,
            "boxes": self.boxes.tolist(),
            "words": [
                {"word": word, "similarity": similarity, "effect": effect, "attention": attention}
                for word, similarity, effect, attention in rows
            ],
        }
