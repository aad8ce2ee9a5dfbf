"""What every matcher is: attention between two items, and a score that follows from it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from amodal.methods.matching.attention import attend
from amodal.methods.matching.blocks import Direction, Pair, Side
from amodal.methods.matching.encoders import FragmentEncoder
from amodal.methods.matching.interventions import Intervention, intervene, other_asker

__all__ = ["Attention", "MatchNetwork", "Scorer"]

#: Weights by direction, shape (p, k, n, q): p items of k keys, q asking items of n fragments; sum over keys is 1.
Attention = dict[Direction, Tensor]

#: From weights (p, k, n, q) and which keys are real to other weights.
Change = Callable[[Tensor, Tensor], Tensor]


class Scorer(nn.Module):
    """Scores of all pairs of a block, in two steps, so that another attention can be put between them.

    Args:
        sharpness: lambda_1 of every direction in which this scorer attends.
        learn: Whether lambda_1 is learned, as exp(theta).
    """

    def __init__(self, sharpness: Mapping[Direction, float], *, learn: bool = False) -> None:
        super().__init__()
        self.directions = tuple(sharpness)
        self.fixed = {} if learn else dict(sharpness)
        self.theta = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(math.log(value))) for name, value in sharpness.items() if learn}
        )

    def sharpness(self, direction: Direction) -> Tensor | float:
        """lambda_1 of a direction, as it stands."""
        return self.theta[direction].exp() if direction in self.theta else self.fixed[direction]

    def attend(self, pair: Pair, *, sign: float = 1.0) -> Attention:
        """The attention of every direction.

        Args:
            pair: The block.
            sign: -1 for what it would least attend to.
        """
        views = {direction: pair.facing(direction) for direction in self.directions}
        return {
            direction: attend(view.s, view.real, sign * self.sharpness(direction)) for direction, view in views.items()
        }

    @abstractmethod
    def judge(self, pair: Pair, attention: Attention, gate: Change | None = None) -> Tensor:
        """Scores under an attention, higher is more similar, shape (regions' items, words' items).

        Args:
            pair: The block.
            attention: As ``attend`` gives it.
            gate: What changes the weights of words against each other, in a matcher that has such.
        """

    @abstractmethod
    def footprint(self, regions: float, words: float, width: int) -> float:
        """About how many values a pair of items takes while it is scored.

        Args:
            regions: Fragments of the one.
            words: Fragments of the other.
            width: Width of a fragment.
        """

    def forward(self, pair: Pair) -> Tensor:
        """Scores, shape (regions' items, words' items)."""
        return self.judge(pair, self.attend(pair))

    def instead(
        self, kind: Intervention, pair: Pair, attention: Attention, generator: torch.Generator | None = None
    ) -> Attention:
        """The attention that an intervention puts in place of the learned one; see ``intervene``.

        Args:
            kind: What to put there; "reverse" attends to what it would least attend to.
            pair: The block.
            attention: The learned one.
            generator: Source of chance, on the CPU.
        """
        if kind == "reverse":
            return self.attend(pair, sign=-1.0)
        views = {direction: pair.facing(direction) for direction in attention}
        if kind == "swap":
            shift = other_asker(pair.words.real.shape[0], generator)
            return {
                direction: attend(view.shifted(shift).s, view.real, self.sharpness(direction))
                for direction, view in views.items()
            }
        return {
            direction: intervene(kind, weights, views[direction].real, generator)
            for direction, weights in attention.items()
        }

    def effect(self, pair: Pair) -> Tensor:
        """What learned attention adds to the score against one that looks everywhere alike, shape as ``forward``."""
        attention = self.attend(pair)
        return self.judge(pair, attention) - self.judge(pair, self.instead("uniform", pair, attention))


class MatchNetwork(nn.Module):
    """Encoders of all modalities, and a scorer for each two of them.

    Args:
        encoder: From parts to fragments, by position of the modality.
        scorer: For each two modalities, (0, 1), (0, 2), ..., (1, 2), ...
        whole: From fragments to one vector, by position; none for matchers that compare fragments only.
    """

    def __init__(self, encoder: nn.ModuleList, scorer: nn.ModuleList, whole: nn.ModuleList) -> None:
        super().__init__()
        self.encoder, self.scorer, self.whole = encoder, scorer, whole

    @property
    def scorers(self) -> list[Scorer]:
        """The scorers, in the order of pairs of modalities."""
        return list(self.scorer)  # type: ignore[arg-type]

    @property
    def encoders(self) -> list[FragmentEncoder]:
        """The encoders, by position of the modality."""
        return list(self.encoder)  # type: ignore[arg-type]

    def side(self, fragments: Tensor, real: Tensor, position: int) -> Side:
        """Items as they are compared.

        Args:
            fragments: Unit rows, zeros where there is none, shape (m, length, d).
            real: Which of them are fragments, shape (m, length).
            position: Of the modality.
        """
        whole = self.whole[position](fragments, real) if len(self.whole) else None
        return Side(fragments, real, whole)
