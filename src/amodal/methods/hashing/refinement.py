"""Bits, one by one, better than the sign: a code moves towards what it should say to some fixed training codes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from numpy.typing import NDArray
from torch import Tensor

from amodal.losses import share_probability

__all__ = ["Anchors", "refined"]

ROUNDS, FLIPS, ENCODING_FLIPS = 2, 8, 12


@torch.no_grad()
def refined(codes: Tensor, anchors: Tensor, probability: Tensor, slope: float, shift: float, flips: int) -> Tensor:
    """Flip the bits of each code that bring it nearest to what it should say to the anchors, which stay.

        J_i = sum_j bce( slope <h_i, a_j> / r + shift, P_ij )

    In each round every row flips the one bit with the steepest descent of J, if J really falls; J never rises. A row
    depends on no other row.

    Args:
        codes: h, -1 and +1, shape (m, r).
        anchors: a, -1 and +1, shape (n, r).
        probability: P, that row and anchor share a label, shape (m, n).
        slope: Slope of similarity to log-odds.
        shift: Its shift.
        flips: At most so many bits of each row.

    Returns:
        The codes after flipping, shape (m, r).
    """
    h, step = codes.clone(), 2 * slope / codes.shape[1]
    logits = slope * (h @ anchors.T) / h.shape[1] + shift
    now = (F.softplus(logits) - probability * logits).sum(dim=1)
    rows = torch.arange(len(h), device=h.device)
    for _ in range(flips):
        # to first order; the curvature is the same for all bits of a row
        _, bit = (step * h * ((probability - torch.sigmoid(logits)) @ anchors)).min(dim=1)
        changed = logits - step * h[rows, bit][:, None] * anchors.T[bit]
        then = (F.softplus(changed) - probability * changed).sum(dim=1)
        better = then < now
        if not better.any():
            break
        h[rows[better], bit[better]] *= -1
        logits = torch.where(better[:, None], changed, logits)
        now = torch.where(better, then, now)
    return h


@dataclass
class Anchors:
    """Training rows whose codes the codes of others are measured by.

    Attributes:
        single: Whether items have one class each.
        slope: Slope of similarity to log-odds, as the head has learned it.
        shift: Its shift.
        p: By position of the modality, class probabilities, shape (a, c).
        codes: By position of the modality, -1 and +1, shape (a, r).
    """

    single: bool
    slope: float
    shift: float
    p: dict[int, Tensor] = field(default_factory=dict)
    codes: dict[int, Tensor] = field(default_factory=dict)

    def settle(self) -> None:
        """Refine the anchors by each other, modality after modality."""
        for _ in range(ROUNDS):
            for k in self.codes:
                self.codes[k] = self._refine(self.codes[k], self.p[k], k, FLIPS)

    def refine(self, codes: Tensor, p: Tensor, modality: int) -> Tensor:
        """Codes of any items, refined by the anchors of the other modalities.

        Args:
            codes: -1 and +1, shape (m, r).
            p: Class probabilities of the items, shape (m, c).
            modality: Position of their modality.
        """
        return self._refine(codes, p, modality, ENCODING_FLIPS)

    def _refine(self, codes: Tensor, p: Tensor, modality: int, flips: int) -> Tensor:
        others = [k for k in self.codes if k != modality]
        if not others:
            return codes
        anchors, classes = torch.cat([self.codes[k] for k in others]), torch.cat([self.p[k] for k in others])
        probability = share_probability(p, classes, single=self.single)
        return refined(codes, anchors.to(codes.device), probability, self.slope, self.shift, flips)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything as named arrays."""
        arrays: dict[str, NDArray[np.generic]] = {"scale": np.array([self.slope, self.shift, float(self.single)])}
        for k in self.codes:
            arrays |= {f"{k}.p": self.p[k].numpy(), f"{k}.codes": self.codes[k].numpy().astype(np.int8)}
        return arrays

    @classmethod
    def from_state(cls, state: dict[str, NDArray[np.generic]]) -> Anchors:
        """The inverse of ``state``."""
        slope, shift, single = (float(value) for value in np.asarray(state["scale"], dtype=np.float64))
        found = cls(bool(single), slope, shift)
        for name, value in state.items():
            if name != "scale":
                k, part = name.split(".")
                getattr(found, part)[int(k)] = torch.from_numpy(np.asarray(value, dtype=np.float32))
        return found
