"""Objectives and relations of the shallow methods, written from the formulas with loops."""

import numpy as np


def dch_objective(B, L, labelled, blocks, *, penalty, hash_penalty, mu):
    """|L - B W|^2 + penalty |W|^2 + mu sum (|B - X P|^2 + hash_penalty |P|^2), at the best W and P for B."""
    taught = B[labelled]
    W = np.linalg.inv(taught.T @ taught + penalty * np.eye(B.shape[1])) @ taught.T @ L
    total = ((L - taught @ W) ** 2).sum() + penalty * (W**2).sum()
    for items, X in blocks:
        P = np.linalg.inv(X.T @ X + hash_penalty * np.eye(X.shape[1])) @ X.T @ B[items]
        total += mu * (((B[items] - X @ P) ** 2).sum() + hash_penalty * (P**2).sum())
    return total


def label_fit(B, W, Q):
    """|B W|^2 - 2 tr(Q B^T), item by item."""
    return sum(float((b @ W) @ (b @ W) - 2 * q @ b) for b, q in zip(B, Q, strict=True))


def scratch_objective(found, blocks, labelled, L, *, alpha, mu, gamma, tie):
    """Every term of SCRATCH, one item at a time."""
    V, total = found.V, 0.0
    for name, (items, X) in blocks.items():
        for i, x in zip(items, X, strict=True):
            total += ((x - V[i] @ found.U[name]) ** 2).sum() / len(blocks)
            total += mu * ((V[i] - x @ found.W[name]) ** 2).sum()
        total += gamma * ((found.U[name] ** 2).sum() + (found.W[name] ** 2).sum())
    for i, row in zip(labelled, L, strict=True):
        total += alpha * ((row - V[i] @ found.G) ** 2).sum() + tie * ((V[i] - row @ found.K) ** 2).sum()
    for v, b in zip(V, found.B, strict=True):
        total += ((b - v @ found.R) ** 2).sum()
    return total + gamma * ((V**2).sum() + (found.G**2).sum() + (found.K**2).sum())


def logistic_objective(W, a, X, L, C, single):
    """Sum of the losses of all rows and |W|^2 / (2 C)."""
    total = (W**2).sum() / (2 * C)
    for x, labels in zip(X, L, strict=True):
        t = x @ W + a
        if single:
            total += np.log(np.exp(t - t.max()).sum()) + t.max() - t[labels.argmax()]
        else:
            total += sum(np.logaddexp(0, t[k]) - labels[k] * t[k] for k in range(len(t)))
    return total
