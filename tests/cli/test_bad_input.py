"""Whatever a user gets wrong: a sentence on stderr, the right exit status, no traceback, and nothing left behind."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from amodal.data import read, save_archive
from tests.cli.conftest import QUICK

TEXT = ("--modalities", "image,text=text_minilm")


def refused(result, code, *words):
    """Checks a refusal; what is printed for programs is empty then."""
    assert result.code == code, result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    for word in words:
        assert word in result.err
    assert result.out == ""
    return True


def archive_with(folder, **arrays):
    """The archive ``tiny`` with some arrays replaced."""
    with np.load(folder / "tiny" / "features.npz") as old:
        return {**{name: old[name] for name in old.files}, **arrays}


def write(path, arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture
def fit(amodal, tmp_path):
    """Tries to fit to data; the folder of the model must not be there after a failure, nor a draft of it."""
    (tmp_path / "out").mkdir()

    def fit(data, *words):
        result = amodal("-q", "fit", data, "--out", tmp_path / "out" / "m", *QUICK, *words)
        if result.code:
            assert list((tmp_path / "out").iterdir()) == []
        return result

    return fit


def test_missing_data(fit, tmp_path):
    refused(fit(tmp_path / "none.csv"), 3, "none.csv", "no such file")
    refused(fit("tyni"), 3, 'Did you mean "tiny"')


def test_missing_and_unreadable_pictures(fit, tmp_path):
    (tmp_path / "table.csv").write_text("id,image,text,labels\na,none.png,one,x\nb,,two,x\n")
    refused(fit(tmp_path / "table.csv"), 3, "table.csv, line 2", "none.png", "--skip-bad")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "table.csv").write_text("id,image,text,labels\na,bad.png,one,x\nb,bad.png,two,x\n")
    refused(fit(tmp_path / "table.csv"), 3, 'item "a"', "bad.png", "--skip-bad")


def test_features_that_are_no_numbers(fit, archive, tmp_path):
    arrays = archive_with(archive)
    arrays["image"][17, 3] = np.nan
    refused(fit(write(tmp_path / "nan.npz", arrays), *TEXT), 3, "nan.npz", "row 17", "NaN", "--skip-bad")
    assert fit(tmp_path / "nan.npz", *TEXT, "--skip-bad").code == 0


def test_wrong_widths(amodal, model, archive, tmp_path):
    data = write(tmp_path / "wide.npz", archive_with(archive, text_minilm=np.ones((80, 13)), id=np.arange(80)))
    for verb in (("add",), ("evaluate",), ("encode", "--out", tmp_path / "c.npz")):
        refused(amodal("-q", *verb, model, data, *TEXT), 3, "width 12", "13")
    assert not (tmp_path / "c.npz").exists()


def test_labels_without_a_training_example(fit, archive, tmp_path):
    arrays = archive_with(archive)
    arrays["label"] = np.hstack([arrays["label"], (arrays["split"] == "test")[:, None]])
    arrays["label_names"] = np.append(arrays["label_names"], "late")
    refused(fit(write(tmp_path / "late.npz", arrays), *TEXT), 3, 'class "late" has no training example', "--skip-bad")
    assert fit(tmp_path / "late.npz", *TEXT, "--skip-bad").code == 0


def test_absent_modalities(fit, amodal, model, tmp_path):
    refused(fit("tiny", "--modalities", "image,sound"), 3, 'unknown modality "sound"')
    refused(fit("tiny", "--modalities", "image"), 1, "at least two modalities")
    (tmp_path / "empty.csv").write_text("id,image,text,labels\na,,one,x\nb,,two,y\n")
    refused(fit(tmp_path / "empty.csv"), 3, 'no training item has the modality "image"')


def test_repeated_ids(fit, archive, tmp_path):
    arrays = archive_with(archive)
    arrays["id"][5] = arrays["id"][2]
    refused(fit(write(tmp_path / "twice.npz", arrays), *TEXT), 3, "row 5", "already the id of row 2", "--skip-bad")


def test_truncated_archives(fit, archive, tmp_path):
    whole = (archive / "tiny" / "features.npz").read_bytes()
    for name, content in {"cut.npz": whole[: len(whole) // 2], "no.npz": b"not an archive", "empty.npz": b""}.items():
        (tmp_path / name).write_bytes(content)
        refused(fit(tmp_path / name), 3, name)


def test_queries_of_modalities_never_learned(amodal, model):
    refused(amodal("search", model, "--by", "sound=bark.wav"), 3, "sound", "never learned")
    refused(amodal("search", model, "--id", "item 03", "--into", "sound"), 3, "sound", "never learned")
    refused(amodal("search", model, "--text", "red shoes"), 2, "bare features")
    refused(amodal("-q", "add", model, "tiny"), 3, '"text_minilm"', "never learned")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ((), 2, "exactly one of --text, --image, --id and --by; got 0"),
        (("--id", "item 03", "--text", "shoes"), 2, "got 2"),
        (("--by", "text"), 2, "--by needs name=content"),
        (("--by", "vector=3"), 3, "never learned"),
        (("--id", "nobody"), 3, 'no item "nobody"'),
        (("--id", "item 03", "-k", "0"), 2, "at least 1"),
        (("--id", "item 03", "--where", "yaer > 3"), 2, 'Did you mean "year"'),
        (("--id", "item 03", "--where", "year >"), 2, "cannot read the filter"),
        (("--id", "item 03", "--radius", "-1"), 2, "radius"),
    ],
)
def test_searches_that_cannot_be(amodal, model, words, code, sentence):
    refused(amodal("search", model, *words), code, sentence)


def test_models_that_are_none_or_do_not_fit(amodal, model, fit, tmp_path):
    refused(amodal("search", tmp_path, "--id", "x"), 3, "no saved retriever")
    other = tmp_path / "other"
    made = amodal("-q", "fit", "tiny", *TEXT, "--out", other, "--bits", "32", *QUICK)
    assert made.code == 0
    shutil.rmtree(model / "method")
    shutil.copytree(other / "method", model / "method")
    refused(amodal("search", model, "--id", "item 03"), 1, "model fingerprint")


def test_unknown_names(fit, amodal, tmp_path):
    refused(fit("tiny", *TEXT, "--method", "cihc"), 2, 'Did you mean "cich"')
    refused(fit("tiny", *TEXT, "--set", "anchor=3"), 2, 'unknown argument of dch "anchor". Did you mean "anchors"')
    refused(fit("tiny", *TEXT, "--set", "epochs"), 2, "--set needs name=value", '"epochs"')
    refused(fit("tiny", *TEXT, "--preset", "papr"), 2, "unknown preset")
    refused(fit("tiny", *TEXT, "--encoder", "image"), 2, "--encoder needs name=value")
    refused(fit("tiny", *TEXT, "--encoder", "image=hf:x"), 2, "holds features already")
    refused(amodal("data", "mask", "tiny", "hrad", "--out", tmp_path / "m.json"), 2, 'Did you mean "hard"')
    refused(amodal("data", "mask", "tiny", "hard", "--mechanism", "rndom", "--out", tmp_path / "m.json"), 2, '"random"')
    refused(amodal("list", "metods"), 2, 'Did you mean "methods"')
    assert not (tmp_path / "m.json").exists()


def test_the_program_itself_refuses_unknown_options_and_verbs(amodal):
    for words in (("serach",), ("search", "m", "--txt", "x"), ("fit",), ("--threads", "-1", "list")):
        result = amodal(*words)
        assert result.code == 2 and "Error" in result.err and "Traceback" not in result.err


def test_folders_that_are_there(amodal, model, tmp_path):
    before = sorted(model.rglob("*"))
    refused(amodal("-q", "fit", "tiny", *TEXT, "--out", model, *QUICK), 2, "exists already", "--force")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("x")
    refused(amodal("-q", "fit", "tiny", *TEXT, "--out", tmp_path / "letters", "--force"), 2, "no saved retriever")
    assert sorted(model.rglob("*")) == before
    assert (tmp_path / "letters" / "dear.txt").exists()


def test_items_that_are_there(amodal, model):
    refused(amodal("-q", "add", model, "tiny", *TEXT), 3, "in the index already", "--replace")


def test_evaluation_needs_items_that_were_held_out(amodal, model, tmp_path):
    from dataclasses import replace

    save_archive(replace(read("tiny"), split=None), tmp_path / "whole.npz")
    refused(amodal("-q", "evaluate", model, tmp_path / "whole.npz", *TEXT), 3, "whole.npz", "no split", "held out")


def test_places_that_cannot_be_written(fit, amodal, model, tmp_path):
    (tmp_path / "file").write_text("x")
    refused(amodal("encode", model, "tiny", *TEXT), 2, "exactly one of them")
    both = ("encode", model, "tiny", *TEXT, "--out", tmp_path / "c.npz", "--engine", "ray")
    refused(amodal(*both), 2, "for --index")
    result = amodal("-q", "encode", model, "tiny", *TEXT, "--out", tmp_path / "file" / "codes.npz")
    assert refused(result, 1, str(tmp_path / "file"))
    refused(amodal("-q", "fit", "tiny", *TEXT, "--out", tmp_path / "file" / "m", *QUICK), 3, "cannot be written")


def test_a_missing_extra_names_the_command(amodal, tmp_path, monkeypatch):
    import importlib.metadata

    def missing(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    refused(amodal("-q", "demo", "--out", tmp_path / "demo"), 4, 'pip install "amodal[demo]"')
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(amodal):
    shown = amodal("--debug", "list", "metods")
    assert shown.code == 2
    assert "Traceback" in shown.err and 'Did you mean "methods"' in shown.err


def test_what_nobody_expected_is_a_sentence_too(amodal, monkeypatch):
    def broken():
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("amodal.diagnosis.diagnose", broken)
    refused(amodal("doctor"), 1, "ZeroDivisionError", 'amodal --debug doctor"')


def test_the_installed_program_exits_the_same_way(tmp_path):
    program = [sys.executable, "-c", "from amodal.cli import main; main()"]
    words = ("data", "show", str(tmp_path / "none"))
    done = subprocess.run([*program, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"error: {tmp_path / 'none'}: there is no such file or folder.\n"
