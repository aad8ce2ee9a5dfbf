"""Every verb on small data: what it prints for people and for programs, and what it writes."""

import json

import numpy as np
import pytest

from amodal.cli.info import KINDS
from tests.cli.conftest import QUICK, SHORT

TEXT = ("--modalities", "image,text=text_minilm")


def test_fit_search_and_all_that_follows(amodal, model, tmp_path):
    """The path of a user from features to answers, on JSON."""
    found = amodal("search", model, "--id", "item 03", "-k", 4, "--into", "text", "--where", "year >= 2000", "--json")
    assert found.code == 0 and found.json["schema"] == 1
    matches = found.json["matches"]
    assert len(matches) == 4
    assert set(matches[0]) == {"item", "distance", "modality", "content", "labels", "attributes", "number", "score"}
    assert all(match["modality"] == "text" and match["attributes"]["year"] >= 2000 for match in matches)
    assert [m["distance"] for m in matches] == sorted(m["distance"] for m in matches)

    judged = amodal("evaluate", model, "tiny", *TEXT, "--json").json
    assert judged["schema"] == 1
    assert set(judged["metrics"]["map"]) == {"image->text", "text->image"} == set(judged["control"]["map"])
    assert 0 < judged["metrics"]["chance"]["image->text"] < 1

    coded = amodal("-q", "encode", model, "tiny", *TEXT, "--out", tmp_path / "codes.npz", "--json").json
    into = ("-q", "encode", model, "tiny", *TEXT, "--index", tmp_path / "index", "--json")
    first, again = amodal(*into).json, amodal(*into).json
    assert (first["written"], first["kept"]) == (again["kept"], again["written"]) == (sum(coded["codes"].values()), 0)
    assert coded["codes"] == {"image": 80, "text": 80}
    with np.load(tmp_path / "codes.npz") as arrays:
        assert arrays["image"].shape == (80, 8) and arrays["bits"] == 64

    added = amodal("-q", "add", model, "tiny", *TEXT, "--replace", "--json").json
    assert (added["written"], added["entries"]) == (160, 160)

    removed = amodal("delete", model, "item 03", "nobody", "--json").json
    assert (removed["removed"], removed["entries"]) == (1, 158)
    assert amodal("search", model, "--id", "item 03").code == 3


def test_tables_for_people_go_to_stdout_alone(amodal, model):
    found = amodal("search", model, "--id", "item 03", "-k", 2)
    assert found.code == 0 and found.err == ""
    assert "distance" in found.out and len(found.out.splitlines()) == 6
    judged = amodal("-q", "evaluate", model, "tiny", *TEXT)
    assert judged.err == ""
    for word in ("image->text", "control", "chance", "R@10"):
        assert word in judged.out


def test_progress_is_json_lines_on_stderr(amodal, tmp_path):
    made = amodal("fit", "tiny", *TEXT, "--out", tmp_path / "m", "--json", *SHORT)
    assert made.json == {"schema": 1, "model": str(tmp_path / "m"), "entries": 160, "method": "cich", "left_out": []}
    lines = [json.loads(line) for line in made.err.splitlines()]
    assert any("loss" in line["progress"] for line in lines)
    assert lines[-1]["done"] == lines[-1]["total"]
    assert amodal("-q", "fit", "tiny", *TEXT, "--out", tmp_path / "m", "--force", *QUICK).err == ""


def test_impute_writes_what_was_missing(amodal, tmp_path):
    data = amodal("data", "mask", "tiny", "hard", "--out", tmp_path / "mask.json", *TEXT, "--json").json
    assert data["patterns"] == {"image+text": 8, "image": 36, "text": 36}
    from amodal.data import Mask, pick, read, save_archive

    gaps = Mask.load(tmp_path / "mask.json").apply(pick(read("tiny"), TEXT[1]))
    save_archive(gaps, tmp_path / "gaps.npz")
    amodal("-q", "fit", "tiny", *TEXT, "--out", tmp_path / "m", *SHORT)
    impute = ("-q", "impute", tmp_path / "m", "--modality", "text", "--json", "--out", tmp_path / "i.npz")
    done = amodal(*impute, tmp_path / "gaps.npz")
    assert done.json["items"] == 36
    assert 0 <= done.json["mean_trust"] <= 1
    with np.load(tmp_path / "i.npz") as arrays:
        assert arrays["values"].shape == (36, 12)
        assert set(arrays["id"].tolist()).isdisjoint(gaps.ids[gaps.present("text")].tolist())
    full = amodal(*impute, "tiny", *TEXT)
    assert full.json["items"] == 0 and full.json["mean_trust"] is None


