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


def bernoulli_kl(a, b):
    """Mean over rows of the sum over bits, from the probabilities."""
    total = 0.0
    for row, other in zip(a, b, strict=True):
        for x, y in zip(row, other, strict=True):
            p, q = 1 / (1 + math.exp(-x)), 1 / (1 + math.exp(-y))
            total += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    return total / len(a)


def margin_distance(x, y, similar, margin, *, balance):
    """Mean over all pairs, or half of the mean over each kind."""
    costs = {0: [], 1: []}
    for row, shared in zip(x, similar, strict=True):
        for other, s in zip(y, shared, strict=True):
            distance = math.dist(row, other)
            costs[int(s)].append(distance**2 if s else max(margin - distance, 0) ** 2)
    if balance == "none":
        return sum(costs[0] + costs[1]) / len(costs[0] + costs[1])
    return sum(0.5 * sum(side) / len(side) for side in costs.values() if side)


def jaccard(a, b):
    sets = [[{k for k, here in enumerate(row) if here} for row in side] for side in (a, b)]
    return [[len(x & y) / max(len(x | y), 1) for y in sets[1]] for x in sets[0]]


def triplet_loss(distance, positives, margin, *, reduction):
    """Every triplet by itself."""
    total, mass = 0.0, 0.0
    for row, weights in zip(distance, positives, strict=True):
        for near, weight in zip(row, weights, strict=True):
            for far, other in zip(row, weights, strict=True):
                if weight > 0 and other == 0:
                    total += weight * max(0.0, near - far + margin)
                    mass += weight
    return total if reduction == "sum" else total / mass if mass else 0.0


def graded_relevance(a, b):
    """Gain over the ideal discounted sum of gains, an anchor at a time."""
    found = []
    for row in a:
        gains = [2 ** sum(x and y for x, y in zip(row, other, strict=True)) - 1 for other in b]
        ideal = sum(gain / math.log2(place + 2) for place, gain in enumerate(sorted(gains, reverse=True)))
        found.append([gain / ideal if ideal else 0.0 for gain in gains])
    return found


def guessed_similarity(distance, same, mode, left, right, threshold):
    """CIMON's sign and weight of one pair, as printed."""

    def cdf(x, deviation):
        return 0.5 * (1 + math.erf((x - mode) / deviation / math.sqrt(2)))

    if distance <= threshold:
        sign = 1
        weight = (cdf(threshold, left) - cdf(distance, left)) / cdf(threshold, left)
    else:
        sign = -1
        weight = (cdf(distance, right) - cdf(threshold, right)) / (1 - cdf(threshold, right))
    return sign, min(max(weight, 0), 1) if same == (sign == 1) else 0


def proxy_anchor(similarity, positives, *, scale, margin):
    """Pair by pair: each class pulls its samples and pushes the others."""
    classes = range(len(similarity[0]))
    pull, push = [], []
    for k in classes:
        own = [math.exp(-scale * (row[k] - margin)) for row, of in zip(similarity, positives, strict=True) if of[k]]
        others = [
            math.exp(scale * (row[k] + margin)) for row, of in zip(similarity, positives, strict=True) if not of[k]
        ]
        if own:
            pull.append(math.log(1 + sum(own)))
        push.append(math.log(1 + sum(others)))
    return (sum(pull) / len(pull) if pull else 0.0) + sum(push) / len(push)


def hardest_triplet(distance, similar, margin):
    """For each row the farthest similar and the nearest dissimilar other."""
    losses = []
    for i, row in enumerate(distance):
        near = [d for j, d in enumerate(row) if j != i and similar[i][j]]
        far = [d for j, d in enumerate(row) if not similar[i][j]]
        if near and far:
            losses.append(max(0.0, max(near) - min(far) + margin))
    return sum(losses) / len(losses) if losses else 0.0


def factorisation(a, b, redundancy):
    """Correlations of every feature of one view with every feature of the other, one by one."""

    def standard(column):
        mean = sum(column) / len(column)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in column) / len(column))
        return [(x - mean) / deviation for x in column]

    left, right = ([standard(column) for column in zip(*view, strict=True)] for view in (a, b))
    agreement, apart = [], []
    for i, x in enumerate(left):
        for j, y in enumerate(right):
            correlation = sum(p * q for p, q in zip(x, y, strict=True)) / len(a)
            (agreement if i == j else apart).append((correlation - 1) ** 2 if i == j else correlation**2)
    return sum(agreement) / len(agreement) + redundancy * (sum(apart) / len(apart) if apart else 0.0)


def gaussian_gap(mean, deviation, other, spread):
    """Mean over rows and dimensions of the squared differences of means and of deviations."""
    total = 0.0
    for rows in zip(mean, deviation, other, spread, strict=True):
        for m, d, n, s in zip(*rows, strict=True):
            total += (m - n) ** 2 + (d - s) ** 2
    return total / (len(mean) * len(mean[0]))
