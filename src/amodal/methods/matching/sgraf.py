"""SGRAF: every alignment of a word and its context is a vector; a graph reasons over them, or a gate weighs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from amodal.errors import ShapeError, UsageError, nearest
from amodal.losses.matching import Reduction
from amodal.methods.card import Card
from amodal.methods.matching.attention import inverse_length
from amodal.methods.matching.base import Matcher, Rivals, Start
from amodal.methods.matching.blocks import Pair
from amodal.methods.matching.encoders import linear
from amodal.methods.matching.scorer import Attention, Change, Scorer

__all__ = ["SGRAF", "Filtration", "Norm", "Reasoning", "Whole", "alignment_scorer"]

Norm = Literal["layer", "batch"]
#: Arguments of SGRAF that say what its networks look like.
SHAPE = ("width", "embedding", "gru", "norm", "regions", "similarity", "steps", "sharpness")


class Whole(nn.Module):
    """One unit vector of an item: its fragments, weighed by how they go with their mean.

        g = unit(sum_i weights_i l_i),  weights = softmax_i(w (tanh(A l_i) * tanh(B mean)))

    Args:
        width: Width of the fragments.
        dropout: Share of units left out in training, after each tanh.
        norm: In front of each tanh: "layer", "batch" over the places of the fragments, or nothing.
        places: Fragments of every item, for "batch".
    """

    def __init__(self, width: int, dropout: float, *, norm: Norm | None = None, places: int = 0) -> None:
        super().__init__()
        kinds: dict[str | None, Callable[[int], nn.Module]] = {
            "layer": lambda _: nn.LayerNorm(width),
            "batch": nn.BatchNorm1d,
            None: lambda _: nn.Identity(),
        }
        if norm not in kinds:
            raise UsageError(nearest(str(norm), get_args(Norm), what="norm"))
        self.places = places if norm == "batch" else 0
        self.local = nn.Sequential(linear(width, width), kinds[norm](places), nn.Tanh(), nn.Dropout(dropout))
        self.globe = nn.Sequential(linear(width, width), kinds[norm](width), nn.Tanh(), nn.Dropout(dropout))
        self.weigh = linear(width, 1)

    def forward(self, fragments: Tensor, real: Tensor) -> Tensor:
        """Shape (m, d), for fragments (m, length, d) and which of them are no padding (m, length).

        Raises:
            ShapeError: With norm "batch", if an item has another number of fragments than ``places``.
        """
        if self.places and (fragments.shape[1] != self.places or not bool(real.all())):
            raise ShapeError(
                f'norm="batch" has a statistic for each of {self.places} regions (regions={self.places}); here are '
                f'{int(real.sum(dim=1).min())} to {fragments.shape[1]}. Set regions, or take norm="layer".'
            )
        mean = fragments.sum(dim=1) / real.sum(dim=1, keepdim=True)
        logits = self.weigh(self.local(fragments) * self.globe(mean)[:, None]).squeeze(-1)
        weights = logits.masked_fill(~real, float("-inf")).softmax(dim=1)
        return F.normalize((weights[:, :, None] * fragments).sum(dim=1), dim=-1, eps=1e-8)


class _Alignments(Scorer):
    """What SAF and SGR share: similarity vectors of words with their contexts, and of the whole items.

        a_j = unit(sum_i alpha_ij v_i),  sigma_j = unit(W_l (a_j - w_j)^2),  sigma_0 = unit(W_g (g_v - g_t)^2)

    Args:
        width: Width of the fragments.
        similarity: Width of a similarity vector.
        sharpness: lambda_1.
        learn: Whether lambda_1 is learned.
    """

    def __init__(self, width: int, similarity: int, sharpness: float, *, learn: bool = False) -> None:
        super().__init__({"t2i": sharpness}, learn=learn)
        self.local = linear(width, similarity)
        self.globe = linear(width, similarity)
        self.final = linear(similarity, 1)

    def alignments(self, pair: Pair, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Similarity vectors of a block.

        Args:
            pair: The block.
            weights: Attention of its words to its regions.

        Returns:
            sigma_0, shape (p, q, s), and sigma_j of all N words, (p, N, s).
        """
        alpha = weights * inverse_length(weights, pair.facing("t2i"))[:, None]
        local = self.local((pair.contexts(alpha) - pair.words.packed).square())
        return _unit(self.globe(pair.differences().square())), _unit(local)

    def footprint(self, regions: float, words: float, width: int) -> float:
        """The context, its difference and square, and similarity vectors."""
        return words * (regions + 3 * width + 4 * self.local.out_features)


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=-1, eps=1e-8)


