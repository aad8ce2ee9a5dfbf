"""Generated data with real structure across modalities, for tests, examples and benchmarks of size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amodal.data.dataset import Dataset
from amodal.data.labels import Labels
from amodal.data.observations import Observations
from amodal.data.splits import random_split
from amodal.errors import DataError

__all__ = ["toy", "write_large"]

_LATENT = 8


@dataclass(frozen=True)
class _World:
    """Classes are points of a latent space; a modality sees that space through its own map and a tanh."""

    centres: NDArray[np.float64]  # (classes, latent)
    maps: dict[str, NDArray[np.float64]]  # modality -> (latent, width)

    @classmethod
    def draw(cls, classes: int, widths: Mapping[str, int], rng: np.random.Generator) -> _World:
        maps = {name: rng.standard_normal((_LATENT, width)) / np.sqrt(_LATENT) for name, width in widths.items()}
        return cls(2 * rng.standard_normal((classes, _LATENT)), maps)

    def labels(self, n: int, multi_label: bool, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Multi-hot rows (n, classes): one class each, or the first and each other one with a small probability."""
        labels = np.zeros((n, len(self.centres)), dtype=bool)
        if multi_label:
            labels |= rng.random(labels.shape) < 1 / len(self.centres)
        labels[np.arange(n), rng.integers(len(self.centres), size=n)] = True
        return labels

    def items(self, labels: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
        """Latent points (n, latent): the mean of the item's classes, and what is its own."""
        means: NDArray[np.float64] = labels @ self.centres / labels.sum(axis=1, keepdims=True)
        return means + 0.5 * rng.standard_normal(means.shape)

    def see(self, latent: NDArray[np.float64], modality: str, rng: np.random.Generator) -> NDArray[np.float64]:
        """Features (n, width) of one modality."""
        view = self.maps[modality]
        return np.tanh(latent @ view) + 0.3 * rng.standard_normal((len(latent), view.shape[1]))


def toy(
    n: int = 200,
    modalities: Mapping[str, int] | None = None,
    *,
    classes: int = 5,
    multi_label: bool = False,
    captions: int = 1,
    unlabelled: float = 0.0,
    test: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """A small data set whose modalities share classes and, beyond them, what is particular to each item.

    Args:
        n: Number of items.
        modalities: Width of the features of each modality; image 16 and text 12 by default.
        classes: Number of classes.
        multi_label: Whether items may have several classes.
        captions: Observations per item of the last modality.
        unlabelled: Share of the items whose labels are unknown.
        test: Share of the items in split ``test``, the others being ``train``; no split at 0.
        seed: Of everything.

    Example:
        >>> data = toy(10, {"photo": 4, "sketch": 3}, captions=2)
        >>> data.names, len(data["photo"]), len(data["sketch"])
        (('photo', 'sketch'), 10, 20)
    """
    widths = {"image": 16, "text": 12} if modalities is None else dict(modalities)
    rng = np.random.default_rng([seed, 0x746F79])
    world = _World.draw(classes, widths, rng)
    labels = world.labels(n, multi_label, rng)
    latent = world.items(labels, rng)
    tables = {}
    for name in widths:
        item = np.repeat(np.arange(n), captions if name == list(widths)[-1] else 1)
        tables[name] = Observations(world.see(latent[item], name, rng).astype(np.float32), item)
    known = rng.permutation(n) >= round(unlabelled * n)
    dataset = Dataset(
        np.array([f"item {i:0{len(str(n))}}" for i in range(n)], dtype=np.str_),
        tables,
        Labels.from_multihot(labels & known[:, None], known),
        name="toy",
    )
    return random_split(dataset, {"train": 1 - test, "test": test}, seed=seed) if test else dataset


def write_large(
    folder: str | Path,
    n: int = 1_000_000,
    *,
    modalities: Mapping[str, int] | None = None,
    classes: int = 80,
    seed: int = 0,
    chunk: int = 20_000,
) -> Path:
    """Write multi-label data of any size as a folder of ``.npy`` files, for ``amodal.read`` to map into memory.

    Features are float16 and made ``chunk`` items at a time, so memory does not grow with n. A million items with two
    modalities of width 512 take 2 GB on disk.

    Args:
        folder: Where to; must not hold arrays yet. A finished folder with the same figures is used as it is.
        n: Number of items.
        modalities: Widths; image 512 and text 512 by default.
        classes: Number of classes; an item has about two.
        seed: Of everything.
        chunk: Items made at a time.

    Returns:
        The folder.

    Raises:
        DataError: If the folder holds something else.
    """
    widths = {"image": 512, "text": 512} if modalities is None else dict(modalities)
    target, done = Path(folder), Path(folder) / "made.json"
    figures = {"n": n, "modalities": widths, "classes": classes, "seed": seed, "chunk": chunk}
    if done.exists() and json.loads(done.read_text()) == figures:
        return target
    if target.exists() and any(target.iterdir()):
        raise DataError(f"{target}: already holds other or unfinished files. Remove it, or choose another folder.")
    target.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 0x6C61726765])
    world = _World.draw(classes, widths, rng)
    stores = {
        name: np.lib.format.open_memmap(target / f"{name}.npy", mode="w+", dtype=np.float16, shape=(n, width))
        for name, width in widths.items()
    }
    label = np.lib.format.open_memmap(target / "label.npy", mode="w+", dtype=np.uint8, shape=(n, classes))
    for start in range(0, n, chunk):
        rows = slice(start, min(start + chunk, n))
        label[rows] = world.labels(rows.stop - start, True, rng)
        latent = world.items(label[rows].astype(bool), rng)
        for name, store in stores.items():
            store[rows] = world.see(latent, name, rng)
    for store in (*stores.values(), label):
        store.flush()
    done.write_text(json.dumps(figures))
    return target
