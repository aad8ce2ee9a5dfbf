"""CausMatch (reconstruction): attention is taught by what happens to the score when it is replaced."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amodal.data import Dataset
from amodal.errors import UsageError, nearest
from amodal.losses.matching import Reduction, pair_contrast, preference
from amodal.methods.card import Card
from amodal.methods.cues import balance, named_environments
from amodal.methods.matching.base import Matcher, Rivals, Start
from amodal.methods.matching.blocks import Direction, Pair
from amodal.methods.matching.contest import Contest, Measure, blocks, glance
from amodal.methods.matching.interventions import Intervention, check_intervention, intervene
from amodal.methods.matching.scan import CrossAttention
from amodal.methods.matching.scorer import Scorer
from amodal.methods.matching.sgraf import Norm, Whole, alignment_scorer

__all__ = ["CausMatch"]

BASES = ("scan_t2i", "scan_i2t", "scan_both", "saf", "sgr")
Form = Literal["hinge", "ce"]
TestScore = Literal["score", "effect"]
Through = Literal["all", "attention"]


class CausMatch(Matcher):
    """A matcher whose attention is supervised by its own counterfactual effect.

        S = g(A),  S' = g(A'),  E = S - S'          A the learned attention, A' another in its place, g all that follows
        L = hinge(S) + effect_weight hinge(E; effect_margin) + preference_weight mean_p softplus(-(S_pp - S'_pp) / tau)

    Without counterfactual, or with both weights 0, it is its base, step by step.

    Args:
        base: "scan_t2i", "scan_i2t", "scan_both", "saf" or "sgr".
        counterfactual: What takes the place of attention in training: "random", "uniform", "shuffle", "reverse",
            "swap", or "none".
        effect_weight: Weight lambda_1' of the loss on the effect E of all pairs of a batch.
        preference_weight: Weight lambda_2' of the preference of the learned attention, on pairs that belong together.
        form: Of the loss on the effect: "hinge" with the hardest negative of E, or "ce", a cross-entropy of 16 pairs
            at a time.
        effect_margin: Margin of the hinge on E.
        tau: Temperature of the cross-entropy on E.
        tau_preference: Temperature of the preference.
        ramp: Epochs in which both weights rise to their value.
        gate: Whether the gate of "saf" is intervened on, too.
        stop_cf: Whether S' is a constant to the gradient.
        through: What the effect teaches: "attention" alone, with all that is attended to held fast, or "all".
        environment: Attribute that names what a training item was under, such as a source or a cue that goes with the
            classes here and not there: correlations to start at are those within environments, and in both hinges
            pairs weigh as much as makes environments and classes, where known, independent (see ``cues.balance``).
        balance: Power of these weights: with 1 independent, with 0 all alike.
        learn_temperature: Whether lambda_1 of the attention is learned.
        test_score: Whether pairs are ranked by their "score", or by their "effect" against uniform attention.
        pooling: Of a base of SCAN: "mean" or "lse".
        sharpness_t2i: lambda_1 where words ask.
        sharpness_i2t: lambda_1 where regions ask.
        lse_t2i: lambda_2 where words ask.
        lse_i2t: lambda_2 where regions ask.
        similarity: Width of a similarity vector of "saf" and "sgr".
        steps: Steps of reasoning of "sgr".
        norm: In the branch of the regions of "saf" and "sgr": "layer", or "batch" over their places.
        regions: Regions of every picture, for ``norm="batch"``.
        margin: By how much a partner should score higher.
        reduction: "sum" or "mean" over a batch, of every term.
        negatives: "hardest" as in the paper, or "bearable": the hardest of the batch that do not cost more than scores
            that are all alike.
        start: Where projections start: at canonical "correlations" of mean parts, or at "random"; word numbers and the
            GRU always start at random.
        width: Width of the fragments.
        embedding: Width of word embeddings, or of what is put in front of the GRU.
        gru: Whether features of words are read in order by a bidirectional GRU; word numbers always are.
        dropout: Share of units left out in training; by default that of the base: 0 for SCAN, else .4.
        epochs: Passes over the pairs, one caption drawn per picture in each.
        batch_size: Items in a batch.
        rate: Learning rate.
        seed: Seed of weights, order, draws and interventions.

    Paper: Chen and Wang, CausMatch: Causal Matching Learning With Counterfactual Preference Framework for Cross-Modal
    Retrieval, IEEE Access 2025: its abstract. Interventions: Rao et al., Counterfactual Attention Learning, ICCV 2021.
    """

    card = Card(
        slug="causmatch",
        name="CausMatch",
        summary="Attention between words and regions is replaced by another, and what the score loses is a lesson.",
        paper="Chen, Wang, CausMatch: Causal Matching Learning With Counterfactual Preference Framework for "
        "Cross-Modal Retrieval, IEEE Access 13, 2025.",
        url="https://doi.org/10.1109/ACCESS.2025.3529942",
        family="matching",
        returns="scores",
        takes=("parts",),
        needs_labels=False,
        needs_pairs="yes",
        native="any",
        checked="Equal to its base without counterfactual; closed forms of no effect. No table could be compared.",
        departures=(
            "built from the abstract by analogy with counterfactual attention learning (CAL) on SCAN and SGRAF: no "
            "formula of the paper is public",
            "the effect teaches attention alone, what is attended to held fast: it does less harm, and does not make "
            "the effect larger (planted data); taught through everything, as in CAL (through='all', preset paper), the "
            "effect grows, and scan loses 39 of 268 points of rSum (flickr8k dev, one seed)",
            "preference may mean the loss on the effect or the preference on matched pairs: both are switches",
            'with reduction="sum" every term is a sum over pairs, so that its weight does not depend on the batch',
            "the hardest negatives are found under one draw of another attention, and learned from under a second",
            'form="ce" contrasts 16 pairs at a time',
            "a shuffle deals one permutation per pair of items; a swap shifts all askers of a batch by one number",
            "in both passes of the effect the batch norm of saf uses its running statistics and leaves them: its own "
            "would take out what the intervention did",
            "environment is ours: correlations within named environments are deaf to what goes with them, and weights "
            "keep the contest from teaching it again",
            'test_score="effect" compares with uniform attention, as CAL does, which needs no chance',
            "those of its base: see scan and sgraf",
        ),
        reference_code="none for the paper; raoyongming/CAL (MIT; read, not used)",
        reconstruction=True,
    )
    search_space: ClassVar = {
        "base": BASES,
        "counterfactual": ("random", "uniform", "shuffle", "reverse", "swap"),
        "effect_weight": (0.0, 0.3, 1.0),
        "preference_weight": (0.0, 0.3, 1.0),
        "effect_margin": (0.05, 0.1, 0.2),
        "through": get_args(Through),
    }
    presets: ClassVar = {
        "paper": {
            "width": 1024,
            "similarity": 256,
            "rate": 2e-4,
            "epochs": 30,
            "negatives": "hardest",
            "start": "random",
            "through": "all",
        },
        "cpu": {"width": 256, "similarity": 64, "rate": 2e-3, "epochs": 8},
    }

    balance_: Tensor

    def __init__(
        self,
        base: str = "scan_both",
        counterfactual: Intervention = "random",
        effect_weight: float = 1.0,
        preference_weight: float = 0.0,
        form: str = "hinge",
        effect_margin: float = 0.1,
        tau: float = 0.1,
        tau_preference: float = 0.1,
        ramp: int = 2,
        gate: bool = False,
        stop_cf: bool = False,
        through: Through = "attention",
        environment: str | None = None,
        balance: float = 0.7,
        learn_temperature: bool = False,
        test_score: str = "score",
        pooling: str = "mean",
        sharpness_t2i: float = 9.0,
        sharpness_i2t: float = 4.0,
        lse_t2i: float = 6.0,
        lse_i2t: float = 5.0,
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
        dropout: float | None = None,
        epochs: int = 30,
        batch_size: int = 128,
        rate: float = 5e-4,
        seed: int = 0,
    ) -> None:
        self.base, self.counterfactual = base, counterfactual
        self.effect_weight, self.preference_weight = effect_weight, preference_weight
        self.form, self.effect_margin, self.tau, self.tau_preference = form, effect_margin, tau, tau_preference
        self.ramp, self.gate, self.stop_cf, self.learn_temperature = ramp, gate, stop_cf, learn_temperature
        self.through, self.test_score, self.pooling = through, test_score, pooling
        self.environment, self.balance = environment, balance
        self.sharpness_t2i, self.sharpness_i2t = sharpness_t2i, sharpness_i2t
        self.lse_t2i, self.lse_i2t = lse_t2i, lse_i2t
        self.similarity, self.steps, self.norm, self.regions = similarity, steps, norm, regions
        self.margin, self.reduction, self.negatives, self.start = margin, reduction, negatives, start
        self.width, self.embedding, self.gru, self.dropout = width, embedding, gru, dropout
        self.epochs, self.batch_size, self.rate, self.seed = epochs, batch_size, rate, seed

    @property
    def word_dropout(self) -> float:
        """That of the base, unless given."""
        if self.dropout is not None:
            return self.dropout
        return 0.0 if self.base.startswith("scan") else 0.4

    def scorers(self) -> list[Scorer]:
        """The score of the base.

        Raises:
            UsageError: If an option is unknown.
        """
        for name, known, what in (
            (self.base, BASES, "base"),
            (self.form, get_args(Form), "form"),
            (self.test_score, get_args(TestScore), "test_score"),
            (self.through, get_args(Through), "through"),
        ):
            if name not in known:
                raise UsageError(nearest(name, known, what=what))
        check_intervention(self.counterfactual)
        learn = self.learn_temperature
        if not self.base.startswith("scan"):
            return [
                alignment_scorer(self.base, self.width, self.similarity, self.sharpness_t2i, self.steps, learn=learn)
            ]
        sharpness: dict[Direction, float] = {"t2i": self.sharpness_t2i, "i2t": self.sharpness_i2t}
        lse: dict[Direction, float] = {"t2i": self.lse_t2i, "i2t": self.lse_i2t}
        direction = self.base.removeprefix("scan_")
        return [CrossAttention(direction, self.pooling, sharpness=sharpness, lse=lse, learn=learn)]

    def summary(self, position: int) -> nn.Module | None:
        """As the base: SCAN compares no whole items."""
        if self.base.startswith("scan"):
            return None
        return Whole(self.width, self.word_dropout, norm=None if position else self.norm, places=self.regions)

    def prepare(self, data: Dataset) -> None:
        """Also how much each pair teaches.

        Raises:
            UsageError: If the items have no attribute of the name of ``environment``.
        """
        super().prepare(data)
        self.balance_ = torch.ones(len(data))
        if self.environment is None:
            return
        environments = named_environments(data, self.environment)  # a wrong name is said whatever else is at hand
        if data.labels is not None:
            known = data.labels.matrix.multiply(data.labels.known[:, None]).tocsr()
            weights = balance(known, environments) ** self.balance
            self.balance_ = torch.from_numpy(weights / weights.mean()).float()

    def strata(self, data: Dataset) -> NDArray[np.int64] | None:
        """The environments, if they are named."""
        if self.environment is None:
            return None
        found = named_environments(data, self.environment).tocoo()
        group = np.full(len(data), -1)
        group[found.row] = found.col
        return group

    def weights(self, items: Tensor) -> Tensor | None:
        """As environments say, mean 1 over the batch."""
        if self.environment is None:
            return None
        weights = self.balance_.to(items.device)[items]
        return weights / weights.mean()

    def judged(self, scorer: Scorer, pair: Pair) -> Tensor:
        """The score, or its effect with ``test_score="effect"``."""
        return scorer.effect(pair) if self.test_score == "effect" else scorer(pair)

    def objective(self, scorer: Scorer, pair: Pair, items: Tensor, epoch: int) -> dict[str, Tensor]:
        """The loss of the base, and what the intervention adds; means of S_pp, S_pq and S'_pp are logged beside it."""
        alone = self.counterfactual == "none" or not (self.effect_weight or self.preference_weight)
        generator = self._generator(items, epoch)
        seen: tuple[Tensor | None, Tensor | None] = (None, None)
        if not alone and self.form == "hinge":  # one look finds the rivals of both
            both = glance(scorer, pair, lambda block: torch.stack(self._both(scorer, block, generator)))
            seen = both[0], both[0] - both[1]
        base = self.contest(scorer, pair, items, scorer, self.margin, seen[0])
        logged = {"base": base.loss, "partners": base.partners.mean(), "others": base.others}
        if alone:
            return {"loss": base.loss, **logged}
        effect = self._effect(scorer, pair, items, lambda block: self._lost(scorer, block, generator), seen[1])
        preferred = preference(effect.partners, torch.zeros_like(effect.partners), self.tau_preference)
        preferred = preferred * (len(items) if self.reduction == "sum" else 1)
        rise = min((epoch + 1) / (self.ramp + 1), 1.0)
        loss = base.loss + rise * (self.effect_weight * effect.loss + self.preference_weight * preferred)
        logged["partners_counterfactual"] = logged["partners"] - effect.partners.mean()
        return {"loss": loss, "effect": effect.loss, "preference": preferred, **logged}

    def _effect(self, scorer: Scorer, pair: Pair, items: Tensor, measure: Measure, seen: Tensor | None) -> Contest:
        """How the effect of partners does among that of all pairs."""
        if self.form == "hinge":
            return self.contest(scorer, pair, items, measure, self.effect_margin, seen)
        return blocks(
            pair, items, measure, lambda x, y: len(x) * pair_contrast(x, y, self.tau), reduction=self.reduction
        )

    def _both(self, scorer: Scorer, pair: Pair, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Scores under the learned attention and under another; the cosines of fragments are the same."""
        kind, training = self.counterfactual, scorer.training
        change = (lambda beta, real: intervene(kind, beta, real, generator)) if self.gate else None
        scorer.eval()  # batch norm of the gate by its running statistics; a scorer has no dropout
        attention = scorer.attend(pair)
        if self.through == "attention":
            pair = pair.still()
        scores = scorer.judge(pair, attention)
        other = scorer.judge(pair, scorer.instead(kind, pair, attention, generator), change)
        scorer.train(training)
        return scores, other.detach() if self.stop_cf else other

    def _lost(self, scorer: Scorer, pair: Pair, generator: torch.Generator) -> Tensor:
        """What scores lose under another attention."""
        scores, other = self._both(scorer, pair, generator)
        return scores - other

    def _generator(self, items: Tensor, epoch: int) -> torch.Generator:
        """Chance of its own, so that dropout falls as in the base: a function of seed, epoch and batch."""
        state = np.random.SeedSequence((self.seed, epoch, int(items[0]))).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0]))
