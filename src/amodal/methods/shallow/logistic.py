"""Logistic regression of many classes at once, along a path of regularisation strengths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

__all__ = ["logistic_path"]

Array = NDArray[np.float64]

STEPS = 500
# Relative decrease of the loss at which a fit ends; a tenth of it changes no mAP in the third decimal.
TOLERANCE = 1e-5
# Directions with a smaller share of the largest variance are left out: below the precision of float32.
RANK = 1e-6


def logistic_path(
    x: NDArray[np.float32], y: NDArray[np.float32], strengths: Iterable[float], *, single: bool
) -> Iterator[tuple[Array, Array]]:
    """Fit a linear classifier for each C, each fit starting where the one before ended.

        single:  sum_i -log softmax(x_i W + a)[y_i]           + |W|^2 / (2 C)
        else:    sum_i sum_k softplus(t_ik) - y_ik t_ik        + |W|^2 / (2 C),   t = x W + a

    L-BFGS runs on the principal axes of ``x``, each scaled by the curvature that the loss has when nothing is known but
    the share q_k of each class: q_k (1 - q_k) s_j^2 + 1 / C along an axis with sum of squares s_j^2. Some 20 steps are
    enough then, a fifth of what the features as they are need.

    Args:
        x: Standardised features, shape (n, d).
        y: Multi-hot labels, shape (n, c); rows with exactly one class if ``single``.
        strengths: Values of C, best in rising order.
        single: Multinomial instead of one classifier against the rest per class.

    Yields:
        Weights W (d, c) and offsets a (c,) for each C.

    Reference: scikit-learn's LogisticRegression minimises the same sums; the tests compare with it.
    """
    axes, squares = _axes(x)
    z = x @ axes.astype(np.float32)  # (n, d) -> (n, rank)
    share = np.clip(y.mean(axis=0, dtype=np.float64), 0.5 / len(y), 1 - 0.5 / len(y))
    curvature = np.vstack([squares, [[len(y)]]]) * share * (1 - share)  # (rank + 1, c), the last row for the offsets
    parameters = np.zeros_like(curvature)
    parameters[-1] = np.log(share) - (0 if single else np.log(1 - share))
    for strength in strengths:
        penalty = np.append(np.full(len(squares), 1 / strength), 0)[:, None]
        scale = 1 / np.sqrt(curvature + penalty)

        def loss(flat: Array, scale: Array = scale, penalty: Array = penalty) -> tuple[float, Array]:
            w = flat.reshape(scale.shape) * scale
            value, gradient = _loss(z, y, w, single)
            return value + float((penalty * w**2).sum()) / 2, ((gradient + penalty * w) * scale).ravel()

        options = {"maxiter": STEPS, "ftol": TOLERANCE}
        found = minimize(loss, (parameters / scale).ravel(), jac=True, method="L-BFGS-B", options=options)
        parameters = found.x.reshape(scale.shape) * scale
        yield axes @ parameters[:-1], parameters[-1]


def _axes(x: NDArray[np.float32]) -> tuple[Array, Array]:
    """Principal axes (d, rank) and sums of squares (rank, 1) along them, from the smaller of the two Gram matrices."""
    n, d = x.shape
    values, vectors = np.linalg.eigh((x.T @ x if d <= n else x @ x.T).astype(np.float64))
    keep = values > RANK * values[-1]
    values, vectors = values[keep], vectors[:, keep]
    return (vectors if d <= n else x.T @ vectors / np.sqrt(values)), values[:, None]


def _loss(z: NDArray[np.float32], y: NDArray[np.float32], parameters: Array, single: bool) -> tuple[float, Array]:
    """Sum of the losses of all rows and its gradient in weights and offsets, without the penalty."""
    logits = z @ parameters[:-1].astype(np.float32) + parameters[-1].astype(np.float32)
    if single:
        logs = log_softmax(logits, axis=1)
        value, error = -(y * logs).sum(dtype=np.float64), np.exp(logs) - y
    else:
        value = (np.logaddexp(0, logits) - y * logits).sum(dtype=np.float64)
        error = expit(logits) - y
    return float(value), np.vstack([z.T @ error, error.sum(axis=0)]).astype(np.float64)
