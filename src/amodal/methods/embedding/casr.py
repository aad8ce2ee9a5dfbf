"""CASR: missing sides imagined from priors and context, alignment by attention that holds in every environment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from amodal.data import Dataset, Observations
from amodal.errors import UsageError, nearest
from amodal.methods.card import Card
from amodal.methods.cues import mean_by_item
from amodal.methods.embedding.casr_alignment import Sides, alignment, plain_risk
from amodal.methods.embedding.casr_environments import assigned, patterns, slopes
from amodal.methods.embedding.casr_networks import CASRNetwork, Rows
from amodal.methods.embedding.casr_recovery import Recovers
from amodal.methods.embedding.semantics import TERMS
from amodal.methods.embedding.transport import confident, transport_plan
from amodal.methods.networks import FILLS
from amodal.training import Batch, Batches

__all__ = ["CASR"]

ENVIRONMENTS = ("learned", "pattern", "none")
EMBEDDINGS = ("semantic", "feature")
#: Observations of parts on which their scale is measured.
SOME = 4096
#: Epochs until the penalties on environments have their full weight.
RAMP = 10


class CASR(Recovers):
    """Causality-Aligned Semantic Recovery, as we read its abstract.

    1. *Alignment* of each modality with the classes, by K small members, each of which leaves a fold of rows unseen. An
       adapter brings features to a member's space, an attention (a gate; before it, weights of the parts, if there
       are any) picks from them, and classes are directions. With *Explicit Causal Alignment* (``eca``) there is one
       attention for each environment, see ``casr_alignment``. Environments are weights of the training rows: free
       ones, drawn anew every few epochs and moved to where attention holds least, or the patterns of who lacks what.
       New items get the one attention whose weights are the mean over environments.
    2. *Judgement*: a kernel machine says what like items say of the classes (``likeness``), and rows that members and
       machines have not learned from tell how far each is to be believed, see ``likeness``.
    3. *Missing Modality Imagination*: on items with both sides one is hidden and imagined from the other, the category
       prior and the context (the sides of like items), see ``casr_imagining``.

        1.  L = R_env + contrast SupCon + L_plain + ramp (invariance R_inv + spread R_att) + compact R_cmp
        R_env: ``losses.environment_mean`` of ``losses.label_nll`` at s cos(f_k, classes);  L_plain: of the adapters
        R_inv, R_att, R_cmp: ``losses.invariance_penalty``, ``attention_spread``, ``compactness``;  ramp: over 10 epochs

    Partially aligned data (``pacmr``): unlabelled rows are given classes, in the shares of the labelled rows, by
    optimal transport from their features to the classes; the surest of each class learn along as incomplete rows.

    Args:
        members: Number K of members.
        dim: Width e of each member's space.
        hidden: Width of the hidden layer of every adapter.
        dropout_input: Share of features left out in training.
        dropout: Share of hidden units left out in training.
        scale: Factor s of the cosine with a class.
        embedding: "semantic", class probabilities whose cosine rises with P(share a label), or "feature", f itself.
        likeness: Whether like items are asked.
        anchors: Training rows of each modality that stand for like items, at most.
        mmi: Whether imagination is learned.
        prior: Whether imagination knows the category prior.
        context: Whether it sees like items.
        neighbours: How many like items.
        memory: Most rows of each modality for stage 2, and most paired ones for stage 3.
        imagination_steps: Steps of stage 3.
        recover_class: Weight of the classes of imagined sides.
        recover_contrast: Weight of the contrast of imagined with true sides.
        eca: Whether there are environments and penalties; else one attention and none.
        env: Environments: "learned", "pattern" (who lacks what), or "none".
        environments: How many are learned.
        erase: Whether ``eca`` also takes cues out of the features, what lies along their shifts by environment within
            the classes, and lets rows teach as much as makes classes and environments independent, see ``cues``.
        environment: Attribute of the training items that names the environments of these shifts, heeded where held-out
            rows do not say that it costs more than it brings; None to guess them.
        refresh: Epochs between new environments, and between new guesses of labels.
        env_passes: Steps in which rows move between environments.
        contrast: Weight of SupCon.
        invariance: Weight w of R_inv.
        spread: Weight a of R_att.
        compact: Weight r of R_cmp.
        pacmr: Whether unlabelled rows learn along with guessed labels.
        sinkhorn: Whether they are guessed by optimal transport; else by the nearest class.
        top: Share of the rows guessed for each class that learn along.
        fill: What is done about an absent modality: "mask", "drop" or "mean".
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate.
        weight_decay: Decoupled weight decay of weights, not of offsets.
        seed: Seed of weights, order, dropout and environments.

    Attributes:
        imaginer_: What imagines missing sides.
        judges_: By modality, who says what of the classes.

    Paper: Causality-Aligned Semantic Recovery for Incomplete Cross-Modal Retrieval, AAAI 2026; a reconstruction.
    """

    card: ClassVar[Card] = Card(
        slug="casr",
        name="CASR",
        summary="Missing sides imagined from category priors and like items; attention that holds across environments.",
        paper="Causality-Aligned Semantic Recovery for Incomplete Cross-Modal Retrieval, AAAI 2026",
        family="embedding",
        returns="embeddings",
        needs_labels=True,
        needs_pairs="helpful",
        native="any",
        takes=("vectors", "parts"),
        fills=FILLS,
        imputes=True,
        checked="closed forms and limits of every part; finite differences; no row sees its own hidden side",
        departures=(
            "all formulas are ours: neither full text nor code could be had, and no table can be checked against",
            "rows are ranked by the class probabilities of f (embedding), not by f: better on every set we tried",
            "the likelihood of several labels is a sum over classes, with an offset for each, not a mean",
            "no SupCon by default (contrast=0): on validation parts it brings nothing, and takes much on one set",
            "five cross-fitted members in the place of one network, as CICH has them",
            "beside the members a kernel machine speaks of the classes",
            "with environments, cues that shift features within the classes are erased and rows weighed by P(class) "
            "P(environment) / P(both), since invariance of attention alone does not find cues",
            "adapters have a hidden layer, one scale for all features and a root where none is negative",
            "no environments by default (eca=False): without cues they brought nothing to an earlier form",
            "priors begin as the means of the classes and are learned: given ones would know the names of the classes",
            "the prior of an item without label weighs classes by what the observed side says of them",
            "half of the hidden sides are imagined without labels, as those of new items must be",
            "imagination comes after alignment, which learns nothing of imagined sides: it fares no better with them",
            "parts are pooled after the adapter, the kernel machine takes their mean",
            "the gradient of R_inv in the factors has a closed form, so that nothing is differentiated twice",
        ),
        reference_code="no reference implementation",
        reconstruction=True,
    )
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "members": (3, 5, 8),
        "likeness": (True, False),
        "eca": (True, False),
        "erase": (True, False),
        "contrast": (0.0, 0.1, 1.0),
        "invariance": (0.0, 1e-3, 1e-2, 1e-1),
        "spread": (0.0, 1e-2, 1e-1),
        "compact": (0.0, 1e-2, 1e-1),
        "dropout": (0.0, 0.3, 0.5),
        "rate": (3e-4, 1e-3, 2e-3),
    }

    network_: CASRNetwork

    def __init__(
        self,
        *,
        members: int = 5,
        dim: int = 64,
        hidden: int = 256,
        dropout_input: float = 0.3,
        dropout: float = 0.5,
        scale: float = 16.0,
        embedding: Literal["semantic", "feature"] = "semantic",
        likeness: bool = True,
        anchors: int = 2000,
        mmi: bool = True,
        prior: bool = True,
        context: bool = True,
        neighbours: int = 8,
        memory: int = 8192,
        imagination_steps: int = 150,
        recover_class: float = 1.0,
        recover_contrast: float = 0.5,
        eca: bool = False,
        env: Literal["learned", "pattern", "none"] = "learned",
        environments: int = 2,
        erase: bool = True,
        environment: str | None = None,
        refresh: int = 5,
        env_passes: int = 1,
        contrast: float = 0.0,
        invariance: float = 1e-2,
        spread: float = 1e-2,
        compact: float = 1e-1,
        pacmr: bool = False,
        sinkhorn: bool = True,
        top: float = 0.3,
        fill: Literal["mask", "drop", "mean"] = "mask",
        epochs: int = 30,
        batch_size: int = 128,
        rate: float = 2e-3,
        weight_decay: float = 1e-2,
        seed: int = 0,
    ) -> None:
        self.members, self.dim, self.hidden, self.scale = members, dim, hidden, scale
        self.dropout_input, self.dropout, self.embedding = dropout_input, dropout, embedding
        self.likeness, self.anchors, self.memory = likeness, anchors, memory
        self.mmi, self.prior, self.context, self.neighbours = mmi, prior, context, neighbours
        self.imagination_steps = imagination_steps
        self.recover_class, self.recover_contrast = recover_class, recover_contrast
        self.eca, self.env, self.environments, self.refresh, self.env_passes = (
            eca, env, environments, refresh, env_passes,
        )  # fmt: skip
        self.erase, self.environment = erase, environment
        self.contrast, self.invariance, self.spread, self.compact = contrast, invariance, spread, compact
        self.pacmr, self.sinkhorn, self.top, self.fill = pacmr, sinkhorn, top, fill
        self.epochs, self.batch_size, self.rate, self.weight_decay, self.seed = (
            epochs, batch_size, rate, weight_decay, seed,
        )  # fmt: skip

    @property
    def assignment(self) -> str:
        """How rows come by their environments: ``env``, or "none" without ``eca``."""
        return self.env if self.eca else "none"

    def build(self) -> CASRNetwork:
        """All networks, with as many attentions as there are environments."""
        for value, known, what in ((self.env, ENVIRONMENTS, "env"), (self.embedding, EMBEDDINGS, "embedding")):
            if value not in known:
                raise UsageError(nearest(str(value), known, what=what))
        if self.members < 2:
            raise UsageError(f"members of casr is {self.members}; what one has not seen another has, so it takes two.")
        count = {"learned": self.environments, "pattern": 2 ** len(self.widths_) - 1, "none": 1}[self.assignment]
        return CASRNetwork(
            list(self.widths_.values()),
            [name in self.parts_ for name in self.widths_],
            members=self.members,
            hidden=self.hidden,
            width=self.dim,
            dropout=(self.dropout_input, self.dropout),
            classes=len(self.classes_),
            environments=count,
            scale=self.scale,
        )

    def prepare(self, data: Dataset) -> None:
        """Scales, shares of the classes, folds, and the environments that are given."""
        assert data.labels is not None  # noqa: S101 - checked by fit
        network, known = self.network_, data.labels.known & (data.labels.per_row > 0)
        balance = {}
        for k, name in enumerate(data.names):
            self._adapters(k).standardise.fit(_apart(data[name]))
            if self.eca and self.erase:
                # nothing is erased until it is fitted
                scaled = partial(self._scaled, k=k)
                balance[name] = self._adapters(k).erase.fit(data, name, scaled, self.environment, self.seed)
        self.balance_ = mean_by_item(data, balance)
        network.single.fill_(data.labels.single)
        shares = torch.from_numpy(np.asarray(data.labels.matrix[known].mean(axis=0)).ravel()).float()
        if not network.single:
            network.reach.fill_(float(data.labels.per_row[known].max()) * sum(1 / t for t in range(1, TERMS + 1)))
            for classes in (network.classes, network.plain):
                classes.offsets.data.copy_(torch.logit(shares.clamp(1e-4, 1 - 1e-4)).expand_as(classes.offsets))
        self._shares = shares.numpy() / float(shares.sum())
        environment = torch.ones(len(data), network.environments)
        if self.assignment == "pattern":
            environment = patterns(data.presence())
        network.rows = Rows(environment, torch.zeros(len(data) if self.pacmr else 0, len(self.classes_)))
        self.fold_ = torch.from_numpy(np.random.default_rng(self.seed).permutation(len(data)) % self.members)
        self.imaginer_, self.judges_ = self._imaginer(), {}

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """Every few epochs, environments and guessed labels."""
        if epoch % self.refresh == 0:
            if self.assignment == "learned":
                self._assign(batches, device)
            if self.pacmr and epoch:
                self._guess(batches, device)

    @torch.no_grad()
    def _assign(self, batches: Batches, device: torch.device) -> None:
        """Draw the environments of all rows anew, and move rows to where attention holds least."""
        for batch in self._blocks(batches, device):
            found = []
            for k, m in enumerate(self.widths_):
                known = batch.known[batch.rows[m]]
                rows, seen = batch.rows[m][known], self.network_.seen(batch.x[m][known], k)[0]
                learns = self._learns(batch.index[rows])
                found.append((rows, slopes(self.network_, seen, k, batch.labels[rows], learns)))
            logits = torch.randn(len(batch.index), self.network_.environments, device=device)
            self.network_.rows.environment[batch.index] = assigned(found, logits, self.env_passes)

    @torch.no_grad()
    def _guess(self, batches: Batches, device: torch.device) -> None:
        """Guess labels of unlabelled rows, by transport or the likeliest class, and keep those that are surest."""
        index, evidence = [], []
        for batch in self._blocks(batches, device):
            total = batch.labels.new_zeros(len(batch.index), len(self.classes_))
            for k, m in enumerate(self.widths_):
                seen = self.network_.seen(batch.x[m], k)[1]
                total.index_add_(0, batch.rows[m], self.network_.evidence(seen, k))
            sides = torch.bincount(torch.cat(list(batch.rows.values())), minlength=len(total))
            free = ~batch.known & (sides > 0)
            index.append(batch.index[free])
            evidence.append(total[free] / sides[free, None])
        rows, sure = torch.cat(index), self.network_.probabilities(torch.cat(evidence)).double().cpu().numpy()
        guess = self.network_.rows.guess
        guess.zero_()
        if len(rows):
            plan = transport_plan(1 - sure, self._shares) if self.sinkhorn else sure
            items, classes = confident(plan, self.top)
            guess[rows[torch.from_numpy(items)], torch.from_numpy(classes)] = 1.0

    def _learns(self, index: Tensor) -> Tensor:
        """How much each member learns from each training row, shape (m, K); 0 where it must not."""
        fold, balance = self.fold_.to(index.device)[index], self.balance_.to(index.device)[index]
        return (fold[:, None] != torch.arange(self.members, device=index.device)) * balance[:, None]

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; see the class."""
        network, batch = self.network_, self._labelled(self.received(batch))
        sides, plain = [], batch.labels.new_zeros(())
        for k, m in enumerate(self.widths_):
            known = batch.known[batch.rows[m]]
            rows = batch.rows[m][known]
            if len(rows):
                seen, mean = network.seen(batch.x[m][known], k)
                learns = self._learns(batch.index[rows])
                weights = network.rows.environment[batch.index[rows]][:, :, None] * learns[:, None]
                sides.append(Sides(k, seen, batch.labels[rows], weights))
                plain = plain + plain_risk(network, mean, batch.labels[rows], learns) / len(self.widths_)
        losses = alignment(network, sides, contrast=self.contrast > 0)
        loss = losses["risk"] + plain + self.contrast * losses["contrast"]
        if self.eca:
            penalties = self.invariance * losses["invariance"] + self.spread * losses["spread"]
            loss = loss + min(1.0, epoch / RAMP) * penalties + self.compact * losses["compact"]
        return {"loss": loss, "plain": plain, **losses}

    def groups(self) -> list[dict[str, Any]]:
        """Weights of alignment, which decay, and offsets, which do not."""
        learned = {n: v for n, v in self.network_.named_parameters() if not n.startswith(("imagine.", "priors"))}
        free = [value for name, value in learned.items() if name.endswith(("offset", "offsets", "bias"))]
        weights = [value for name, value in learned.items() if not name.endswith(("offset", "offsets", "bias"))]
        decay = {"params": weights, "lr": self.rate, "weight_decay": self.weight_decay}
        return [decay, {"params": free, "lr": self.rate, "weight_decay": 0.0}]

    def output(self, x: Tensor, modality: str) -> Tensor:
        """Embeddings, shape (m, .): class probabilities as ``share_vectors``, or f of all members side by side."""
        k = self.position(modality)
        seen = self.network_.seen(x, k)[1]
        if self.embedding == "feature":
            return self.network_.causal(seen, k).transpose(0, 1).flatten(1)
        scores = evidence = self.network_.evidence(seen, k)
        if modality in self.judges_:  # not yet while validation items choose an epoch
            scores = self.judges_[modality].scores(evidence, self._scaled(x, k))
        return self._semantic(scores, k)


def _apart(table: Observations) -> Observations:
    """Parts, of ``SOME`` observations at most, as observations of their own without padding; vectors as they are."""
    if table.store.ndim == 2:
        return table
    parts = table.read(np.unique(np.linspace(0, len(table) - 1, min(len(table), SOME)).astype(np.int64)))
    real = parts.any(axis=2)
    return Observations(parts[real], np.repeat(np.arange(len(parts)), real.sum(axis=1)))
