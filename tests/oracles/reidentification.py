"""Re-identification written as loops over one ranking, in the manner of the evaluation that circulates."""

import itertools
import random


def orders(distances):
    """Every order that sorting by distance may give, ties in all orders."""
    levels = [[j for j, d in enumerate(distances) if d == level] for level in sorted(set(distances))]
    for choice in itertools.product(*(itertools.permutations(level) for level in levels)):
        yield list(itertools.chain(*choice))


def one_order(order, own, ids, removed, cutoffs):
    """CMC over pictures and over identities, average precision and INP of one query and one order."""
    ranked = [ids[j] for j in order if j not in removed]
    if own not in ranked:
        return None
    distinct = []
    for person in ranked:
        if person not in distinct:
            distinct.append(person)
    hits, precisions, last = 0, [], 0
    for place, person in enumerate(ranked, start=1):
        if person == own:
            hits, last = hits + 1, place
            precisions.append(hits / place)
    return {
        **{f"image@{k}": float(own in ranked[:k]) for k in cutoffs},
        **{f"identity@{k}": float(own in distinct[:k]) for k in cutoffs},
        "map": sum(precisions) / len(precisions),
        "minp": hits / last,
    }


def one_query(distances, own, ids, removed, cutoffs):
    """The same, averaged over every order of tied pictures; None if the identity is not in the gallery."""
    found = [one_order(order, own, ids, removed, cutoffs) for order in orders(distances)]
    if found[0] is None:
        return None
    return {name: sum(values[name] for values in found) / len(found) for name in found[0]}


def gallery(files, identities, cameras, trial):
    """The single-shot gallery of one trial: one picture of each identity and camera, drawn as released code draws.

    ``files`` maps (camera, identity) to the names of the pictures there.
    """
    random.seed(trial)
    chosen = []
    for identity in sorted(identities):
        for camera in cameras:
            if files.get((camera, identity)):
                chosen.append(random.choice(sorted(files[camera, identity])))
    return chosen
