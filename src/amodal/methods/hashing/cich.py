"""CICH: codes learned from items of which most have lost a modality."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import permutations
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amodal.data import Dataset, Observations
from amodal.errors import MethodError, MissingModality, nearest
from amodal.methods.card import Card
from amodal.methods.deep import NetworkMethod
from amodal.methods.hashing.cich_networks import CICHNetwork
from amodal.methods.hashing.cich_stages import CodeStage, EncoderStage, ImaginationStage
from amodal.methods.hashing.recovery import Neighbours, Recovery
from amodal.methods.imputation import Imputation
from amodal.training import Outcome, Training, train

__all__ = ["CICH"]

CHUNK = 1024


class CICH(NetworkMethod):
    """Contrastive Incomplete Cross-Modal Hashing, with a soft relation in the place of the hard one.

    CICH's three ideas, each learned in a stage of its own (formulas: ``cich_stages``):

    1. *Label prototypes instead of pairs* (PSSC). Encoders place an item at the prototypes of its labels, so an item
       that has lost its partner teaches as much as one that has not. K small encoders share each modality, and each
       leaves a fold of the rows unseen.
    2. *Imagining the missing side* (CCA). Paired rows teach predictors to carry the latent feature of one side through
       a bottleneck to the other, with and without the context of neighbouring pairs.
    3. *Contrast across modalities* (SaCH). One head, told the modality, turns class probabilities into bits whose
       Hamming similarity says how probably two items share a label; rows that lack a side take part with what is
       imagined of it.

    The relation in stage 3 is the probability P(x, y) that two items share a label, as judged by encoders that have not
    seen them. The paper's is whether they do, which training items say with a certainty that unseen ones never have: a
    head that learns from it has no bits for doubt. ``cich_paper`` has the paper's form, and the released code's.

    Args:
        bits: Code length r.
        members: Encoders K of each modality.
        hidden: Width of each encoder.
        dropout: Share of input features left out in training.
        dropout_latent: Share of latent features left out in training.
        encoder_epochs: Passes over the data in stage 1.
        batch_size: Items in a batch of stage 1.
        rate: Learning rate of encoders.
        weight_decay: Decoupled weight decay of encoders.
        latent: Width e of the bottleneck.
        neighbours: Neighbours K that give context; 0 for none.
        beta: Weight of the bottleneck's divergence.
        memory: At most so many paired rows teach imagination and serve as neighbours.
        imagination_steps: Steps of stage 2.
        head: Width of the code head.
        code_steps: Steps of stage 3.
        code_batch: Items in a batch of stage 3.
        rate_codes: Learning rate of the head.
        prototypes: Weight of PSSC on codes.
        recovered: Imagined rows of each modality in a batch of stage 3.
        seed: Seed of weights, folds, order and noise.

    Attributes:
        recovery_: What imagines a missing side.

    Paper: Luo, Zhang and Nie, IEEE TKDE 36(11):5823, 2024, doi 10.1109/TKDE.2024.3410388.
    Reference code: DarrenZZhang/CICH (no licence; read, not used).
    """

    card: ClassVar[Card] = Card(
        slug="cich",
        name="CICH",
        summary="Codes from label prototypes, contrast across modalities, and recovery of what is missing.",
        paper="Luo, Zhang, Nie: Contrastive Incomplete Cross-Modal Hashing, IEEE TKDE 36(11), 2024",
        url="https://doi.org/10.1109/TKDE.2024.3410388",
        family="hashing",
        returns="codes",
        needs_labels=True,
        needs_pairs="helpful",
        native="any",
        imputes=True,
        checked="quality on four data sets beside the tuned control and the paper's form, in benchmarks/",
        departures=(
            "the relation between items is the probability that they share a label, judged by encoders that have not "
            "seen them; the paper's is 0 or 1",
            "encoders are cross-fitted members that classify by latent prototypes; the paper has one network",
            "three stages, so that latent features rest while the missing side is learned; the paper alternates",
            "the bottleneck stands before the predictors of the missing side, not before the codes",
            "SaCH and PSSC on codes are likelihoods of the soft relation; the paper's SaCH is a softmax",
            "features are centred and divided by one number for all, not each by its own deviation",
        ),
        reference_code="DarrenZZhang/CICH, no licence; read, not used",
    )
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "members": (3, 5, 8),
        "hidden": (128, 256, 512),
        "dropout": (0.0, 0.1, 0.3, 0.5),
        "dropout_latent": (0.3, 0.5, 0.7),
        "encoder_epochs": (15, 30, 60),
        "weight_decay": (1e-3, 1e-2, 1e-1),
        "neighbours": (0, 1, 3, 5, 10, 20),
        "prototypes": (0.0, 0.25, 1.0),
        "recovered": (0, 32, 128),
    }

    network_: CICHNetwork
    recovery_: Recovery
    outcome_: Outcome

    def __init__(
        self,
        bits: int = 64,
        *,
        members: int = 5,
        hidden: int = 256,
        dropout: float = 0.3,
        dropout_latent: float = 0.5,
        encoder_epochs: int = 30,
        batch_size: int = 128,
        rate: float = 1e-3,
        weight_decay: float = 1e-2,
        latent: int = 256,
        neighbours: int = 5,
        beta: float = 0.01,  # released: .01
        memory: int = 8192,
        imagination_steps: int = 300,
        head: int = 256,
        code_steps: int = 2000,
        code_batch: int = 512,
        rate_codes: float = 4e-3,
        prototypes: float = 0.25,
        recovered: int = 32,  # released: 64
        seed: int = 0,
    ) -> None:
        self.bits, self.members, self.hidden = bits, members, hidden
        self.dropout, self.dropout_latent = dropout, dropout_latent
        self.encoder_epochs, self.batch_size, self.rate, self.weight_decay = (
            encoder_epochs,
            batch_size,
            rate,
            weight_decay,
        )
        self.latent, self.neighbours, self.beta = latent, neighbours, beta
        self.memory, self.imagination_steps = memory, imagination_steps
        self.head, self.code_steps, self.code_batch, self.rate_codes = head, code_steps, code_batch, rate_codes
        self.prototypes, self.recovered, self.seed = prototypes, recovered, seed

    def build(self) -> CICHNetwork:
        """All networks, for the modalities and classes learned from."""
        return CICHNetwork(
            list(self.widths_.values()),
            len(self.classes_),
            self.bits,
            members=self.members,
            hidden=self.hidden,
            latent=self.latent,
            head=self.head,
            dropout=(self.dropout, self.dropout_latent),
        )

    def _learn(self, data: Dataset, validation: Dataset | None, training: Training | None) -> None:
        training = training or Training()
        random = np.random.default_rng(self.seed)
        network = self.draw()
        assert isinstance(network, CICHNetwork)  # noqa: S101 - as built
        self.network_ = network
        self.prepare(data)
        self.recovery_ = Recovery(self.network_, list(self.widths_), self.neighbours)
        fold = torch.from_numpy(random.permutation(len(data)) % self.members)
        self._learn_encoders(data, fold, training.stage("encoders"))
        self._learn_imagination(data, random, training.stage("imagination"))
        score = None if validation is None else lambda: self.validation_score(validation)
        self.outcome_ = self._learn_codes(data, fold, random, training.stage("codes", chooses=True), score)

    def _learn_encoders(self, data: Dataset, fold: Tensor, training: Training) -> None:
        assert data.labels is not None  # noqa: S101 - fit has checked
        self.network_.single.fill_(data.labels.single)
        stage = EncoderStage(
            fold,
            self.rate,
            self.weight_decay,
            network=self.network_,
            arguments=self.params(),
            epochs=self.encoder_epochs,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        train(stage, data, training)

    def _learn_imagination(self, data: Dataset, random: np.random.Generator, training: Training) -> None:
        paired = np.flatnonzero(data.presence().sum(axis=1) > 1)
        if not len(paired):
            warnings.warn("no item has two modalities: nothing missing can be imagined.", stacklevel=5)
            return
        rows = np.sort(random.permutation(paired)[: self.memory])
        latents = self._latents(data.take(rows))
        for a, b in permutations(self.widths_, 2):
            both = np.flatnonzero(latents.present(a) & latents.present(b))
            if len(both):
                source, target = (torch.from_numpy(_first(latents[m], both)) for m in (a, b))
                self.recovery_.neighbours[a, b] = Neighbours(torch.from_numpy(both), source, target)
        batch = min(128, len(rows))
        stage = ImaginationStage(
            self.recovery_,
            self.rate,
            self.beta,
            network=self.network_,
            arguments=self.params(),
            epochs=_epochs(self.imagination_steps, len(rows), batch),
            batch_size=batch,
            seed=self.seed,
        )
        train(stage, latents, training)
        self.recovery_.neighbours = {way: found.to("cpu") for way, found in self.recovery_.neighbours.items()}
        for m in self.widths_:
            self.recovery_.learn_readout(data[m], m, random.permutation(len(data[m]))[: self.memory])

    def _learn_codes(
        self, data: Dataset, fold: Tensor, random: np.random.Generator, training: Training, score: Any
    ) -> Outcome:
        assert data.labels is not None  # noqa: S101 - fit has checked
        distinct, counts, _ = data.labels.distinct()
        stage = CodeStage(
            {m: self._imagined(data, m, random) for m in self.widths_},
            torch.from_numpy(distinct),
            torch.from_numpy(counts).float(),
            self.rate_codes,
            self.prototypes,
            self.recovered,
            network=self.network_,
            arguments=self.params(),
            epochs=_epochs(self.code_steps, len(data), self.code_batch),
            batch_size=self.code_batch,
            seed=self.seed,
        )
        return train(stage, self._posteriors(data, fold), training, score)

    def _latents(self, data: Dataset) -> Dataset:
        """The same items with latent features."""
        return self._mapped(data, lambda x, m, _: self.network_.features(x, m))

    def _posteriors(self, data: Dataset, fold: Tensor) -> Dataset:
        """The same items with class probabilities, each by the member that has not learned from it."""

        def posterior(x: Tensor, modality: int, items: Tensor) -> Tensor:
            return self.network_.posterior(self.network_.features(x, modality), modality, fold[items])

        return self._mapped(data, posterior)

    @torch.no_grad()
    def _mapped(self, data: Dataset, function: Any) -> Dataset:
        self.network_.eval()
        tables = {}
        for k, (m, table) in enumerate(data.modalities.items()):
            rows = torch.split(torch.from_numpy(table.item), CHUNK)
            parts = [
                function(torch.from_numpy(x), k, row).numpy() for x, row in zip(table.chunks(CHUNK), rows, strict=False)
            ]
            tables[m] = Observations(np.concatenate(parts), table.item)
        return data.with_tables(tables)

    def _imagined(self, data: Dataset, modality: str, random: np.random.Generator) -> Tensor:
        """Class probabilities of what is imagined of some items that lack a modality."""
        if not self.recovered or not self.recovery_.neighbours:
            return torch.zeros(0, len(self.classes_))
        absent = random.permutation(np.flatnonzero(~data.present(modality)))[: self.memory // 2]
        try:
            imagined = self.recovery_.impute(data.take(np.sort(absent)), modality, "latent", "context")
        except MethodError:
            return torch.zeros(0, len(self.classes_))
        with torch.no_grad():
            position = list(self.widths_).index(modality)
            return self.network_.posterior(torch.from_numpy(imagined.values), position)

    def output(self, x: Tensor, modality: str) -> Tensor:
        """Outputs of the code head on the mean class probabilities of all members, shape (m, r)."""
        position = list(self.widths_).index(modality)
        posterior = self.network_.posterior(self.network_.features(x, position), position)
        return self.network_.outputs(posterior, position)

    def impute(
        self,
        data: Dataset,
        modality: str,
        *,
        what: Literal["features", "latent", "code"] = "features",
        use: Literal["context", "plain"] = "context",
    ) -> Imputation:
        """Imagine a modality for the items that lack it: q'_ab (or q_ab), averaged over the sides that are there.

        Args:
            data: Items with features.
            modality: What to imagine.
            what: Features in the width of the modality, its latent features, or the code that the head gives them.
            use: With the context of neighbouring training pairs, or without.

        Returns:
            One row per item. Trust is the mean cosine to the training pairs that gave context, at least 0.

        Raises:
            MissingModality: If the model never learned the modality.
            MethodError: If the model has seen no pair of it with another modality.
        """
        self.require_fitted()
        if modality not in self.widths_:
            raise MissingModality(nearest(modality, self.widths_, what="modality") + " The model never learned it.")
        return self.recovery_.impute(data, modality, what, use)

    def state(self) -> dict[str, NDArray[Any]]:
        """Networks, and what imagining needs beside them."""
        return {**super().state(), **{f"recovery.{name}": part for name, part in self.recovery_.state().items()}}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """The inverse of ``state``."""
        own = {name.removeprefix("recovery."): part for name, part in state.items() if name.startswith("recovery.")}
        super().restore({name: part for name, part in state.items() if not name.startswith("recovery.")})
        self.recovery_ = Recovery(self.network_, list(self.widths_), self.neighbours)
        self.recovery_.restore(own)


def _epochs(steps: int, items: int, batch: int) -> int:
    """Passes over the data that come nearest to a number of steps, one at least."""
    return max(1, round(steps / -(-items // batch)))


def _first(table: Observations, items: NDArray[np.int64]) -> NDArray[np.float32]:
    """The first observation of each of some items."""
    order = np.argsort(table.item, kind="stable")
    first: NDArray[np.float32] = table.read(order[np.searchsorted(table.item[order], items)])
    return first