def test_patience_sets_items_apart_and_indexes_them_all_the_same(amodal, tmp_path):
    words = ("fit", "tiny", *TEXT, "--out", tmp_path / "m", "--patience", 5, "--validation", 0.3, *SHORT, "--json")
    assert amodal("-q", *words).json["entries"] == 160
    found = amodal("search", tmp_path / "m", "--id", "item 03", "-k", 80, "--where", 'split == "validation"', "--json")
    assert 17 <= len(found.json["matches"]) <= 18


def test_checkpoints_and_resume(amodal, tmp_path):
    fit = ("-q", "fit", "tiny", *TEXT, "--out", tmp_path / "m", "--checkpoints", tmp_path / "run", *SHORT)
    assert amodal(*fit).code == 0
    assert list((tmp_path / "run").rglob("log.jsonl"))
    assert amodal(*fit, "--force", "--resume").code == 0
    alone = amodal("fit", "tiny", "--out", tmp_path / "n", "--resume")
    assert alone.code == 2 and "--resume needs --checkpoints" in alone.err


def test_pictures_and_words_on_a_page(amodal, shapes, tmp_path, catalogue, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "deep" / "page.html"
    words = ("--text", "a <b>red</b> circle", "--into", "image")
    found = amodal("search", shapes, *words, "-k", 3, "--html", page, "--json")
    assert found.json["page"] == str(page)
    html = page.read_text()
    assert html.count("data:image/png;base64,") == 3
    assert "a &lt;b&gt;red&lt;/b&gt; circle" in html
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    by = amodal("search", shapes, "--by", f"image={catalogue.parent}/img/3.png", "-k", 1, "--json")
    same = amodal("search", shapes, "--image", f"{catalogue.parent}/img/3.png", "-k", 1, "--json")
    assert by.json["matches"] == same.json["matches"]


def test_a_matcher_has_the_last_word_and_shows_why(amodal, catalogue, tmp_path):
    shop, page = tmp_path / "shop", tmp_path / "why.html"
    assert amodal("-q", "fit", catalogue, "--out", shop, "--rerank", "scan", "--rerank-top", 20, *QUICK).code == 0
    found = amodal("search", shop, "--text", "a red circle", "-k", 3, "--explain", page, "--json").json
    scores = [match["score"] for match in found["matches"]]
    assert scores == sorted(scores, reverse=True) and found["why"] == str(page)
    assert [why["item"] for why in found["explained"]] == [match["item"] for match in found["matches"]]
    assert [row["word"] for row in found["explained"][0]["words"]] == ["a", "red", "circle"]
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == 3 * (1 + 3)  # a photograph, and one as each word sees it
    assert "score" in amodal("search", shop, "--text", "a red circle").out
    assert amodal("search", shop, "--id", "p4", "--explain", page).code == 2
    plain = tmp_path / "plain"
    assert amodal("-q", "fit", catalogue, "--out", plain, *QUICK).code == 0
    refused = amodal("search", plain, "--text", "a red circle", "--explain", page)
    assert refused.code == 2 and "rerank" in refused.err


def test_left_out_is_listed(amodal, catalogue, tmp_path, shapes):
    (tmp_path / "img").mkdir()
    rows = ["id,image,text,labels", "a,img/none.png,a red circle,circle", "b,img/bad.png,a red square,square"]
    (tmp_path / "bad.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "img" / "bad.png").write_bytes(b"nonsense")
    from amodal import Retriever

    model = Retriever.load(shapes, readonly=True).save(tmp_path / "m.amodal")
    stopped = amodal("-q", "add", model, tmp_path / "bad.csv")
    assert stopped.code == 3 and "bad.csv, line 2" in stopped.err and "--skip-bad" in stopped.err
    went_on = amodal("-q", "add", model, tmp_path / "bad.csv", "--skip-bad", "--json").json
    assert went_on["written"] == 2
    assert [word in sentence for word, sentence in zip(("none.png", "bad.png"), went_on["left_out"], strict=True)]
    told = amodal("-q", "add", model, tmp_path / "bad.csv", "--skip-bad", "--replace").out
    assert "Left out (2):" in told and "bad.png" in told


def test_data_show_draws_what_is_missing(amodal, catalogue, tmp_path):
    shown = amodal("data", "show", catalogue, "--json").json
    assert shown["schema"] == 1
    assert shown["all"]["patterns"] == {"image+text": 16, "image": 8, "text": 8}
    assert shown["splits"]["train"]["missing"]["text"] == pytest.approx(1 / 3)
    table = amodal("data", "show", catalogue, "--picture", tmp_path / "gaps.svg")
    assert "25.0%" in table.out and "image+text" in table.out and "gaps.svg" in table.out
    assert "<svg" in (tmp_path / "gaps.svg").read_text()
    assert amodal("data", "show", catalogue, "--picture", tmp_path / "gaps.jpg").code == 2


def test_data_check_lists_everything_wrong(amodal, catalogue, tmp_path):
    good = amodal("data", "check", catalogue, "--json")
    assert good.code == 0
    assert {finding["severity"] for finding in good.json["findings"]} <= {"warning", "note"}
    rows = ["id,text,labels,split", "a,one,x,train", "a,two,x,train", "b,one,x,test", "c,three,y,test", ",four,x,train"]
    (tmp_path / "bad.csv").write_text("\n".join(rows) + "\n")
    bad = amodal("data", "check", tmp_path / "bad.csv", "--json")
    assert bad.code == 3
    errors = " ".join(finding["sentence"] for finding in bad.json["findings"] if finding["severity"] == "error")
    assert "already the id of line 2" in errors
    assert "has no id" in errors
    assert 'class "y" has no training example' in errors
    assert "share everything with train" in errors
    assert "findings are errors" in bad.err
    assert "error" in amodal("data", "check", tmp_path / "bad.csv").out


@pytest.mark.parametrize("kind", KINDS)
def test_everything_registered_is_listed(amodal, kind):
    listed = amodal("list", kind, "--json").json
    assert listed["schema"] == 1
    table = amodal("list", kind).out
    for row in listed[kind]:
        assert (row["slug"] if kind == "methods" else row["name"])[:12] in table


def test_cards_of_all_methods(amodal):
    from amodal.methods import get, names

    cards = amodal("list", "methods", "--json").json["methods"]
    assert [card["slug"] for card in cards] == names()
    assert cards == json.loads(json.dumps([get(name).card.as_dict() for name in names()]))


def test_doctor(amodal, monkeypatch):
    facts = amodal("doctor", "--json").json
    assert facts["schema"] == 1
    assert facts["data"] == ["tiny"]
    assert set(facts) == {"schema", "machine", "packages", "extras", "data"}
    assert facts["packages"]["numpy"] == np.__version__
    monkeypatch.delenv("AMODAL_DATA")
    told = amodal("doctor").out
    assert "set AMODAL_DATA" in told and np.__version__ in told


def test_version_and_help(amodal):
    from amodal import __version__

    assert amodal("--version").out == f"amodal {__version__}\n"
    told = amodal("--help").out
    for verb in ("demo", "fit", "evaluate", "encode", "add", "search", "impute", "data", "bench", "list", "doctor"):
        (line,) = [line for line in told.splitlines() if line.split()[:1] == [verb]]
        assert not line.endswith("..."), "the first sentence of a verb must fit its line"


def test_output_with_signs_that_terminals_and_markup_use(amodal, tmp_path):
    rows = ["id,text,labels", "[red]a,:smile: [b]one[/b],x", "b,two [/],y"]
    (tmp_path / "odd.csv").write_text("\n".join(rows) + "\n")
    shown = amodal("data", "check", tmp_path / "odd.csv")
    assert shown.code == 0
    (tmp_path / "[odd] :cat:.csv").write_text("\n".join(rows) + "\n")
    assert "[odd] :cat:" in amodal("data", "show", tmp_path / "[odd] :cat:.csv").out


def test_ctrl_c_ends_in_a_sentence_and_leaves_nothing_half_written(amodal, tmp_path, monkeypatch):
    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("amodal.home.copy", interrupted)
    stopped = amodal("-q", "fit", "tiny", "--out", tmp_path / "m", *QUICK)
    assert stopped.code == 130
    assert stopped.err.startswith("Interrupted.") and "Traceback" not in stopped.err
    assert list(tmp_path.iterdir()) == []
