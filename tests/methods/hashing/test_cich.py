"""CICH and its published form: what methods.md asks to be checked, on data small enough for seconds."""

import numpy as np
import pytest
import torch

from amodal.data import incomplete, toy
from amodal.errors import MethodError, UsageError
from amodal.evaluation import arrange, evaluate, get_protocol
from amodal.losses import share_probability
from amodal.methods import get
from amodal.methods.hashing.cich_stages import drawn_bits
from amodal.methods.hashing.recovery import Neighbours
from amodal.methods.hashing.refinement import refined

QUICK = {
    "bits": 16,
    "members": 3,
    "hidden": 32,
    "latent": 16,
    "head": 32,
    "imagination_steps": 200,
    "code_steps": 300,
    "code_batch": 128,
    "encoder_epochs": 30,
    "batch_size": 32,
    "dropout": 0.1,
    "dropout_hidden": 0.2,
    "rate": 5e-3,
}
PAPER = {"bits": 16, "latent": 32, "hidden": 64, "rate": 3e-3}


def data(setting="hard", **more):
    whole = toy(400, {"image": 24, "text": 18}, classes=5, seed=3, **more)
    return incomplete(whole, setting, seed=0), whole


@pytest.fixture(scope="module")
def fitted():
    return get("cich").create(**QUICK).fit(data()[0])


def held_out(method, multi_label=False):
    whole = toy(600, {"image": 24, "text": 18}, classes=5, multi_label=multi_label, test=0.3, seed=3)
    arrangement = arrange(whole, get_protocol("heldout"), "hard", seed=0)
    found = evaluate(method.fit(arrangement.train), arrangement)
    control = evaluate(get("label_regression").create(C=0.1).fit(arrangement.train), arrangement)
    # 1: as good as the control, 0: as good as chance
    return (found.mean() - found.mean("chance")) / (control.mean() - control.mean("chance"))


@pytest.mark.parametrize("multi_label", [False, True])
def test_codes_come_near_the_control(multi_label):
    assert held_out(get("cich").create(**QUICK), multi_label) > 0.7


@pytest.mark.parametrize("preset", ["paper", "released", None])
def test_published_forms_find_more_than_chance(preset):
    method = get("cich_paper").create(preset=preset, **{**PAPER, "epochs": 36})
    assert held_out(method) > 0.1


def test_pairs_alone_are_the_weaker_teacher():
    """The first row of the ablation: where few items have both sides, prototypes teach more."""
    steps = {"alpha": 0.0, "delta": 0.0, "epochs": 30}
    pairs, prototypes = (
        held_out(get("cich_paper").create(similarity=kind, **{**PAPER, **steps})) for kind in ("pairs", "prototypes")
    )
    assert 0.02 < pairs < prototypes


def test_imagined_features_are_nearer_to_the_truth_than_the_mean(fitted):
    gaps, whole = data()
    for use in ("context", "plain"):
        imagined = fitted.impute(gaps, "text", use=use)
        truth = whole["text"].read()[imagined.items]
        mean = gaps["text"].read().mean(axis=0)
        assert ((imagined.values - truth) ** 2).mean() < 0.8 * ((mean - truth) ** 2).mean()


def test_imputation_covers_exactly_what_is_missing(fitted):
    gaps, _ = data()
    imagined = fitted.impute(gaps, "text")
    assert imagined.items.tolist() == np.flatnonzero(~gaps.present("text")).tolist()
    assert fitted.impute(gaps, "text", what="code").values.dtype == np.int8
    assert fitted.impute(gaps, "text", what="latent").values.shape[1] == QUICK["members"] * QUICK["latent"]


@pytest.mark.parametrize("slug, arguments", [("cich", QUICK), ("cich_paper", {**PAPER, "epochs": 3})])
def test_without_any_pair_it_learns_codes_and_says_that_it_cannot_imagine(slug, arguments):
    gaps = incomplete(toy(200, seed=3), presence={"image": 0.5, "text": 0.5})
    with pytest.warns(UserWarning, match="nothing missing can be imagined"):
        method = get(slug).create(**arguments).fit(gaps)
    with pytest.raises(MethodError, match="has seen no pair"):
        method.impute(gaps, "text")


def test_a_row_is_never_its_own_neighbour():
    features = torch.eye(4)
    neighbours = Neighbours(torch.arange(4), features, 10 * features)
    context, _ = neighbours.context(features, torch.arange(4), k=2)
    assert (context.diagonal() == 0).all()
    alone = Neighbours(torch.tensor([7]), features[:1], features[:1])
    context, cosine = alone.context(features[:1], torch.tensor([7]), k=3)
    assert (context == 0).all() and (cosine == 0).all()


