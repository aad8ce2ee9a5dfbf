"""What like items say: unseen rows are judged by machines that have not learned from them, and belief is likeliest."""

from dataclasses import replace

import pytest
import torch

from amodal.losses import label_nll
from amodal.methods.likeness import PENALTIES, Judge, _Sums, believed, judged, learned_likeness, squared


def test_like_items_are_judged_by_machines_that_have_not_seen_them():
    torch.manual_seed(0)
    x, labels, fold = torch.randn(60, 4), torch.eye(3)[torch.arange(60) % 3], torch.arange(60) % 5
    machine, scores = learned_likeness(x, labels, fold, torch.arange(60), single=True)
    k, some = torch.exp(-(torch.cdist(x, x).double() ** 2) / machine.width), fold == 2
    target = (labels - labels.mean(dim=0)).double()
    slow = min(
        (
            (k[some][:, ~some] @ torch.linalg.solve(k[~some][:, ~some] + p * torch.eye(48), target[~some])).float()
            + labels.mean(dim=0)
            - scores[some]
        ).abs().max().item()
        for p in PENALTIES
    )  # fmt: skip
    assert slow < 0.05  # anchors of its own fold stay where they are, with a coefficient
    torch.testing.assert_close(machine(x[:5]), machine(x)[:5])


def test_beliefs_make_labels_likeliest():
    torch.manual_seed(0)
    labels = torch.eye(4)[torch.randint(4, (300,))]
    right, noise = 3 * labels + torch.randn(300, 4), torch.randn(300, 4)
    found = believed([right, noise], labels, single=True)
    assert found.weights[0] > 5 * found.weights[1].abs()
    for nudged in (found.weights * 1.1, found.weights * 0.9):
        assert label_nll(replace(found, weights=nudged).scores(right, noise), labels, single=True).mean() > found.loss


@pytest.mark.parametrize("single", [True, False])
def test_labels_of_a_row_do_not_reach_what_is_said_of_it(single, monkeypatch):
    monkeypatch.setattr("amodal.methods.likeness.WIDTHS", (1.0,))
    monkeypatch.setattr("amodal.methods.likeness.PENALTIES", (0.1,))
    torch.manual_seed(1)
    x, labels, fold = torch.randn(60, 3), torch.eye(4)[torch.arange(60) % 4], torch.arange(60) % 5
    anchors, own = torch.arange(0, 60, 2), fold == 3
    other = labels.clone()
    other[own] = labels[own].roll(1, dims=1)  # every fold has as many of each class: the mean label stays
    before, after = (learned_likeness(x, told, fold, anchors, single=single)[1] for told in (labels, other))
    torch.testing.assert_close(after[own], before[own])
    assert (after - before)[~own].abs().max() > 0.01


def test_a_judge_weighs_both_voices():
    torch.manual_seed(1)
    x, labels, fold = torch.randn(60, 3), torch.eye(4)[torch.arange(60) % 4], torch.arange(60) % 5
    evidence, anchors = torch.randn(60, 4), torch.arange(30)
    judge, scores = judged(evidence, x, labels, fold, anchors, single=False)
    assert judge.both is not None
    unseen = learned_likeness(x, labels, fold, anchors, single=False)[1]
    torch.testing.assert_close(scores, judge.both.scores(evidence, unseen))


def test_nobody_is_asked_where_there_are_no_anchors_and_no_rows():
    labels, none = torch.eye(3)[torch.arange(9) % 3], torch.zeros(0, dtype=torch.int64)
    evidence = 2 * labels + torch.randn(9, 3)
    judge, scores = judged(evidence, torch.randn(9, 2), labels, torch.arange(9) % 2, none, single=True)
    assert judge.machine is None
    torch.testing.assert_close(scores, judge.scores(evidence, torch.randn(9, 2)))
    assert believed([torch.zeros(0, 3)], torch.zeros(0, 3), single=False).weights.tolist() == [1.0]


def test_a_judge_comes_back_as_it_was():
    torch.manual_seed(0)
    x, labels, fold = torch.randn(30, 4), torch.eye(3)[torch.arange(30) % 3], torch.arange(30) % 3
    evidence = torch.randn(30, 3)
    judge, _ = judged(evidence, x, labels, fold, torch.arange(10), single=True)
    again = Judge.from_state(judge.state())
    assert torch.equal(judge.scores(evidence, x), again.scores(evidence, x))
    assert torch.equal(judge.alone.scores(evidence), again.alone.scores(evidence))


def test_rows_that_lie_nearly_on_each_other_are_solved():
    torch.manual_seed(0)
    x = 1e-4 * torch.randn(300, 8) + 100 * torch.eye(8)[torch.arange(300) % 8]
    labels, fold = torch.eye(4)[torch.arange(300) % 4], torch.arange(300) % 5
    machine, unseen = learned_likeness(x, labels, fold, torch.arange(300), single=True)
    assert torch.isfinite(machine(x)).all()
    assert (unseen.argmax(dim=1) == labels.argmax(dim=1)).all()


def test_a_weight_of_two_is_the_row_twice():
    torch.manual_seed(0)
    x, labels, fold = torch.randn(40, 3), torch.eye(4)[torch.randint(4, (40,))], torch.arange(40) % 4
    weights, anchors = torch.where(torch.arange(40) < 8, 2.0, 1.0), torch.arange(20)
    twice = torch.cat([torch.arange(40), torch.arange(8)])
    sums = [
        _Sums.of(k, labels[rows].double(), w)
        for k, rows, w in (
            (torch.exp(-squared(x, x[anchors])).double(), torch.arange(40), weights[:, None].double()),
            (torch.exp(-squared(x[twice], x[anchors])).double(), twice, torch.ones(48, 1).double()),
        )
    ]
    torch.testing.assert_close(sums[0].solved(anchors, 0.1), sums[1].solved(anchors, 0.1))
    rest = [s.without(f == 1) for s, f in zip(sums, (fold, fold[twice]), strict=True)]
    torch.testing.assert_close(rest[0].solved(anchors, 0.1), rest[1].solved(anchors, 0.1))
    said = torch.randn(40, 4)
    found = believed([said], labels, single=True, weights=weights / weights.mean())
    torch.testing.assert_close(found.weights, believed([said[twice]], labels[twice], single=True).weights)
