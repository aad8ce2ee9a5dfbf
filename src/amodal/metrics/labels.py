"""Multi-hot labels packed eight classes to the byte, so that sharing a label is one AND."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from amodal.errors import DataError, ShapeError

__all__ = ["pack_labels"]


def pack_labels(labels: Any) -> NDArray[np.uint8]:
    """Pack multi-hot labels into bytes, class 0 in the lowest bit of byte 0.

    Args:
        labels: Multi-hot labels, shape (n, c), entries 0 or 1 (any dtype), dense or ``scipy.sparse``. A row of zeros
            is an item without labels.

    Returns:
        The packed labels, uint8, shape (n, ceil(c / 8)).

    Raises:
        ShapeError: If the labels are not a matrix with at least one column.
        DataError: If an entry is neither 0 nor 1; names the first such row and column.

    Example:
        >>> pack_labels([[1, 0, 0, 1], [0, 0, 0, 0]])
        array([[9],
               [0]], dtype=uint8)
    """
    if sparse.issparse(labels):
        return _pack_sparse(labels.tocsr())
    dense = np.asarray(labels)
    _check_shape(dense.shape)
    if dense.dtype != np.bool_ and (wrong := (dense != 0) & (dense != 1)).any():
        row, column = np.argwhere(wrong)[0]
        _refuse(int(row), int(column), dense[row, column])
    return np.packbits(dense != 0, axis=1, bitorder="little")


def _pack_sparse(labels: Any) -> NDArray[np.uint8]:
    _check_shape(labels.shape)
    rows = np.repeat(np.arange(labels.shape[0]), np.diff(labels.indptr))
    wrong = (labels.data != 0) & (labels.data != 1)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        _refuse(int(rows[first]), int(labels.indices[first]), labels.data[first])
    ones = labels.data == 1
    rows, columns = rows[ones], labels.indices[ones]
    packed = np.zeros((labels.shape[0], -(-labels.shape[1] // 8)), np.uint8)
    np.bitwise_or.at(packed, (rows, columns // 8), np.left_shift(1, columns % 8).astype(np.uint8))
    return packed


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[1] == 0:
        raise ShapeError(f"labels need shape (n, classes), one column per class; got {shape}.")


def _refuse(row: int, column: int, value: Any) -> None:
    raise DataError(f"labels must be 0 or 1; row {row}, column {column} holds {value}.")