class Filtration(_Alignments):
    """SAF: similarity vectors weighed by a gate, so that words which say nothing count less.

        beta_j = sigmoid(BN(w_a sigma_j)) / sum,  S = sigmoid(w unit(sum_j beta_j sigma_j)),  j = 0 is the whole

    Args:
        width: Width of the fragments.
        similarity: Width of a similarity vector.
        sharpness: lambda_1.
        learn: Whether lambda_1 is learned.
    """

    def __init__(self, width: int, similarity: int, sharpness: float, *, learn: bool = False) -> None:
        super().__init__(width, similarity, sharpness, learn=learn)
        self.gate = linear(similarity, 1)
        self.norm = nn.BatchNorm1d(1)

    def judge(self, pair: Pair, attention: Attention, gate: Change | None = None) -> Tensor:
        """Scores in (0, 1); ``gate`` changes beta."""
        place, (q, n) = pair.words.place, pair.words.real.shape
        globe, local = self.alignments(pair, attention["t2i"])
        p = len(globe)
        logits = torch.cat([self.gate(globe), self.gate(local)], dim=1).squeeze(2)  # (p, q + N)
        opened = self.norm(logits.flatten()[:, None]).view_as(logits).sigmoid()
        laid_out = opened.new_zeros(p, n * q).index_copy(1, place, opened[:, q:])
        beta = torch.cat([opened[:, :q], laid_out], dim=1).view(p, 1 + n, q)
        beta = beta / beta.sum(dim=1, keepdim=True)
        if gate is not None:
            real = torch.cat([pair.words.real.new_ones(1, q), pair.words.real.T])
            beta = gate(beta[:, :, None], real[None, :, None]).squeeze(2)
        weighed = beta.flatten(1)[:, q + place, None] * local
        total = (beta[:, 0, :, None] * globe).index_add(1, place % q, weighed)
        scores: Tensor = self.final(_unit(total)).squeeze(-1).sigmoid()
        return scores


class Reasoning(_Alignments):
    """SGR: similarity vectors as nodes of a graph that is learned; the whole hears what the words say.

        N = [sigma_0; sigma_1 ... sigma_n];  E = softmax((N W_q)(N W_k)^T),  N <- ReLU((E N) W_r);  S = sigmoid(w N_0)

    Args:
        width: Width of the fragments.
        similarity: Width of a similarity vector.
        sharpness: lambda_1.
        steps: How often.
        learn: Whether lambda_1 is learned.
    """

    def __init__(self, width: int, similarity: int, sharpness: float, *, steps: int, learn: bool = False) -> None:
        super().__init__(width, similarity, sharpness, learn=learn)
        names = ("query", "key", "read")
        self.graph = nn.ModuleList(
            [nn.ModuleDict({name: linear(similarity, similarity) for name in names}) for _ in range(steps)]
        )

    def judge(self, pair: Pair, attention: Attention, gate: Change | None = None) -> Tensor:
        """Scores in (0, 1); there is no gate."""
        globe, local = self.alignments(pair, attention["t2i"])
        words = pair.words
        (p, q, s), n = globe.shape, words.real.shape[1]
        laid_out = local.new_zeros(p, n * q, s).index_copy(1, words.place, local).view(p, n, q, s)
        nodes = torch.cat([globe[:, :, None], laid_out.transpose(1, 2)], dim=2)  # (p, q, 1 + n, s)
        real = torch.cat([words.real.new_ones(q, 1), words.real], dim=1)[:, None]  # (q, 1, 1 + n)
        for number, step in enumerate(self.graph, start=1):
            asking = nodes[:, :, :1] if number == len(self.graph) else nodes  # of the last step only N_0 is read
            edges = _asked(step["query"], step["key"], asking) @ nodes.transpose(2, 3)  # type: ignore[index]
            edges = edges.masked_fill(~real, float("-inf")).softmax(dim=-1)
            nodes = step["read"](edges @ nodes).relu()  # type: ignore[index]
        scores: Tensor = self.final(nodes[:, :, 0]).squeeze(-1).sigmoid()
        return scores


