"""The loop: what it keeps, when it stops, whom it asks, and what it refuses."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from amodal.data import hold_out
from amodal.errors import MethodError, UsageError
from amodal.training import Outcome, Training, train
from tests.training.tiny import Tiny, data, equal, weights

CPU = Training(device="cpu")


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_losses_fall_and_every_term_is_logged(tmp_path):
    Tiny(epochs=15).fit(data(), training=replace(CPU, folder=tmp_path))
    lines = log(tmp_path)
    assert [line["epoch"] for line in lines] == list(range(15))
    assert lines[-1]["losses"]["loss"] < 0.8 * lines[0]["losses"]["loss"]
    for line in lines:
        assert line["losses"]["loss"] == pytest.approx(line["losses"]["image"] + line["losses"]["text"])
        assert line["validation"] is None
        assert line["seconds"] >= 0


def test_rates_fall_along_a_cosine_to_a_hundredth_each_from_its_own_start(tmp_path):
    Tiny(epochs=20, rate=0.01).fit(data(), training=replace(CPU, folder=tmp_path))
    rates = np.array([line["rates"] for line in log(tmp_path)])
    batches = math.ceil(100 / 32)
    for epoch, found in enumerate(rates):
        share = ((epoch + 1) * batches - 1) / (20 * batches)  # at the last batch of the epoch
        factor = 0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2
        np.testing.assert_allclose(found, [0.01 * factor, 0.02 * factor])
    assert rates[-1, 0] < 0.02 * 0.01


def test_weights_depend_on_the_seed_and_on_nothing_global():
    method = Tiny().fit(data(), training=CPU)
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    again = Tiny().fit(data(), training=CPU)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert equal(weights(again), weights(method))
    assert not equal(weights(Tiny(seed=1).fit(data(), training=CPU)), weights(method))


def test_network_comes_back_on_the_cpu_in_evaluation():
    method = Tiny().fit(data(), training=CPU)
    assert not any(module.training for module in method.network_.modules())
    assert {value.device.type for value in method.network_.state_dict().values()} == {"cpu"}
    assert method.outcome_ == Outcome("last", 6, None, "cpu")


class Scored:
    """A validation score read from a list, that remembers the weights it was asked about."""

    def __init__(self, method, scores):
        self.method, self.scores, self.seen = method, list(scores), []

    def __call__(self):
        assert not self.method.network_.training
        self.seen.append(weights(self.method))
        return self.scores[len(self.seen) - 1]


def prepared(**params):
    items = data()
    method = Tiny(**params)
    method.widths_ = {name: items[name].dim for name in items.names}
    method.classes_ = items.labels.names
    torch.manual_seed(0)
    method.network_ = method.build()
    return method, items


def test_the_best_epoch_is_kept_and_learning_stops():
    method, items = prepared(epochs=20)
    score = Scored(method, [0.1, 0.5, 0.4, 0.5, 0.3, 0.9])
    outcome = train(method, items, replace(CPU, patience=3, validate_every=1), score)
    assert len(score.seen) == 5  # epochs 3 to 5 did not beat epoch 2
    assert outcome == Outcome("validation", 2, 0.5, "cpu")
    assert equal(weights(method), score.seen[1])
    assert not equal(weights(method), score.seen[-1])


def test_a_score_that_rises_to_the_end_keeps_the_last_epoch():
    method, items = prepared(epochs=5)
    score = Scored(method, [0.1, 0.2, 0.3])
    outcome = train(method, items, replace(CPU, patience=2, validate_every=2), score)
    assert outcome == Outcome("validation", 5, 0.3, "cpu")  # after epochs 2, 4 and, being the last, 5
    assert equal(weights(method), score.seen[-1])


def test_validation_items_are_not_looked_at_without_patience():
    method, items = prepared()
    score = Scored(method, [])
    assert train(method, items, CPU, score) == Outcome("last", 6, None, "cpu")
    assert score.seen == []
    alone = Tiny().fit(items, training=CPU)
    learned, held = hold_out(items, 0.3)
    assert equal(
        weights(Tiny().fit(learned, validation=held, training=CPU)), weights(Tiny().fit(learned, training=CPU))
    )
    assert alone.outcome_.rule == "last"


def test_validation_items_choose_but_do_not_teach():
    learned, held = hold_out(data(200), 0.3)
    method = Tiny(epochs=8).fit(learned, validation=held, training=replace(CPU, patience=1, validate_every=8))
    assert method.outcome_ == Outcome("validation", 8, method.validation_score(held), "cpu")
    assert equal(weights(method), weights(Tiny(epochs=8).fit(learned, training=CPU)))


def test_patience_without_validation_items_is_refused():
    with pytest.raises(UsageError, match="patience needs validation items"):
        Tiny().fit(data(), training=replace(CPU, patience=3))


class Broken(Tiny):
    """Its text term breaks in the second epoch: as a value, or only as a gradient."""

    def __init__(self, bits=8, *, epochs=6, batch_size=32, seed=0, gradient=False):
        super().__init__(bits, epochs=epochs, batch_size=batch_size, seed=seed)
        self.gradient = gradient

    def step(self, batch, epoch):
        losses = super().step(batch, epoch)
        if epoch == 1 and self.gradient:
            weight = self.network_["side"][1][2].weight
            losses["loss"] = losses["loss"] + torch.sqrt((weight - weight.detach()).abs().sum())  # 0, with slope inf
        elif epoch == 1:
            losses["text"] = losses["text"] * float("nan")
            losses["loss"] = losses["loss"] + losses["text"]
        return losses


def test_a_term_that_is_not_a_number_is_named():
    with pytest.raises(MethodError, match=r"epoch 2: text not finite \(loss = nan, image = 0\.\d+, text = nan\).*rate"):
        Broken().fit(data(), training=CPU)


def test_a_gradient_that_is_not_a_number_never_reaches_the_weights():
    method = Broken(gradient=True)
    with pytest.raises(MethodError, match="epoch 2: the gradient not finite"):
        method.fit(data(), training=CPU)
    assert all(torch.isfinite(value).all() for value in method.network_.state_dict().values())


class Idle(Tiny):
    def step(self, batch, epoch):
        return {"loss": torch.zeros(())}


def test_batches_in_which_nothing_can_be_learned_are_passed_over():
    first, items = prepared()
    before = weights(first)
    method = Idle()
    method.widths_, method.classes_, method.network_ = first.widths_, first.classes_, first.network_
    train(method, items, CPU)
    assert equal(weights(method), before)


def test_progress_counts_batches_up_to_the_total():
    calls = []
    Tiny(epochs=3).fit(data(), training=replace(CPU, progress=lambda *call: calls.append(call)))
    assert [done for done, _, _ in calls] == list(range(1, 13))
    assert {total for _, total, _ in calls} == {12}
    assert all(what.startswith("training · loss ") for _, _, what in calls)


def test_progress_reaches_the_total_when_learning_stops_early():
    calls = []
    method, items = prepared(epochs=20)
    settings = replace(CPU, patience=1, validate_every=1, progress=lambda *call: calls.append(call))
    train(method, items, settings, Scored(method, [0.5, 0.4]))
    assert [done for done, _, _ in calls] == [*range(1, 9), 80]


def test_mixed_precision_runs_and_gives_float32_weights(tmp_path):
    method = Tiny(epochs=15).fit(data(), training=replace(CPU, precision="bf16-mixed", folder=tmp_path))
    assert {value.dtype for value in method.network_.state_dict().values()} == {torch.float32}
    lines = log(tmp_path)
    assert lines[-1]["losses"]["loss"] < 0.8 * lines[0]["losses"]["loss"]
    assert not equal(weights(method), weights(Tiny(epochs=15).fit(data(), training=CPU)))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"precision": "bf16-mixd"}, 'unknown precision "bf16-mixd". Did you mean "bf16-mixed"'),
        ({"precision": "64-true"}, "unknown precision"),
        ({"patience": 0}, "patience is 0"),
        ({"validate_every": 0}, "validate_every is 0"),
        ({"checkpoint_every": -1}, "checkpoint_every is -1"),
        ({"resume": True}, "resume=True needs folder="),
        ({"resume": True, "folder": Path("here"), "checkpoint_every": None}, "and checkpoints"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, sentence):
    with pytest.raises(UsageError, match=sentence):
        Training(**wrong)


@pytest.mark.parametrize("wrong", [{"device": "cdua"}, {"device": "cpu", "devices": 0}, {"strategy": "dpp"}])
def test_devices_that_are_not_there_are_a_sentence(wrong):
    with pytest.raises(UsageError, match="training cannot run with device="):
        Tiny().fit(data(), training=Training(**wrong))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_an_accelerator_learns_and_validates(precision):
    learned, held = hold_out(data(200), 0.3)
    training = Training(device="cuda", precision=precision, patience=5, validate_every=1)
    before = torch.cuda.get_rng_state()
    method = Tiny(epochs=8).fit(learned, validation=held, training=training)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert method.validation_score(held) == pytest.approx(method.outcome_.score, abs=0.02)
