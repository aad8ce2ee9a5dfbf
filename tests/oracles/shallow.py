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


def jimfh_objective(factors, blocks, reference, *, beta, gamma):
    """Every term of JIMFH, one item at a time."""
    total = 0.0
    own = {name: dict(zip(items.tolist(), factors.own[name], strict=True)) for name, (items, _) in blocks.items()}
    for name, (items, X) in blocks.items():
        for i, x in zip(items.tolist(), X, strict=True):
            total += ((x - factors.Y[i] @ factors.U[name]) ** 2).sum() / len(blocks)
            total += ((x - own[name][i] @ factors.P[name]) ** 2).sum() / len(blocks)
            if name != reference and i in own[reference]:
                total += beta * ((own[reference][i] - own[name][i] @ factors.R[name]) ** 2).sum()
        unknowns = [factors.own[name], factors.U[name], factors.P[name], factors.R.get(name, np.zeros(1))]
        total += gamma * sum((unknown**2).sum() for unknown in unknowns)
    return total + gamma * (factors.Y**2).sum()


def seph_affinity(L):
    """P: cosines of label vectors, 0 with itself, scaled to sum 1."""
    P = np.zeros((len(L), len(L)))
    for i, a in enumerate(L):
        for j, b in enumerate(L):
            if i != j:
                P[i, j] = a @ b / np.sqrt((a @ a) * (b @ b))
    return P / P.sum()


def seph_divergence(H, P, alpha):
    """sum P log(P / Q) + alpha / (n r) | |H| - 1 |^2, pair by pair."""
    N = np.array([[0.0 if i == j else 1 / (1 + ((a - b) ** 2).sum() / 4) for j, b in enumerate(H)]
                  for i, a in enumerate(H)])  # fmt: skip
    Q = N / N.sum()
    pairs = [(i, j) for i in range(len(H)) for j in range(len(H)) if P[i, j] > 0]
    total = sum(P[i, j] * np.log(P[i, j] / Q[i, j]) for i, j in pairs)
    return total + alpha / H.size * ((np.abs(H) - 1) ** 2).sum()


def kernel_logistic_objective(w, a, k, K, bits, penalty):
    """sum log(1 + exp(-b t)) + penalty w^T K w for one bit, item by item."""
    return sum(np.logaddexp(0, -b * (w @ x + a)) for x, b in zip(k, bits, strict=True)) + penalty * w @ K @ w
