"""How the deep methods learn: one loop, its settings, batches and checkpoints."""

from amodal.training.batches import Batch, Batches
from amodal.training.loop import Learner, Outcome, train
from amodal.training.settings import Training

__all__ = ["Batch", "Batches", "Learner", "Outcome", "Training", "train"]
