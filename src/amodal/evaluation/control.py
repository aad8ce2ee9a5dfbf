"""The control that stands beside every figure: class probabilities from the same gaps, without any learned space."""

from __future__ import annotations

from amodal.evaluation.arrange import Arrangement
from amodal.evaluation.evaluate import evaluate
from amodal.evaluation.evaluation import Evaluation
from amodal.methods import get

__all__ = ["CONTROL", "evaluate_control"]

CONTROL = "label_regression"


def evaluate_control(arrangement: Arrangement, *, seed: int = 0) -> Evaluation:
    """Fit ``label_regression``, real-valued, its C chosen on validation, and measure it.

    Args:
        arrangement: The gaps to learn from, and who asks and is searched.
        seed: Of the items it holds back if there is no validation split.
    """
    train, validation = arrangement.teaching()
    return evaluate(get(CONTROL).create(seed=seed).fit(train, validation=validation), arrangement)
