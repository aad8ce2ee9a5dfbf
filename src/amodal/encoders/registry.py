"""Encoders by name, and which one to take when none is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from amodal.data.readers.base import PICTURES
from amodal.encoders.base import Encoder, Kind
from amodal.encoders.efficientnet import EfficientNetLite0
from amodal.encoders.hf import PREFIX, open_model
from amodal.encoders.minilm import MiniLM
from amodal.encoders.network import PictureNetwork, TextNetwork
from amodal.encoders.parts import Regions, Words
from amodal.encoders.vectors import Vectors
from amodal.errors import UsageError, nearest

__all__ = ["default_for", "get", "guess_kind", "known", "names"]

_PACKAGED: dict[str, type[EfficientNetLite0 | MiniLM]] = {kind.name: kind for kind in (EfficientNetLite0, MiniLM)}
_DEFAULTS: dict[Kind, str] = {"picture": EfficientNetLite0.name, "text": MiniLM.name, "features": Vectors.name}
_PARTS = re.compile(r"(.+)@(?:(\d+)x(\d+)|(\d+))")
"""A network, and the grid of regions or the number of words that are wanted of it."""


def names() -> tuple[str, ...]:
    """Names that ``get`` knows; besides them ``hf:<model>`` stands for any model that transformers can open.

    Those that end in ``@5x5`` and ``@32`` give parts, and any other grid or number may stand there.
    """
    return (*_PACKAGED, f"{EfficientNetLite0.name}@5x5", f"{MiniLM.name}@32", Vectors.name)


def known(name: str) -> bool:
    """Whether ``get`` can open an encoder of that name.

    Example:
        >>> known("minilm@20"), known("my own")
        (True, False)
    """
    asked = _PARTS.fullmatch(name)
    return (asked[1] if asked else name) in names() or name.startswith(PREFIX)


def default_for(kind: Kind) -> str:
    """The name of the encoder that is taken for content of a kind when none is named.

    Example:
        >>> default_for("picture")
        'efficientnet-lite0'
    """
    return _DEFAULTS[kind]


def get(name: str, *, kind: Kind | None = None, device: str = "cpu") -> Encoder:
    """An encoder by name; its network is loaded when it first encodes something.

    Args:
        name: One of ``names()``, or ``hf:`` and a model id or folder: CLIP, SigLIP, ViT, DINO, sentence models. With
            ``@7x7`` behind it, a picture becomes the regions of a grid with so many rows and columns; with ``@32``, a
            text becomes its words, the first 32 of them.
        kind: What it is to encode; needed for models such as CLIP that have a side for pictures and one for texts.
        device: Where its network runs, as torch names it.

    Raises:
        UsageError: If the name is unknown, or the encoder does not take that kind of content.
        DataError: If the model behind ``hf:`` is not on this machine or cannot be used.
        MissingExtra: If ``hf:`` is used and transformers is not installed.
    """
    if asked := _PARTS.fullmatch(name):
        return _parts(*asked.groups(), kind=kind, device=device)
    encoder: Encoder
    if name.startswith(PREFIX):
        encoder = open_model(name.removeprefix(PREFIX), kind=kind, device=device)
    elif name == Vectors.name:
        encoder = Vectors()
    elif name in _PACKAGED:
        encoder = _PACKAGED[name](device)
    else:
        raise UsageError(nearest(name, [*names(), f"{PREFIX}<model>"], what="encoder"))
    if kind not in (None, encoder.kind):
        raise UsageError(
            f'encoder "{name}" takes {encoder.kind} content, not {kind}; for {kind} use "{default_for(kind)}".'
        )
    return encoder


def _parts(
    base: str, rows: str | None, columns: str | None, length: str | None, *, kind: Kind | None, device: str
) -> Encoder:
    wanted: Kind = "text" if length else "picture"
    network = get(base, kind=wanted, device=device)
    if kind not in (None, wanted):
        raise UsageError(f'"@5x5" asks for regions of pictures and "@32" for words of texts, not for parts of {kind}.')
    if 0 in (int(number) for number in (rows, columns, length) if number):
        raise UsageError(f'"{base}" cannot give 0 parts; "@5x5" asks for 25 regions, "@32" for up to 32 words.')
    if isinstance(network, PictureNetwork) and rows and columns:
        return Regions(network, int(rows), int(columns))
    if isinstance(network, TextNetwork) and length:
        return Words(network, int(length))
    raise UsageError(f'encoder "{base}" has no parts; those that have are a network\'s: {", ".join(_PACKAGED)}, hf:.')


def guess_kind(content: Sequence[str]) -> Kind:
    """Whether raw content is paths of pictures or texts, by the file name endings of its first hundred rows.

    Example:
        >>> guess_kind(["shop/17.JPG", "shop/18.png"]), guess_kind(["red canvas shoes"])
        ('picture', 'text')
    """
    first = [str(one) for one in content[:100]]
    pictures = sum(PurePath(one).suffix.lower() in PICTURES for one in first)
    return "picture" if pictures > len(first) / 2 else "text"
