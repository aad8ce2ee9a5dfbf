"""A saved model is a folder of safetensors and JSON. Nothing is ever unpickled."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors.numpy import load_file, save_file

from amodal._version import __version__
from amodal.errors import DataError, UsageError
from amodal.methods.base import Method
from amodal.methods.registry import get

__all__ = ["load", "save"]

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "weights.safetensors"


def save(method: Method, folder: str | Path, *, force: bool = False) -> Path:
    """Write a fitted method as ``config.json``, ``weights.safetensors`` and ``card.md``.

    The folder appears complete or not at all: it is written beside its place and renamed.

    Args:
        method: A fitted method.
        folder: Where to write.
        force: Replace a saved model that is there already.

    Returns:
        The folder.

    Raises:
        UsageError: If something is there and ``force`` is not set, or it is no saved model.
        MethodError: If the method has not been fitted.
    """
    method.require_fitted()
    target = Path(folder)
    if target.exists() and not force:
        raise UsageError(f"{target} exists already. Choose another place, or pass force=True (--force).")
    if target.exists() and not (target / CONFIG).is_file():
        raise UsageError(f"{target} is no saved model, so it is not replaced. Choose another place.")
    config = {
        "format": FORMAT,
        "method": method.card.slug,
        "params": method.params(),
        "widths": method.widths_,
        "parts": list(method.parts_),
        "classes": list(method.classes_),
        "fingerprint": method.fingerprint(),
        "versions": {"amodal": __version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        draft = Path(scratch, "new")
        draft.mkdir()
        # NumPy's numbers are arguments as good as Python's
        (draft / CONFIG).write_text(json.dumps(config, indent=2, default=lambda value: value.item()) + "\n")
        (draft / "card.md").write_text(method.card.as_markdown())
        save_file({name: np.ascontiguousarray(array) for name, array in method.state().items()}, draft / WEIGHTS)
        if target.exists():
            target.rename(Path(scratch, "old"))
        draft.rename(target)
    return target


def load(folder: str | Path) -> Method:
    """Read a method back.

    Raises:
        DataError: If the folder is incomplete, damaged, or of a newer format; says which file.
    """
    place = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (place / name).is_file():
            raise DataError(f"{place} is no saved model: {name} is missing.")
    try:
        config = json.loads((place / CONFIG).read_text())
        found = int(config["format"])
    except Exception as error:
        raise DataError(f"{place / CONFIG} cannot be read ({error!r}). Restore it, or fit again.") from error
    if found > FORMAT:
        raise DataError(
            f"{place} has format {found}; this version reads up to {FORMAT}. Upgrade: pip install -U amodal"
        )
    try:
        weights = load_file(place / WEIGHTS)
    except Exception as error:
        raise DataError(f"{place / WEIGHTS} cannot be read ({error}). Restore it, or fit again.") from error
    try:
        method = get(config["method"]).create(**config["params"])
        method.widths_ = {name: int(width) for name, width in config["widths"].items()}
        method.parts_ = tuple(config.get("parts", ()))  # models of before there were parts have none
        method.classes_ = tuple(config["classes"])
        method.restore(weights)
    except Exception as error:
        raise DataError(
            f"{place}: {CONFIG} and {WEIGHTS} do not belong together, or were written by another version ({error}). "
            "Restore them, or fit again."
        ) from error
    if method.fingerprint() != config["fingerprint"]:
        raise DataError(f"{place}: {WEIGHTS} holds other weights than {CONFIG} describes. Restore it, or fit again.")
    return method
