"""Scores of region-word matchers, one pair, one fragment at a time, in plain NumPy, from the formulas."""

import numpy as np


def unit(x, eps=1e-8):
    return x / max(np.linalg.norm(x), eps)


def attention(keys, askers, sharpness):
    """weights[j][i]: how much asking fragment j looks at key i."""
    raised = [[max(s, 0.1 * s) for s in (float(key @ asker) for asker in askers)] for key in keys]
    scaled = [[value / max(np.sqrt(sum(v * v for v in row)), 1e-8) for value in row] for row in raised]
    weights = []
    for j in range(len(askers)):
        raw = [np.exp(sharpness * scaled[i][j]) for i in range(len(keys))]
        weights.append([value / sum(raw) for value in raw])
    return weights


def context(keys, weights):
    return sum(weight * key for weight, key in zip(weights, keys, strict=True))


def scan(regions, words, *, direction, pooling, sharpness, lse, weights=None):
    keys, askers = (regions, words) if direction == "t2i" else (words, regions)
    weights = attention(keys, askers, sharpness) if weights is None else weights
    cosines = [
        float(asker @ context(keys, row)) / (np.linalg.norm(asker) * np.linalg.norm(context(keys, row)))
        for asker, row in zip(askers, weights, strict=True)
    ]
    if pooling == "mean":
        return sum(cosines) / len(cosines)
    highest = max(cosines)
    return highest + np.log(sum(np.exp(lse * (cosine - highest)) for cosine in cosines)) / lse


def alignments(regions, words, wholes, layers, sharpness):
    """[sigma_0, sigma_1, ..., sigma_n]; layers = ((W_g, b_g), (W_l, b_l))."""
    (globe, globe_offset), (local, local_offset) = layers
    found = [unit(globe @ (wholes[0] - wholes[1]) ** 2 + globe_offset)]
    for word, row in zip(words, attention(regions, words, sharpness), strict=True):
        found.append(unit(local @ (unit(context(regions, row)) - word) ** 2 + local_offset))
    return found


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def saf(sigmas, gate, offset, final, final_offset):
    opened = [sigmoid(gate @ sigma + offset) for sigma in sigmas]
    total = sum(value / sum(opened) * sigma for value, sigma in zip(opened, sigmas, strict=True))
    return sigmoid(final @ unit(total) + final_offset)


def sgr(sigmas, steps, final, final_offset):
    """Steps: ((W_q, b_q), (W_k, b_k), (W_r, b_r)) each."""
    nodes = sigmas
    for (query, query_offset), (key, key_offset), (read, read_offset) in steps:
        following = []
        for node in nodes:
            raw = [float((query @ node + query_offset) @ (key @ other + key_offset)) for other in nodes]
            raw = [np.exp(value - max(raw)) for value in raw]
            heard = sum(value / sum(raw) * other for value, other in zip(raw, nodes, strict=True))
            following.append(np.maximum(read @ heard + read_offset, 0))
        nodes = following
    return sigmoid(final @ nodes[0] + final_offset)


def hinge(scores, items, margin, *, negatives, reduction):
    """Every row and every column against its own partner, one rival at a time."""
    total, m = 0.0, len(scores)
    for p in range(m):
        for row in ([scores[p][q] for q in range(m)], [scores[q][p] for q in range(m)]):
            losses = [max(0.0, margin + row[q] - row[p]) for q in range(m) if items[q] != items[p]]
            if losses:
                total += max(losses) if negatives == "hardest" else sum(losses) / len(losses)
    return total / m if reduction == "mean" else total


def contrast(scores, items, tau):
    """Cross-entropy of every partner in its row and in its column, mean."""
    losses, m = [], len(scores)
    for p in range(m):
        for row in ([scores[p][q] for q in range(m)], [scores[q][p] for q in range(m)]):
            raw = [np.exp(row[q] / tau) for q in range(m) if q == p or items[q] != items[p]]
            losses.append(np.log(sum(raw)) - row[p] / tau)
    return sum(losses) / len(losses)
