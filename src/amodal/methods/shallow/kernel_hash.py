"""What shallow hashing methods have in common: a code is the sign of a linear map of kernel features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal.codes import BinaryCodes, Codes
from amodal.methods.base import Method
from amodal.methods.features import Kernel, by_blocks

__all__ = ["KernelHash"]

Array = NDArray[np.float64]


class KernelHash(Method):
    """A method whose new items get the code sgn(k_m(x) P_m), while codes of its training items are solved for.

    Attributes:
        kernels_: k_m by modality.
        maps_: P_m by modality, shape (anchors, bits), or (d, bits) where features are linear.
        training_codes_: The codes that were solved for; made of labels, hence not what ``encode`` gives.
        training_items_: Rows of the training items that these codes belong to.
    """

    bits: int
    kernels_: dict[str, Kernel]
    maps_: dict[str, Array]
    training_codes_: BinaryCodes
    training_items_: NDArray[np.int64]

    def _encode(self, features: NDArray[np.float32], modality: str) -> Codes:
        kernel, P = self.kernels_[modality], self.maps_[modality]
        return BinaryCodes.from_outputs(by_blocks(lambda x: kernel(x) @ P, features))

    def state(self) -> dict[str, NDArray[Any]]:
        """Kernels, maps, and the codes of the training items."""
        state: dict[str, NDArray[Any]] = {f"map.{name}": P for name, P in self.maps_.items()}
        for name, kernel in self.kernels_.items():
            state |= kernel.state(f"kernel.{name}")
        return state | {"training.codes": self.training_codes_.packed, "training.items": self.training_items_}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """The inverse of ``state``."""
        self.maps_ = {name: state[f"map.{name}"] for name in self.widths_}
        self.kernels_ = {name: Kernel.from_state(state, f"kernel.{name}") for name in self.widths_}
        self.training_codes_ = BinaryCodes(state["training.codes"], self.bits)
        self.training_items_ = state["training.items"]
