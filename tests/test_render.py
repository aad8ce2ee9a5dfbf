"""Generated pages: written from cards, recipes and results, and noticed when they are stale."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from amodal.benchmark import recipes

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("render", ROOT / "tools/render.py")
render = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(render)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The program on a copy of what it reads; returns its exit status."""
    for name in ("README.md", "benchmarks/results/grid.csv", "tools/recipes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(render, "ROOT", tmp_path)

    def main(*words):
        monkeypatch.setattr("sys.argv", ["render.py", *words])
        with pytest.raises(SystemExit) as ended:
            render.main()
        return ended.value.code

    return main


def test_stale_pages_are_noticed_and_written_anew(run, tmp_path, capsys):
    assert run("--check") == 1
    assert not (tmp_path / "docs/methods.md").exists(), "a check changes nothing"
    assert run() == 0
    assert run("--check") == 0
    capsys.readouterr()
    text = (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text(text.replace("| `dch` |", "| `dhc` |"))
    assert run("--check") == 1
    assert capsys.readouterr().out == "README.md: is stale; run make docs\n"
    assert run() == 0
    assert (tmp_path / "README.md").read_text() == text


def test_everything_registered_is_on_its_page(run, tmp_path):
    run()
    readme, methods = (tmp_path / "README.md").read_text(), (tmp_path / "docs/methods.md").read_text()
    for slug in render.names():
        assert f"| `{slug}` |" in readme
        assert f"(`{slug}`)\n" in methods
    page = (tmp_path / "docs/recipes.md").read_text()
    for name in recipes.names():
        assert f"| `{name}` |" in page


def test_what_is_outside_the_markers_stays(run, tmp_path):
    (tmp_path / "README.md").write_text("a\n<!-- methods -->\nold\n<!-- end of methods -->\nb\n<!-- results -->\n")
    assert "needs the markers <!-- results --> and <!-- end of results -->" in run()
    assert render.between("a\n<!-- x -->\nold\n<!-- end of x -->\nb\n", "x", "new") == (
        "a\n<!-- x -->\nnew\n<!-- end of x -->\nb\n"
    )


def test_bars_in_cells_are_escaped():
    assert render.table(("a", "b"), [("x|y", "z")]).splitlines() == ["| a | b |", "| --- | --- |", r"| x\|y | z |"]


def test_the_recipe_in_the_page_is_a_recipe(run, tmp_path):
    run()
    block = (tmp_path / "docs/recipes.md").read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "mine.yaml").write_text(block)
    assert [run.method for run in recipes.load(tmp_path / "mine.yaml").runs(seeds=1)] == ["dcmh"]
