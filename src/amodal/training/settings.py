"""How to run a training: device, precision, processes, checkpoints, progress. What to learn is the method's matter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from amodal.errors import UsageError, nearest
from amodal.progress import Progress

__all__ = ["Training"]

#: 16-mixed is left out: it needs scaled gradients, and bf16-mixed does without wherever it would run. So is 64-true:
#: features are float32.
PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where and how a deep method is trained.

    Attributes:
        device: "auto", "cpu", "cuda", "mps": an accelerator of Lightning Fabric.
        devices: Number of devices or processes.
        strategy: Strategy of Lightning Fabric, for instance "ddp".
        precision: Precision of Lightning Fabric: "32-true" or "bf16-mixed".
        folder: Where ``checkpoint.safetensors`` and ``log.jsonl`` go; nothing is written without it.
        resume: Go on from the checkpoint in ``folder``, or begin if there is none. On a CPU the result equals an
            uninterrupted run bit for bit.
        checkpoint_every: Epochs between checkpoints, the last of them at the end; None for the log alone.
        patience: With validation items, stop after this many epochs without a better score, and keep the best; None
            keeps the last epoch and does not look at them.
        validate_every: Epochs between looks at the validation items.
        progress: Called after every batch.
        what: What progress calls the work.

    Raises:
        UsageError: If the precision is not one of the two, a number of epochs is not positive, or there is nothing to
            resume from.
    """

    device: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    folder: Path | None = None
    resume: bool = False
    checkpoint_every: int | None = 10
    patience: int | None = None
    validate_every: int = 5
    progress: Progress | None = None
    what: str = "training"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(nearest(self.precision, PRECISIONS, what="precision"))
        for name in ("checkpoint_every", "validate_every", "patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"{name} is {value}; it counts epochs, so it must be at least 1.")
        if self.resume and (self.folder is None or self.checkpoint_every is None):
            raise UsageError("resume=True needs folder= and checkpoints, which the interrupted run left there.")

    def stage(self, what: str, *, chooses: bool = False) -> Training:
        """The same for one stage of a method that learns in several, with a folder of its own.

        Args:
            what: Name of the stage.
            chooses: Whether validation items may choose the epoch of this stage.
        """
        folder = None if self.folder is None else self.folder / what
        return replace(self, what=what, folder=folder, patience=self.patience if chooses else None)
