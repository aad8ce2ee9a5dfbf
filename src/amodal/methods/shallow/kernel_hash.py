"""What shallow hashing methods have in common: a code is the sign of a linear map of kernel features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from amodal.codes import BinaryCodes, Codes
from amodal.methods.base import Method
from amodal.methods.features import Kernel, by_blocks, item_means

if TYPE_CHECKING:
    from amodal.data import Dataset

__all__ = ["KernelHash"]

Array = NDArray[np.float64]


class KernelHash(Method):
    """A method whose new items get the code sgn(k_m(x) P_m), while codes of its training items are solved for.

    Attributes:
        kernels_: k_m by modality.
        maps_: P_m by modality, shape (anchors, bits), or (d, bits) where features are linear.
        training_codes_: A code for each training item: the one solved for, which is made of labels, hence not what
            ``encode`` gives. Items that were not learned from have sgn(sum_m k_m(x_m) P_m).
    """

    bits: int
    kernels_: dict[str, Kernel]
    maps_: dict[str, Array]
    training_codes_: BinaryCodes

    def _keep_codes(self, data: Dataset, items: NDArray[np.int64], B: Array) -> None:
        """Set ``training_codes_`` from the codes B of some of the items."""
        outputs = np.zeros((len(data), self.bits))
        if len(items) < len(data):
            for name in data.names:
                which, x = item_means(data[name])
                outputs[which] += self.kernels_[name](x) @ self.maps_[name]
        outputs[items] = B
        self.training_codes_ = BinaryCodes.from_outputs(outputs)

    def _encode(self, features: NDArray[np.float32], modality: str) -> Codes:
        kernel, P = self.kernels_[modality], self.maps_[modality]
        return BinaryCodes.from_outputs(by_blocks(lambda x: kernel(x) @ P, features))

    def state(self) -> dict[str, NDArray[Any]]:
        """Kernels, maps, and the codes of the training items."""
        state: dict[str, NDArray[Any]] = {f"map.{name}": P for name, P in self.maps_.items()}
        for name, kernel in self.kernels_.items():
            state |= kernel.state(f"kernel.{name}")
        return state | {"training.codes": self.training_codes_.packed}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """The inverse of ``state``."""
        self.maps_ = {name: state[f"map.{name}"] for name in self.widths_}
        self.kernels_ = {name: Kernel.from_state(state, f"kernel.{name}") for name in self.widths_}
        self.training_codes_ = BinaryCodes(state["training.codes"], self.bits)
