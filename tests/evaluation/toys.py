"""Data and a method of which everything can be said beforehand."""

import numpy as np

from amodal.codes import BinaryCodes
from amodal.data import random_split, toy
from amodal.methods import Card, Method


def split_toy(n=300, shares=None, **options):
    """Toy data with splits train, dev and test."""
    return random_split(toy(n, **options), {"train": 0.5, "dev": 0.2, "test": 0.3} if shares is None else shares)


class Signs(Method):
    """Codes are the signs of the first features; nothing is learned. ``constant`` gives everything one code."""

    card = Card(
        slug="signs",
        name="Signs",
        summary="Signs of features.",
        paper="none",
        family="shallow",
        returns="codes",
        needs_labels=False,
        needs_pairs="no",
        native="any",
        checked="is itself a check",
        reference_code="none",
    )

    def __init__(self, bits=8, *, constant=False, seed=0):
        self.bits, self.constant, self.seed = bits, constant, seed

    def _learn(self, data, validation, training):
        self.learned_from, self.validated_on = data, validation
        self.training_codes_ = BinaryCodes.from_signs(np.arange(len(data))[:, None] >> np.arange(self.bits) & 1)

    def _encode(self, features, modality):
        return BinaryCodes.from_outputs(
            np.ones((len(features), self.bits)) if self.constant else features[:, : self.bits]
        )

    def state(self):
        return {"nothing": np.zeros(3)}

    def restore(self, state):
        pass
