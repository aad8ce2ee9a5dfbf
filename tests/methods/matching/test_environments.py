"""CausMatch where training items name what they were under: a cue that goes with a class here and not there."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy import sparse

from amodal.data import Labels, Observations
from amodal.errors import UsageError
from amodal.losses.matching import rival_hinge
from amodal.methods import get
from amodal.methods.correlated import correlated_maps
from tests.methods.matching.planted import planted

QUICK = {"base": "scan_t2i", "width": 16, "epochs": 4, "batch_size": 40, "rate": 2e-3, "counterfactual": "none"}


@cache
def cued(rate, n=300, seed=0):
    """Pictures show their class; words do not, but carry a cue that agrees with it at a rate."""
    data = planted(n, noise=0.6, seed=seed)
    rng = np.random.default_rng([seed, 1])
    y = rng.integers(0, 4, n)
    cue = np.where(rng.random(n) < rate, y, (y + rng.integers(1, 4, n)) % 4)
    axes = [np.random.default_rng([9, d]).standard_normal((4, d)) for d in (20, 16)]
    tables = {}
    for name, which, axis in (("image", y, axes[0]), ("text", cue, axes[1])):
        x = data[name].read()
        tables[name] = Observations((x + 1.5 * axis[which][:, None] * (x != 0)).astype(np.float32), data[name].item)
    labels = Labels(sparse.csr_matrix(np.eye(4, dtype=np.float32)[y]), np.ones(n, bool), tuple("abcd"))
    return replace(data, modalities=tables, labels=labels, attributes={"cue": np.array([f"cue {k}" for k in cue])})


def beaten(method, data):
    """Share of the others that score below the partner, mean of both directions; .5 is chance."""
    scores = method.score(data["image"].read(), data["text"].read(), modalities=("image", "text"))
    partner = scores.diagonal()
    return np.mean([(scores < partner).mean(), (scores < partner[:, None]).mean()])


def beaten_in_both(**options):
    """Where the cue goes with the class as in training, and where it is turned round."""
    method = get("causmatch").create(**QUICK, **options).fit(cued(0.9))
    return beaten(method, cued(0.9, 150, seed=5)), beaten(method, cued(0.1, 150, seed=5))


def test_named_environments_take_back_what_a_cue_costs():
    plain, resisting = beaten_in_both(), beaten_in_both(environment="cue")
    assert plain[0] - plain[1] > 0.3
    assert resisting[0] - resisting[1] < 0.1
    assert resisting[1] > plain[1] + 0.1


def test_correlations_within_groups_are_those_of_what_is_left_without_their_means():
    data, group = cued(0.9), np.unique(cued(0.9).attributes["cue"], return_inverse=True)[1]
    group[:5] = -1
    means = dict.fromkeys(data.names, lambda x: x.mean(dim=1))
    tables = {}
    for name in data.names:
        x = data[name].read().mean(axis=1)
        left = x.copy()
        for row in range(len(x)):
            if group[row] >= 0:
                left[row] += x.mean(axis=0) - x[group == group[row]].mean(axis=0)
        tables[name] = Observations(left, data[name].item)
    by_hand = correlated_maps(data.with_tables(tables), dict.fromkeys(data.names, lambda x: x), 3, 1.0)
    for name, found in correlated_maps(data, means, 3, 1.0, within=group).items():
        for one, other in zip(found, by_hand[name], strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_weights_scale_what_each_pair_costs():
    partners, found = torch.tensor([0.5, 0.2]), torch.tensor([[0.6, 0.1], [0.0, 0.4]])
    alone = [rival_hinge(partners[[k]], found[:, [k]], torch.ones(1) > 0, 0.2) for k in range(2)]
    both = rival_hinge(partners, found, torch.ones(2) > 0, 0.2, weights=torch.tensor([3.0, 0.5]))
    assert torch.isclose(both, 3 * alone[0] + 0.5 * alone[1])


def test_balance_nought_weighs_all_alike_and_unknown_environments_count_too():
    data = cued(0.9)
    method = get("causmatch").create(**{**QUICK, "epochs": 1}, environment="cue", balance=0.0).fit(data)
    assert torch.equal(method.balance_, torch.ones(len(data)))
    some = data.attributes["cue"].copy()
    some[::3] = ""
    partly = replace(data, attributes={"cue": some})
    method = get("causmatch").create(**{**QUICK, "epochs": 1}, environment="cue", balance=1.0).fit(partly)
    assert method.balance_.std() > 0
    assert (method.strata(partly)[::3] == -1).all()


def test_an_environment_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="cue"):
        get("causmatch").create(**QUICK, environment="cu").fit(cued(0.9))