def _asked(query: nn.Linear, key: nn.Linear, nodes: Tensor) -> Tensor:
    """What nodes ask of others: (N W_q + b_q) (N' W_k + b_k)^T is this times N'^T, up to what softmax takes out."""
    return F.linear(nodes, key.weight.T @ query.weight, query.bias @ key.weight)


class SGRAF(Matcher):
    """Similarity vectors of words and their contexts, filtered (SAF), reasoned over (SGR), or both averaged.

        S = (S_saf + S_sgr) / 2  of two networks that share nothing;  L as SCAN

    Args:
        modules: "saf", "sgr", or "both".
        sharpness: lambda_1 of the attention of words to regions.
        similarity: Width of a similarity vector.
        steps: Steps of reasoning.
        norm: In the branch of the regions: "layer", or "batch" over their places.
        regions: Regions of every picture, for ``norm="batch"``.
        margin: By how much a partner should score higher.
        reduction: "sum" or "mean" of the loss over a batch.
        negatives: "hardest" as in the paper, or "bearable": the hardest of the batch that do not cost more than scores
            that are all alike.
        start: Where projections start: at canonical "correlations" of mean parts, or at "random"; word numbers and the
            GRU always start at random.
        width: Width of the fragments.
        embedding: Width of word embeddings, or of what is put in front of the GRU.
        gru: Whether features of words are read in order by a bidirectional GRU; word numbers always are.
        dropout: Share of units left out in training, at the words and for the whole.
        epochs: Passes over the pairs, one caption drawn per picture in each.
        batch_size: Items in a batch.
        rate: Learning rate.
        seed: Seed of weights, order and draws.

    Paper: Diao et al., Similarity Reasoning and Filtration for Image-Text Matching, AAAI 2021.
    Reference code: Paranioar/SGRAF (Apache-2.0; read, not used).
    """

    card = Card(
        slug="sgraf",
        name="SGRAF",
        summary="Alignments of words and regions as vectors; a gate weighs them, a graph reasons over them.",
        paper="Diao, Zhang, Ma, Lu, Similarity Reasoning and Filtration for Image-Text Matching, AAAI 2021.",
        url="https://doi.org/10.1609/aaai.v35i2.16209",
        family="matching",
        returns="scores",
        takes=("parts",),
        needs_labels=False,
        needs_pairs="yes",
        native="any",
        checked="Against loops over pairs and words; closed forms of no step, equal gates and equal wholes.",
        departures=(
            "width 256, similarity vectors of 64 and rate 5e-4 by default, for a processor; the preset paper has 1024, "
            "256 and 2e-4",
            'LayerNorm in the branch of the regions, for any number of them; norm="batch" is the released one',
            "batch norm of the gate sees the words of the pairs that carry a gradient, partners and hardest negatives, "
            "at once; released: those of all pairs, caption by caption",
            "both networks learn in one run, from the same batches, their gradients clipped together; SGRAF.of takes "
            "two that learned apart",
            "parts are centred and divided by one number, measured on training parts, before the projection",
            "learns from the hardest negatives that do not cost more than scores which are all alike, and projections "
            "start at canonical correlations of mean parts; the preset paper has neither",
            "the rate decays by a cosine and gradients are clipped at 5, as everywhere here; released: a tenth late in "
            "training, clipped at 2",
            "other captions of a picture are no negatives; each epoch draws one caption per picture",
            "an item without partner is left out of training",
        ),
        reference_code="Paranioar/SGRAF (Apache-2.0; read, not used)",
    )
    search_space: ClassVar = {
        "modules": ("saf", "sgr", "both"),
        "similarity": (64, 128, 256),
        "dropout": (0.2, 0.4),
        "rate": (2e-4, 5e-4, 1e-3),
    }
    presets: ClassVar = {
        "paper": {
            "width": 1024,
            "similarity": 256,
            "rate": 2e-4,
            "epochs": 40,
            "negatives": "hardest",
            "start": "random",
        },
        "cpu": {"width": 256, "similarity": 64, "rate": 1e-3, "epochs": 8},
    }

    def __init__(
        self,
        modules: str = "both",
        sharpness: float = 9.0,
        similarity: int = 64,
        steps: int = 3,
        norm: Norm = "layer",
        regions: int = 36,
        margin: float = 0.2,
        reduction: Reduction = "sum",
        negatives: Rivals = "bearable",
        start: Start = "correlations",
        width: int = 256,
        embedding: int = 300,
        gru: bool = False,
        dropout: float = 0.4,
        epochs: int = 30,
        batch_size: int = 128,
        rate: float = 5e-4,
        seed: int = 0,
    ) -> None:
        self.modules, self.sharpness, self.similarity, self.steps = modules, sharpness, similarity, steps
        self.norm, self.regions = norm, regions
        self.margin, self.reduction, self.negatives, self.start = margin, reduction, negatives, start
        self.width, self.embedding, self.gru, self.dropout = width, embedding, gru, dropout
        self.epochs, self.batch_size, self.rate, self.seed = epochs, batch_size, rate, seed

    @classmethod
    def of(cls, saf: SGRAF, sgr: SGRAF) -> SGRAF:
        """Both modules from two fitted models that were trained apart, as the paper does; nothing is learned anew.

        Args:
            saf: With ``modules="saf"``; arguments of the whole that only concern training are its own.
            sgr: With ``modules="sgr"``, of the same widths, learned from the same modalities.

        Raises:
            UsageError: If they do not belong together; names what differs.
            MethodError: If one is not fitted.
        """
        for model, modules in ((saf, "saf"), (sgr, "sgr")):
            model.require_fitted()
            if model.modules != modules:
                raise UsageError(f'SGRAF.of takes a model with modules="saf" and one with "sgr"; got {model.modules}.')
        facts = [
            {**{name: model.params()[name] for name in SHAPE}, "modalities": model.widths_} for model in (saf, sgr)
        ]
        differing = [name for name, value in facts[0].items() if facts[1][name] != value]
        if differing:
            raise UsageError(f"the two models differ in {', '.join(differing)}: fit them with the same.")
        both = cls(**{**saf.params(), "modules": "both"})
        both.widths_, both.parts_, both.classes_ = dict(saf.widths_), saf.parts_, saf.classes_
        both.restore(saf.state() | {f"1{name[1:]}": value for name, value in sgr.state().items()})
        return both

    def scorers(self) -> list[Scorer]:
        """One or both modules.

        Raises:
            UsageError: If ``modules`` is unknown.
        """
        names = {"saf": ("saf",), "sgr": ("sgr",), "both": ("saf", "sgr")}
        if self.modules not in names:
            raise UsageError(nearest(self.modules, names, what="choice of modules"))
        return [
            alignment_scorer(name, self.width, self.similarity, self.sharpness, self.steps)
            for name in names[self.modules]
        ]

    def summary(self, position: int) -> Whole:
        """One vector of an item; normalised for regions only."""
        return Whole(self.width, self.word_dropout, norm=None if position else self.norm, places=self.regions)


def alignment_scorer(
    name: str, width: int, similarity: int, sharpness: float, steps: int, *, learn: bool = False
) -> Scorer:
    """SAF or SGR by name, with first weights.

    Args:
        name: "saf" or "sgr".
        width: Width of the fragments.
        similarity: Width of a similarity vector.
        sharpness: lambda_1.
        steps: Steps of reasoning, of SGR.
        learn: Whether lambda_1 is learned.
    """
    if name == "saf":
        return Filtration(width, similarity, sharpness, learn=learn)
    return Reasoning(width, similarity, sharpness, steps=steps, learn=learn)
