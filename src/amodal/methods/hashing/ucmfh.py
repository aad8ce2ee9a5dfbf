"""UCMFH: a transformer fuses the modalities of an item, and contrast without labels ties the codes of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, permutations
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim import Adam, Optimizer

from amodal.codes import BinaryCodes, Codes
from amodal.data import Dataset
from amodal.errors import MethodError, MissingModality, ShapeError, UsageError, nearest
from amodal.losses import nt_xent
from amodal.methods.card import Card
from amodal.methods.deep import DeepMethod, Standardise
from amodal.methods.features import by_blocks, item_means
from amodal.metrics import mean_average_precision
from amodal.training import Batch

__all__ = ["UCMFH", "FusionNetwork"]

Attention = Literal["item", "batch"]


class FusionNetwork(nn.Module):
    """Features to parts of a fused vector, one for each modality, and from each part to a relaxed code.

    Args:
        dims: Width of the features of each modality, in order.
        bits: Outputs of a head.
        width: Width of a part; features are standardised and mapped to it linearly first.
        layers: Layers of the transformer.
        heads: Its attention heads.
        feedforward: Width of its feed-forward layers.
        hidden: Width of the hidden layer of each hash head.
        dropout: Share of units left out in the heads.
        split: Whether each part is a token of its own, or all together are one.
    """

    def __init__(
        self,
        dims: Sequence[int],
        bits: int,
        *,
        width: int,
        layers: int,
        heads: int,
        feedforward: int,
        hidden: int,
        dropout: float,
        split: bool,
    ) -> None:
        super().__init__()
        self.width, self.split = width, split
        self.standardise = nn.ModuleList([Standardise(dim) for dim in dims])
        self.enter = nn.ModuleList([nn.Linear(dim, width) for dim in dims])
        layer = nn.TransformerEncoderLayer(
            width if split else width * len(dims), heads, feedforward, batch_first=True
        )  # with a dropout of .1, as released
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, bits), nn.Tanh()
                )
                for _ in dims
            ]
        )

    def token(self, x: Tensor, modality: int) -> Tensor:
        """What one modality, by its position, brings to the transformer; shape (m, width)."""
        out: Tensor = self.enter[modality](self.standardise[modality](x))
        return out

    def parts(self, x: Sequence[Tensor], *, across: bool = False) -> list[Tensor]:
        """Unit-length parts of the fused vector of each item, shape (m, width) each.

        Args:
            x: Features of every modality, shape (m, d_m).
            across: Attend over the items instead of within each: they are a sequence of m tokens, not m of one.
        """
        tokens = [self.token(part, k) for k, part in enumerate(x)]
        if self.split:  # a sequence in which all other tokens are masked
            return [self.alone(token) for token in tokens]
        fused = torch.cat(tokens, dim=1)
        fused = self.transformer(fused[None])[0] if across else self.transformer(fused[:, None])[:, 0]
        return [normalize(part, dim=1, eps=1e-8) for part in fused.split(self.width, dim=1)]

    def alone(self, token: Tensor) -> Tensor:
        """A modality's unit-length part where it is a token of its own, shape (m, width)."""
        return normalize(self.transformer(token[:, None])[:, 0], dim=1, eps=1e-8)

    def code(self, part: Tensor, modality: int) -> Tensor:
        """Relaxed codes, shape (m, r)."""
        out: Tensor = self.head[modality](part)
        return out


