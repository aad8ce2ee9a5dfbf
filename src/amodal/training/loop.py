"""The one loop in which every deep method learns, on Lightning Fabric."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from amodal.data import Dataset
from amodal.errors import MethodError, UsageError
from amodal.training.batches import Batch, Batches
from amodal.training.checkpoint import append_log, load_checkpoint, save_checkpoint
from amodal.training.settings import Training

__all__ = ["Learner", "Outcome", "train"]


class Learner(Protocol):
    """What a deep method gives the loop: networks, parameter groups, a step; alternating methods also ``between``.

    Attributes:
        epochs: Passes over the data.
        batch_size: Items in a batch.
        seed: Seed of order, dropout and noise.
    """

    epochs: int
    batch_size: int
    seed: int

    @property
    def network_(self) -> nn.Module:
        """All parameters and buffers."""

    def params(self) -> dict[str, Any]:
        """The arguments of the method; a checkpoint fits no others."""

    def optimizer(self) -> Optimizer:
        """The optimiser over the method's parameter groups; each group's rate decays by the loop's cosine."""

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """The losses of a batch; "loss" is minimised, every entry is logged."""

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """What an alternating method does before each epoch; nothing for most."""


@dataclass(frozen=True)
class Outcome:
    """How a training went, and which weights it kept.

    Attributes:
        rule: The "last" epoch, or the best on "validation" items.
        epoch: Number of that epoch, from 1; 0 if there was none.
        score: Its validation score, or None.
        device: Where it was trained.
    """

    rule: Literal["last", "validation"]
    epoch: int
    score: float | None
    device: str


Front = Mapping[str, Callable[[list[Any]], Tensor]]  #: by modality, from raw content to features


def train(
    learner: Learner,
    data: Dataset,
    settings: Training,
    score: Callable[[], float] | None = None,
    *,
    front: Front | None = None,
) -> Outcome:
    """Run the loop: batches, device, precision, processes, progress, early stopping, checkpoints, resume.

    The rate of each parameter group falls from its start to 1 % of it along a cosine. Dropout and noise are a function
    of seed, epoch and process; global random state is left as it was found. With several processes each takes its share
    of the batches, and gradients are averaged.

    Args:
        learner: The method.
        data: Training items.
        settings: Where and how.
        score: Measure on validation items, higher is better; looked at only with ``settings.patience``.
        front: What turns raw content into features, for modalities whose backbone learns too; see ``Batches``.

    Returns:
        Which weights were kept. The network lies on the CPU, ready for evaluation.

    Raises:
        UsageError: If the device is not there, or patience is asked for without validation items.
        MethodError: If a loss is not finite; names the term and the epoch.
        DataError: If a checkpoint cannot be resumed.
    """
    if settings.patience is not None and score is None:
        raise UsageError("patience needs validation items to look at. Give some, or leave patience out.")
    fabric = _fabric(settings)
    with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
        outcome = _Run(learner, data, settings, score, fabric, front or {}).go()
    learner.network_.to("cpu").eval()
    return outcome


def _fabric(settings: Training) -> Fabric:
    try:
        fabric = Fabric(
            accelerator=settings.device,
            devices=settings.devices,
            strategy=settings.strategy,
            precision=settings.precision,
        )
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"training cannot run with device={settings.device!r}, devices={settings.devices}, "
            f'strategy={settings.strategy!r}: {error} Choose another, or device="auto".'
        ) from error
    fabric.launch()
    return fabric


