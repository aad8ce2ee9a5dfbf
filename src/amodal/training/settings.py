"""How to run a training: device, precision, processes, checkpoints, progress. What to learn is the method's matter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from amodal.errors import UsageError, nearest
from amodal.progress import Progress

__all__ = ["Training"]

#: 16-mixed is left out: it needs scaled gradients, and bf16-mixed does without wherever it would run
PRECISIONS = ("32-true", "bf16-mixed", "64-true")


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where and how a deep method is trained.

    Attributes:
        device: "auto", "cpu", "cuda", "mps": an accelerator of Lightning Fabric.
        devices: Number of devices or processes.
        strategy: Strategy of Lightning Fabric, for instance "ddp".
        precision: Precision of Lightning Fabric: "32-true", "bf16-mixed" or "64-true".
        folder: Where ``checkpoint.safetensors`` and ``log.jsonl`` go; nothing is written without it.
        resume: Go on from the checkpoint in ``folder``. On a CPU the result equals an uninterrupted run bit for bit.
        checkpoint_every: Epochs between checkpoints.
        patience: With validation items, stop after this many epochs without a better score, and keep the best; None
            keeps the last epoch and does not look at them.
        validate_every: Epochs between looks at the validation items.
        progress: Called after every batch.

    Raises:
        UsageError: If the precision is not one of the three.
    """

    device: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    folder: Path | None = None
    resume: bool = False
    checkpoint_every: int = 10
    patience: int | None = None
    validate_every: int = 5
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(nearest(self.precision, PRECISIONS, what="precision"))
