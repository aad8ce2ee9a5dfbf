"""A saved model is a folder of safetensors and JSON. Nothing is ever unpickled."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from amodal._version import __version__
from amodal.errors import DataError, UsageError
from amodal.methods.base import Method
from amodal.methods.registry import get

__all__ = ["load", "save"]

FORMAT = 1
FILES = ("config.json", "weights.safetensors", "card.md")


def save(method: Method, folder: str | Path, *, force: bool = False) -> Path:
    """Write a fitted method as ``config.json``, ``weights.safetensors`` and ``card.md``.

    The folder appears complete or not at all: it is written beside its place and renamed.

    Args:
        method: A fitted method.
        folder: Where to write.
        force: Replace a folder that is there already.

    Returns:
        The folder.

    Raises:
        UsageError: If the folder exists and ``force`` is not set.
        MethodError: If the method has not been fitted.
    """
    method.require_fitted()
    target = Path(folder)
    if target.exists() and not force:
        raise UsageError(f"{target} exists already. Choose another place, or pass force=True (--force).")
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    config: dict[str, Any] = {
        "format": FORMAT,
        "method": method.card.slug,
        "params": method.params(),
        "widths": method.widths_,
        "classes": list(method.classes_),
        "fingerprint": method.fingerprint(),
        "versions": {"amodal": __version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    (draft / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (draft / "card.md").write_text(method.card.as_markdown())
    save_file({name: np.ascontiguousarray(array) for name, array in method.state().items()}, draft / FILES[1])
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    return target


def load(folder: str | Path) -> Method:
    """Read a method back.

    Raises:
        DataError: If the folder is incomplete, damaged, or of a newer format; says which file.
    """
    place = Path(folder)
    for name in FILES[:2]:
        if not (place / name).is_file():
            raise DataError(f"{place} is no saved model: {name} is missing.")
    try:
        config = json.loads((place / "config.json").read_text())
        weights = load_file(place / "weights.safetensors")
    except Exception as error:
        raise DataError(f"{place} is damaged and cannot be read ({error}). Restore it, or fit again.") from error
    if config.get("format") != FORMAT:
        raise DataError(f"{place} has format {config.get('format')}; this version reads format {FORMAT}.")
    method = get(config["method"]).create(**config["params"])
    method.widths_ = {name: int(width) for name, width in config["widths"].items()}
    method.classes_ = tuple(config["classes"])
    method.restore(weights)
    if method.fingerprint() != config["fingerprint"]:
        raise DataError(f"{place}: the weights are not those that config.json describes. Restore it, or fit again.")
    return method
