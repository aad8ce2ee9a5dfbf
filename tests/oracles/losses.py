"""Losses and label relations in plain Python numbers, one pair at a time, from the formulas."""

import math


def softplus(x):
    return x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))


def pair_likelihood(theta, similar, weights, *, balance, squared):
    """Mean over anchors of the weighted likelihood, as a mean over all targets or half over each side."""
    total = 0.0
    for row, shared in zip(theta, similar, strict=True):
        sums, mass = [0.0, 0.0], [0.0, 0.0]  # dissimilar, similar
        for t, s, w in zip(row, shared, weights, strict=True):
            loss = softplus(-t) if s else softplus(t)  # softplus(t) - s t
            sums[bool(s)] += w * (loss**2 if squared else loss)
            mass[bool(s)] += w
        if balance == "none":
            total += sum(sums) / sum(mass)
        else:
            total += sum(0.5 * part / w for part, w in zip(sums, mass, strict=True) if w)
    return total / len(theta)


def supervised_contrastive(logits, positives, columns):
    """Mean over anchors with a positive of the weighted cross-entropy against the columns they may see."""
    losses = []
    for row, wanted, seen in zip(logits, positives, columns, strict=True):
        visible = [q for q, here in enumerate(seen) if here]
        mass = sum(wanted[q] for q in visible)
        if mass:
            highest = max(row[q] for q in visible)
            log_sum = highest + math.log(sum(math.exp(row[q] - highest) for q in visible))
            losses.append(sum(wanted[q] * (log_sum - row[q]) for q in visible) / mass)
    return sum(losses) / len(losses) if losses else 0.0


def share_label(a, b):
    return [[int(any(x and y for x, y in zip(row, other, strict=True))) for other in b] for row in a]


def propagated(a, b):
    """Whether a chain i - q' - i' - q exists in which neighbours share a label, by walking it."""
    shared = share_label(a, b)
    chain = [[0] * len(b) for _ in a]
    for i in range(len(a)):
        for q in range(len(b)):
            for other in range(len(a)):
                for middle in range(len(b)):
                    if shared[i][middle] and shared[other][middle] and shared[other][q]:
                        chain[i][q] = 1
    return chain


def gaussian_kl(mean, log_variance):
    """Per latent dimension, from the densities' closed form."""
    rows, width = len(mean), len(mean[0])
    total = 0.0
    for means, logs in zip(mean, log_variance, strict=True):
        for m, s in zip(means, logs, strict=True):
            total += 0.5 * (m**2 + math.exp(s) - 1 - s)
    return total / (rows * width)


def cosine(x, y):
    return sum(p * q for p, q in zip(x, y, strict=True)) / (math.hypot(*x) * math.hypot(*y))


def nt_xent(a, b, tau):
    """Mean over all views of the cross-entropy of picking the partner among the other views."""
    views, total = a + b, 0.0
    for i, view in enumerate(views):
        partner = (i + len(a)) % len(views)
        others = [j for j in range(len(views)) if j != i]
        total += math.log(sum(math.exp(cosine(view, views[j]) / tau) for j in others))
        total -= cosine(view, views[partner]) / tau
    return total / len(views)
