"""Measures on a ranking, written as loops over its places, and averaged over every order of tied items."""

import itertools
import math


def orders(distances, grades):
    """Every ranking that sorting by distance may give, as lists of grades; ties in all orders."""
    levels = [
        list(
            itertools.permutations([grade for distance, grade in zip(distances, grades, strict=True) if distance == d])
        )
        for d in sorted(set(distances))
    ]
    return [list(itertools.chain(*choice)) for choice in itertools.product(*levels)]


def mean_over_orders(measure, distances, grades):
    values = [measure(ranking) for ranking in orders(distances, grades)]
    return math.fsum(values) / len(values)


def precisions_at_hits(ranking, relevant=1):
    found, values = 0, []
    for place, grade in enumerate(ranking, start=1):
        if grade >= relevant:
            found += 1
            values.append((place, found / place))
    return values


def ap(ranking, relevant=1):
    values = precisions_at_hits(ranking, relevant)
    return sum(value for _, value in values) / len(values) if values else 0.0


def ap_at(ranking, k, divisor):
    values = precisions_at_hits(ranking)
    if not values:
        return 0.0
    if divisor == "first":
        wanted = values[: min(k, len(values))]
        return sum(value for _, value in wanted) / len(wanted)
    inside = [value for place, value in values if place <= k]
    by = {"min": min(len(values), k), "relevant": len(values), "hits": max(len(inside), 1)}[divisor]
    return sum(inside) / by


def precision_at(ranking, k):
    return sum(1 for grade in ranking[:k] if grade >= 1) / k


def recall_at(ranking, k):
    total = sum(1 for grade in ranking if grade >= 1)
    return sum(1 for grade in ranking[:k] if grade >= 1) / total if total else 0.0


def gain_of(grade, gain):
    return {"binary": float(grade >= 1), "count": float(grade), "exp": 2.0**grade - 1}[gain]


def ndcg_at(ranking, k, gain):
    gains = [gain_of(grade, gain) for grade in ranking]
    ideal = sorted(gains, reverse=True)
    dcg = sum(value / math.log2(place + 1) for place, value in enumerate(gains[:k], start=1))
    best = sum(value / math.log2(place + 1) for place, value in enumerate(ideal[:k], start=1))
    return dcg / best if best else 0.0


def hit_at(ranking, k):
    return float(any(grade >= 1 for grade in ranking[:k]))


def first_rank(ranking):
    return next((float(place) for place, grade in enumerate(ranking, start=1) if grade >= 1), 0.0)


def inp(ranking):
    places = [place for place, grade in enumerate(ranking, start=1) if grade >= 1]
    return len(places) / places[-1] if places else 0.0


def hamming_histograms(query_bits, database_bits, query_labels, database_labels):
    """Items per (query, number of shared labels, distance), counted pair by pair."""
    most = query_labels.shape[1]
    counts = [[[0] * (query_bits.shape[1] + 1) for _ in range(most + 1)] for _ in query_bits]
    for i in range(len(query_bits)):
        for j in range(len(database_bits)):
            distance = int((query_bits[i] != database_bits[j]).sum())
            shared = int((query_labels[i] & database_labels[j]).sum())
            counts[i][shared][distance] += 1
    return counts