def test_context_is_the_weighted_mean_of_the_nearest():
    source = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.2]])
    target = torch.tensor([[1.0], [5.0], [2.0]])
    query = torch.tensor([[1.0, 0.1]])
    cosines = torch.nn.functional.cosine_similarity(query, source)
    chosen = cosines.topk(2).indices
    weights = torch.softmax(cosines[chosen] / 0.1, dim=0)
    context, cosine = Neighbours(torch.arange(3), source, target).context(query, None, k=2)
    assert context.item() == pytest.approx((weights @ target[chosen]).item())
    assert cosine.item() == pytest.approx((weights @ cosines[chosen]).item())


def test_members_never_learn_from_their_own_fold():
    """Labels of one fold are shuffled: the member that leaves it out must not notice."""
    gaps, _ = data("complete")
    method = get("cich").create(**{**QUICK, "code_steps": 1, "imagination_steps": 1}).fit(gaps)
    labels = gaps.labels.dense()
    fold = np.random.default_rng(method.seed).permutation(len(gaps)) % method.members
    x = torch.from_numpy(gaps["text"].read())
    with torch.no_grad():
        p = method.network_.probabilities(method.network_.scores(method.network_.latent(x, 1).feature, 1)).numpy()
    likelihood = (p * labels[:, None]).sum(axis=2)  # (n, K)
    own = likelihood[np.arange(len(fold)), fold].mean()
    others = (likelihood.sum(axis=1) - likelihood[np.arange(len(fold)), fold]).mean() / (method.members - 1)
    assert own < others


def test_refinement_never_raises_its_loss_and_flips_what_pays():
    generator = torch.Generator().manual_seed(0)
    anchors = torch.where(torch.rand(40, 16, generator=generator) < 0.5, -1.0, 1.0)
    codes = torch.where(torch.rand(10, 16, generator=generator) < 0.5, -1.0, 1.0)
    p = torch.rand(10, 40, generator=generator)

    def losses(h):
        logits = 6 * (h @ anchors.T) / 16 - 2
        return (torch.nn.functional.softplus(logits) - p * logits).sum(dim=1)

    before = losses(codes)
    for flips in (1, 4, 12):
        after = losses(refined(codes, anchors, p, 6.0, -2.0, flips))
        assert (after <= before + 1e-4).all()
    assert after.sum() < losses(codes).sum()
    one = refined(codes, anchors, p, 6.0, -2.0, 1)
    assert ((one != codes).sum(dim=1) <= 1).all()
    alone = torch.cat([refined(row[None], anchors, q[None], 6.0, -2.0, 12) for row, q in zip(codes, p, strict=True)])
    assert torch.equal(alone, refined(codes, anchors, p, 6.0, -2.0, 12))


def test_drawn_bits_are_unbiased_and_pass_the_gradient_of_tanh():
    torch.manual_seed(0)
    u = torch.full((20_000, 1), 0.3, requires_grad=True)
    bits = drawn_bits(u, 2.0)
    assert set(bits.detach().unique().tolist()) <= {-1.0, 1.0} or torch.allclose(bits.abs(), torch.ones_like(bits))
    assert bits.mean().item() == pytest.approx(np.tanh(0.6), abs=0.02)
    bits.sum().backward()
    assert u.grad[0].item() == pytest.approx(2 * (1 - np.tanh(0.6) ** 2), rel=1e-4)


def test_share_probability_is_the_product_over_classes():
    random = np.random.default_rng(0)
    a, b = random.random((6, 4)) * 0.7, random.random((5, 4)) * 0.7
    exact = 1 - np.prod(1 - a[:, None] * b[None], axis=2)
    series = share_probability(torch.from_numpy(a), torch.from_numpy(b), single=False).numpy()
    assert np.abs(series - exact).max() < 0.01
    several = share_probability(torch.ones(1, 3), torch.ones(1, 3), single=False)
    assert 0.9 < several.item() <= 1


def test_propagation_is_left_out_where_it_saturates():
    def chains(multi_label, classes):
        whole = toy(200, classes=classes, multi_label=multi_label, seed=1)
        method = get("cich_paper").create(**PAPER, epochs=1).fit(whole)
        return method._chains

    assert chains(False, 5)  # single labels: chains are label sharing itself
    assert not chains(True, 4)


def test_the_released_objective_says_that_it_alternates():
    with pytest.raises(UsageError, match="joint=False"):
        get("cich_paper").create(objective="released", epochs=1).fit(data()[0])


def test_alternation_teaches_prototypes_first():
    gaps, _ = data()
    method = get("cich_paper").create(preset="paper", **{**PAPER, "epochs": 3})
    before = {}

    def watch(done, total, what):
        if not before:
            before.update({k: v.clone() for k, v in method.network_.state_dict().items()})

    from amodal.training import Training

    method.fit(gaps, training=Training(progress=watch))
    after = method.network_.state_dict()
    assert not torch.equal(before["prototype.weight"], after["prototype.weight"])
    assert all(torch.equal(before[k], after[k]) for k in after if k.startswith("head."))
