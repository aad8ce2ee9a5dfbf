import json
import sys

import pytest

from amodal.cli import main
from amodal.data import save_archive
from tests.retriever.catalogue import short, with_columns
from tests.retriever.conftest import catalogue, shapes

__all__ = ["catalogue", "shapes"]

QUICK = ("--method", "dch", "--set", "anchors=20")
"""Options of a quick fit."""
SHORT = [word for name, value in short().items() for word in ("--set", f"{name}={value}")]
"""Options that make CICH, which shows progress, imagines and leaves checkpoints, quick."""


class Result:
    """What a call of the program left behind."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        """What it printed, read strictly: NaN is no JSON."""
        return json.loads(self.out, parse_constant=lambda word: pytest.fail(f"{word} in JSON"))


@pytest.fixture
def amodal(monkeypatch, capsys):
    """Runs the program as its entry point does, in this process."""

    def run(*words):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["amodal", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return Result(end.value.code, printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """A folder of data sets, in it ``tiny``: features of 80 items, two kinds of words, train and test."""
    home = tmp_path_factory.mktemp("data")
    (home / "tiny").mkdir()
    data = with_columns(80, modalities={"image": 16, "text_minilm": 12, "text_tfidf": 9}, test=0.25)
    save_archive(data, home / "tiny" / "features.npz")
    return home


@pytest.fixture(autouse=True)
def home(archive, monkeypatch):
    monkeypatch.setenv("AMODAL_DATA", str(archive))


@pytest.fixture
def model(amodal, tmp_path):
    """A model that ``amodal fit`` made of ``tiny``."""
    made = amodal("-q", "fit", "tiny", "--out", tmp_path / "m.amodal", "--modalities", "image,text=text_minilm", *QUICK)
    assert (made.code, made.err) == (0, "")
    return tmp_path / "m.amodal"
