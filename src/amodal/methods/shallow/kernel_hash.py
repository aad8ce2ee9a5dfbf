"""What shallow hashing methods have in common: a code is the sign of an affine map of kernel features."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
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
    """A method whose new items get the code sgn(k_m(x) P_m + a_m), while codes of its training items are solved for.

    Attributes:
        kernels_: k_m by modality.
        maps_: P_m by modality, shape (anchors, bits), or (d, bits) where features are linear.
        offsets_: a_m by modality, shape (bits,); empty where the method has none.
        training_codes_: A code for each training item: the one solved for, which is made of labels, hence not what
            ``encode`` gives. Items that were not learned from have sgn(sum_m k_m(x_m) P_m + a_m).
    """

    bits: int
    kernels_: dict[str, Kernel]
    maps_: dict[str, Array]
    offsets_: Mapping[str, Array] = MappingProxyType({})
    training_codes_: BinaryCodes

    def _outputs(self, features: NDArray[np.floating], modality: str) -> Array:
        """What codes are signs of, shape (m, bits)."""
        kernel, P, a = self.kernels_[modality], self.maps_[modality], self.offsets_.get(modality, 0.0)
        return by_blocks(lambda x: kernel(x) @ P + a, features)

    def _summed_outputs(self, data: Dataset) -> Array:
        """Outputs of each item, summed over the modalities it has, shape (n, bits)."""
        outputs = np.zeros((len(data), self.bits))
        for name in data.names:
            which, x = item_means(data[name])
            outputs[which] += self._outputs(x, name)
        return outputs

    def _keep_codes(self, data: Dataset, items: NDArray[np.int64], B: Array) -> None:
        """Set ``training_codes_`` from the codes B of some of the items."""
        outputs = self._summed_outputs(data) if len(items) < len(data) else np.empty((len(data), self.bits))
        outputs[items] = B
        self.training_codes_ = BinaryCodes.from_outputs(outputs)

    def _encode(self, features: NDArray[np.float32], modality: str) -> Codes:
        return BinaryCodes.from_outputs(self._outputs(features, modality))

    def state(self) -> dict[str, NDArray[Any]]:
        """Kernels, maps, offsets, and the codes of the training items."""
        state: dict[str, NDArray[Any]] = {f"map.{name}": P for name, P in self.maps_.items()}
        for name, kernel in self.kernels_.items():
            state |= kernel.state(f"kernel.{name}")
        state |= {f"offset.{name}": a for name, a in self.offsets_.items()}
        return state | {"training.codes": self.training_codes_.packed}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """The inverse of ``state``."""
        self.maps_ = {name: state[f"map.{name}"] for name in self.widths_}
        self.offsets_ = {name: state[f"offset.{name}"] for name in self.widths_ if f"offset.{name}" in state}
        self.kernels_ = {name: Kernel.from_state(state, f"kernel.{name}") for name in self.widths_}
        self.training_codes_ = BinaryCodes(state["training.codes"], self.bits)
