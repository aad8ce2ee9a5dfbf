"""Differentiable Cross-modal Hashing: bits as two-way choices, and one distance within and across modalities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations_with_replacement
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor
from torch.optim import AdamW, Optimizer

from amodal.errors import UsageError, nearest
from amodal.losses import margin_distance, share_label
from amodal.methods.card import Card
from amodal.methods.hashing.feature_hash import FeatureHash, HashNetwork
from amodal.methods.networks import FILLS
from amodal.training import Batch

__all__ = ["DCHMT"]

LAYERS = ("select", "linear")


class DCHMT(FeatureHash):
    """Differentiable Cross-modal Hashing via Multimodal Transformers, on ready features.

    Each bit is a choice between two logits. Its softmax (p, 1 - p) is a relaxed one-hot; encoding takes the larger. One
    distance between these, over all pairs of a batch, should vanish where labels are shared and reach a margin else.

        L = sum over unordered pairs (a, b) of modalities, a = b among them, of E(P_a, P_b)
        E : ``losses.margin_distance``, with margin sqrt(2 r m), as far as codes are that differ in m r bits

    Args:
        bits: Code length r.
        hidden: Width of the only hidden layer of "select".
        hash_layer: "select", the paper's; or "linear": one linear layer and tanh in its place.
        dropout: Share of units left out in training: hidden ones of "select", outputs of "linear".
        margin: Share m of the bits in which dissimilar items should differ at least.
        balance: Balance of similar and dissimilar pairs, "half" or the paper's "none".
        fill: What is done about an absent modality: "mask", "drop" or "mean".
        solver: "adam", or "adamw" with decoupled weight decay.
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate.
        weight_decay: Weight decay.
        seed: Seed of weights, order and dropout.

    Paper: Tu et al., ACM MM 2022.
    Reference code: kalenforn/DCHMT (MIT; read, not used).
    """

    card: ClassVar[Card] = Card(
        slug="dchmt",
        name="DCHMT",
        summary="Bits as two-way choices, drawn together or apart up to a margin, within and across modalities.",
        paper="Tu et al.: Differentiable Cross-modal Hashing via Multimodal Transformers, ACM MM 2022",
        url="https://doi.org/10.1145/3503161.3548187",
        family="hashing",
        returns="codes",
        needs_labels=True,
        needs_pairs="no",
        native="any",
        fills=FILLS,
        checked="loss against a loop and at its limits; one-hot distances against Hamming distances",
        departures=(
            "the hash layer on ready features in place of CLIP trained along, and 512 wide in place of 128",
            "the paper knows no gaps: each distance runs over the rows that have the modality",
            'balance="half" between similar and dissimilar pairs; the paper takes the mean over all (balance="none")',
            "Adam, 50 epochs of batches of 128, dropout; released: BertAdam, 100 epochs (preset, without warm-up)",
            "a tie between the two logits of a bit is +1; released: -1",
            "one code per item at the last epoch; released: best epoch per direction on the queries, and captions "
            "drawn at random",
        ),
        reference_code="kalenforn/DCHMT, MIT; read, not used",
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "released": {
            "balance": "none",
            "hidden": 128,
            "dropout": 0.0,
            "solver": "adamw",
            "epochs": 100,
            "weight_decay": 0.2,
        },
        "released_coco": {
            "balance": "none",
            "hidden": 128,
            "dropout": 0.0,
            "solver": "adamw",
            "epochs": 100,
            "weight_decay": 0.2,
            "margin": 0.75,
        },
    }
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "margin": (0.25, 0.5, 0.75),
        "hidden": (128, 512, 1024),
        "dropout": (0.0, 0.2, 0.5),
        "rate": (1e-4, 3e-4, 1e-3),
        "weight_decay": (0.0, 1e-4, 1e-3),
    }

    def __init__(
        self,
        bits: int = 64,
        *,
        hidden: int = 512,  # released: 128, behind CLIP
        hash_layer: Literal["select", "linear"] = "select",
        dropout: float = 0.2,
        margin: float = 0.5,
        balance: Literal["half", "none"] = "half",
        fill: Literal["mask", "drop", "mean"] = "mask",
        solver: Literal["adam", "adamw"] = "adam",
        epochs: int = 50,
        batch_size: int = 128,
        rate: float = 1e-3,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.bits, self.hidden, self.hash_layer, self.dropout, self.margin = bits, hidden, hash_layer, dropout, margin
        self.balance, self.fill, self.solver, self.epochs = balance, fill, solver, epochs
        self.batch_size, self.rate, self.weight_decay, self.seed = batch_size, rate, weight_decay, seed

    def build(self) -> HashNetwork:
        """Two logits per bit on a hidden layer, or one linear output per bit."""
        if self.hash_layer not in LAYERS:
            raise UsageError(nearest(str(self.hash_layer), LAYERS, what="hash_layer"))
        dims = list(self.widths_.values())
        if self.hash_layer == "linear":
            return HashNetwork(dims, self.bits, (), tanh=False)
        return HashNetwork(dims, 2 * self.bits, (self.hidden,), self.dropout, tanh=False)

    def optimizer(self) -> Optimizer:
        """Adam, or AdamW in the place of the released BertAdam."""
        return super().optimizer() if self.solver == "adam" else AdamW(self.groups(), fused=True)

    def output(self, x: Tensor, modality: str) -> Tensor:
        """Relaxed codes 2 p - 1, shape (m, r): of two logits tanh((b - a) / 2), whose sign is that of b - a."""
        logits = super().output(x, modality)
        if self.hash_layer == "linear":
            return torch.tanh(F.dropout(logits, self.dropout, self.network_.training))
        pairs = logits.view(-1, self.bits, 2)
        return torch.tanh((pairs[:, :, 1] - pairs[:, :, 0]) / 2)

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; rows without label take no part."""
        batch = self.received(batch)
        codes, labels = {}, {}
        for m in self.widths_:
            known = batch.known[batch.rows[m]]
            # |(p, 1 - p) - (q, 1 - q)|^2 = 2 (p - q)^2 = (h - g)^2 / 2 with h = 2 p - 1, g = 2 q - 1
            codes[m] = self.output(batch.x[m][known], m) / math.sqrt(2)
            labels[m] = batch.labels[batch.rows[m][known]]
        margin = math.sqrt(2 * self.bits * self.margin)
        within = across = batch.labels.new_zeros(())
        for a, b in combinations_with_replacement(self.widths_, 2):
            similar = share_label(labels[a], labels[b])
            distance = margin_distance(codes[a], codes[b], similar, margin, balance=self.balance)
            within, across = (within + distance, across) if a == b else (within, across + distance)
        return {"loss": within + across, "within": within, "across": across}
