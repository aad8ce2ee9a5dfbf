"""CICH: codes learned from items of which most have lost a modality."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import permutations
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amodal.data import Dataset, Observations
from amodal.errors import MethodError
from amodal.methods.card import Card
from amodal.methods.hashing.cich_networks import CICHNetwork
from amodal.methods.hashing.cich_stages import CodeStage, EncoderStage, ImaginationStage
from amodal.methods.hashing.recovery import Imagines, Neighbours, Recovery
from amodal.methods.hashing.refinement import Anchors
from amodal.methods.likeness import Judge, believed, judged
from amodal.training import Outcome, Training, train

__all__ = ["CICH"]

CHUNK = 1024


class CICH(Imagines):
    """Contrastive Incomplete Cross-Modal Hashing, with a soft relation in the place of the hard one.

    CICH's three ideas, each learned in a stage of its own (formulas: ``cich_stages``):

    1. *Label prototypes instead of pairs* (PSSC). Variational bottlenecks place an item at the prototypes of its
       labels, so an item that has lost its partner teaches as much as one that has not. K small encoders share each
       modality, and each leaves a fold of the rows unseen. Beside them a kernel machine says what like items say of
       the classes, and unseen rows tell how far each is to be believed (``likeness``).
    2. *Imagining the missing side* (CCA). Paired rows teach predictors to carry the bottleneck of one side to the
       latent feature of the other, with and without the context of neighbouring pairs.
    3. *Contrast across modalities* (SaCH). One head, told the modality, turns class probabilities into bits whose
       Hamming similarity says how probably two items share a label; rows that lack a side take part with what is
       imagined of it.

    At last a few bits of each code are flipped where that brings it nearer to what it should say to some training codes
    of the other modalities (``refinement``).

    The relation in stage 3 is the probability P(x, y) that two items share a label, as judged by what has not seen
    them. The paper's is whether they do, which training items say with a certainty that unseen ones never have: a
    head that learns from it has no bits for doubt. ``cich_paper`` has the paper's form, and the released code's.

    Args:
        bits: Code length r.
        members: Encoders K of each modality.
        hidden: Width of each encoder's first layer.
        latent: Width e of each encoder's bottleneck.
        dropout: Share of input features left out in training.
        dropout_hidden: Share of hidden features left out in training.
        beta: Weight of the bottleneck's divergence.
        encoder_epochs: Passes over the data in stage 1.
        batch_size: Items in a batch of stage 1.
        rate: Learning rate of encoders.
        weight_decay: Decoupled weight decay of encoders.
        neighbours: Neighbours K that give context; 0 for none.
        memory: At most so many paired rows teach imagination and serve as neighbours, and so many labelled ones of each
            modality settle who is believed.
        imagination_steps: Steps of stage 2.
        head: Width of the code head.
        code_steps: Steps of stage 3.
        code_batch: Items in a batch of stage 3.
        rate_codes: Learning rate of the head.
        prototypes: Weight of PSSC on codes.
        recovered: Imagined rows of each modality in a batch of stage 3.
        anchors: At most so many training rows of each modality refine codes; 0 for the plain sign.
        likeness: At most so many training rows of each modality stand for like items; 0 to ask the members alone.
        seed: Seed of weights, folds, order and noise.

    Attributes:
        recovery_: What imagines a missing side.
        judges_: By modality, who is believed of the classes.
        anchors_: What codes are refined by.

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
        checked="quality on three data sets beside the tuned control and the paper's form, in benchmarks/",
        departures=(
            "the relation between items is the probability that they share a label, judged by encoders that have not "
            "seen them; the paper's is 0 or 1",
            "encoders are cross-fitted members that classify by latent prototypes; the paper has one network",
            "beside the members a kernel machine speaks of the classes",
            "three stages, so that latent features rest while the missing side is learned; the paper alternates",
            "SaCH and PSSC on codes are likelihoods of the soft relation; the paper's SaCH is a softmax",
            "bits are drawn in training and refined at encoding; the paper takes the sign",
            "features are divided by one number for all, after a square root if none is negative",
        ),
        reference_code="DarrenZZhang/CICH, no licence; read, not used",
    )
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "members": (3, 5, 8),
        "hidden": (128, 256, 512),
        "dropout": (0.0, 0.1, 0.3, 0.5),
        "dropout_hidden": (0.3, 0.5, 0.7),
        "beta": (0.0, 1e-4, 1e-3, 1e-2),
        "encoder_epochs": (15, 30, 60),
        "weight_decay": (1e-3, 1e-2, 1e-1),
        "neighbours": (0, 1, 3, 5, 10, 20),
        "prototypes": (0.0, 0.25, 1.0),
        "recovered": (0, 32, 128),
        "likeness": (0, 2000),
    }

    network_: CICHNetwork
    judges_: dict[str, Judge]
    anchors_: Anchors
    outcome_: Outcome

    def __init__(
        self,
        bits: int = 64,
        *,
        members: int = 5,
        hidden: int = 256,
        latent: int = 128,
        dropout: float = 0.3,
        dropout_hidden: float = 0.5,
        beta: float = 1e-3,  # released: .01 in the loss of recovery
        encoder_epochs: int = 30,
        batch_size: int = 128,
        rate: float = 2e-3,
        weight_decay: float = 1e-2,
        neighbours: int = 5,
        memory: int = 8192,
        imagination_steps: int = 150,
        head: int = 256,
        code_steps: int = 1000,
        code_batch: int = 512,
        rate_codes: float = 4e-3,
        prototypes: float = 0.25,
        recovered: int = 32,  # released: 64
        anchors: int = 2000,
        likeness: int = 2000,
        seed: int = 0,
    ) -> None:
        self.bits, self.members, self.hidden, self.latent = bits, members, hidden, latent
        self.dropout, self.dropout_hidden, self.beta = dropout, dropout_hidden, beta
        self.encoder_epochs, self.batch_size, self.rate, self.weight_decay = (
            encoder_epochs,
            batch_size,
            rate,
            weight_decay,
        )
        self.neighbours, self.memory, self.imagination_steps = neighbours, memory, imagination_steps
        self.head, self.code_steps, self.code_batch, self.rate_codes = head, code_steps, code_batch, rate_codes
        self.prototypes, self.recovered, self.anchors = prototypes, recovered, anchors
        self.likeness, self.seed = likeness, seed

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
            dropout=(self.dropout, self.dropout_hidden),
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
        posteriors = self._posteriors(data, fold)
        score = None if validation is None else lambda: self.validation_score(validation)
        self.anchors_ = Anchors(bool(self.network_.single), 0.0, 0.0)
        self.outcome_ = self._learn_codes(data, posteriors, random, training.stage("codes", chooses=True), score)
        self._settle_anchors(posteriors, random)

    def _learn_encoders(self, data: Dataset, fold: Tensor, training: Training) -> None:
        assert data.labels is not None  # noqa: S101 - fit has checked
        self.network_.single.fill_(data.labels.single)
        stage = EncoderStage(
            fold,
            self.rate,
            self.weight_decay,
            self.beta,
            network=self.network_,
            arguments=self.params(),
            epochs=self.encoder_epochs,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        train(stage, data, training)

    @torch.no_grad()
    def _judge(
        self, data: Dataset, modality: str, k: int, fold: Tensor, random: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Settle who is believed in one modality, by at most ``memory`` labelled rows.

        Returns:
            The rows, and their class probabilities by what has not learned from them.
        """
        assert data.labels is not None  # noqa: S101 - fit has checked
        network, table, known = self.network_, data[modality], data.labels.known & (data.labels.per_row > 0)
        rows = np.sort(random.permutation(np.flatnonzero(known[table.item]))[: self.memory])
        x, own = torch.from_numpy(table.read(rows)), fold[table.item[rows]]
        target, single = torch.from_numpy(data.labels.dense(table.item[rows])), bool(network.single)
        network.eval()
        feature = network.latent(x, k).feature
        # before members are averaged, since each is too sure by itself
        network.temperature[k] = 1.0
        network.temperature[k] = believed([network.evidence(feature, k, own)], target, single=single).weights[0]
        evidence = network.evidence(feature, k, own)
        chosen = torch.from_numpy(random.permutation(len(rows))[: self.likeness])
        self.judges_[modality], scores = judged(evidence, network.scaled(x, k), target, own, chosen, single=single)
        return rows, network.probabilities(scores).numpy()

    def _probabilities(self, x: Tensor, k: int, fold: Tensor | None = None) -> Tensor:
        """Class probabilities of features of a modality, as its judge has them; shape (m, c)."""
        network, judge = self.network_, self.judges_[list(self.widths_)[k]]
        evidence = network.evidence(network.latent(x, k).feature, k, fold)
        return network.probabilities(judge.scores(evidence, network.scaled(x, k)))

    def _learn_imagination(self, data: Dataset, random: np.random.Generator, training: Training) -> None:
        paired = np.flatnonzero(data.presence().sum(axis=1) > 1)
        if not len(paired):
            warnings.warn("no item has two modalities: nothing missing can be imagined.", stacklevel=5)
            return
        rows = np.sort(random.permutation(paired)[: self.memory])
        some = data.take(rows)
        latents = self._mapped(some, lambda x, m, _: torch.cat(self.network_.members[m](x), dim=1))
        for a, b in permutations(self.widths_, 2):
            both = np.flatnonzero(latents.present(a) & latents.present(b))
            if len(both):
                means = (torch.from_numpy(_first(latents[m], both)).chunk(2, dim=1)[0] for m in (a, b))
                source, target = (torch.relu(mean) for mean in means)
                self.recovery_.neighbours[a, b] = Neighbours(torch.from_numpy(both), source, target)
        batch = min(128, len(rows))
        stage = ImaginationStage(
            self.recovery_,
            self.rate,
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
        self, data: Dataset, posteriors: Dataset, random: np.random.Generator, training: Training, score: Any
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
        return train(stage, posteriors, training, score)

    @torch.no_grad()
    def _settle_anchors(self, posteriors: Dataset, random: np.random.Generator) -> None:
        """Training rows with their codes, refined by each other."""
        network = self.network_
        slope, shift = float(network.slope[0]), float(network.shift[0])
        anchors = Anchors(bool(network.single), slope, shift)
        for k, table in enumerate(posteriors.modalities.values()):
            if self.anchors:
                rows = np.sort(random.permutation(len(table))[: self.anchors])
                anchors.p[k] = torch.from_numpy(table.read(rows))
                anchors.codes[k] = torch.where(network.outputs(anchors.p[k], k) >= 0, 1.0, -1.0)
        anchors.settle()
        self.anchors_ = anchors

    def _posteriors(self, data: Dataset, fold: Tensor) -> Dataset:
        """The same items with class probabilities, each by what has not learned from it."""
        random, self.judges_ = np.random.default_rng((self.seed, 2)), {}
        unseen = {m: self._judge(data, m, k, fold, random) for k, m in enumerate(self.widths_)}
        found = self._mapped(data, lambda x, k, items: self._probabilities(x, k, fold[items]))
        for m, (rows, p) in unseen.items():
            found[m].store[rows] = p  # the table is new, and in order
        return found

    @torch.no_grad()
    def _mapped(self, data: Dataset, function: Any) -> Dataset:
        self.network_.eval()
        tables = {}
        for k, (m, table) in enumerate(data.modalities.items()):
            rows = torch.split(torch.from_numpy(table.item), CHUNK)
            parts = [
                function(torch.from_numpy(x), k, row).numpy() for x, row in zip(table.chunks(CHUNK), rows, strict=False)
            ]
            # a modality that none of these items has is left without observations
            tables[m] = Observations(np.concatenate(parts) if parts else np.zeros((0, 1), np.float32), table.item)
        return data.with_tables(tables)

    @torch.no_grad()
    def _imagined(self, data: Dataset, modality: str, random: np.random.Generator) -> Tensor:
        """Class probabilities of what is imagined of some items that lack a modality."""
        if not self.recovered or not self.recovery_.neighbours:
            return torch.zeros(0, len(self.classes_))
        absent = random.permutation(np.flatnonzero(~data.present(modality)))[: self.memory // 2]
        try:
            imagined = self.recovery_.impute(data.take(np.sort(absent)), modality, "latent", "context")
        except MethodError:
            return torch.zeros(0, len(self.classes_))
        evidence = self.network_.evidence(torch.from_numpy(imagined.values), list(self.widths_).index(modality))
        return self.network_.probabilities(self.judges_[modality].alone.scores(evidence))

    def output(self, x: Tensor, modality: str) -> Tensor:
        """Signs of the code head on class probabilities, refined; shape (m, r)."""
        position = list(self.widths_).index(modality)
        p = self._probabilities(x, position)
        signs = torch.where(self.network_.outputs(p, position) >= 0, 1.0, -1.0)
        return self.anchors_.refine(signs, p, position)

    def state(self) -> dict[str, NDArray[Any]]:
        """Networks, and what imagining and refining need beside them."""
        parts = {"recovery": self.recovery_.state(), "anchors": self.anchors_.state()}
        parts |= {f"judge {k}": self.judges_[m].state() for k, m in enumerate(self.widths_)}
        own = {f"{kind}/{name}": array for kind, state in parts.items() for name, array in state.items()}
        return {**super().state(), **own}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """The inverse of ``state``."""

        def part(kind: str) -> dict[str, NDArray[Any]]:
            return {name.split("/")[1]: array for name, array in state.items() if name.startswith(f"{kind}/")}

        super().restore({name: array for name, array in state.items() if "/" not in name})
        self.recovery_ = Recovery(self.network_, list(self.widths_), self.neighbours)
        self.recovery_.restore(part("recovery"))
        self.anchors_ = Anchors.from_state(part("anchors"))
        self.judges_ = {m: Judge.from_state(part(f"judge {k}")) for k, m in enumerate(self.widths_)}


def _epochs(steps: int, items: int, batch: int) -> int:
    """Passes over the data that come nearest to a number of steps, one at least."""
    return max(1, round(steps / -(-items // batch)))


def _first(table: Observations, items: NDArray[np.int64]) -> NDArray[np.float32]:
    """The first observation of each of some items."""
    order = np.argsort(table.item, kind="stable")
    first: NDArray[np.float32] = table.read(order[np.searchsorted(table.item[order], items)])
    return first
