"""Encoders from any model that transformers can open: CLIP, SigLIP, ViT, DINO, sentence models."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from amodal.encoders.base import Kind
from amodal.encoders.network import Box, NetworkEncoder, PictureNetwork, Pieces, TextNetwork
from amodal.encoders.pictures import open_picture
from amodal.errors import DataError, MissingExtra, UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PREFIX", "PictureTower", "TextTower", "open_model"]

PREFIX = "hf:"
"""What stands before a model id or a folder in the name of an encoder."""

_POOLINGS = ("mean", "cls", "max", "lasttoken")


def open_model(model: str, *, kind: Kind | None = None, device: str = "cpu") -> PictureTower | TextTower:
    """The side of a model that takes a kind of content.

    Nothing is downloaded: a model id must be in the local store of Hugging Face already.

    Args:
        model: A folder with ``config.json`` and safetensors weights, or a model id.
        kind: "picture" or "text"; may be left out if the model takes only one of them.
        device: Where the network runs, as torch names it.

    Raises:
        UsageError: If the model has both sides and ``kind`` names none, or it has not the side named.
        DataError: If the model is not on this machine, or its configuration cannot be read.
        MissingExtra: If transformers is not installed.
    """
    folder = _folder(model)
    config = _configuration(model, folder)
    sides: dict[Kind, type[PictureTower | TextTower]] = {}
    if hasattr(config, "vision_config") or hasattr(config, "num_channels"):
        sides["picture"] = PictureTower
    if hasattr(config, "text_config") or hasattr(config, "vocab_size"):
        sides["text"] = TextTower
    if kind is None and len(sides) == 1:
        (kind,) = sides
    if kind is None or kind not in sides:
        raise UsageError(f'model "{model}" takes {" or ".join(sides) or "neither pictures nor texts"}; asked: {kind}.')
    return sides[kind](PREFIX + model, folder, config, device)


class _Tower(NetworkEncoder):
    """One side of a model.

    Args:
        name: The name it was asked for by.
        folder: Where configuration and weights lie.
        config: The model's configuration.
        device: Where the network runs.
    """

    _side: str
    _preparation: str

    def __init__(self, name: str, folder: Path, config: Any, device: str = "cpu") -> None:
        super().__init__(device)
        self._tokenizing = threading.Lock()
        self.name = name
        self._folder = folder
        self._config = config
        self._dual = hasattr(config, "text_config") and hasattr(config, "vision_config")
        side = getattr(config, self._side, config)
        self.dim, self.part_dim = _width(config, side), _width(side, side)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights, the settings, the vocabulary and the preparation; about a second for a gigabyte."""
        digest = hashlib.sha256(f"{self._side} {self._preparation}".encode())
        for file in sorted(self._folder.rglob("*")):
            if file.suffix in (".json", ".txt", ".model", ".safetensors"):
                digest.update(file.relative_to(self._folder).as_posix().encode())
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def _model(self) -> tuple[Any, bool]:
        """The network, and whether its pooling layer has weights of its own in the file."""
        from transformers import AutoModel

        with _opening(self.name):
            network, found = AutoModel.from_pretrained(
                self._folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        pooler = [name for name in found["missing_keys"] if "pooler" in name]
        missing = sorted(set(found["missing_keys"]) - set(pooler))
        if missing:
            raise DataError(f'model "{self.name}" lacks {len(missing)} of its weights (first: {missing[0]}).')
        if self._dual and not (hasattr(network, "get_image_features") and hasattr(network, "get_text_features")):
            raise DataError(f'model "{self.name}" has no space shared by pictures and texts; take one like CLIP.')
        return network.eval().to(self.device), not pooler


class PictureTower(_Tower, PictureNetwork):
    """The side of a model that takes pictures.

    The features are, for a model with two sides, the unit vector in the shared space; else the pooled output if the
    file has weights for pooling or pooling needs none; else the first token, or the mean over places of a convolution.
    """

    _side = "vision_config"
    _preparation = "the model's own Pillow processor; 1"

    def load(self) -> Any:
        """The network and its image processor; the one that needs torchvision is never taken."""
        import transformers

        network, self._pooled = self._model()
        pillow = {"backend": "pil"} if int(transformers.__version__.split(".")[0]) >= 5 else {"use_fast": False}
        with _opening(self.name):
            self._processor = transformers.AutoImageProcessor.from_pretrained(
                self._folder, local_files_only=True, **pillow
            )
        if self._processor.model_input_names != ["pixel_values"]:
            needed = ", ".join(self._processor.model_input_names)
            raise DataError(
                f'model "{self.name}" needs {needed}; only models that take pixel_values alone can be used.'
            )
        return network

    def prepare(self, one: Any) -> Tensor:
        """One picture as the network wants it, shape (3, height, width)."""
        _ = self.network
        pixels: Tensor = self._processor(images=open_picture(one), return_tensors="pt")["pixel_values"][0]
        return pixels

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Features of k pictures, shape (k, d)."""
        import torch
        from torch.nn.functional import normalize

        network = self.network
        batch = torch.stack(inputs)
        if self._dual:
            return normalize(_pooled(network.get_image_features(pixel_values=batch)), dim=1)
        output = network(pixel_values=batch)
        pooled = getattr(output, "pooler_output", None)
        if self._pooled and pooled is not None:
            return torch.flatten(pooled, 1)  # convolutions keep their two axes of length one
        last: Tensor = output.last_hidden_state
        return last.mean((2, 3)) if last.ndim == 4 else last[:, 0]  # (k, d, h, w) or (k, tokens, d) -> (k, d)

    def feature_map(self, inputs: list[Tensor]) -> Tensor:
        """The last layer at each patch of k pictures, shape (k, part_dim, rows, columns).

        Tokens that stand for no patch, such as CLS, come first and are left out.
        """
        import torch

        batch = torch.stack(inputs)
        own = self.network.vision_model if self._dual else self.network
        last: Tensor = own(pixel_values=batch).last_hidden_state
        if last.ndim == 4:
            return last
        high, wide = self._patches(batch.shape[2], batch.shape[3], last.shape[1])
        # (k, tokens, d) -> (k, d, high, wide)
        return last[:, -high * wide :].transpose(1, 2).reshape(len(last), -1, high, wide)

    def _patches(self, height: int, width: int, tokens: int) -> tuple[int, int]:
        size = getattr(getattr(self._config, self._side, self._config), "patch_size", None)
        size = size if isinstance(size, int) else 0
        high, wide = (height // size, width // size) if size else (0, 0)
        if not 0 < high * wide <= tokens:  # layers that merge patches leave a square of them
            high = wide = math.isqrt(tokens)
            if high * wide != tokens:
                raise DataError(
                    f'model "{self.name}" gives {tokens} tokens for a picture, which are no grid of places.'
                )
        return high, wide

    def seen(self, width: int, height: int) -> Box:
        """The part of a picture of some pixels that the processor keeps: its middle, where it cuts off a border.

        Processors differ in their settings, so this one is asked: by a picture in which brightness is place.
        """
        from PIL import Image

        _ = self.network
        shrink = 256 / max(width, height)
        y, x = np.mgrid[: max(8, round(height * shrink)), : max(8, round(width * shrink))] + 0.5
        place = np.stack([x / x.shape[1], y / y.shape[0], np.zeros_like(x)], axis=-1)
        pictures = [np.zeros_like(place), np.ones_like(place), place]
        asked = [Image.fromarray((255 * one).round().astype(np.uint8)) for one in pictures]
        black, white, found = np.asarray(self._processor(images=asked, return_tensors="np")["pixel_values"])
        across, down = ((found - black) / (white - black))[:2]
        left, right = _ends(across.mean(axis=0))
        top, bottom = _ends(down.mean(axis=1))
        return left, top, right, bottom


class TextTower(_Tower, TextNetwork):
    """The side of a model that takes texts.

    The features are, for a model with two sides, the unit vector in the shared space; else the tokens' mean, or the
    pooling that ``1_Pooling/config.json`` of a sentence model asks for, as a unit vector.
    """

    _side = "text_config"
    _preparation = "the model's own tokenizer; unit length; 1"

    def load(self) -> Any:
        """The network."""
        network, _ = self._model()
        self._pooling = _pooling(self.name, self._folder)
        return network

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with _opening(self.name):
            return AutoTokenizer.from_pretrained(self._folder, local_files_only=True)

    @cached_property
    def _longest(self) -> int:
        text = getattr(self._config, "text_config", self._config)
        sentence = self._folder / "sentence_bert_config.json"
        asked = json.loads(sentence.read_text()).get("max_seq_length") if sentence.exists() else None
        positions = int(getattr(text, "max_position_embeddings", 512))
        return min(int(self._tokenizer.model_max_length), positions, int(asked or positions))

    def prepare(self, one: Any) -> Tensor:
        """The token numbers of one text, int64, shape (t,)."""
        import torch

        return torch.tensor(self._encoded(one)["input_ids"])

    def pieces(self, text: Any) -> Pieces:
        """The tokens and words of a text."""
        encodings = self._encoded(text).encodings
        if encodings is None:
            raise DataError(f'the tokenizer of model "{self.name}" does not say where in a text its tokens are.')
        return Pieces.of(text, encodings[0])

    def _encoded(self, text: Any) -> Any:
        if not isinstance(text, str):
            raise DataError(f"a text must be a string, not {type(text).__name__} ({text!r:.80}). Convert it first.")
        # SigLIP was trained on texts padded to their full length, and without a mask
        padding = "max_length" if self._padded else False
        with self._tokenizing:  # a tokenizer changes its own settings on a call, and two threads must not
            return self._tokenizer(text, truncation=True, max_length=self._longest, padding=padding)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Features of k texts, shape (k, d)."""
        from torch.nn.functional import normalize

        batch, mask = self._together(inputs)
        if self._dual:
            return normalize(_pooled(self.network.get_text_features(**batch)), dim=1)
        return normalize(self._pool(self.network(**batch).last_hidden_state, mask), dim=1)  # (k, t, d) -> (k, d)

    def states(self, inputs: list[Tensor]) -> Tensor:
        """The last layer for k texts, shape (k, t, part_dim)."""
        own = self.network.text_model if self._dual else self.network
        states: Tensor = own(**self._together(inputs)[0]).last_hidden_state
        return states

    def _together(self, inputs: list[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """What the network takes for k texts, and which of its tokens (k, t) are no padding."""
        import torch

        fill = self._tokenizer.pad_token_id or 0
        tokens = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True, padding_value=fill)  # k of (t,) -> (k, t)
        lengths = torch.tensor([len(one) for one in inputs], device=tokens.device)
        mask = (torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]).long()
        return {"input_ids": tokens} if self._padded else {"input_ids": tokens, "attention_mask": mask}, mask

    @property
    def _padded(self) -> bool:
        return str(self._config.model_type).startswith("siglip")

    def _pool(self, last: Tensor, mask: Tensor) -> Tensor:
        import torch

        lengths = mask.sum(1)
        if self._pooling == "cls":
            return last[:, 0]
        if self._pooling == "lasttoken":
            return last[torch.arange(len(last), device=last.device), lengths - 1]
        if self._pooling == "max":
            return last.masked_fill(mask[..., None] == 0, float("-inf")).amax(1)
        return (last * mask[..., None]).sum(1) / lengths[:, None]


def _ends(place: NDArray[np.floating]) -> tuple[float, float]:
    """Which fractions of a picture an axis of pixels begins and ends at, drawn through two points inside it."""
    n, at = len(place), len(place) // 4
    across = float(place[n - 1 - at] - place[at]) * n / (n - 1 - 2 * at)
    start = float(place[at]) - across * (at + 0.5) / n
    return max(0.0, start), min(1.0, start + across)


def _pooling(name: str, folder: Path) -> str:
    """How a sentence model makes one vector of its tokens; the mean if it does not say."""
    modules = folder / "modules.json"
    kinds = (
        [module["type"].rsplit(".", 1)[-1] for module in json.loads(modules.read_text())] if modules.exists() else []
    )
    if further := sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"}):
        raise DataError(f'model "{name}" has further layers ({", ".join(further)}) that amodal does not compute.')
    file = folder / "1_Pooling" / "config.json"
    asked = json.loads(file.read_text()) if file.exists() else {"pooling_mode": "mean"}
    # sentence-transformers before 6 wrote a flag for each mode: "pooling_mode_mean_tokens": true
    flags = [key.removeprefix("pooling_mode_") for key, wanted in asked.items() if "mode_" in key and wanted is True]
    mode = asked.get("pooling_mode", ", ".join(flag.split("_token")[0] for flag in flags))
    if mode not in _POOLINGS:
        raise DataError(f'model "{name}" pools by {mode}; amodal knows {", ".join(_POOLINGS)}.')
    return str(mode)


def _width(config: Any, side: Any) -> int:
    """Width of the shared space if the model has two sides, else of its last layer."""
    shared = () if side is config else (getattr(config, "projection_dim", 0), getattr(side, "projection_size", 0))
    last = (getattr(side, "hidden_size", 0), getattr(side, "hidden_dim", 0), *getattr(side, "hidden_sizes", ())[-1:])
    return next(int(width) for width in (*shared, *last) if width)


def _pooled(output: Any) -> Tensor:
    """The embedding: what transformers 4 returns as a tensor and transformers 5 inside an object."""
    embedding: Tensor = getattr(output, "pooler_output", output)
    return embedding


def _folder(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtra("transformers", "hf") from error
    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (OSError, ValueError) as error:
        raise DataError(
            f'model "{model}" is neither a folder nor in the local store of Hugging Face. Encoding downloads nothing; '
            f"fetch the model once with: hf download {model}"
        ) from error


def _configuration(model: str, folder: Path) -> Any:
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise MissingExtra("transformers", "hf") from error
    with _opening(PREFIX + model):
        return AutoConfig.from_pretrained(folder, local_files_only=True)


@contextmanager
def _opening(name: str) -> Iterator[None]:
    """While a model is opened: what transformers has to say becomes one sentence, or silence if all is well."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f'model "{name}" cannot be used: {reason:.300}. It needs config.json and safetensors weights.'
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
