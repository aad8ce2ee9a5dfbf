"""Deep Cross-Modal Hashing: the likelihood of label sharing between the codes of images and of texts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from amodal.losses import pair_likelihood, share_label
from amodal.methods.card import Card
from amodal.methods.hashing.feature_hash import FeatureHash, HashNetwork, Memory, signs
from amodal.methods.networks import FILLS
from amodal.training import Batch, Batches

__all__ = ["DCMH"]


class DCMH(FeatureHash):
    """Deep Cross-Modal Hashing.

    A network per modality gives real-valued codes F_m. Those of a batch are fitted to label sharing with the codes of
    all training items in the other modality; a common code B pulls both, and every bit should be balanced.

        L   = mean over ordered pairs (a, b) of l(F_a, F_b) + sum_m [ gamma |F_m - B|^2 / r + eta |mean F_m|^2 / r ]
        l   : ``losses.pair_likelihood``, theta = F_a F_b^T / 2, rows of the batch against all rows of b
        B   = sign(sum_m F_m), anew before each epoch
        sum : the published J = sum l + gamma sum |F_m - B|^2 + eta |sum F_m|^2, divided by batch size and n

    Args:
        bits: Code length r.
        hidden: Width of the only hidden layer of each network.
        dropout: Share of units left out in training.
        gamma: Weight of the distance to the common code.
        eta: Weight of bit balance.
        balance: Balance of the likelihood, "half" or the paper's "none".
        reduction: "mean" as above, or the published "sum".
        joint: All modalities learn from each batch; or in turn, an epoch each, texts (the last one) first as released.
        fill: What is done about an absent modality: "mask", "drop" or "mean".
        solver: "adam", or the released "sgd".
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate.
        weight_decay: Weight decay.
        seed: Seed of weights, order and dropout.

    Paper: Jiang and Li, CVPR 2017.
    Reference code: jiangqy/DCMH-CVPR2017 (no licence; read, not used).
    """

    card: ClassVar[Card] = Card(
        slug="dcmh",
        name="DCMH",
        summary="Likelihood of label sharing between the codes of two networks, tied by a common sign code.",
        paper="Jiang, Li: Deep Cross-Modal Hashing, CVPR 2017",
        url="https://arxiv.org/abs/1602.02255",
        family="hashing",
        returns="codes",
        needs_labels=True,
        needs_pairs="helpful",
        native="any",
        fills=FILLS,
        checked="gradient against the published one by finite differences; closed-form limits",
        departures=(
            "networks on ready features in place of CNN-F and raw words",
            "the paper knows no gaps: the likelihood runs over rows that are there, B over sides that are there",
            'balance="half" and means; the paper sums over all pairs (balance="none", reduction="sum")',
            "gamma = .1 and dropout .5, chosen on validation parts: with means and gamma = 1 codes stay at the first B",
            "Adam, all modalities on each batch; released: SGD in turn (preset)",
            "memories start from a forward pass: from zeros, as released, the first pass has no gradient",
            "presets decay rates along a cosine; released: logarithmically (Matlab), linearly (TensorFlow)",
        ),
        reference_code="jiangqy/DCMH-CVPR2017, no licence; read, not used",
    )
    # the ports disagree; the Matlab code is the authors' first: weight decay, rate 10^-1.5 to 10^-3, 500 epochs
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "matlab": {
            "dropout": 0.0,
            "gamma": 1.0,
            "balance": "none",
            "reduction": "sum",
            "joint": False,
            "solver": "sgd",
            "epochs": 2 * 500,
            "rate": 10**-1.5,
            "weight_decay": 5e-4,
        },
        "tf": {
            "dropout": 0.0,
            "gamma": 1.0,
            "balance": "none",
            "reduction": "sum",
            "joint": False,
            "solver": "sgd",
            "epochs": 2 * 500,
            "rate": 10**-1.5,
        },
    }
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "gamma": (0.01, 0.1, 1.0, 10.0),
        "eta": (0.0, 0.1, 1.0),
        "dropout": (0.0, 0.2, 0.5),
        "rate": (1e-4, 3e-4, 1e-3),
        "weight_decay": (0.0, 1e-4, 1e-3),
    }

    _memory: Memory
    _common: Tensor

    def __init__(
        self,
        bits: int = 64,
        *,
        hidden: int = 512,  # released: 4096 for CNN-F features, 8192 for words
        dropout: float = 0.5,  # ours, for ready features
        gamma: float = 0.1,  # published: 1, on sums; on means it holds codes at the B of the first, random pass
        eta: float = 1.0,
        balance: Literal["half", "none"] = "half",
        reduction: Literal["mean", "sum"] = "mean",
        joint: bool = True,
        fill: Literal["mask", "drop", "mean"] = "mask",
        solver: Literal["adam", "sgd"] = "adam",
        epochs: int = 40,
        batch_size: int = 128,
        rate: float = 1e-3,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.bits, self.hidden, self.dropout, self.gamma, self.eta = bits, hidden, dropout, gamma, eta
        self.balance, self.reduction, self.joint, self.fill, self.solver = balance, reduction, joint, fill, solver
        self.epochs, self.batch_size, self.rate, self.weight_decay, self.seed = (
            epochs, batch_size, rate, weight_decay, seed,
        )  # fmt: skip

    def build(self) -> HashNetwork:
        """One hidden layer and a linear head for every modality."""
        return HashNetwork(list(self.widths_.values()), self.bits, (self.hidden,), self.dropout, tanh=False)

    def optimizer(self) -> Optimizer:
        """Adam, or SGD without momentum as released."""
        return super().optimizer() if self.solver == "adam" else SGD(self.groups())

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """Before each epoch: the codes of all rows, and the common code."""
        self._memory = self.remember(batches, device)
        self._common = signs(sum(self._memory.values.values(), torch.zeros((), device=device)))

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; see the class."""
        batch, names = self.received(batch), list(self.widths_)
        turn = names if self.joint else [names[-1 - epoch % len(names)]]
        codes = {}
        for m in turn:
            codes[m] = self.output(batch.x[m], m)
            self._memory.store(m, batch.index[batch.rows[m]], codes[m])
        likelihood = distance = evenness = batch.labels.new_zeros(())
        for a, b in permutations(names, 2):
            if a in codes:
                likelihood = likelihood + self._likelihood(batch, codes[a], a, b) / (len(names) - 1)
        for m, f in codes.items():
            rows = batch.index[batch.rows[m]]
            total = self._memory.values[m].sum(dim=0) - f.detach().sum(dim=0) + f.sum(dim=0)
            if self.reduction == "sum":  # over n: the published J / (batch size x n)
                n, share = len(self._memory.labels), max(len(f), 1)
                distance = distance + ((f - self._common[rows]) ** 2).sum() / (share * n)
                evenness = evenness + (total**2).sum() / (share * n)
            elif len(f):
                distance = distance + ((f - self._common[rows]) ** 2).mean()
                evenness = evenness + ((total / len(self._memory.rows[m])) ** 2).mean()
        loss = likelihood + self.gamma * distance + self.eta * evenness
        return {"loss": loss, "likelihood": likelihood, "distance": distance, "evenness": evenness}

    def _likelihood(self, batch: Batch, codes: Tensor, a: str, b: str) -> Tensor:
        """Rows of ``a`` in the batch against all rows of ``b``; rows without label take no part."""
        known = batch.known[batch.rows[a]]
        labels = batch.labels[batch.rows[a][known]]
        others, their_labels = self._memory.observed(b)
        labelled = their_labels.any(dim=1)
        theta = 0.5 * codes[known] @ others[labelled].T  # (m, n_b)
        return pair_likelihood(theta, share_label(labels, their_labels[labelled]), balance=self.balance)
