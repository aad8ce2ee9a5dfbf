"""Which encoders a model was learned with: by name and hash, with the weights of those that learned too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amodal.encoders.base import Encoder
from amodal.encoders.network import NetworkEncoder
from amodal.encoders.registry import get, known
from amodal.encoders.tuned import PREFIX, Tuned
from amodal.errors import IndexMismatch, UsageError

__all__ = ["open_encoders", "save_encoders"]


def save_encoders(encoders: Mapping[str, Encoder], folder: Path) -> dict[str, dict[str, str]]:
    """Write the weights of encoders that were trained further; what is packaged or somebody else's is only named.

    Args:
        encoders: By modality.
        folder: For ``<modality>.safetensors``; made only if there is something to write.

    Returns:
        Name, kind and fingerprint by modality, for ``open_encoders``.
    """
    for modality, encoder in encoders.items():
        if isinstance(encoder, Tuned):
            folder.mkdir(exist_ok=True)
            encoder.save(folder / f"{modality}.safetensors")
    return {
        modality: {"name": one.name, "kind": one.kind, "fingerprint": one.fingerprint}
        for modality, one in encoders.items()
    }


def open_encoders(
    saved: Mapping[str, Mapping[str, Any]], folder: Path, own: Mapping[str, Encoder] | None = None
) -> dict[str, Encoder]:
    """What ``save_encoders`` noted, by modality.

    Args:
        saved: What it returned.
        folder: Where it wrote.
        own: Encoders that cannot be opened by name, by modality; for one that learned, its untrained form.

    Raises:
        UsageError: If an encoder was an object and is not handed in.
        DataError: If weights are missing or damaged.
        IndexMismatch: If an encoder is not the one that was saved.
    """
    found: dict[str, Encoder] = {}
    for modality, wanted in saved.items():
        base = wanted["name"].removeprefix(PREFIX)
        encoder = (own or {}).get(modality)
        if encoder is None:
            if not known(base):
                raise UsageError(
                    f'modality "{modality}" was encoded by "{base}", an object of your own. Hand it in: '
                    f'Retriever.load(folder, encoders={{"{modality}": it}}), or part_encoders if it serves re-ranking.'
                )
            encoder = get(base, kind=wanted["kind"])
        if base != wanted["name"]:
            if not isinstance(encoder, NetworkEncoder):
                raise UsageError(f'encoder "{encoder.name}" has no network for the weights that were learned.')
            encoder = Tuned.restore(encoder, folder / f"{modality}.safetensors")
        if encoder.fingerprint != wanted["fingerprint"]:
            raise IndexMismatch(
                f'{folder.parent}: modality "{modality}" was encoded by {wanted["name"]} {wanted["fingerprint"]}, but '
                f"here that encoder is {encoder.fingerprint}. Install the versions it was made with, or fit again."
            )
        found[modality] = encoder
    return found
