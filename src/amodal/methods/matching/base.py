"""What matchers share: fragments of an item, scores of all pairs in tiles, learning from pairs, and explanations."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from amodal.data import Dataset, Observations
from amodal.errors import MethodError, ShapeError, UsageError, nearest
from amodal.losses.matching import Reduction, bearable
from amodal.methods.correlated import correlated_maps
from amodal.methods.deep import DeepMethod
from amodal.methods.features import chunk_size
from amodal.methods.matching.blocks import Pair, Side, compact, real_parts
from amodal.methods.matching.contest import Contest, Measure, glance, rivalry
from amodal.methods.matching.encoders import FragmentEncoder
from amodal.methods.matching.explanation import Explanation, explain_pair
from amodal.methods.matching.parts import check_numbers, check_parts
from amodal.methods.matching.scorer import MatchNetwork, Scorer
from amodal.methods.matching.tiles import AT_ONCE, Fragments, Table, score_some, score_tiles
from amodal.methods.pairs import Ranking, mean_rsum
from amodal.metrics import measure_scores
from amodal.training import Batch

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["Matcher", "Rivals", "Start"]

Scores = NDArray[np.float32]
Rivals = Literal["bearable", "hardest"]
Start = Literal["correlations", "random"]
#: Regularisation of the correlations to start at, in mean eigenvalues of a covariance; that of the dual encoder.
RIDGE = 4.0


class Matcher(DeepMethod):
    """A method that has no vector of an item, and scores pairs of items instead: higher is more similar.

    Parts are shaped (m, length, d), and a part that is all zeros is padding. Of two modalities the one that comes first
    in the training data gives the regions, the other the words. Parts of width 1 are numbers of words, 1, 2, ...;
    numbers that training never had are words unknown.

    A subclass gives ``scorers``; ``summary`` too if it compares vectors of whole items.

    Attributes:
        margin: By how much a partner should score higher.
        reduction: "sum" or "mean" of the loss over a batch.
        negatives: "hardest", or "bearable": the hardest that do not make all scores alike, see ``contest``.
        start: Where projections start: at "correlations" of mean parts, or at "random".
        width: Width of the fragments.
        embedding: Width of word embeddings, or of what is put in front of the GRU.
        gru: Whether features of words are read in order by a bidirectional GRU.
        dropout: Share of units left out in training, at the words.
        rate: Learning rate.
        vocabulary_: Highest number of a word, by modality that holds word numbers.
    """

    margin: float
    reduction: Reduction
    negatives: Rivals
    start: Start
    width: int
    embedding: int
    gru: bool
    dropout: float | None
    rate: float
    network_: nn.ModuleList
    vocabulary_: dict[str, int]

    @abstractmethod
    def scorers(self) -> list[Scorer]:
        """The score of two modalities, with first weights; several for networks whose scores are averaged."""

    def summary(self, position: int) -> nn.Module | None:
        """What makes one vector of an item's fragments, by position of the modality; nothing for most."""
        return None

    @property
    def word_dropout(self) -> float:
        """Share of units left out at the words."""
        return self.dropout or 0.0

    # learning

    def meet(self, data: Dataset) -> None:
        """As every method, and note the vocabularies.

        Raises:
            DataError: Also if an item has no part, or a word number is none.
            UsageError: If an option is unknown.
        """
        for option, known, what in (
            (self.negatives, get_args(Rivals), "choice of negatives"),
            (self.start, get_args(Start), "start"),
        ):
            if option not in known:
                raise UsageError(nearest(option, known, what=what))
        super().meet(data)
        numbered = [name for name in data.names if self.widths_[name] == 1]
        self.vocabulary_ = dict.fromkeys(numbered, 0)
        for name in data.names:
            start = 0
            for chunk in data[name].chunks(chunk_size(data[name])):
                check_parts(chunk, name, data.ids[data[name].item[start : start + len(chunk)]])
                if name in numbered:
                    check_numbers(chunk, name)
                    self.vocabulary_[name] = max(self.vocabulary_[name], int(chunk.max()))
                start += len(chunk)

    def chosen(self, data: Dataset) -> Dataset:
        """The items that have a pair."""
        return data.take(np.flatnonzero(data.presence().sum(axis=1) > 1))

    def build(self) -> nn.ModuleList:
        """The networks, one for each scorer; none shares anything with another."""
        pairs = [self.scorers() for _ in combinations(self.widths_, 2)]
        return nn.ModuleList([self._build(scorers) for scorers in zip(*pairs, strict=True)])

    def _build(self, scorers: Sequence[Scorer]) -> MatchNetwork:
        encoders = [self._encoder(name, position) for position, name in enumerate(self.widths_)]
        wholes = [whole for position in range(len(encoders)) if (whole := self.summary(position)) is not None]
        return MatchNetwork(nn.ModuleList(encoders), nn.ModuleList(scorers), nn.ModuleList(wholes))

    def _encoder(self, name: str, position: int) -> FragmentEncoder:
        words = position > 0
        return FragmentEncoder(
            self.widths_[name],
            self.width,
            embedding=self.embedding,
            vocabulary=self.vocabulary_.get(name, 0),
            recurrent=words and self.gru,
            dropout=self.word_dropout if words else 0.0,
        )

    def prepare(self, data: Dataset) -> None:
        """Measure the scale of the parts, and start at their correlations if all of them are features."""
        networks = [list(zip(data.names, network.encoders, strict=True)) for network in self._networks()]
        for encoders in networks:
            for name, encoder in encoders:
                if name not in self.vocabulary_:
                    encoder.standardise.fit(data[name])
        if self.start == "random" or self.vocabulary_ or self.gru:
            return
        vectors = {name: encoder.pooled for name, encoder in networks[0]}
        try:
            maps = correlated_maps(data, vectors, self.width, RIDGE, within=self.strata(data))
        except MethodError:  # means of parts may have nothing in common where the parts do
            return
        for encoders in networks:
            for name, encoder in encoders:
                encoder.begin(*maps[name])

    def strata(self, data: Dataset) -> NDArray[np.int64] | None:
        """Group of each item that correlations are taken within, shape (n,); no groups for most."""
        return None

    def weights(self, items: Tensor) -> Tensor | None:
        """How much the pairs of some training items teach, shape (b,); alike for most."""
        return None

    def groups(self) -> list[dict[str, Any]]:
        """All parameters at one rate."""
        return [{"params": list(self.network_.parameters()), "lr": self.rate, "weight_decay": 0.0}]

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """The losses of each two modalities on the pairs of a batch, summed; what else is logged is a mean."""
        names = list(self.widths_)
        found = []
        for network in self._networks():
            sides = [self._side(network, batch.x[name], position) for position, name in enumerate(names)]
            for scorer, (i, j) in zip(network.scorers, combinations(range(len(names)), 2), strict=True):
                here, there = batch.pairs(names[i], names[j])
                if len(here) < 2:  # nothing to tell apart
                    continue
                items = batch.index[batch.rows[names[i]][here]]
                found.append(self.objective(scorer, Pair(sides[i].take(here), sides[j].take(there)), items, epoch))
        if not found:
            return {"loss": torch.zeros(())}
        columns = {name: torch.stack([losses[name] for losses in found]) for name in found[0]}
        return {name: values.sum() if name == "loss" else values.mean() for name, values in columns.items()}

    def objective(self, scorer: Scorer, pair: Pair, items: Tensor, epoch: int) -> dict[str, Tensor]:
        """The losses of a block of pairs.

        Args:
            scorer: Of these two modalities.
            pair: Partners in the same rows.
            items: The item of each row, shape (b,).
            epoch: From 0.
        """
        found = self.contest(scorer, pair, items, scorer, self.margin)
        return {"loss": found.loss, "partners": found.partners.mean(), "others": found.others}

    def contest(
        self,
        scorer: Scorer,
        pair: Pair,
        items: Tensor,
        measure: Measure,
        margin: float,
        seen: Tensor | None = None,
    ) -> Contest:
        """The hinge of a block: with the hardest negatives, or with the hardest that are ``bearable``.

        All pairs are looked at without gradient; of what is found the partners and their rivals are scored again, with
        one.

        Args:
            scorer: Of these two modalities.
            pair: Partners in the same rows, b of them.
            items: The item of each row, shape (b,).
            measure: What partners should have more of, from a block of p x q pairs to shape (p, q).
            margin: How much more.
            seen: What a look at all pairs gave, shape (b, b), if somebody has looked.
        """
        seen = glance(scorer, pair, measure) if seen is None else seen
        rank = bearable(seen, items, margin) if self.negatives == "bearable" else 0
        weights = self.weights(items)
        return rivalry(pair, seen, items, measure, margin, rank=rank, reduction=self.reduction, weights=weights)

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Build the networks anew and fill them; a vocabulary has the length of its table."""
        self.vocabulary_ = {}
        for position, name in enumerate(self.widths_):
            table = state.get(f"0.encoder.{position}.table.weight")
            if table is not None:
                self.vocabulary_[name] = len(table) - 1
        super().restore(state)

    # scoring

    def encode(self, features: ArrayLike, modality: str) -> NoReturn:
        """Refuses: a matcher has no vector of an item.

        Raises:
            MethodError: Always; says what to do instead.
        """
        raise MethodError(
            f"{self.card.slug} scores pairs and has no code of one item. Use score(queries, candidates, "
            f'modalities=...), or let it re-rank what another method recalls: Retriever(rerank="{self.card.slug}").'
        )

    def output(self, x: Tensor, modality: str) -> Tensor:
        """Unit fragments of all networks side by side, shape (m, length, networks x width), with padding last."""
        x = compact(x)
        position = self._position(modality)
        return torch.cat([network.encoder[position](x) for network in self._networks()], dim=-1)

    def embed(self, features: ArrayLike, modality: str, *, dtype: DTypeLike = np.float32) -> Fragments:
        """Fragments of items: all that ``match`` needs of them, and worth keeping.

        Args:
            features: Parts, shape (m, length, d), finite; all zeros are padding.
            modality: Name of the modality, as in the training data.
            dtype: np.float32, or np.float16 for half the room.

        Returns:
            Unit fragments, shape (m, length, width), zeros where there is none; padding comes last.

        Raises:
            MissingModality: If the model never learned that modality.
            ShapeError: If the width is not that of training.
            DataError: If a part is NaN or infinite, a word number is none, or a row has no part at all; names it.
        """
        values = self._checked(features, modality)
        check_parts(values, modality)
        if modality in self.vocabulary_:
            check_numbers(values, modality)
        self.network_.eval()
        found = np.zeros((*values.shape[:2], self.width * len(self.network_)), dtype)
        step = max(AT_ONCE // max(values.shape[1] * max(values.shape[2], self.width), 1), 1)
        with torch.inference_mode():
            for start in range(0, len(values), step):
                chunk = torch.from_numpy(np.ascontiguousarray(values[start : start + step])).to(self._device)
                fragments = self.output(chunk, modality)
                found[start : start + step, : fragments.shape[1]] = fragments.float().cpu().numpy()
        return found

    def embed_table(self, observations: Observations, modality: str, *, dtype: DTypeLike = np.float32) -> Fragments:
        """Fragments of a table of observations, read in chunks.

        Args:
            observations: At least one, of parts.
            modality: Its name.
            dtype: As for ``embed``.
        """
        chunks = observations.chunks(chunk_size(observations))
        return np.concatenate([self.embed(chunk, modality, dtype=dtype) for chunk in chunks])

    def match(self, queries: Fragments, candidates: Fragments, *, modalities: tuple[str, str]) -> Scores:
        """Scores of all pairs, computed in tiles of bounded size.

        A score depends on its pair alone, up to the rounding of sums that are taken in another order.

        Args:
            queries: Fragments from ``embed``, shape (m, length, width).
            candidates: Fragments of another modality, shape (n, length, width).
            modalities: Of queries and candidates.

        Returns:
            Higher is more similar, float32, shape (m, n).

        Raises:
            MissingModality: If the model never learned one of them.
            UsageError: If both are the same modality.
            ShapeError: If the fragments are not of this model's width.
        """
        return self._match(queries, candidates, modalities, self.judged)

    def score(self, queries: ArrayLike, candidates: ArrayLike, *, modalities: tuple[str, str]) -> Scores:
        """Scores of all pairs from their parts: ``embed`` and ``match`` in one.

        Args:
            queries: Parts, shape (m, length, d).
            candidates: Parts of another modality, shape (n, length, d).
            modalities: Of queries and candidates.

        Returns:
            Higher is more similar, float32, shape (m, n).

        Raises:
            DataError: As ``embed`` and ``match``.
        """
        a, b = modalities
        return self.match(self.embed(queries, a), self.embed(candidates, b), modalities=modalities)

    def effect(self, queries: Fragments, candidates: Fragments, *, modalities: tuple[str, str]) -> Scores:
        """The counterfactual effect of all pairs: their score less the one under attention that is alike everywhere.

        Args:
            queries: Fragments from ``embed``.
            candidates: Fragments of another modality.
            modalities: Of queries and candidates.

        Returns:
            Float32, shape (m, n).
        """
        return self._match(queries, candidates, modalities, Scorer.effect)

    def match_some(
        self, queries: Fragments, candidates: Fragments, rows: ArrayLike, *, modalities: tuple[str, str]
    ) -> Scores:
        """Scores of each query with candidates of its own: what re-ranking needs.

        Args:
            queries: Fragments from ``embed``, shape (m, length, width).
            candidates: Fragments of another modality, shape (n, length, width).
            rows: For each query the rows of its N candidates, integers, shape (m, N).
            modalities: Of queries and candidates.

        Returns:
            Higher is more similar, float32, shape (m, N), in the order of ``rows``.

        Raises:
            ShapeError: If ``rows`` has not one row per query.
            UsageError: If it names a candidate that is not there.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        if chosen.ndim != 2 or len(chosen) != len(queries):
            raise ShapeError(f"rows need shape ({len(queries)}, N), one row per query; got {chosen.shape}.")
        wrong = chosen[(chosen < 0) | (chosen >= len(candidates))]
        if len(wrong):
            raise UsageError(f"rows name candidates from 0 to {len(candidates) - 1}; found {wrong[0]}.")
        asking = np.repeat(np.arange(len(chosen)), chosen.shape[1])
        return self._match(queries, candidates, modalities, self.judged, (asking, chosen.ravel())).reshape(chosen.shape)

    def score_pairs(self, queries: ArrayLike, candidates: ArrayLike, *, modalities: tuple[str, str]) -> Scores:
        """Scores of each query with candidates of its own, from their parts.

        Args:
            queries: Parts, shape (m, length, d).
            candidates: Parts of another modality, shape (m, N, length, d).
            modalities: Of queries and candidates.

        Returns:
            Higher is more similar, float32, shape (m, N).

        Raises:
            ShapeError: If there is not one set of candidates per query.
        """
        sets, (a, b) = np.asarray(candidates, dtype=np.float32), modalities
        if sets.ndim != 4:
            raise ShapeError(f"candidates need shape (queries, N, length, d); got {sets.shape}.")
        own = np.arange(sets.shape[0] * sets.shape[1]).reshape(sets.shape[:2])
        flat = self.embed(sets.reshape(-1, *sets.shape[2:]), b)
        return self.match_some(self.embed(queries, a), flat, own, modalities=modalities)

    def explain(self, query: ArrayLike, candidate: ArrayLike, *, modalities: tuple[str, str]) -> Explanation:
        """Why a pair scores as it does.

        Args:
            query: Parts of one item, shape (length, d).
            candidate: Parts of one item of another modality, shape (length, d).
            modalities: Of query and candidate.

        Returns:
            Attention, cosines and effects of each word; a mean over the networks of an ensemble.

        Raises:
            DataError: As ``embed``.
        """
        i, j = self._positions(modalities)
        if i > j:
            return self.explain(candidate, query, modalities=modalities[::-1])
        parts = [np.asarray(x, np.float32)[None] for x in (query, candidate)]
        tables = [
            self._table(self.embed(x, name), position)
            for x, name, position in zip(parts, modalities, (i, j), strict=True)
        ]
        places = [np.flatnonzero(x[0].any(axis=-1)) for x in parts]
        shape = (parts[0].shape[1], parts[1].shape[1])
        with torch.inference_mode():
            (_, regions), (_, words) = (next(table.tiles(1)) for table in tables)
            found = [
                explain_pair(self._scorer(network, i, j), Pair(*sides), places, shape)
                for network, *sides in zip(self._networks(), regions, words, strict=True)
            ]
        return Explanation.mean(found)

    def judged(self, scorer: Scorer, pair: Pair) -> Tensor:
        """What ``match`` gives, shape (regions' items, words' items): the score, unless a method says otherwise.

        Args:
            scorer: Of these two modalities.
            pair: The block.
        """
        scores: Tensor = scorer(pair)
        return scores

    def validation_score(self, validation: Dataset) -> float:
        """The rSum of held-out pairs, at most 600: R@1, R@5, R@10 both ways in percent; mean over pairs of modalities.

        Raises:
            MethodError: If no held-out item has a pair.
        """

        def rankings(both: Dataset, a: str, b: str) -> tuple[Ranking, Ranking]:
            scores = self.match(self.embed_table(both[a], a), self.embed_table(both[b], b), modalities=(a, b))
            return partial(measure_scores, scores), partial(measure_scores, scores.T)

        return mean_rsum(validation, list(self.widths_), rankings)

    # below

    def _networks(self) -> list[MatchNetwork]:
        return list(self.network_)  # type: ignore[arg-type]

    @property
    def _device(self) -> torch.device:
        return next(self.network_.parameters()).device

    def _position(self, modality: str) -> int:
        return list(self.widths_).index(modality)

    def _positions(self, modalities: tuple[str, str]) -> tuple[int, int]:
        for name in modalities:
            self.require_learned(name)
        if modalities[0] == modalities[1]:
            raise UsageError(f'a matcher compares two modalities; both are "{modalities[0]}".')
        return self._position(modalities[0]), self._position(modalities[1])

    def _scorer(self, network: MatchNetwork, i: int, j: int) -> Scorer:
        places = list(combinations(range(len(self.widths_)), 2))
        return network.scorers[places.index((min(i, j), max(i, j)))]

    def _side(self, network: MatchNetwork, x: Tensor, position: int) -> Side:
        x = compact(x)
        return network.side(network.encoder[position](x), real_parts(x), position)

    def _match(
        self,
        queries: Fragments,
        candidates: Fragments,
        modalities: tuple[str, str],
        judge: Callable[[Scorer, Pair], Tensor],
        pairs: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    ) -> Scores:
        """Any function of all pairs, shape (m, n); or of some, by rows of queries and of candidates, shape (N,)."""
        i, j = self._positions(modalities)
        if i > j:
            turned = self._match(candidates, queries, modalities[::-1], judge, pairs and pairs[::-1])
            return np.ascontiguousarray(turned.T)
        for fragments in (queries, candidates):
            if fragments.ndim != 3 or fragments.shape[-1] != self.width * len(self.network_):
                raise ShapeError(
                    f"fragments of this model have shape (m, length, {self.width * len(self.network_)}); got "
                    f"{fragments.shape}. Parts become fragments by embed, or use score."
                )
        if not len(queries) or not len(candidates):
            return np.zeros((len(queries), len(candidates)) if pairs is None else 0, np.float32)
        self.network_.eval()
        scorers = [self._scorer(network, i, j) for network in self._networks()]
        with torch.inference_mode():
            tables = self._table(queries, i), self._table(candidates, j)
            if pairs is None:
                return score_tiles(*tables, scorers, judge)
            return score_some(*tables, pairs, scorers, judge)

    def _table(self, fragments: Fragments, position: int) -> Table:
        return Table(fragments, self._networks(), position, self._device)
