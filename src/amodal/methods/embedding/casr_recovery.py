"""What CASR does once alignment has been learned: who is believed, what is missing, and the way back to features."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from numpy.typing import NDArray
from torch import Tensor

from amodal.data import Dataset, Observations
from amodal.errors import MethodError, UsageError
from amodal.methods.embedding.casr_imagining import ImaginationStage, Imaginer, Sources
from amodal.methods.embedding.casr_networks import Adapters, CASRNetwork
from amodal.methods.embedding.semantics import share_vectors
from amodal.methods.imputation import Imputation
from amodal.methods.likeness import Judge, believed, judged
from amodal.methods.networks import FeatureMethod
from amodal.training import Batch, Batches, Training, train

__all__ = ["Recovers"]

CHUNK = 1024


class Recovers(FeatureMethod):
    """Stages 2 and 3 of CASR, and what comes of them; see there for the arguments.

    Attributes:
        imaginer_: What imagines missing sides.
        judges_: By modality, who says what of the classes.
        fold_: Fold of each training row, which one member has not learned from; only where it was fitted.
        balance_: Weight of each training row, see ``cues.balance``; only where it was fitted.
    """

    embedding: str
    likeness: bool
    anchors: int
    mmi: bool
    prior: bool
    context: bool
    neighbours: int
    memory: int
    imagination_steps: int
    recover_class: float
    recover_contrast: float
    pacmr: bool
    rate: float
    weight_decay: float

    network_: CASRNetwork
    imaginer_: Imaginer
    judges_: dict[str, Judge]
    fold_: Tensor
    balance_: Tensor

    def _blocks(self, batches: Batches, device: torch.device) -> Iterator[Batch]:
        """All training rows, in their order; the networks are at rest."""
        self.network_.eval()
        for start in range(0, len(batches.data), CHUNK):
            yield batches.gather(np.arange(start, min(start + CHUNK, len(batches.data)))).to(device)

    def _labelled(self, batch: Batch) -> Batch:
        """The batch with labels (zeros where unknown), guessed ones among them."""
        labels = batch.labels * batch.known[:, None]
        if not self.pacmr:
            return replace(batch, labels=labels)
        labels = labels + self.network_.rows.guess[batch.index] * ~batch.known[:, None]
        return replace(batch, labels=labels, known=labels.any(dim=1))

    def _semantic(self, scores: Tensor, k: int) -> Tensor:
        network = self.network_
        p, reach = network.probabilities(scores), float(network.reach)
        return share_vectors(p, k, len(self.widths_), single=bool(network.single), reach=reach)

    def _adapters(self, k: int) -> Adapters:
        adapters = self.network_.encoder[k]
        assert isinstance(adapters, Adapters)  # noqa: S101 - as built
        return adapters

    def _scaled(self, x: Tensor, k: int) -> Tensor:
        """Scaled features without cues, of parts their mean, shape (m, d)."""
        scaled = self._adapters(k).scaled(x)
        if x.ndim == 2:
            return scaled
        there = (x != 0).any(dim=-1, keepdim=True)
        return (scaled * there).sum(dim=1) / there.sum(dim=1).clamp_min(1)

    @torch.no_grad()
    def finish(self, data: Dataset) -> None:
        """Stages 2 and 3: who is believed, and what is missing."""
        random = np.random.default_rng((self.seed, 2))
        for k, m in enumerate(self.widths_):
            self.judges_[m] = self._judge(data, m, k, random)
        paired = np.flatnonzero(data.presence().sum(axis=1) > 1)
        if self.mmi and not len(paired):
            warnings.warn("no item has two modalities: nothing missing can be imagined.", stacklevel=5)
        elif self.mmi:
            self._learn_imagination(data, np.sort(random.permutation(paired)[: self.memory]))

    def _judge(self, data: Dataset, modality: str, k: int, random: np.random.Generator) -> Judge:
        """Who is believed in one modality, by labelled rows that members and machine have not learned from."""
        assert data.labels is not None  # noqa: S101 - checked by fit
        table, known = data[modality], data.labels.known & (data.labels.per_row > 0)
        rows = np.sort(random.permutation(np.flatnonzero(known[table.item]))[: self.memory])
        x, items = torch.from_numpy(table.read(rows)), torch.from_numpy(table.item[rows])
        target, fold = torch.from_numpy(data.labels.dense(table.item[rows])), self.fold_[items]
        single, weights = bool(self.network_.single), self.balance_[items]
        # before members are averaged, since each is too sure by itself
        self.network_.temperature[k] = 1.0
        belief = believed([self._unseen(x, fold, k)], target, single=single, weights=weights)
        self.network_.temperature[k] = belief.weights[0]
        evidence = self._unseen(x, fold, k)
        chosen = torch.from_numpy(random.permutation(len(rows))[: self.anchors if self.likeness else 0])
        judge, _ = judged(evidence, self._scaled(x, k), target, fold, chosen, single=single, weights=weights)
        return judge

    def _unseen(self, x: Tensor, fold: Tensor, k: int) -> Tensor:
        """What the member that has not learned from a row says of it, shape (m, c)."""
        blocks = zip(torch.split(x, CHUNK), torch.split(fold, CHUNK), strict=True)
        return torch.cat([self.network_.evidence(self.network_.seen(some, k)[1], k, own) for some, own in blocks])

    def _labels(self, data: Dataset) -> Tensor:
        """Labels, guessed ones among them, shape (n, c); zeros where unknown."""
        assert data.labels is not None  # noqa: S101 - checked by fit
        labels = torch.from_numpy(data.labels.dense() * data.labels.known[:, None])
        return labels + self.network_.rows.guess if self.pacmr else labels

    def _learn_imagination(self, data: Dataset, paired: NDArray[np.int64]) -> None:
        """Class means as priors, pairs as context, then the stage itself and the way back to features."""
        network, some, batches = self.network_, data.take(paired), Batches(data, CHUNK, self.seed)
        network.priors.zero_()
        count = torch.zeros(len(self.widths_), len(self.classes_))
        for batch in self._blocks(batches, torch.device("cpu")):
            batch = self._labelled(batch)
            for k, m in enumerate(self.widths_):
                labels = batch.labels[batch.rows[m]]
                network.priors[k] += labels.T @ network.latent(batch.x[m], k)
                count[k] += labels.sum(dim=0)
        network.priors.div_(count.clamp_min(1)[:, :, None])
        latents = self._latents(some, self.fold_[torch.from_numpy(paired)])
        self.imaginer_.remember(latents, self._labels(data)[torch.from_numpy(paired)])
        size = min(self.batch_size, len(paired))
        stage = ImaginationStage(
            self.imaginer_,
            classes=self.recover_class,
            contrast=self.recover_contrast,
            rate=self.rate,
            weight_decay=self.weight_decay,
            epochs=max(1, round(self.imagination_steps / -(-len(paired) // size))),
            batch_size=size,
            seed=self.seed,
            arguments=self.params(),
        )
        with torch.enable_grad():
            train(stage, latents, Training(device=self.outcome_.device.split(":")[0]))
        self.imaginer_.to("cpu")
        for m in {target for _, target in self.imaginer_.banks}:
            found, items, _ = self._imagined(latents, m, some.present(m), training=True)
            first = some[m].of_items(items, len(some))
            places = np.searchsorted(first.item, np.arange(len(items)))
            x = torch.from_numpy(first.read(places))
            self.imaginer_.learn_readout(m, found, x if x.ndim == 2 else _mean_part(x))

    def _latents(self, data: Dataset, fold: Tensor | None = None) -> Dataset:
        """What the members make of the first observation of each side, and say of its classes, side by side."""
        network = self.network_
        found: dict[str, tuple[list[Tensor], list[Tensor]]] = {m: ([], []) for m in data.names}
        for batch in self._blocks(Batches(data, CHUNK, self.seed), torch.device("cpu")):
            for m, x in batch.x.items():
                k, index = self.position(m), batch.index[batch.rows[m]]
                seen = network.seen(x, k)[1]
                evidence = network.evidence(seen, k, None if fold is None else fold[index])
                p = network.probabilities(self.judges_[m].alone.scores(evidence))
                found[m][0].append(torch.cat([seen.transpose(0, 1).flatten(1), p], dim=1))
                found[m][1].append(index)
        tables = {m: Observations(torch.cat(x).numpy(), torch.cat(item).numpy()) for m, (x, item) in found.items()}
        return data.with_tables(tables)

    def _imagined(
        self,
        latents: Dataset,
        target: str,
        wanted: NDArray[np.bool_],
        labels: Tensor | None = None,
        *,
        training: bool = False,
    ) -> tuple[Tensor, NDArray[np.int64], Tensor]:
        """Imagined sides (m, K e) of those wanted that have another, their items (m,) and trust (m,)."""
        width, trust, sides = self.network_.priors.shape[2], torch.zeros(len(latents)), torch.zeros(len(latents))
        total = torch.zeros(len(latents), width)
        for source, table in latents.modalities.items():
            rows = np.flatnonzero(wanted[table.item])
            if (source, target) not in self.imaginer_.banks or not len(rows):
                continue
            for some in np.array_split(rows, -(-len(rows) // CHUNK)):
                item = torch.from_numpy(table.item[some])
                latent, p = torch.split(torch.from_numpy(table.read(some)), [width, len(self.classes_)], dim=1)
                told = torch.zeros_like(p) if labels is None else labels[item]
                found, sure = self.imaginer_(Sources(latent, p, told, item if training else None), source, target)
                total.index_add_(0, item, found)
                trust.index_add_(0, item, torch.sigmoid(sure))
                sides.index_add_(0, item, torch.ones(len(item)))
        items = sides.nonzero().squeeze(1)
        return total[items] / sides[items, None], items.numpy(), trust[items] / sides[items]

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
        self.require_learned(modality)
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
        told = None
        if labels and data.labels is not None:
            told = torch.from_numpy(data.labels.dense() * data.labels.known[:, None])
        absent = np.ones(len(data), bool) if modality not in sides else ~data.present(modality)
        self.network_.eval()
        found, items, trust = self._imagined(self._latents(data.with_tables(sides)), modality, absent, told)
        return Imputation(modality, items, self._form(found, modality, what).numpy(), trust.numpy())

    def _form(self, imagined: Tensor, modality: str, what: str) -> Tensor:
        """Imagined sides as features (of a modality of parts, one part), as they are, or embedded."""
        if what == "latent":
            return imagined
        if what == "features":
            x = self.imaginer_.features(imagined, modality)
            return x[:, None] if modality in self.parts_ else x
        k = self.position(modality)
        seen = self.network_.members_of(imagined)
        if self.embedding == "feature":
            return F.normalize(self.network_.causal(seen, k).transpose(0, 1).flatten(1), dim=1)
        return F.normalize(
            self._semantic(self.judges_[modality].alone.scores(self.network_.evidence(seen, k)), k), dim=1
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """Networks, who is believed, and what imagines missing sides; nothing that only training needs."""
        state = {name: value for name, value in super().state().items() if not name.startswith("rows.")}
        for m, judge in self.judges_.items():
            state |= {f"judge/{self.position(m)}/{name}": value for name, value in judge.state().items()}
        return state | {f"imaginer/{name}": value for name, value in self.imaginer_.state().items()}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """The inverse of ``state``."""

        def part(kind: str) -> dict[str, NDArray[Any]]:
            return {name.removeprefix(kind): value for name, value in state.items() if name.startswith(kind)}

        super().restore({name: value for name, value in state.items() if "/" not in name})
        self.judges_ = {m: Judge.from_state(part(f"judge/{k}/")) for k, m in enumerate(self.widths_)}
        self.imaginer_ = self._imaginer()
        self.imaginer_.restore(part("imaginer/"))

    def _imaginer(self) -> Imaginer:
        return Imaginer(self.network_, list(self.widths_), self.neighbours if self.context else 0, self.prior)


def _mean_part(x: Tensor) -> Tensor:
    """The mean of the parts that are real, shape (m, d), of parts (m, T, d)."""
    return x.sum(dim=1) / (x != 0).any(dim=-1).sum(dim=1, keepdim=True).clamp_min(1)
