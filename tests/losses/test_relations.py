"""Label sharing, and its propagation through class space, against chains walked one by one."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from amodal.losses import jaccard, propagated, share_label
from tests.oracles import losses as oracle


@st.composite
def label_pairs(draw):
    m, n, c = (draw(st.integers(1, 6)) for _ in range(3))
    return tuple(draw(hnp.arrays(np.float32, (rows, c), elements=st.sampled_from([0.0, 1.0]))) for rows in (m, n))


@given(label_pairs())
@settings(max_examples=150, deadline=None)
def test_relations_equal_the_walks(pair):
    a, b = pair
    for function, walk in ((share_label, oracle.share_label), (propagated, oracle.propagated)):
        assert function(torch.from_numpy(a), torch.from_numpy(b)).tolist() == walk(a, b)


@given(label_pairs())
@settings(max_examples=50, deadline=None)
def test_propagation_equals_products_of_matrices(pair):
    a, b = (torch.from_numpy(labels) for labels in pair)
    S = share_label(a, b)
    assert torch.equal(propagated(a, b), ((S @ S.T) @ S > 0).float())


def test_single_labels_propagate_nowhere():
    rng = np.random.default_rng(0)
    a, b = (torch.eye(5)[torch.from_numpy(rng.integers(5, size=size))] for size in (30, 40))
    assert torch.equal(propagated(a, b), share_label(a, b))


def test_items_without_labels_are_similar_to_nothing():
    a = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    for relation in (share_label, propagated):
        assert relation(a, a).tolist() == [[0, 0], [0, 1]]
        assert relation(a, torch.zeros(0, 2)).shape == (2, 0)


def test_mixed_precision_changes_nothing():
    a = (torch.rand(300, 40, generator=torch.Generator().manual_seed(0)) < 0.05).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = share_label(a, a), propagated(a, a)
    assert torch.equal(found[0], share_label(a, a))
    assert torch.equal(found[1], propagated(a, a))
    assert found[0].dtype == torch.float32


@given(label_pairs())
@settings(max_examples=100, deadline=None)
def test_jaccard_equals_the_sets(pair):
    a, b = (torch.from_numpy(labels) for labels in pair)
    expected = torch.tensor(oracle.jaccard(a.tolist(), b.tolist()))
    torch.testing.assert_close(jaccard(a, b), expected)
    assert torch.equal(jaccard(a, b) > 0, share_label(a, b) > 0)
