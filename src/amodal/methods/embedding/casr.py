"""CASR: missing sides imagined from priors and context, alignment by attention that holds in every environment."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from numpy.typing import NDArray
from torch import Tensor

from amodal.data import Dataset
from amodal.errors import MethodError, MissingModality, UsageError, nearest
from amodal.losses import label_nll
from amodal.methods.card import Card
from amodal.methods.embedding.casr_alignment import Sides, alignment
from amodal.methods.embedding.casr_environments import assigned, patterns, slopes
from amodal.methods.embedding.casr_imagining import Imaginer
from amodal.methods.embedding.casr_networks import CASRNetwork, Rows
from amodal.methods.embedding.feature_embed import FeatureEmbed
from amodal.methods.embedding.semantics import TERMS, share_vectors
from amodal.methods.embedding.transport import confident, transport_plan
from amodal.methods.imputation import Imputation
from amodal.methods.networks import FILLS
from amodal.training import Batch, Batches

__all__ = ["CASR"]

ENVIRONMENTS = ("learned", "pattern", "none")
EMBEDDINGS = ("semantic", "feature")
CHUNK = 1024
#: Epochs until the penalties on environments have their full weight.
RAMP = 10


class CASR(FeatureEmbed):
    """Causality-Aligned Semantic Recovery, as we read its abstract.

    An adapter brings the features of each modality to the common space. *Missing Modality Imagination* learns on items
    with both sides, one of which it hides and imagines from the other, the category prior and the context (the sides of
    like items), see ``casr_imagining``. *Explicit Causal Alignment* learns one attention (a gate) for each environment,
    from sides that are there and, if told to, imagined ones, see ``casr_alignment``. Environments are weights of the
    training rows: free ones, drawn anew every few epochs and moved to where attention holds least, or the patterns of
    who lacks what. New items get the one attention whose weights are the mean over environments.

        L = R_env + contrast SupCon + L_plain + L_rec + ramp (invariance R_inv + spread R_att) + compact R_cmp
        R_env: ``losses.environment_mean`` of ``losses.label_nll`` at s cos(f_k, classes);  L_plain: of the adapters
        R_inv, R_att, R_cmp: ``losses.invariance_penalty``, ``attention_spread``, ``compactness``;  ramp: over 10 epochs

    Partially aligned data (``pacmr``): unlabelled rows are given classes, in the shares of the labelled rows, by
    optimal transport from their features to the classes; the surest of each class learn along as incomplete rows.

    Args:
        dim: Width e of the common space.
        hidden: Width of the hidden layer of every adapter; 0 for none.
        dropout_input: Share of features left out in training.
        dropout: Share of hidden units left out in training.
        scale: Factor s of the cosine with a class.
        embedding: "semantic", class probabilities whose cosine rises with P(share a label), or "feature", f itself.
        mmi: Whether missing sides are imagined; else those terms are left out.
        prior: Whether imagination knows the category prior.
        context: Whether it sees like items.
        neighbours: How many like items.
        memory: Most paired rows among which they are sought.
        tau_prior: Temperature of the prior of an item without label.
        imagined: Weight of imagined sides in alignment, times their trust; sides that are there have 1.
        recover_class: Weight of the classes of imagined sides.
        recover_contrast: Weight of the contrast of imagined with true sides.
        eca: Whether there are environments and penalties; else one attention and none.
        env: Environments: "learned", "pattern" (who lacks what), or "none".
        environments: How many are learned.
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
        fills=FILLS,
        imputes=True,
        checked="closed forms and limits of every part; finite differences; no row sees its own hidden side",
        departures=(
            "all formulas are ours: neither full text nor code could be had, and no table can be checked against",
            "rows are ranked by the class probabilities of f (embedding), not by f: better on every set we tried",
            "the likelihood of several labels is a sum over classes, with an offset for each, not a mean",
            "no SupCon by default (contrast=0): on validation parts it brings nothing, and takes much on one set",
            "adapters have a hidden layer, one scale for all features and a root where none is negative",
            "priors are learned: given ones would know the names of the classes",
            "half of the hidden sides are imagined without labels, as those of new items must be",
            "by default alignment learns nothing of imagined sides (imagined=0): validation parts fare no better",
            "where it does, they count by their trust, and neither adapters nor imagination learn from them",
            "the gradient of R_inv in the factors has a closed form, so that nothing is differentiated twice",
        ),
        reference_code="no reference implementation",
        reconstruction=True,
    )
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "imagined": (0.0, 0.1, 1.0),
        "contrast": (0.0, 0.1, 1.0),
        "invariance": (0.0, 1e-3, 1e-2, 1e-1),
        "spread": (0.0, 1e-2, 1e-1),
        "compact": (0.0, 1e-2, 1e-1),
        "dropout": (0.0, 0.3, 0.5),
        "rate": (3e-4, 1e-3, 2e-3),
    }

    network_: CASRNetwork
    imaginer_: Imaginer

    def __init__(
        self,
        *,
        dim: int = 128,
        hidden: int = 256,
        dropout_input: float = 0.3,
        dropout: float = 0.5,
        scale: float = 16.0,
        embedding: Literal["semantic", "feature"] = "semantic",
        mmi: bool = True,
        prior: bool = True,
        context: bool = True,
        neighbours: int = 8,
        memory: int = 4096,
        tau_prior: float = 0.1,
        imagined: float = 0.0,
        recover_class: float = 1.0,
        recover_contrast: float = 0.5,
        eca: bool = True,
        env: Literal["learned", "pattern", "none"] = "learned",
        environments: int = 2,
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
        epochs: int = 15,
        batch_size: int = 128,
        rate: float = 2e-3,
        weight_decay: float = 1e-2,
        seed: int = 0,
    ) -> None:
        self.dim, self.hidden, self.dropout_input, self.dropout, self.scale = dim, hidden, dropout_input, dropout, scale
        self.embedding, self.mmi, self.prior, self.context = embedding, mmi, prior, context
        self.neighbours, self.memory, self.tau_prior, self.imagined = neighbours, memory, tau_prior, imagined
        self.recover_class, self.recover_contrast = recover_class, recover_contrast
        self.eca, self.env, self.environments, self.refresh, self.env_passes = (
            eca, env, environments, refresh, env_passes,
        )  # fmt: skip
        self.contrast, self.invariance, self.spread, self.compact = contrast, invariance, spread, compact
        self.pacmr, self.sinkhorn, self.top, self.fill = pacmr, sinkhorn, top, fill
        self.epochs, self.batch_size, self.rate, self.weight_decay, self.seed = (
            epochs, batch_size, rate, weight_decay, seed,
        )  # fmt: skip

    @property
    def environment(self) -> str:
        """How rows come by their environments: ``env``, or "none" without ``eca``."""
        return self.env if self.eca else "none"

    def build(self) -> CASRNetwork:
        """All networks, with as many attentions as there are environments."""
        for value, known, what in ((self.env, ENVIRONMENTS, "env"), (self.embedding, EMBEDDINGS, "embedding")):
            if value not in known:
                raise UsageError(nearest(str(value), known, what=what))
        count = {"learned": self.environments, "pattern": 2 ** len(self.widths_) - 1, "none": 1}[self.environment]
        return CASRNetwork(
            list(self.widths_.values()),
            self.dim,
            self.widths,
            (self.dropout_input, self.dropout),
            classes=len(self.classes_),
            environments=count,
            scale=self.scale,
        )

    def prepare(self, data: Dataset) -> None:
        """Also the shares of the classes, the pairs to learn from, and the environments that are given."""
        super().prepare(data)
        assert data.labels is not None  # noqa: S101 - checked by fit
        network, known = self.network_, data.labels.known & (data.labels.per_row > 0)
        shares = torch.from_numpy(np.asarray(data.labels.matrix[known].mean(axis=0)).ravel()).float()
        if not network.single:
            network.reach.fill_(float(data.labels.per_row[known].max()) * sum(1 / t for t in range(1, TERMS + 1)))
            for classes in (network.classes, network.plain):
                classes.offsets.data.copy_(torch.logit(shares.clamp(1e-4, 1 - 1e-4)))
        self._shares = shares.numpy() / float(shares.sum())
        environment = torch.ones(len(data), network.environments)
        if self.environment == "pattern":
            environment = patterns(data.presence())
        network.rows = Rows(environment, torch.zeros(len(data) if self.pacmr else 0, len(self.classes_)))
        paired = np.flatnonzero(data.presence().sum(axis=1) > 1)
        if self.mmi and not len(paired):
            warnings.warn("no item has two modalities: nothing missing can be imagined.", stacklevel=5)
        self._paired = np.random.default_rng(self.seed).permutation(paired)[: self.memory if self.mmi else 0]
        self.imaginer_ = self._imaginer()

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """Before each epoch: the rows that give context; every few epochs, environments and guessed labels."""
        self.imaginer_.remember(batches, self._paired, device)
        if epoch % self.refresh == 0:
            if self.environment == "learned":
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
                rows, adapted = batch.rows[m][known], self.network_.adapted(batch.x[m][known], k)
                found.append((rows, slopes(self.network_, adapted, k, batch.labels[rows])))
            logits = torch.randn(len(batch.index), self.network_.environments, device=device)
            self.network_.rows.environment[batch.index] = assigned(found, logits, self.env_passes)

    @torch.no_grad()
    def _guess(self, batches: Batches, device: torch.device) -> None:
        """Guess labels of unlabelled rows, by transport or the nearest class, and keep those that are surest."""
        index, cosines = [], []
        for batch in self._blocks(batches, device):
            total = batch.labels.new_zeros(len(batch.index), len(self.classes_))
            for k, m in enumerate(self.widths_):
                f = self.network_.causal(self.network_.adapted(batch.x[m], k), k)
                total.index_add_(0, batch.rows[m], self.network_.classes.cosine(f))
            sides = torch.bincount(torch.cat(list(batch.rows.values())), minlength=len(total))
            free = ~batch.known & (sides > 0)
            index.append(batch.index[free])
            cosines.append(total[free] / sides[free, None])
        rows, cosine = torch.cat(index), torch.cat(cosines).double().cpu().numpy()
        guess = self.network_.rows.guess
        guess.zero_()
        if len(rows):
            plan = transport_plan(1 - cosine, self._shares) if self.sinkhorn else cosine
            items, classes = confident(plan, self.top)
            guess[rows[torch.from_numpy(items)], torch.from_numpy(classes)] = 1.0

    def _blocks(self, batches: Batches, device: torch.device) -> Iterator[Batch]:
        """All training rows, in their order; the networks are at rest."""
        self.network_.eval()
        for start in range(0, len(batches.data), CHUNK):
            yield self.received(batches.gather(np.arange(start, min(start + CHUNK, len(batches.data)))).to(device))

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; see the class."""
        network, batch = self.network_, self._labelled(self.received(batch))
        adapted = {m: network.adapted(batch.x[m], k) for k, m in enumerate(self.widths_)}
        losses = self.imaginer_.recovery(batch, adapted, self.recover_class, self.recover_contrast)
        sides = [self._sides(batch, adapted, m) for m in self.widths_]
        losses |= alignment(network, [side for side in sides if len(side.x)], contrast=self.contrast > 0)
        losses["plain"] = batch.labels.new_zeros(())
        for m, x in adapted.items():
            known = batch.known[batch.rows[m]]
            labels = batch.labels[batch.rows[m][known]]
            likelihood = label_nll(network.plain(x[known]), labels, single=bool(network.single))
            losses["plain"] = losses["plain"] + likelihood.sum() / max(len(labels), 1) / len(adapted)
        return {"loss": self._total(losses, epoch), **losses}

    def _total(self, losses: dict[str, Tensor], epoch: int) -> Tensor:
        """The weighted sum; penalties on environments rise over the first epochs."""
        loss = losses["risk"] + losses["plain"] + self.contrast * losses["contrast"]
        loss = loss + losses["recovery"] + losses["trust"]
        if not self.eca:
            return loss
        penalties = self.invariance * losses["invariance"] + self.spread * losses["spread"]
        return loss + min(1.0, epoch / RAMP) * penalties + self.compact * losses["compact"]

    def _labelled(self, batch: Batch) -> Batch:
        """The batch with labels (zeros where unknown), guessed ones among them."""
        labels = batch.labels * batch.known[:, None]
        if not self.pacmr:
            return replace(batch, labels=labels)
        labels = labels + self.network_.rows.guess[batch.index] * ~batch.known[:, None]
        return replace(batch, labels=labels, known=labels.any(dim=1))

    def _sides(self, batch: Batch, adapted: dict[str, Tensor], target: str) -> Sides:
        """Sides of a modality of labelled rows: those observed, and those imagined."""
        known = batch.known[batch.rows[target]]
        absent = batch.known & (self.imagined > 0)
        absent[batch.rows[target]] = False
        imagined, places, trust = self.imaginer_.missing(batch, adapted, target, absent)
        rows = torch.cat([batch.rows[target][known], places])
        trust = torch.cat([trust.new_ones(len(rows) - len(places)), self.imagined * trust])
        weights = self.network_.rows.environment[batch.index[rows]] * trust[:, None]
        x = torch.cat([adapted[target][known], imagined])
        return Sides(self.position(target), x, batch.labels[rows], weights)

    def groups(self) -> list[dict[str, Any]]:
        """Weights, which decay, and offsets, which do not."""
        named = dict(self.network_.named_parameters())
        free = [value for value in named.values() if value.ndim < 2]
        weights = [value for value in named.values() if value.ndim >= 2]
        decay = {"params": weights, "lr": self.rate, "weight_decay": self.weight_decay}
        return [decay, {"params": free, "lr": self.rate, "weight_decay": 0.0}]

    def output(self, x: Tensor, modality: str) -> Tensor:
        """Embeddings, shape (m, .): class probabilities as ``share_vectors``, or f itself."""
        k, network = self.position(modality), self.network_
        return self._embedded(network.adapted(x, k), k)

    def _embedded(self, adapted: Tensor, k: int) -> Tensor:
        network = self.network_
        f = network.causal(adapted, k)
        if self.embedding == "feature":
            return f
        p = network.probabilities(network.classes(f))
        return share_vectors(p, k, len(self.widths_), single=bool(network.single), reach=float(network.reach))

    def finish(self, data: Dataset) -> None:
        """The rows that give context as the networks see them at last, and the way back to input features."""
        batches = Batches(data, self.batch_size, self.seed)
        self.imaginer_.remember(batches, self._paired, torch.device("cpu"))
        self.imaginer_.learn_readouts(batches, self._paired)

    @torch.no_grad()
    def impute(
        self,
        data: Dataset,
        modality: str,
        *,
        what: Literal["features", "latent", "embedding"] = "features",
        labels: bool = False,
    ) -> Imputation:
        """Imagine a modality for the items that lack it, the mean over the sides that they have.

        Args:
            data: Items with features.
            modality: What to imagine.
            what: Features in the width of the modality, what its adapter would make of them, or the embedding.
            labels: Whether labels that the items have may be used.

        Returns:
            One row per item that lacks the modality and has another. Trust is the cosine that the model expects
            between what it imagines and what is missing.

        Raises:
            MissingModality: If the model never learned the modality.
            MethodError: If the model has seen no pair of it with another modality.
        """
        self.require_fitted()
        if modality not in self.widths_:
            raise MissingModality(nearest(modality, self.widths_, what="modality") + " The model never learned it.")
        if not any(b == modality for _, b in self.imaginer_.banks):
            raise MethodError(
                f"this model cannot imagine {modality}: it has seen no pair of it with another modality, or was told "
                "not to (mmi=False). Fit with some items that have both."
            )
        if labels and (data.labels is None or data.labels.names != self.classes_):
            raise UsageError(
                "labels=True takes labels of the classes learned from, in their order; the data have none or others."
            )
        sides = {name: data[name] for name in data.names if name in self.widths_}
        batches = Batches(replace(data.with_tables(sides), labels=data.labels if labels else None), CHUNK, 0)
        absent = np.ones(len(data), bool) if modality not in sides else ~data.present(modality)
        items, values, trust = [], [], []
        for rows in np.array_split(np.arange(len(data)), -(-len(data) // CHUNK)):
            batch = batches.gather(rows)
            adapted = {m: self.network_.adapted(x, self.position(m)) for m, x in batch.x.items()}
            if not labels:
                batch = replace(batch, labels=torch.zeros(len(rows), len(self.classes_)))
            wanted = torch.from_numpy(absent[rows])
            found, places, sure = self.imaginer_.missing(batch, adapted, modality, wanted, unseen=True)
            values.append(found)
            items.append(rows[places.numpy()])
            trust.append(sure)
        x = self._form(torch.cat(values), modality, what)
        return Imputation(modality, np.concatenate(items), x.numpy(), torch.cat(trust).numpy())

    def _form(self, imagined: Tensor, modality: str, what: str) -> Tensor:
        """Imagined sides as features, as they are, or embedded."""
        if what == "latent":
            return imagined
        if what == "features":
            return self.imaginer_.features(imagined, modality)
        return F.normalize(self._embedded(imagined, self.position(modality)), dim=1)

    def state(self) -> dict[str, NDArray[Any]]:
        """Networks, and what imagines missing sides; nothing of training rows that only training needs."""
        learned = {name: value for name, value in super().state().items() if not name.startswith("rows.")}
        return learned | self.imaginer_.state()

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """The inverse of ``state``."""
        of_imaginer = {name: value for name, value in state.items() if name.startswith(("bank.", "readout."))}
        super().restore({name: value for name, value in state.items() if name not in of_imaginer})
        self.imaginer_ = self._imaginer()
        self.imaginer_.restore(of_imaginer)

    def _imaginer(self) -> Imaginer:
        neighbours = self.neighbours if self.context else 0
        return Imaginer(self.network_, list(self.widths_), neighbours, self.prior, self.tau_prior)
