"""What like items say of classes: a kernel machine of each modality, and how far it and the members are believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amodal.losses import label_nll

__all__ = ["Belief", "Judge", "Likeness", "believed", "judged", "learned_likeness"]

#: Widths of the kernel, as parts of the mean squared distance, and penalties to choose from.
WIDTHS, PENALTIES = (0.5, 1.0), (0.03, 0.1, 0.3, 1.0, 3.0)


class Likeness(nn.Module):
    """Scores of classes by a kernel machine: s(x) = mean label + sum_a exp(-|x - a|^2 / width) b_a over anchors a.

    Args:
        anchors: Scaled features of some training rows, shape (A, d).
        classes: Number of classes c.
    """

    anchors: Tensor
    width: Tensor
    coefficients: Tensor
    mean: Tensor

    def __init__(self, anchors: Tensor, classes: int) -> None:
        super().__init__()
        self.register_buffer("anchors", anchors)
        self.register_buffer("width", torch.ones(()))
        self.register_buffer("coefficients", torch.zeros(len(anchors), classes))
        self.register_buffer("mean", torch.zeros(classes))

    def alike(self, x: Tensor) -> Tensor:
        """Likeness of scaled features (m, d) to the anchors, in (0, 1], shape (m, A)."""
        return torch.exp(-squared(x, self.anchors) / self.width)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes, shape (m, c), of scaled features (m, d)."""
        return self.alike(x) @ self.coefficients + self.mean


def squared(x: Tensor, anchors: Tensor) -> Tensor:
    """Squared distances, shape (m, A)."""
    return ((x**2).sum(dim=1)[:, None] + (anchors**2).sum(dim=1) - 2 * x @ anchors.T).clamp_min(0)


def learned_likeness(
    x: Tensor, labels: Tensor, fold: Tensor, anchors: Tensor, *, single: bool, weights: Tensor | None = None
) -> tuple[Likeness, Tensor]:
    """Ridge regression of labels on likeness to anchors; width and penalty are those under which labels are likeliest.

        min_b  sum_i w_i |l_i - mean label - k(x_i) b|^2 + penalty <b, k(anchors) b>

    They are chosen on one fold by machines that learn from the rest. Then each row is judged by a machine that has not
    learned from its fold, and at last all rows are learned from.

    Args:
        x: Scaled features, shape (n, d).
        labels: Multi-hot, shape (n, c).
        fold: Of each row, shape (n,).
        anchors: Which rows are anchors, shape (A,).
        single: Whether every item has exactly one class.
        weights: w, shape (n,), mean 1; ones by default.

    Returns:
        The machine, and the scores of its rows by machines that have not seen them, shape (n, c).
    """
    machine = Likeness(x[anchors].clone(), labels.shape[1])
    w = torch.ones(len(x)) if weights is None else weights
    machine.mean.copy_((w[:, None] * labels).mean(dim=0))
    # distances in single precision would leave likenesses that are no positive definite matrix
    target, apart = (labels - machine.mean).double(), squared(x.double(), machine.anchors.double())
    folds, least = [fold == k for k in torch.unique(fold)], torch.inf
    for width in WIDTHS:
        spread = width * float(apart.mean()) or 1.0
        sums = _Sums.of(torch.exp(-apart / spread), target, w.double()[:, None])
        rest = sums.without(folds[0])
        for penalty in PENALTIES:
            scores = sums.k[folds[0]] @ rest.solved(anchors, penalty) + machine.mean
            loss = believed([scores], labels[folds[0]], single=single, weights=w[folds[0]]).loss
            if loss < least:
                least, best, chosen = loss, sums, penalty
                machine.width.fill_(spread)
    machine.coefficients.copy_(best.solved(anchors, chosen))
    unseen = torch.empty_like(target)
    for some in folds:
        unseen[some] = best.k[some] @ best.without(some).solved(anchors, chosen)
    return machine, (unseen + machine.mean).float()


@dataclass
class _Sums:
    """What ridge regression needs: likeness k (n, A), targets (n, c), weights w (n, 1), k^T w k and k^T w target."""

    k: Tensor
    target: Tensor
    weights: Tensor
    gram: Tensor
    sum: Tensor

    @classmethod
    def of(cls, k: Tensor, target: Tensor, weights: Tensor) -> _Sums:
        return cls(k, target, weights, k.T @ (weights * k), k.T @ (weights * target))

    def without(self, some: Tensor) -> _Sums:
        """The same without some rows in the sums."""
        own = _Sums.of(self.k[some], self.target[some], self.weights[some])
        return replace(self, gram=self.gram - own.gram, sum=self.sum - own.sum)

    def solved(self, anchors: Tensor, penalty: float) -> Tensor:
        """The coefficients b, shape (A, c)."""
        ridge = penalty * self.k[anchors] + 1e-6 * torch.eye(len(self.gram), dtype=self.gram.dtype)
        return torch.cholesky_solve(self.sum, torch.linalg.cholesky(self.gram + ridge))


