"""The networks of the cyclic generators: each modality's encoder, decoder and discriminator, around one bottleneck."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from amodal.methods.embedding.feature_embed import EmbedNetwork
from amodal.methods.networks import Discriminator, Scale

__all__ = ["CycleGenNetwork", "SpectralDiscriminator"]

#: Widths of the hidden layers of a discriminator.
JUDGE = (512, 256)


class SpectralDiscriminator(Discriminator):
    """A discriminator whose layers have spectral norm 1, with leaky ReLU between.

    Args:
        dim: Width of the rows.

    Paper: Miyato et al., Spectral Normalization for Generative Adversarial Networks, ICLR 2018.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, JUDGE)
        self.layers = nn.Sequential(
            *(spectral_norm(layer) if isinstance(layer, nn.Linear) else nn.LeakyReLU(0.2) for layer in self.layers)
        )


class CycleGenNetwork(EmbedNetwork):
    """All that the cyclic generators learn. Generators make scaled features, which is what discriminators see.

    Args:
        dims: Width of the features of each modality, in order.
        dim: Width e of the bottleneck.
        widths: Widths of the hidden layers of encoders, each normalised; of decoders, from the last to the first.
        dropout: Share of hidden units of encoders left out in training.
        classes: Number of classes c; 0 for no classifier.
    """

    def __init__(self, dims: Sequence[int], dim: int, widths: Sequence[int], dropout: float, *, classes: int) -> None:
        super().__init__(dims, dim, widths, dropout)
        for encoder in self.encoder:
            normed = [part for layer in encoder.layers for part in _normed(layer)]  # type: ignore[union-attr]
            encoder.layers = nn.Sequential(*normed)
        self.decoder = nn.ModuleList([_decoder(dim, widths[::-1], width) for width in dims])
        self.discriminator = nn.ModuleList([SpectralDiscriminator(width) for width in dims])
        self.classes = nn.Linear(dim, classes) if classes else None

    def scale(self, modality: int) -> Scale:
        """How the features of a modality are scaled."""
        scale: Scale = self.encoder[modality].standardise  # type: ignore[assignment]
        return scale

    def encoded(self, scaled: Tensor, modality: int) -> Tensor:
        """E_m of scaled features, shape (b, e)."""
        out: Tensor = self.project[modality](self.encoder[modality].layers(scaled))  # type: ignore[operator]
        return out

    def decoded(self, z: Tensor, modality: int) -> Tensor:
        """D_m: scaled features, shape (b, d_m)."""
        out: Tensor = self.decoder[modality](z)
        return out

    def judge(self, modality: int) -> SpectralDiscriminator:
        """The discriminator of a modality."""
        judge: SpectralDiscriminator = self.discriminator[modality]  # type: ignore[assignment]
        return judge


def _normed(layer: nn.Module) -> list[nn.Module]:
    return [layer, nn.LayerNorm(layer.out_features)] if isinstance(layer, nn.Linear) else [layer]


def _decoder(dim: int, widths: Sequence[int], features: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip([dim, *widths], widths, strict=False):
        layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear([dim, *widths][-1], features))
