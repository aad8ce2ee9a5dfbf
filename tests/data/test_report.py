"""What ``amodal data show`` and ``amodal data check`` say: counts against counting by hand, each finding planted."""

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from amodal.data import Labels, Observations, check, describe, draw, incomplete, read, toy
from amodal.errors import MissingExtra


def sentences(data, severity, problems=()):
    return [finding.sentence for finding in check(data, problems) if finding.severity == severity]


def with_features(data, modality, features):
    return replace(data, modalities={**data.modalities, modality: Observations(features, data[modality].item)})


def test_the_summary_counts_what_is_there():
    data = incomplete(
        toy(200, classes=3, captions=2, unlabelled=0.1, test=0.25, multi_label=True), "hard", split="train"
    )
    summary = describe(data)
    presence = data.presence()
    assert summary.all.patterns == {"image+text": 65, "image": 67, "text": 68}
    assert list(summary.all.patterns) == ["image+text", "image", "text"]
    assert summary.all.missing == pytest.approx({"image": 0.34, "text": 0.335})
    assert summary.splits["test"].patterns == {"image+text": 50}
    assert (summary.modalities["text"].observations, summary.modalities["text"].most) == (266, 2)
    assert (summary.modalities["image"].width, summary.modalities["image"].kind) == (16, "float32")
    assert summary.labelled == 180
    assert summary.labels_per_item == pytest.approx(data.labels.dense().sum() / 180)
    assert summary.label_density == pytest.approx(summary.labels_per_item / 3)
    for k, name in enumerate(data.labels.names):
        members = data.labels.dense()[:, k] > 0
        assert summary.classes[name].items == members.sum()
        assert summary.classes[name].missing["image"] == pytest.approx(1 - presence[members, 0].mean())
    json.dumps(summary.as_dict())


def test_clean_data_have_only_notes():
    assert {finding.severity for finding in check(toy(100, test=0.2))} <= {"note"}


def test_the_same_item_in_train_and_test_is_an_error():
    data = toy(100, test=0.2)
    train, test = np.flatnonzero(data.split == "train")[0], np.flatnonzero(data.split == "test")[0]
    for name in data.names:
        features = data[name].store.copy()
        features[test] = features[train]
        data = with_features(data, name, features)
        if name == "image":
            assert any("1 of 20 (5.0%) items share the same image" in text for text in sentences(data, "warning"))
            assert not sentences(data, "error")
    errors = [finding for finding in check(data) if finding.severity == "error"]
    assert [finding.sentence for finding in errors] == ["split test: 1 of 20 (5.0%) items share everything with train."]
    assert errors[0].examples == (data.ids[test],)


def test_problems_of_reading_are_listed_first():
    found = check(toy(10), ["x.csv, line 3: has no id."])
    assert (found[0].severity, found[0].sentence) == ("error", "x.csv, line 3: has no id.")


def test_broken_zero_and_constant_features():
    features = toy(50)["image"].store.copy()
    features[3, 2], features[7], features[:, 5] = np.nan, 0, 0
    data = with_features(toy(50), "image", features)
    assert "image: 1 of 50 (2.0%) observations hold NaN or infinity." in sentences(data, "error")
    assert "image: 1 of 50 (2.0%) observations are all zero." in sentences(data, "warning")
    assert "image: 1 of 16 (6.2%) feature columns are constant." in sentences(data, "note")


def test_labels_that_are_empty_unknown_unused_or_untrained():
    data = toy(40, test=0.5, unlabelled=0.1, classes=2)
    labels = np.hstack([data.labels.dense(), np.zeros((40, 2))])
    test = np.flatnonzero((data.split == "test") & data.labels.known)
    labels[test[0], 3] = 1
    labels[test[1]] = 0
    data = replace(data, labels=Labels.from_multihot(labels, data.labels.known, ("a", "b", "c", "d")))
    found = {finding.sentence: finding for finding in check(data)}
    assert found["1 classes have no training example."].examples == ("d",)
    assert found["1 classes have no item at all."].examples == ("c",)
    assert found["1 of 40 (2.5%) items belong to no class, so no query can find them."].examples == (data.ids[test[1]],)
    assert "4 of 40 (10.0%) items have unknown labels." in found


def test_items_stored_by_class_are_noticed():
    data = toy(100)
    order = np.argsort(data.labels.dense().argmax(axis=1), kind="stable")
    assert any("stored by class" in text for text in sentences(data.take(order), "warning"))
    assert not any("stored by class" in text for text in sentences(data, "warning"))


def test_gaps_are_told_by_split_and_class():
    data = incomplete(toy(100, test=0.2), "one-sided-text-missing-50", split="train")
    assert "split train: missing text 50.0% of 80 items." in sentences(data, "note")
    first = data.labels.dense()[:, 0] > 0
    bare = data.keep(np.stack([np.ones(100, dtype=bool), ~first], axis=1))
    assert "1 classes have no text at all." in sentences(bare, "warning")
    empty = data.keep(np.arange(200).reshape(100, 2) > 5)
    assert "3 of 100 (3.0%) items have no modality at all." in sentences(empty, "warning")


def test_missing_and_broken_pictures_and_repeats_among_files(tmp_path):
    for k, colour in enumerate(("red", "red", "blue", "green")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{k}.png")
    data = read(tmp_path)
    (tmp_path / "2.png").write_bytes(b"no picture")
    (tmp_path / "3.png").unlink()
    assert "image: 2 of 4 (50.0%) files cannot be used." in sentences(data, "error")
    assert "image: 2 of 4 (50.0%) pictures are of one colour." in sentences(data, "warning")
    assert "image: 1 of 3 (33.3%) items repeat the content of an earlier item." in sentences(data, "note")


def test_the_picture_comes_in_both_formats_and_the_same_each_time():
    data = incomplete(toy(50, {"photo": 3, "sketch": 4, "words": 5}, test=0.2), "hard")
    picture = Image.open(io.BytesIO(draw(data, "png")))
    assert picture.mode == "RGBA"
    assert picture.getpixel((0, 0))[3] == 0
    svg = draw(data, "svg")
    assert b"<svg" in svg
    assert svg.rstrip().endswith(b"</svg>")
    assert draw(data, "svg") == svg


def test_data_without_labels_or_split_can_be_drawn():
    assert draw(replace(incomplete(toy(20), "easy"), labels=None)).startswith(b"<?xml")


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r'pip install "amodal\[plots\]"'):
        draw(toy(5))
