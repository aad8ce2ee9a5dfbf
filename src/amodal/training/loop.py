"""The one loop in which every deep method learns, on Lightning Fabric."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from amodal.data import Dataset
from amodal.errors import MethodError
from amodal.training.batches import Batch, Batches
from amodal.training.checkpoint import append_log, load_checkpoint, save_checkpoint
from amodal.training.settings import Training

__all__ = ["Learner", "train"]


class Learner(Protocol):
    """What a deep method gives the loop: networks, parameter groups, a step; alternating methods also ``between``.

    Attributes:
        network_: All parameters and buffers.
        epochs: Passes over the data.
        batch_size: Items in a batch.
        seed: Seed of order, dropout and noise.
    """

    network_: nn.Module
    epochs: int
    batch_size: int
    seed: int

    def optimizer(self) -> Optimizer:
        """The optimiser over the method's parameter groups; each group's rate decays by the loop's cosine."""

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """The losses of a batch; "loss" is minimised, every entry is logged."""

    def between(self, batches: Batches, epoch: int, device: torch.device) -> None:
        """What an alternating method does before each epoch; nothing for most."""


def train(learner: Learner, data: Dataset, settings: Training, score: Callable[[], float] | None = None) -> None:
    """Run the loop: batches, device, precision, processes, progress, early stopping, checkpoints, resume.

    The rate of each parameter group falls from its start to 1 % of it along a cosine. Global random state is left as
    it was found. With several processes each takes its share of the batches, and gradients are averaged.

    Args:
        learner: The method.
        data: Training items.
        settings: Where and how.
        score: Measure on validation items, higher is better; needed for ``settings.patience``.

    Raises:
        MethodError: If a loss is not finite; names the term and the epoch.
        DataError: If a checkpoint cannot be resumed.
    """
    fabric = Fabric(
        accelerator=settings.device,
        devices=settings.devices,
        strategy=settings.strategy,
        precision=settings.precision,
    )
    fabric.launch()
    with torch.random.fork_rng():
        torch.manual_seed(learner.seed + 1_000_003 * fabric.global_rank)
        _Run(learner, data, settings, score, fabric).go()
    learner.network_.to("cpu").eval()


class _Run:
    """State of one training."""

    def __init__(
        self,
        learner: Learner,
        data: Dataset,
        settings: Training,
        score: Callable[[], float] | None,
        fabric: Fabric,
    ) -> None:
        self.learner, self.settings, self.score, self.fabric = learner, settings, score, fabric
        self.batches = Batches(data, learner.batch_size, learner.seed, rank=fabric.global_rank, world=fabric.world_size)
        learner.network_.to(fabric.device)
        self.optimizer = learner.optimizer()
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.best: dict[str, Tensor] = {}
        self.best_score, self.best_epoch, self.start = -math.inf, -1, 0
        self.last_score: float | None = None
        path = settings.folder / "checkpoint.safetensors" if settings.folder else None
        if path and settings.resume and path.exists():
            facts, self.best = load_checkpoint(path, learner.network_, self.optimizer)
            self.start, self.best_score, self.best_epoch = facts["epoch"] + 1, facts["best"], facts["best_epoch"]

    def go(self) -> None:
        """All epochs, or until validation stops improving."""
        learner = self.learner
        for epoch in range(self.start, learner.epochs):
            began = time.perf_counter()
            learner.between(self.batches, epoch, self.fabric.device)
            learner.network_.train()
            losses = self._epoch(epoch)
            stop = self._validate(epoch)
            self._record(epoch, losses, time.perf_counter() - began, last=stop or epoch + 1 == learner.epochs)
            if stop:
                break
        if self.best:
            learner.network_.load_state_dict(self.best)

    def _epoch(self, epoch: int) -> dict[str, float]:
        learner, total = self.learner, len(self.batches)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(self.batches.epoch(epoch)):
            done = epoch * total + number
            self._set_rate(done / max(learner.epochs * total, 1))
            with self.fabric.autocast():
                losses = learner.step(batch.to(self.fabric.device), epoch)
            self._refuse_infinite(losses, epoch)
            self.optimizer.zero_grad(set_to_none=True)
            if losses["loss"].requires_grad:  # a batch in which nothing can be learned is passed over
                self.fabric.backward(losses["loss"])
            self._average_gradients()
            nn.utils.clip_grad_norm_(learner.network_.parameters(), 5.0)
            self.optimizer.step()
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value.detach()
            if self.settings.progress and self.fabric.is_global_zero:
                mean = float(sums["loss"]) / (number + 1)
                self.settings.progress(done + 1, learner.epochs * total, f"training · loss {mean:.3f}")
        return {name: float(value) / total for name, value in sums.items()}

    def _set_rate(self, share: float) -> None:
        factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def _average_gradients(self) -> None:
        # Not DistributedDataParallel: a batch without one modality leaves parameters without gradient on one process
        # only, which it would wait for. Averaging by hand counts such a gradient as zero.
        if self.fabric.world_size > 1:
            for parameter in self.learner.network_.parameters():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad = self.fabric.all_reduce(parameter.grad, reduce_op="mean")

    def _refuse_infinite(self, losses: dict[str, Tensor], epoch: int) -> None:
        if not torch.isfinite(losses["loss"]):
            terms = ", ".join(f"{name} = {float(value):.3g}" for name, value in losses.items())
            raise MethodError(f"training diverged in epoch {epoch + 1}: {terms}. Lower the learning rate.")

    def _validate(self, epoch: int) -> bool:
        settings = self.settings
        self.last_score = None
        last = epoch + 1 == self.learner.epochs
        if self.score is None or settings.patience is None or ((epoch + 1) % settings.validate_every and not last):
            return False
        self.learner.network_.eval()
        self.last_score = self.score()
        if self.last_score > self.best_score:
            self.best_score, self.best_epoch = self.last_score, epoch
            self.best = {name: value.detach().clone() for name, value in self.learner.network_.state_dict().items()}
        return epoch - self.best_epoch >= settings.patience

    def _record(self, epoch: int, losses: dict[str, float], seconds: float, *, last: bool) -> None:
        folder = self.settings.folder
        if folder is None or not self.fabric.is_global_zero:
            return
        folder.mkdir(parents=True, exist_ok=True)
        line: dict[str, Any] = {"losses": losses, "validation": self.last_score, "seconds": round(seconds, 3)}
        line["rates"] = [group["lr"] for group in self.optimizer.param_groups]
        append_log(folder / "log.jsonl", line, epoch=epoch)
        if last or (epoch + 1) % self.settings.checkpoint_every == 0:
            facts = {"epoch": epoch, "best": self.best_score, "best_epoch": self.best_epoch}
            save_checkpoint(
                folder / "checkpoint.safetensors", self.learner.network_, self.optimizer, self.best, **facts
            )
