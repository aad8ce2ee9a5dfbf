"""CICH as published: the paper's objective with a balanced likelihood, or the released code's by a switch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import permutations
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amodal.data import Dataset
from amodal.errors import UsageError
from amodal.losses import (
    gaussian_kl,
    kernel,
    pair_likelihood,
    propagated,
    reconstruction,
    share_label,
    supervised_contrastive,
)
from amodal.methods.card import Card
from amodal.methods.deep import DeepMethod
from amodal.methods.hashing.cich_paper_networks import CICHPaperNetwork
from amodal.methods.hashing.cich_released import Memories, modality_loss, prototype_loss
from amodal.methods.hashing.recovery import Imagines, Latent, Neighbours, Recovery
from amodal.training import Batch, Batches

__all__ = ["CICHPaper"]

PROTOTYPES = -1  #: the part of an alternating training in which label prototypes learn
PRETRAINING = 15  #: passes in which they learn alone, as released


class CICHPaper(Imagines, DeepMethod):
    """Contrastive Incomplete Cross-Modal Hashing, in the form of the paper; ``cich`` is the form that we recommend.

    Label vectors are mapped linearly to prototype codes, p(l) = W_p l; codes of every modality are fitted to label
    sharing with the prototypes of *all* items, so pairs are not needed (PSSC). A contrastive term across modalities
    sharpens the codes (SaCH). A variational bottleneck predicts the latent feature of the missing side from the present
    one, alone and with the context of neighbouring pairs (CCA); what it recovers takes part in the contrast.

        L      = L_PSSC + alpha L_SaCH + delta L_CCA
        L_PSSC = l(p) + eta_prototype |p - b|^2 / r + sum_m [ l(h^m) + eta |h^m - b|^2 / r ]
                 l: ``losses.pair_likelihood`` against the distinct label vectors u, theta = <h, W_p u> / 2
        L_SaCH = ``losses.supervised_contrastive`` of kernel(h, h') / tau, positives: shared labels
        L_CCA  = sum_{a != b} rec(q_ab(z_a), f_b) + rec(q'_ab(z_a, context), f_b) + beta KL(z_a | N(0, 1))
        b      = sign(p + sum_m h^m), observed and recovered modalities

    Args:
        bits: Code length r.
        latent: Width e of the latent features.
        hidden: Width of the first layer.
        dropout: Share of input features left out in training.
        alpha: Weight of SaCH.
        delta: Weight of CCA.
        beta: Weight of the bottleneck's divergence.
        eta: Weight of the distance of codes to the common code.
        eta_prototype: The same for prototypes.
        tau: Temperature of the contrast.
        neighbours: Neighbours K that give context; 0 for none.
        recovered: At most so many recovered rows of each modality take part in the contrast of a batch.
        memory: At most so many paired rows serve as neighbours.
        similarity: What codes are fitted to: "prototypes" (PSSC), or "pairs": codes of the other modality, of items of
            the batch that have both. The latter is the first row of the paper's ablation, and no method of its own.
        balance: Balance of the pair likelihood, "half" or the paper's "none".
        contrast_kernel: "cosine", or the paper's "sigmoid".
        contrast_scope: "union": all rows of the batch whatever their modality, or the paper's "cross".
        propagation: Label sharing of recovered rows: "always" along chains (paper), "never", or "auto": chains only
            where they do not make nearly everything similar.
        objective: "paper" as above, or "released", see ``cich_released``.
        joint: One step on everything per batch; or prototypes and modalities in turn, an epoch each.
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate of networks.
        rate_prototype: Learning rate of prototypes.
        weight_decay: Decoupled weight decay of the networks.
        seed: Seed of weights, order and noise.

    Paper: Luo, Zhang and Nie, IEEE TKDE 36(11):5823, 2024, doi 10.1109/TKDE.2024.3410388.
    Reference code: DarrenZZhang/CICH (no licence; read, not used).
    """

    card: ClassVar[Card] = Card(
        slug="cich_paper",
        name="CICH as published",
        summary="Codes from label prototypes, contrast across modalities, and recovery of what is missing.",
        paper="Luo, Zhang, Nie: Contrastive Incomplete Cross-Modal Hashing, IEEE TKDE 36(11), 2024",
        url="https://doi.org/10.1109/TKDE.2024.3410388",
        family="hashing",
        returns="codes",
        needs_labels=True,
        needs_pairs="helpful",
        native="any",
        imputes=True,
        checked="losses against brute force; bounds of the contrast; distinct-label sums equal n-term sums; "
        "quality on three data sets in benchmarks/",
        departures=(
            'balance="half": on 50 single-label classes 2 % of pairs are similar, and the plain sum drowns them',
            "cosine contrast over all rows of a batch: the paper's sigmoid saturates from 32 bits on",
            "dropout on the input features",
            "squared error of recovered features; the released code has a cross-entropy of sigmoids",
            "one step on all parts per batch on ready features; the paper alternates (joint=False)",
            "mean of the bottleneck at encoding; the released code samples noise at test time too",
        ),
        reference_code="DarrenZZhang/CICH, no licence; read, not used",
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "alpha": 5.0,
            "balance": "none",
            "contrast_kernel": "sigmoid",
            "contrast_scope": "cross",
            "propagation": "always",
            "dropout": 0.0,
            "joint": False,
            "epochs": PRETRAINING + 150,
        },
        "released": {
            "objective": "released",
            "eta_prototype": 100.0,
            "neighbours": 0,
            "propagation": "always",
            "dropout": 0.0,
            "joint": False,
            "epochs": PRETRAINING + 750,  # 50 x 5 rounds of three passes
            "batch_size": 64,
            "rate_prototype": 1e-2,
        },
    }
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "alpha": (0.0, 0.2, 1.0, 5.0),
        "delta": (0.0, 0.1, 1.0, 5.0),
        "tau": (0.05, 0.1, 0.2, 0.5),
        "dropout": (0.0, 0.1, 0.3, 0.5),
        "neighbours": (0, 1, 3, 5, 10, 20),
        "weight_decay": (0.0, 1e-3, 1e-2, 1e-1),
        "rate": (3e-4, 1e-3, 3e-3),
    }

    network_: CICHPaperNetwork

    def __init__(
        self,
        bits: int = 64,
        *,
        latent: int = 512,
        hidden: int = 1024,
        dropout: float = 0.3,
        alpha: float = 1.0,  # paper: 5 is best, on a contrast that sums over positives
        delta: float = 1.0,  # paper: not published
        beta: float = 0.01,
        eta: float = 0.01,
        eta_prototype: float = 0.01,  # released: 100, on sums
        tau: float = 0.2,
        neighbours: int = 5,
        recovered: int = 64,
        memory: int = 8192,
        similarity: Literal["prototypes", "pairs"] = "prototypes",
        balance: Literal["half", "none"] = "half",
        contrast_kernel: Literal["cosine", "sigmoid"] = "cosine",
        contrast_scope: Literal["union", "cross"] = "union",
        propagation: Literal["auto", "always", "never"] = "auto",
        objective: Literal["paper", "released"] = "paper",
        joint: bool = True,
        epochs: int = 60,
        batch_size: int = 128,
        rate: float = 1e-3,
        rate_prototype: float = 1e-3,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.bits, self.latent, self.hidden, self.dropout = bits, latent, hidden, dropout
        self.alpha, self.delta, self.beta, self.eta, self.eta_prototype = alpha, delta, beta, eta, eta_prototype
        self.tau, self.neighbours, self.recovered, self.memory = tau, neighbours, recovered, memory
        self.similarity, self.balance = similarity, balance
        self.contrast_kernel, self.contrast_scope = contrast_kernel, contrast_scope
        self.propagation, self.objective, self.joint = propagation, objective, joint
        self.epochs, self.batch_size, self.rate, self.rate_prototype = epochs, batch_size, rate, rate_prototype
        self.weight_decay, self.seed = weight_decay, seed

    def build(self) -> CICHPaperNetwork:
        """Encoders, heads, prototypes and predictors for the modalities and classes learned from."""
        return CICHPaperNetwork(
            list(self.widths_.values()),
            len(self.classes_),
            self.bits,
            self.hidden,
            self.latent,
            self.dropout,
            rectified=self.objective == "released",
        )

    def groups(self) -> list[dict[str, Any]]:
        """Networks, and prototypes with a rate of their own."""
        prototype = self.network_.prototype.weight
        others = [parameter for parameter in self.network_.parameters() if parameter is not prototype]
        return [
            {"params": others, "lr": self.rate, "weight_decay": self.weight_decay},
            {"params": [prototype], "lr": self.rate_prototype, "weight_decay": 0.0},
        ]

    def prepare(self, data: Dataset) -> None:
        """Standardise; find the distinct label vectors, the rows that give context, and whether to propagate."""
        super().prepare(data)
        assert data.labels is not None  # noqa: S101 - fit has checked
        distinct, counts, index = data.labels.distinct()
        self._distinct, self._counts = torch.from_numpy(distinct), torch.from_numpy(counts).float()
        random = np.random.default_rng(self.seed)
        self._paired = {}
        for a, b in permutations(data.names, 2):
            rows = np.flatnonzero(data.present(a) & data.present(b))
            self._paired[a, b] = np.sort(random.permutation(rows)[: self.memory])
        self.recovery_ = Recovery(self.network_, list(self.widths_), self.neighbours)
        if not any(len(rows) for rows in self._paired.values()):
            warnings.warn("no item has two modalities: nothing missing can be imagined (delta = 0).", stacklevel=4)
        sample = torch.from_numpy(distinct[index[random.permutation(np.flatnonzero(index >= 0))[:256]]])
        shared, chained = share_label(sample, sample).mean(), propagated(sample, sample).mean()
        # Positives that are all ones ask for uniform similarity: with several frequent labels per item chains of
        # sharing reach everything
        usable = bool(chained < 0.9 and chained <= 2 * shared)
        self._chains = {"always": True, "never": False, "auto": usable}[self.propagation]

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """Before each epoch: the latent features of neighbours anew."""
        self._distinct, self._counts = self._distinct.to(device), self._counts.to(device)
        self._meet_neighbours(batches, device)
        if self.objective == "released":
            self._memories = self._remember(batches, device)

    def _meet_neighbours(self, batches: Batches, device: torch.device) -> None:
        self.network_.eval()
        for (a, b), rows in self._paired.items():
            if len(rows):
                source, target = (self._features(batches, rows, m, device) for m in (a, b))
                self.recovery_.neighbours[a, b] = Neighbours(torch.from_numpy(rows).to(device), source, target)

    def _features(self, batches: Batches, rows: NDArray[np.int64], modality: str, device: torch.device) -> Tensor:
        position = list(self.widths_).index(modality)
        with torch.no_grad():
            return torch.cat(
                [
                    self.network_.latent(batches.gather(part).x[modality].to(device), position).feature
                    for part in np.array_split(rows, -(-len(rows) // 1024))
                ]
            )

    def _remember(self, batches: Batches, device: torch.device) -> Memories:
        """Codes and latent features of all rows, for the released objective."""
        data = batches.data
        assert data.labels is not None  # noqa: S101 - fit has checked
        labels = torch.from_numpy(data.labels.dense() * data.labels.known[:, None]).to(device)
        memories = Memories(labels.float(), {}, {}, {})
        for k, m in enumerate(self.widths_):
            rows = np.flatnonzero(data.present(m))
            features = self._features(batches, rows, m, device)
            here = torch.from_numpy(rows).to(device)
            memories.present[m] = torch.zeros(len(data), dtype=torch.bool, device=device).index_fill_(
                0, here, value=True
            )
            memories.features[m] = torch.zeros(len(data), self.latent, device=device).index_copy_(0, here, features)
            with torch.no_grad():
                codes = self.network_.code(features, k)
            memories.codes[m] = torch.zeros(len(data), self.bits, device=device).index_copy_(0, here, codes)
        return memories

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; see the class."""
        live = self._live(epoch)
        if self.objective == "released":
            return self._released_step(batch, live)
        latents = {}
        for k, m in enumerate(self.widths_):
            with torch.set_grad_enabled(live in (None, k)):
                latents[m] = self.network_.latent(batch.x[m], k)
        weight = self.network_.prototype.weight
        prototype = weight if live in (None, PROTOTYPES) else weight.detach()
        recovered = self._recover(batch, latents)
        common = self._common(batch, latents, recovered, prototype)
        likelihood, distance, cca, sach = (weight.new_zeros(()) for _ in range(4))
        if live in (None, PROTOTYPES) and self.similarity == "prototypes":
            p = batch.labels[batch.known] @ prototype.T
            likelihood = likelihood + self._likelihood(p, batch.labels[batch.known], prototype)
            distance = distance + self.eta_prototype * _distance(p, common[batch.known])
        for k, m in enumerate(self.widths_):
            if live in (None, k):
                rows = batch.rows[m]
                known = batch.known[rows]
                if self.similarity == "prototypes":
                    h, labels = latents[m].code[known], batch.labels[rows[known]]
                    likelihood = likelihood + self._likelihood(h, labels, prototype)
                else:
                    likelihood = likelihood + self._of_pairs(batch, latents, m)
                distance = distance + self.eta * _distance(latents[m].code, common[rows])
                cca = cca + self._cca(batch, latents, m)
        if live != PROTOTYPES:
            sach = self._sach(batch, latents, recovered)
        loss = likelihood + distance + self.alpha * sach + self.delta * cca
        return {"loss": loss, "likelihood": likelihood, "distance": distance, "sach": sach, "cca": cca}

    def _released_step(self, batch: Batch, live: int | None) -> dict[str, Tensor]:
        if live is None:
            raise UsageError('objective="released" learns in turn; use it with joint=False, or by its preset.')
        names, weight = list(self.widths_), self.network_.prototype.weight
        if live == PROTOTYPES:
            return prototype_loss(batch.labels[batch.known], batch.index[batch.known], weight, self._memories)
        return modality_loss(self.network_, batch, names, names[live], weight.detach(), self._memories)

    def _live(self, epoch: int) -> int | None:
        """Which part learns in this epoch: None for all, else prototypes or the position of a modality."""
        if self.joint:
            return None
        return PROTOTYPES if epoch < PRETRAINING else (epoch - PRETRAINING) % (len(self.widths_) + 1) - 1

    def _likelihood(self, codes: Tensor, labels: Tensor, prototype: Tensor) -> Tensor:
        theta = 0.5 * codes @ (self._distinct @ prototype.T).T  # (m, U)
        return pair_likelihood(theta, share_label(labels, self._distinct), self._counts, balance=self.balance)

    def _of_pairs(self, batch: Batch, latents: dict[str, Latent], a: str) -> Tensor:
        """Codes of ``a`` against those of every other modality, items of the batch that have both."""
        loss = latents[a].code.new_zeros(())
        for b in self.widths_:
            if b != a:
                here, there = batch.pairs(a, b)
                known = batch.known[batch.rows[a][here]]
                labels = batch.labels[batch.rows[a][here[known]]]
                theta = 0.5 * latents[a].code[here[known]] @ latents[b].code[there[known]].T
                loss = loss + pair_likelihood(theta, share_label(labels, labels), balance=self.balance)
        return loss

    def _cca(self, batch: Batch, latents: dict[str, Latent], a: str) -> Tensor:
        """Cross-modal prediction from ``a``: paired rows of the batch, and the divergence of their bottleneck."""
        loss = latents[a].mean.new_zeros(())
        for b in self.widths_:
            if b != a:
                here, there = batch.pairs(a, b)
                source, index = latents[a], batch.index[batch.rows[a][here]]
                for predicted in self.recovery_.predict(source.sample[here], source.feature[here], index, a, b):
                    loss = loss + reconstruction(predicted, latents[b].feature[there])
                loss = loss + self.beta * gaussian_kl(source.mean[here], source.log_variance[here])
        return loss

    @torch.no_grad()
    def _recover(self, batch: Batch, latents: dict[str, Latent]) -> dict[str, tuple[Tensor, Tensor]]:
        """Codes of missing sides, imagined from all sides that are there: rows of the batch, and codes."""
        found = {}
        for k, b in enumerate(self.widths_):
            absent = torch.ones(len(batch.index), dtype=torch.bool, device=batch.index.device)
            absent[batch.rows[b]] = False
            total = latents[b].feature.new_zeros(len(batch.index), self.latent)
            sources = latents[b].feature.new_zeros(len(batch.index), 1)
            for a in self.widths_:
                if a != b and len(self._paired[a, b]) and self.delta:
                    here = absent[batch.rows[a]]
                    rows = batch.rows[a][here]
                    source = latents[a]
                    total[rows] += self.recovery_.predict(
                        source.mean[here], source.feature[here], batch.index[rows], a, b
                    )[-1]
                    sources[rows] += 1
            rows = (sources[:, 0] > 0).nonzero().squeeze(1)[: self.recovered]
            found[b] = rows, self.network_.code(torch.relu(total[rows] / sources[rows]), k)
        return found

    @torch.no_grad()
    def _common(
        self, batch: Batch, latents: dict[str, Latent], recovered: dict[str, tuple[Tensor, Tensor]], prototype: Tensor
    ) -> Tensor:
        """The discrete code b of each item: sign of prototype and all observed and recovered codes."""
        total = (batch.labels * batch.known[:, None]) @ prototype.T * float(self.similarity == "prototypes")
        for m in self.widths_:
            total = total.index_add(0, batch.rows[m], latents[m].code)
            total = total.index_add(0, *recovered[m])
        return torch.where(total >= 0, 1.0, -1.0)

    def _sach(self, batch: Batch, latents: dict[str, Latent], recovered: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        """The contrast between codes of the batch; recovered codes are columns and never anchors."""
        sides = {}
        for m in self.widths_:
            rows, (extra, imagined) = batch.rows[m], recovered[m]
            known, extra_known = batch.known[rows], batch.known[extra]
            sides[m] = (
                latents[m].code[known],
                batch.labels[rows[known]],
                imagined[extra_known],
                batch.labels[extra[extra_known]],
            )
        if self.contrast_scope == "union":
            return self._contrast(*(torch.cat(part) for part in zip(*sides.values(), strict=True)))
        loss = latents[next(iter(sides))].code.new_zeros(())
        for a, b in permutations(sides, 2):
            codes, labels = sides[a][:2]
            columns, column_labels, imagined, imagined_labels = sides[b]
            loss = loss + 0.5 * self._contrast(codes, labels, imagined, imagined_labels, columns, column_labels)
        return loss

    def _contrast(
        self,
        codes: Tensor,
        labels: Tensor,
        imagined: Tensor,
        imagined_labels: Tensor,
        columns: Tensor | None = None,
        column_labels: Tensor | None = None,
    ) -> Tensor:
        """Anchors against columns (the other anchors by default) and imagined columns."""
        seen = None
        if columns is None or column_labels is None:
            columns, column_labels = codes, labels
            seen = torch.ones(len(codes), len(codes) + len(imagined), dtype=torch.bool, device=codes.device)
            seen.fill_diagonal_(fill_value=False)
        chain = propagated if self._chains else share_label
        positives = torch.cat([share_label(labels, column_labels), chain(labels, imagined_labels)], dim=1)
        logits = kernel(codes, torch.cat([columns, imagined]), self.contrast_kernel) / self.tau
        return supervised_contrastive(logits, positives, seen)

    def output(self, x: Tensor, modality: str) -> Tensor:
        """Relaxed codes of the bottleneck's mean, shape (m, r)."""
        return self.network_.latent(x, list(self.widths_).index(modality)).code

    def finish(self, data: Dataset) -> None:
        """Forget what only training needs; learn to read input features out of latent ones."""
        random = np.random.default_rng(self.seed)
        # anew: the weights kept may be those of an earlier epoch, or of a training that was finished before
        self._meet_neighbours(Batches(data, self.batch_size, self.seed), torch.device("cpu"))
        for m in self.widths_ if self.recovery_.neighbours else ():
            self.recovery_.learn_readout(data[m], m, random.permutation(len(data[m]))[: self.memory])
        del self._distinct, self._counts, self._paired

    def state(self) -> dict[str, NDArray[Any]]:
        """Networks, and what imagining needs beside them."""
        return {**super().state(), **{f"recovery.{name}": part for name, part in self.recovery_.state().items()}}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """The inverse of ``state``."""
        own = {name.removeprefix("recovery."): part for name, part in state.items() if name.startswith("recovery.")}
        super().restore({name: part for name, part in state.items() if not name.startswith("recovery.")})
        self.recovery_ = Recovery(self.network_, list(self.widths_), self.neighbours)
        self.recovery_.restore(own)


def _distance(codes: Tensor, common: Tensor) -> Tensor:
    """Mean squared distance to the common code, per bit."""
    return ((codes - common) ** 2).mean() if len(codes) else codes.sum()
