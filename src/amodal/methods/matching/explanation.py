"""Why two items score as they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from amodal.methods.matching.attention import agreement
from amodal.methods.matching.blocks import Pair
from amodal.methods.matching.interventions import intervene
from amodal.methods.matching.scorer import Scorer

__all__ = ["Explanation", "explain_pair"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a matcher sees in one pair. Places of padding hold 0, so that places are those of the parts given.

    Attributes:
        score: Of the pair, higher is more similar.
        effect: What the learned attention adds to the score against one that looks everywhere alike.
        attention: How much each word looks at each region, shape (words, regions); a row sums to 1. Where only regions
            ask, how much of a word's share each of them has.
        similarity: Cosine of each word and what it looks at, shape (words,).
        effects: What looking there, and not everywhere alike, adds to that cosine, shape (words,).
    """

    score: float
    effect: float
    attention: NDArray[np.float32]
    similarity: NDArray[np.float32]
    effects: NDArray[np.float32]

    @classmethod
    def mean(cls, several: Sequence[Explanation]) -> Explanation:
        """The mean of what several networks see in one pair."""
        values = {field.name: np.mean([getattr(one, field.name) for one in several], axis=0) for field in fields(cls)}
        return cls(**{**values, "score": float(values["score"]), "effect": float(values["effect"])})


def explain_pair(
    scorer: Scorer, pair: Pair, places: Sequence[NDArray[np.int64]], shape: tuple[int, int]
) -> Explanation:
    """What a scorer sees in one pair.

    Args:
        scorer: Of these two modalities.
        pair: A block of one item against one.
        places: Where the fragments stand among the parts given, of regions and of words.
        shape: Numbers of regions and words given, with padding.
    """
    attention, view = scorer.attend(pair), pair.facing("t2i")
    if "t2i" in attention:
        weights = attention["t2i"]
    else:
        weights = attention["i2t"].permute(3, 2, 1, 0)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-8)
    similarity = agreement(weights, view)
    everywhere = intervene("uniform", weights, view.real)
    effects = similarity - agreement(everywhere, view)
    regions, words = places

    def laid_out(values: NDArray[np.float32]) -> NDArray[np.float32]:
        found = np.zeros(shape[1], np.float32)
        found[words] = values
        return found

    table = np.zeros(shape[::-1], np.float32)
    table[np.ix_(words, regions)] = weights[0, :, :, 0].T.cpu().numpy()
    return Explanation(
        score=float(scorer.judge(pair, attention)),
        effect=float(scorer.effect(pair)),
        attention=table,
        similarity=laid_out(similarity[0, :, 0].cpu().numpy()),
        effects=laid_out(effects[0, :, 0].cpu().numpy()),
    )
