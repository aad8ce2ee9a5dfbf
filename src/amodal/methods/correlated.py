"""Where linear maps may start: canonical correlations, which a few hundred pairs determine better than descent does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amodal.data import Dataset, Observations
from amodal.methods.features import chunk_size
from amodal.methods.shallow.cca_itq import CCAITQ

__all__ = ["correlated_maps"]


def correlated_maps(
    data: Dataset,
    vectors: Mapping[str, Callable[[Tensor], Tensor]],
    width: int,
    ridge: float,
    *,
    within: NDArray[np.int64] | None = None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """For each modality A and b, so that A x + b are its regularised canonical correlations with the others.

    Args:
        data: Training items.
        vectors: What makes vectors x (m, d) of a chunk of observations, by modality.
        width: Most correlations to take.
        ridge: Regularisation, in mean eigenvalues of a covariance.
        within: Group of each item, -1 for none: the correlations of what sets items apart from the mean of their group,
            which are deaf to all that goes with groups.

    Returns:
        A, shape (k, d), and b, shape (k,), k <= ``width``; A x + b is of mean squared length 1.

    Raises:
        MethodError: If nothing is correlated.
    """
    tables = {}
    for name in data.names:
        with torch.inference_mode():
            chunks = data[name].chunks(chunk_size(data[name]))
            rows = [vectors[name](torch.from_numpy(chunk)).numpy() for chunk in chunks]
        x = np.concatenate(rows)
        if within is not None:
            _take_out_means(x, within[data[name].item])
        tables[name] = Observations(x, data[name].item)
    data = data.with_tables(tables)
    found, maps = CCAITQ(bits=width, code="real", epsilon=ridge).fit(data), {}
    for name in data.names:
        centred = found.kernels_[name]
        squares = [((centred(x) @ found.maps_[name]) ** 2).sum() for x in data[name].chunks()]
        weight = torch.from_numpy(found.maps_[name].T / np.sqrt(sum(squares) / len(data[name])))
        maps[name] = weight.float(), -(weight @ torch.from_numpy(centred.mean)).float()
    return maps


def _take_out_means(x: NDArray[np.float32], group: NDArray[np.int64]) -> None:
    """Let the mean of every group be that of all rows, in place; rows of no group stay."""
    middle = x.mean(axis=0)
    for some in np.unique(group[group >= 0]):
        rows = group == some
        x[rows] -= x[rows].mean(axis=0) - middle