@dataclass
class Belief:
    """How far each voice is believed.

    Attributes:
        weights: Factor of each, shape (v,).
        offsets: Of the classes, shape (c,); zeros where items have one class each.
        loss: Mean negative log-likelihood of the labels, in nats.
    """

    weights: Tensor
    offsets: Tensor
    loss: float = 0.0

    def scores(self, *voices: Tensor) -> Tensor:
        """Weighted sum of what they say, shape (m, c)."""
        said = torch.stack([w * s for w, s in zip(self.weights, voices, strict=True)]).sum(dim=0)
        return said + self.offsets.to(said.device)


def believed(voices: list[Tensor], labels: Tensor, *, single: bool, weights: Tensor | None = None) -> Belief:
    """Factors and offsets d under which labels are likeliest: min nll(sum_v factor_v s_v + d, l), with a little |d|^2.

    Args:
        voices: Scores s_v of rows by something that has not learned from them, each (n, c).
        labels: Multi-hot, shape (n, c); of no rows, everybody is believed as they speak.
        single: Whether every item has exactly one class; then d is 0.
        weights: Of the rows' likelihoods, shape (n,), mean 1; ones by default.
    """
    if not len(labels):
        return Belief(torch.ones(len(voices)), torch.zeros(labels.shape[1]))
    scores, target = [voice.double() for voice in voices], labels.double()
    factors = torch.ones(len(scores), dtype=torch.double, requires_grad=True)
    offsets = torch.zeros(labels.shape[1], dtype=torch.double, requires_grad=not single)
    free = [factors] if single else [factors, offsets]
    descent = torch.optim.LBFGS(free, max_iter=30, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        each = label_nll(Belief(factors, offsets).scores(*scores), target, single=single)
        value = (each if weights is None else weights * each).mean() + 1e-3 * (offsets**2).mean()
        for free_one, slope in zip(free, torch.autograd.grad(value, free), strict=True):
            free_one.grad = slope
        return value

    with torch.enable_grad():
        descent.step(loss)  # type: ignore[no-untyped-call]
        found = float(loss().detach())
    return Belief(factors.detach().float(), offsets.detach().float(), found)


@dataclass
class Judge:
    """Who says what of the classes of one modality.

    Attributes:
        alone: How far the members are believed by themselves.
        both: How far members and like items are; None if like items are not asked.
        machine: What like items say; None likewise.
    """

    alone: Belief
    both: Belief | None = None
    machine: Likeness | None = None

    def scores(self, evidence: Tensor, x: Tensor) -> Tensor:
        """Scores of the classes, shape (m, c).

        Args:
            evidence: What the members say, shape (m, c).
            x: Scaled features, shape (m, d).
        """
        if self.both is None or self.machine is None:
            return self.alone.scores(evidence)
        return self.both.scores(evidence, self.machine.to(x.device)(x))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything learned as named arrays."""
        found = {"alone.weights": self.alone.weights, "alone.offsets": self.alone.offsets}
        if self.both is not None and self.machine is not None:
            found |= {"both.weights": self.both.weights, "both.offsets": self.both.offsets}
            found |= {f"machine.{name}": value for name, value in self.machine.state_dict().items()}
        return {name: value.cpu().numpy() for name, value in found.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[np.generic]]) -> Judge:
        """The inverse of ``state``."""
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
        alone = Belief(tensors["alone.weights"], tensors["alone.offsets"])
        if "both.weights" not in tensors:
            return cls(alone)
        machine = Likeness(tensors["machine.anchors"], tensors["machine.coefficients"].shape[1])
        machine.load_state_dict({name[8:]: value for name, value in tensors.items() if name.startswith("machine.")})
        return cls(alone, Belief(tensors["both.weights"], tensors["both.offsets"]), machine)


def judged(
    evidence: Tensor,
    x: Tensor,
    labels: Tensor,
    fold: Tensor,
    anchors: Tensor,
    *,
    single: bool,
    weights: Tensor | None = None,
) -> tuple[Judge, Tensor]:
    """Who is believed of the classes of one modality, by labelled rows that neither members nor machine learned from.

    Args:
        evidence: What the members that have not seen a row say of it: logarithms or log-odds, shape (n, c).
        x: Scaled features, shape (n, d).
        labels: Multi-hot, shape (n, c).
        fold: Which of the members has not seen a row, shape (n,).
        anchors: Rows that stand for like items, shape (A,); none of them, and like items are not asked.
        single: Whether every item has exactly one class.
        weights: How much each row counts, shape (n,), mean 1; all alike by default.

    Returns:
        The judge, and its scores of these rows by what has not seen them, shape (n, c).
    """
    alone = believed([evidence], labels, single=single, weights=weights)
    if not len(anchors):
        return Judge(alone), alone.scores(evidence)
    machine, unseen = learned_likeness(x, labels, fold, anchors, single=single, weights=weights)
    both = believed([evidence, unseen], labels, single=single, weights=weights)
    return Judge(alone, both, machine), both.scores(evidence, unseen)
