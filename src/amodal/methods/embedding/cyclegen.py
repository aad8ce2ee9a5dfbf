"""Cyclic generators: each modality is translated into the others and back; their bottleneck is the embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amodal.codes import BinaryCodes, Codes, Embeddings
from amodal.losses import absolute_gap, label_nll, least_squares_discriminator, least_squares_fooling, squared_gap
from amodal.methods.card import Card
from amodal.methods.embedding.cyclegen_networks import CycleGenNetwork
from amodal.methods.embedding.translating import Translating
from amodal.methods.networks import FILLS
from amodal.training import Batch

__all__ = ["CycleGen"]


@dataclass
class Side:
    """What a batch has of one modality.

    Attributes:
        x: Scaled features, shape (b_m, d).
        z: Their bottleneck, shape (b_m, e).
    """

    x: Tensor
    z: Tensor


class CycleGen(Translating):
    """Modality-cyclic generators, built from the idea alone.

    Each modality has an encoder E_m to a common bottleneck and a decoder D_m; G_ab = D_b E_a translates. What is
    translated there and back should be what it was, pass for real with the discriminator J_b, and be encoded as its
    source was. None of this needs pairs or labels; where there are some, they teach too.

        L = L_rec + lambda_c L_cyc + lambda_a L_adv + lambda_l L_lat + lambda_p L_pair + lambda_s L_sem + eta L_hash

        L_rec  = sum_m |x_m - D_m(E_m(x_m))|^2 / d_m
        L_cyc  = sum_{a!=b} |x_a - G_ba(G_ab(x_a) + noise)|_1 / d_a
        L_adv  = sum_{a!=b} (J_b(G_ab(x_a)) - 1)^2;   beside it J_b learns by (J_b(x_b) - 1)^2 + J_b(sg G_ab(x_a))^2
        L_lat  = sum_{a!=b} |E_a(x_a) - E_b(G_ab(x_a) + noise)|^2 / e
        L_pair = sum_{a!=b} |x_b - G_ab(x_a)|^2 / d_b + sum_{a<b} |E_a(x_a) - E_b(x_b)|^2 / e, over pairs
        L_sem  = sum_m CE(classes of E_m(x_m))
        L_hash = sum_m |h - sg sgn h|^2 / e,  h = tanh E_m(x_m)

    Each is a mean over rows; x are scaled features, under a root where none is negative, as words and tags want; sg
    stops the gradient. The noise keeps generators from passing the source through tiny components of the translation.

    An embedding is the direction of E_m(x). With ``hash=True``, ``encode`` gives binary codes instead, of ``dim`` bits.

    With ``unsupervised=True``, or neither pairs nor labels, nothing says which class of one modality is which of
    another: every loss is as small for generators that exchange classes. Retrieval near its floor is to be expected.

    Args:
        dim: Width e of the bottleneck, and the number of bits.
        hidden: Width of the hidden layer of encoders and decoders; 0 for none.
        dropout: Share of hidden units of encoders left out in training.
        hash: Binary codes by the sign of E_m, and L_hash.
        unsupervised: Leave out L_pair and L_sem even if the data have pairs and labels.
        lambda_c: Weight of the cycle.
        lambda_a: Weight of the adversary; 0 for none.
        lambda_l: Weight of agreement in the bottleneck.
        lambda_p: Weight of pairs.
        lambda_s: Weight of classes.
        eta: Weight of L_hash.
        noise: Standard deviation of what is added to generated features before they are read.
        adversary_from: Epochs before there are discriminators.
        fill: What is done about an absent modality: "mask", "drop" or "mean".
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate of all networks.
        weight_decay: Decoupled weight decay.
        seed: Seed of weights, order, dropout and noise.

    Paper: the modality-cyclic generative method cited by CICH; its identity is not confirmed. A reconstruction.
    Reference code: no reference implementation.
    """

    card: ClassVar[Card] = Card(
        slug="cyclegen",
        name="CycleGen",
        summary="Generators translate each modality and back; pairs and labels teach where there are some.",
        paper="after Wu et al.: Cycle-Consistent Deep Generative Hashing for Cross-Modal Retrieval, IEEE TIP 2019, the "
        "nearest published match of the method that CICH cites",
        url="https://arxiv.org/abs/1804.11013",
        family="embedding",
        returns="embeddings",
        needs_labels=False,
        needs_pairs="helpful",
        native="any",
        fills=FILLS,
        imputes=True,
        checked="losses against loops; limits of every part; which networks each player moves; no table of a paper",
        departures=(
            "everything but the idea is ours, and cannot be checked: which paper is meant is not confirmed",
            "labels and pairs teach by default where there are some; unsupervised=True leaves both out",
            "embeddings by default; hash=True gives binary codes",
            "discriminators step beside the generators on each batch, in place of a step of their own",
            "20 epochs at rate .001, in place of 100 at .0002, for the time that takes",
            "one scale for all features of a modality, and a root where none is negative",
        ),
        reference_code="no reference implementation",
        reconstruction=True,
    )
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "dim": (64, 128, 256),
        "lambda_c": (1.0, 10.0),
        "lambda_a": (0.0, 0.1, 1.0),
        "lambda_l": (0.1, 1.0),
        "lambda_p": (0.1, 1.0, 10.0),
        "lambda_s": (0.1, 1.0, 10.0),
        "dropout": (0.0, 0.5),
        "rate": (1e-4, 2e-4, 1e-3),
    }
    betas: ClassVar[tuple[float, float]] = (0.5, 0.999)

    network_: CycleGenNetwork

    def __init__(
        self,
        *,
        dim: int = 256,
        hidden: int = 1024,
        dropout: float = 0.0,
        hash: bool = False,
        unsupervised: bool = False,
        lambda_c: float = 10.0,  # usual in cycle GANs
        lambda_a: float = 1.0,
        lambda_l: float = 1.0,
        lambda_p: float = 1.0,
        lambda_s: float = 1.0,
        eta: float = 0.1,
        noise: float = 0.05,
        adversary_from: int = 10,
        fill: Literal["mask", "drop", "mean"] = "mask",
        epochs: int = 20,
        batch_size: int = 128,
        rate: float = 1e-3,  # usual in GANs: 2e-4
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.dim, self.hidden, self.dropout, self.hash, self.unsupervised = dim, hidden, dropout, hash, unsupervised
        self.lambda_c, self.lambda_a, self.lambda_l, self.lambda_p, self.lambda_s, self.eta = (
            lambda_c, lambda_a, lambda_l, lambda_p, lambda_s, eta,
        )  # fmt: skip
        self.noise, self.adversary_from, self.fill = noise, adversary_from, fill
        self.epochs, self.batch_size, self.rate, self.weight_decay, self.seed = (
            epochs, batch_size, rate, weight_decay, seed,
        )  # fmt: skip

    def build(self) -> CycleGenNetwork:
        """All networks; no classifier where there is nothing to learn one from."""
        return CycleGenNetwork(
            list(self.widths_.values()),
            self.dim,
            self.widths,
            self.dropout,
            classes=0 if self.unsupervised else len(self.classes_),
        )

    def groups(self) -> list[dict[str, Any]]:
        """All parameters at one rate."""
        return [{**group, "betas": self.betas} for group in super().groups()]

    def translated(self, x: Tensor, source: str, target: str) -> Tensor:
        """G_ab(x), shape (m, d_b), in the scale of the features of b."""
        network, b = self.network_, self.position(target)
        return network.scale(b).inverse(network.decoded(self.output(x, source), b))

    def _encode(self, features: NDArray[np.float32], modality: str) -> Codes:
        found = super()._encode(features, modality)
        return BinaryCodes.from_outputs(found.vectors) if self.hash and isinstance(found, Embeddings) else found

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L, what discriminators learn by, and every term, for a batch; see the class."""
        batch = self.received(batch)
        sides = [self._side(batch, m) for m in self.widths_]
        made = {(a, b): self.network_.decoded(sides[a].z, b) for a, b in permutations(range(len(sides)), 2)}
        zero = batch.labels.new_zeros(())
        weights = {"reconstruction": 1.0, "cycle": self.lambda_c, "latent": self.lambda_l}
        read = [squared_gap(side.x, self.network_.decoded(side.z, k)) for k, side in enumerate(sides)]
        losses = {"reconstruction": sum(read, zero), **self._cycle(sides, made)}
        if self.lambda_a and epoch >= self.adversary_from:
            losses |= self._adversary(sides, made)
            weights |= {"fooling": self.lambda_a, "judging": 1.0}
        if not self.unsupervised:
            losses["pairs"] = self._pairs(batch, sides, made)
            weights["pairs"] = self.lambda_p
        if self.network_.classes is not None:
            losses["classes"] = self._classes(batch, sides)
            weights["classes"] = self.lambda_s
        if self.hash:
            losses["hash"] = sum((_quantisation(side.z) for side in sides), zero)
            weights["hash"] = self.eta
        return {"loss": sum((weights[name] * value for name, value in losses.items()), zero), **losses}

    def _side(self, batch: Batch, modality: str) -> Side:
        k = self.position(modality)
        x = self.network_.scale(k)(batch.x[modality])
        return Side(x, self.network_.encoded(x, k))

    def _cycle(self, sides: list[Side], made: dict[tuple[int, int], Tensor]) -> dict[str, Tensor]:
        """L_cyc and L_lat."""
        cycle, latent = sides[0].z.new_zeros(()), sides[0].z.new_zeros(())
        for (a, b), x in made.items():
            z = self.network_.encoded(x + self.noise * torch.randn_like(x), b)
            cycle = cycle + absolute_gap(sides[a].x, self.network_.decoded(z, a))
            latent = latent + squared_gap(sides[a].z, z)
        return {"cycle": cycle, "latent": latent}

    def _adversary(self, sides: list[Side], made: dict[tuple[int, int], Tensor]) -> dict[str, Tensor]:
        """L_adv, which moves no discriminator; and the discriminators' loss, which moves nothing else."""
        fooling, judging = sides[0].z.new_zeros(()), sides[0].z.new_zeros(())
        for b, side in enumerate(sides):
            judge, fakes = self.network_.judge(b), [x for (_, target), x in made.items() if target == b]
            for fake in fakes:
                fooling = fooling + least_squares_fooling(judge.fixed(fake))
            judging = judging + least_squares_discriminator(judge(side.x), judge(torch.cat(fakes).detach()))
        return {"fooling": fooling, "judging": judging}

    def _pairs(self, batch: Batch, sides: list[Side], made: dict[tuple[int, int], Tensor]) -> Tensor:
        """L_pair."""
        total = sides[0].z.new_zeros(())
        for (a, first), (b, second) in combinations(enumerate(self.widths_), 2):
            here, there = batch.pairs(first, second)
            total = total + squared_gap(sides[b].x[there], made[a, b][here])
            total = total + squared_gap(sides[a].x[here], made[b, a][there])
            total = total + squared_gap(sides[a].z[here], sides[b].z[there])
        return total

    def _classes(self, batch: Batch, sides: list[Side]) -> Tensor:
        """L_sem."""
        total, network = sides[0].z.new_zeros(()), self.network_
        for m, side in zip(self.widths_, sides, strict=True):
            known = batch.known[batch.rows[m]]
            labels = batch.labels[batch.rows[m][known]]
            scores = network.classes(side.z[known])  # type: ignore[misc]
            total = total + label_nll(scores, labels, single=bool(network.single)).sum() / max(len(labels), 1)
        return total


def _quantisation(z: Tensor) -> Tensor:
    """|h - sgn h|^2 / e of h = tanh z, the mean over rows; signs pass no gradient."""
    return squared_gap(torch.tanh(z), torch.where(z >= 0, 1.0, -1.0))