class UCMFH(DeepMethod):
    """Unsupervised Contrastive Multi-modal Fusion Hashing.

    All modalities of an item are one token of a transformer. What comes out is cut into a part f_m for each modality,
    which a head hashes to h_m. An item has a code for every modality, and each of them is made of all modalities: to
    ``encode`` one alone is refused, and ``encode_items`` takes all. With ``split`` every modality is a token of its
    own that sees no other, when learning and after; then ``encode`` works as for any other method.

        L = sum_{a < b} NT-Xent(f_a, f_b; tau) + weight NT-Xent(h_a, h_b; tau)

    Args:
        bits: Code length r.
        width: Width of a part.
        layers: Layers of the transformer.
        heads: Its attention heads; they must divide its width.
        feedforward: Width of its feed-forward layers.
        hidden: Width of the hidden layer of each hash head.
        dropout: Share of units left out in the heads in training.
        tau: Temperature of both contrasts.
        weight: Weight of the contrast of codes.
        split: Whether modalities are fused, as published, or only share the transformer.
        eval_attention: "item"; or "batch": released code encodes with attention over whoever is encoded together, in
            groups of ``batch_size``, so that a code depends on them.
        fill: "drop", the only one: items without some modality are left out.
        epochs: Passes over the data.
        batch_size: Items in a batch.
        rate: Learning rate of the heads.
        rate_fusion: Learning rate of everything before.
        seed: Seed of weights, order and dropout.

    Paper: Xia et al., Information Fusion 2023.
    Reference code: XinyuXia97/UCMFH (no licence; read, not used).

    Example:
        >>> from amodal.data import toy
        >>> data = toy(40)
        >>> method = UCMFH(bits=16, epochs=1).fit(data)
        >>> len(method.encode_items({name: data[name].read() for name in data.names})["image"])
        40
    """

    card: ClassVar[Card] = Card(
        slug="ucmfh",
        name="UCMFH",
        summary="Unsupervised fusion: needs every modality of an item to encode it, or split=True (an adaptation).",
        paper="Xia, Dong, Li, Zhu, Ying: When CLIP Meets Cross-modal Hashing Retrieval, Information Fusion 100, 2023",
        url="https://doi.org/10.1016/j.inffus.2023.101968",
        family="fusion",
        returns="codes",
        needs_labels=False,
        needs_pairs="yes",
        native="none",
        fills=("drop",),
        checked="attention over one token against its value projection; what a swapped text does to codes of images",
        departures=(
            "read from the released code: the full text was not available",
            "features are standardised and mapped linearly to parts of equal width; released: CLIP's, as they are",
            "width 128, feed-forward 512, hidden 512, 20 epochs are ours for ready features (preset: released)",
            "codes attend within an item, as in training; released: over the batch (eval_attention)",
            "released code raises the rate of the heads by a fifth at batches 30 and 80; here both fall along a cosine",
            "more than two modalities: all are one token, and every pair of parts is contrasted",
            "split=True is our adaptation for one modality alone; tables should call it ucmfh-split",
        ),
        reference_code="XinyuXia97/UCMFH, no licence; read, not used",
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "released": {"width": 512, "feedforward": 2048, "hidden": 4096, "epochs": 100, "eval_attention": "batch"}
    }
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "width": (64, 128, 256),
        "layers": (1, 2),
        "tau": (0.1, 0.3, 0.5),
        "weight": (0.1, 0.5, 1.0, 2.0),
        "dropout": (0.0, 0.3, 0.5),
        "rate": (1e-4, 3e-4, 1e-3),
        "rate_fusion": (3e-5, 1e-4, 3e-4, 1e-3),
    }

    network_: FusionNetwork

    def __init__(
        self,
        bits: int = 64,
        *,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        feedforward: int = 512,
        hidden: int = 512,
        dropout: float = 0.3,
        tau: float = 0.5,
        weight: float = 0.5,
        split: bool = False,
        eval_attention: Attention = "item",
        fill: Literal["drop"] = "drop",
        epochs: int = 20,
        batch_size: int = 128,
        rate: float = 1e-3,
        rate_fusion: float = 1e-4,
        seed: int = 0,
    ) -> None:
        self.bits, self.width, self.layers, self.heads, self.feedforward = bits, width, layers, heads, feedforward
        self.hidden, self.dropout, self.tau, self.weight = hidden, dropout, tau, weight
        self.split, self.eval_attention, self.fill = split, eval_attention, fill
        self.epochs, self.batch_size, self.seed = epochs, batch_size, seed
        self.rate, self.rate_fusion = rate, rate_fusion

    def build(self) -> FusionNetwork:
        """Transformer and heads.

        Raises:
            UsageError: If attention heads do not divide the width of a token.
        """
        token = self.width if self.split else self.width * len(self.widths_)
        if token % self.heads:
            raise UsageError(f"heads is {self.heads}, which does not divide the width of a token, {token}.")
        return FusionNetwork(
            list(self.widths_.values()),
            self.bits,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            feedforward=self.feedforward,
            hidden=self.hidden,
            dropout=self.dropout,
            split=self.split,
        )

    def groups(self) -> list[dict[str, Any]]:
        """Heads at ``rate``, everything before them at ``rate_fusion``."""
        heads = list(self.network_.head.parameters())
        before = [*self.network_.enter.parameters(), *self.network_.transformer.parameters()]
        return [{"params": heads, "lr": self.rate}, {"params": before, "lr": self.rate_fusion}]

    def optimizer(self) -> Optimizer:
        """Adam as released."""
        return Adam(self.groups(), betas=(0.5, 0.999))

    def chosen(self, data: Dataset) -> Dataset:
        """The items that have every modality.

        Raises:
            UsageError: If the fill policy or the attention is unknown, or the attention makes no sense.
            MethodError: If no item has every modality.
        """
        if self.fill not in self.card.fills:
            raise UsageError(nearest(str(self.fill), self.card.fills, what="fill"))
        if self.eval_attention not in get_args(Attention):
            raise UsageError(nearest(str(self.eval_attention), get_args(Attention), what="eval_attention"))
        if self.split and self.eval_attention == "batch":
            raise UsageError('split=True encodes one modality of one item at a time; leave eval_attention at "item".')
        return self._whole(data)

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """L and its terms for a batch; see the class."""
        parts = self.network_.parts([batch.x[m] for m in self.widths_])
        codes = [self.network_.code(part, k) for k, part in enumerate(parts)]
        fusion, hashing = (
            torch.stack([nt_xent(a, b, self.tau) for a, b in combinations(views, 2)]).sum() for views in (parts, codes)
        )
        return {"loss": fusion + self.weight * hashing, "fusion": fusion, "hashing": hashing}

    def output(self, x: Tensor, modality: str) -> Tensor:
        """Relaxed codes of one modality that is a token of its own, shape (m, r)."""
        k = list(self.widths_).index(modality)
        return self.network_.code(self.network_.alone(self.network_.token(x, k)), k)

    def encode_items(self, features: Mapping[str, ArrayLike]) -> dict[str, Codes]:
        """Codes of items that have every modality.

        Args:
            features: By modality, shape (m, d_m), finite; row by row of the same items.

        Returns:
            By modality, m codes. Unless modalities are split, each is made of all features of the item.

        Raises:
            MissingModality: If a modality is not given, or was never learned.
            ShapeError: If a width is not that of training, or modalities have different numbers of rows.
            DataError: If a feature is NaN or infinite.
        """
        self.require_fitted()
        x = {m: self._checked(values, m) for m, values in features.items()}
        if missing := [m for m in self.widths_ if m not in x]:
            raise MissingModality(self._refusal(f'"{missing[0]}" is missing'))
        if len({len(rows) for rows in x.values()}) > 1:
            raise ShapeError(
                "all modalities of the same items are fused, row by row; got "
                + ", ".join(f"{len(rows)} rows of {m}" for m, rows in x.items())
                + ". Leave out items that lack one."
            )
        if self.split:
            return {m: self._encode(x[m], m) for m in self.widths_}
        outputs = self._fused(np.concatenate([x[m] for m in self.widths_], axis=1))
        return {m: BinaryCodes.from_outputs(outputs[:, k]) for k, m in enumerate(self.widths_)}

    def validation_score(self, validation: Dataset) -> float:
        """As of any method where modalities are split, else over the fused codes of the items that have everything."""
        if self.split or validation.labels is None:
            return super().validation_score(validation)
        whole = self._whole(validation)
        labels = validation.labels.matrix[validation.presence().all(axis=1)]
        codes = self.encode_items({m: item_means(whole[m])[1] for m in self.widths_})
        scores = [mean_average_precision(a, b, labels, labels) for a, b in permutations(codes.values(), 2)]
        return float(np.mean(scores))

    def _encode(self, features: NDArray[np.float32], modality: str) -> Codes:
        if not self.split:
            raise MissingModality(self._refusal(f'"{modality}" alone gives no code'))
        return super()._encode(features, modality)

    def _fused(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Outputs of items from their features side by side; shape (m, modalities, r)."""
        self.network_.eval()
        device = next(self.network_.parameters()).device

        def outputs(block: NDArray[np.floating]) -> NDArray[np.float64]:
            rows = torch.from_numpy(block).float().to(device)
            sides = torch.split(rows, list(self.widths_.values()), dim=1)
            parts = self.network_.parts(sides, across=self.eval_attention == "batch")
            codes = torch.cat([self.network_.code(part, k) for k, part in enumerate(parts)], dim=1)
            return codes.double().cpu().numpy()

        with torch.inference_mode():
            if self.eval_attention == "item":
                found = by_blocks(outputs, x)
            else:
                starts = range(0, max(len(x), 1), self.batch_size)
                found = np.concatenate([outputs(x[start : start + self.batch_size]) for start in starts])
        return found.reshape(len(x), len(self.widths_), self.bits)

    def _check_pairs(self, data: Dataset) -> None:
        self._whole(data)

    def _whole(self, data: Dataset) -> Dataset:
        whole = data.take(np.flatnonzero(data.presence().all(axis=1)))
        if not len(whole):
            raise MethodError(f"{self.card.slug} takes pairs: items that have every modality, and there is none.")
        return whole

    def _refusal(self, what: str) -> str:
        return (
            f"{self.card.slug} fuses {' and '.join(self.widths_)} of an item into its codes: {what}. Give every "
            "modality to encode_items, or learn with split=True, where each has a code of its own."
        )