class _Run:
    """State of one training."""

    def __init__(
        self,
        learner: Learner,
        data: Dataset,
        settings: Training,
        score: Callable[[], float] | None,
        fabric: Fabric,
        front: Front,
    ) -> None:
        self.learner, self.settings, self.fabric = learner, settings, fabric
        self.score = None if settings.patience is None else score
        self.batches = Batches(
            data,
            learner.batch_size,
            learner.seed,
            rank=fabric.global_rank,
            world=fabric.world_size,
            front={name: self._cast(features) for name, features in front.items()},
        )
        self.total = learner.epochs * len(self.batches)
        learner.network_.to(fabric.device)
        self.optimizer = learner.optimizer()
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        # only these: a network that learns in stages holds the gradients of earlier ones
        self.learned = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.start = 0
        self.best: dict[str, Tensor] = {}
        self.best_score: float | None = None
        self.best_epoch = -1
        # in JSON and back, as a checkpoint has it
        self.run = json.loads(json.dumps({**learner.params(), "data": data.fingerprint()}, default=str))
        if settings.folder and settings.resume and self._checkpoint.exists():
            facts, self.best = load_checkpoint(self._checkpoint, learner.network_, self.optimizer, self.run)
            self.start, self.best_score, self.best_epoch = facts["next"], facts["best_score"], facts["best_epoch"]

    def go(self) -> Outcome:
        """All epochs, or until validation stops improving."""
        learner, last, device = self.learner, self.learner.epochs, str(self.fabric.device)
        for epoch in range(self.start, last):
            began = time.perf_counter()
            seeds = np.random.SeedSequence((learner.seed, epoch, self.fabric.global_rank))
            torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
            learner.between(self.batches, epoch, self.fabric.device)
            learner.network_.train()
            losses = self._epoch(epoch)
            found = self._validate(epoch)
            stop = found is not None and epoch - self.best_epoch >= (self.settings.patience or last)
            self._record(epoch, losses, found, time.perf_counter() - began, last if stop else epoch + 1)
            if stop:
                self._tell(self.total)
                break
        if not self.best:
            return Outcome("last", last, None, device)
        learner.network_.load_state_dict(self.best)
        return Outcome("validation", self.best_epoch + 1, self.best_score, device)

    def _cast(self, features: Callable[[list[Any]], Tensor]) -> Callable[[list[Any]], Tensor]:
        """A backbone in the precision of the training; methods get float32, as from ready features."""

        def compute(content: list[Any]) -> Tensor:
            with self.fabric.autocast():
                return features(content).float()

        return compute

    def _epoch(self, epoch: int) -> dict[str, float]:
        """One pass; the mean of every loss over the batches of this process."""
        learner, count = self.learner, len(self.batches)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(self.batches.epoch(epoch)):
            done = epoch * count + number
            self._set_rate(done / self.total)
            with self.fabric.autocast():
                losses = learner.step(batch.to(self.fabric.device), epoch)
            self._descend(losses, epoch)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach()
            self._tell(done + 1, sums["loss"] / (number + 1))
        return {name: value.item() / count for name, value in sums.items()}

    def _set_rate(self, share: float) -> None:
        factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def _descend(self, losses: dict[str, Tensor], epoch: int) -> None:
        """One step of the optimiser."""
        if not torch.isfinite(losses["loss"]):
            terms = {name: value.item() for name, value in losses.items()}
            names = [name for name, value in terms.items() if not math.isfinite(value) and name != "loss"] or ["loss"]
            raise _diverged(epoch, f"{' and '.join(names)} not finite", terms)
        self.optimizer.zero_grad(set_to_none=True)
        if losses["loss"].requires_grad:  # a batch in which nothing can be learned is passed over
            self.fabric.backward(losses["loss"])
        self._average_gradients()
        norm = nn.utils.clip_grad_norm_(self.learned, 5.0)
        if not torch.isfinite(norm):
            raise _diverged(epoch, "the gradient not finite", {name: value.item() for name, value in losses.items()})
        self.optimizer.step()

    def _average_gradients(self) -> None:
        # Not DistributedDataParallel: a batch without one modality leaves parameters without gradient on one process
        # only, which it would wait for. Averaging by hand counts such a gradient as zero.
        if self.fabric.world_size == 1:
            return
        parameters = self.learned
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
        mean = self.fabric.all_reduce(flat, reduce_op="mean").split([parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, mean, strict=True):
            parameter.grad = part.view_as(parameter)

    def _validate(self, epoch: int) -> float | None:
        """The validation score, where it is time to look at it."""
        last = epoch + 1 == self.learner.epochs
        if self.score is None or ((epoch + 1) % self.settings.validate_every and not last):
            return None
        self.learner.network_.eval()
        found = self.score()
        if self.best_score is None or found > self.best_score:
            self.best_score, self.best_epoch = found, epoch
            self.best = {name: value.detach().clone() for name, value in self.learner.network_.state_dict().items()}
        return found

    def _record(
        self, epoch: int, losses: dict[str, float], found: float | None, seconds: float, following: int
    ) -> None:
        """Log the epoch, and write a checkpoint if it is time; ``following`` is the epoch to go on with."""
        folder = self.settings.folder
        if folder is None or not self.fabric.is_global_zero:
            return
        folder.mkdir(parents=True, exist_ok=True)
        line: dict[str, Any] = {"losses": losses, "validation": found, "seconds": round(seconds, 3)}
        line["rates"] = [group["lr"] for group in self.optimizer.param_groups]
        append_log(folder / "log.jsonl", line, epoch=epoch)
        every = self.settings.checkpoint_every
        if every is not None and (following == self.learner.epochs or following % every == 0):
            facts = {"run": self.run, "next": following, "best_score": self.best_score, "best_epoch": self.best_epoch}
            save_checkpoint(self._checkpoint, self.learner.network_, self.optimizer, self.best, **facts)

    @property
    def _checkpoint(self) -> Path:
        assert self.settings.folder is not None  # noqa: S101 - asked for only where there is one
        return self.settings.folder / "checkpoint.safetensors"

    def _tell(self, done: int, loss: Tensor | None = None) -> None:
        if self.settings.progress and self.fabric.is_global_zero:
            what = self.settings.what
            self.settings.progress(done, self.total, what if loss is None else f"{what} · loss {loss:.3f}")


def _diverged(epoch: int, what: str, terms: dict[str, float]) -> MethodError:
    values = ", ".join(f"{name} = {value:.3g}" for name, value in terms.items())
    return MethodError(f"training diverged in epoch {epoch + 1}: {what} ({values}). Lower the learning rate.")
