"""What the door loads: nothing heavy, until something is asked for."""

import json
import subprocess
import sys

import pytest

import amodal

HEAVY = ("torch", "numba", "faiss", "transformers", "pyarrow", "scipy", "matplotlib", "sklearn", "numpy", "rich", "PIL")
"""What neither the import nor a help text may load."""


def loaded_by(code):
    """Which heavy packages are loaded once code has run in a fresh interpreter."""
    look = f"import sys, json; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    command = [sys.executable, "-c", f"import atexit\n@atexit.register\ndef _():\n    {look}\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_check_sees_what_is_loaded():
    assert loaded_by("import numpy") == ["numpy"]


@pytest.mark.parametrize(
    "code",
    [
        "import amodal",
        "import amodal; amodal.errors, amodal.__version__, dir(amodal)",
        *(
            f"import sys; from amodal.cli import main; sys.argv = ['amodal', *{words!r}]; main()"
            for words in (["--help"], ["--version"], ["data", "--help"], ["bench", "run", "--help"], ["fit", "--help"])
        ),
    ],
)
def test_the_door_loads_nothing_heavy(code):
    assert loaded_by(code) == []


def test_every_public_name_is_there():
    for name in amodal.__all__:
        assert getattr(amodal, name) is not None
    assert dir(amodal) == amodal.__all__ == sorted(amodal.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Retreiver'"):
        _ = amodal.Retreiver


def test_names_that_others_script_against():
    assert amodal.methods.get("cich").__name__ == "CICH"
    assert callable(amodal.read) and callable(amodal.incomplete) and callable(amodal.index.open)
    assert callable(amodal.metrics.average_precision) and callable(amodal.BinaryCodes.from_signs)
