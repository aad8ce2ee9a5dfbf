"""Reports: the figures of hand-made records as computed by hand, and pages that need, leak and break nothing."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from amodal.benchmark.report import write_report
from amodal.benchmark.report.codes import shares
from amodal.benchmark.report.conclusions import comparisons, losses, ranks, tables_of
from amodal.benchmark.report.findings import cautions, winners
from amodal.benchmark.report.formats import to_csv, to_latex, to_markdown
from amodal.benchmark.report.material import read_material
from amodal.benchmark.report.sweeps import missing_share
from amodal.benchmark.report.tables import Cell, Group, Table, results
from amodal.benchmark.report.words import listing, number, p_value, plus_minus, signed
from amodal.data import toy
from amodal.errors import DataError, UsageError
from amodal.evaluation import arrange, evaluate, get_protocol, save_codes
from amodal.evaluation.evaluate import encode_items
from amodal.evaluation.results import SCHEMA
from tests.benchmark.test_summary import WAYS
from tests.evaluation.toys import Signs, split_toy

HOSTILE = 'x"><script>alert(1)</script> $x_1$ & | 50% {\\'
VOID = {"meta", "br", "img", "link", "hr", "input"}


def record(method, scores, *, seed=0, dataset="toys", setting="hard", bits=8, protocol="heldout", control=0.3, **more):
    """A whole record with the scores of both directions."""
    levels = np.linspace(0, 1, 9).round(6).tolist()
    curve = {"places": [1.0, 10.0], "ndcg": [0.5, 0.4]}
    if bits:
        falling = np.linspace(0.9, 0.2, 9).round(6).tolist()
        curve |= {"micro.precision": falling, "micro.recall": levels}
    metrics = {
        "map": dict(zip(WAYS, scores, strict=True)),
        "map.optimistic": dict.fromkeys(WAYS, 0.6),
        "map.pessimistic": dict.fromkeys(WAYS, 0.5),
        "chance": dict.fromkeys(WAYS, 0.125),
        "recall@10": dict.fromkeys(WAYS, 41.26),
        "rank.median": dict.fromkeys(WAYS, 3.0),
    }
    environment = {"amodal": "1", "source": "s", "python": "3", "packages": {}, "processor": "p", "cores": 2}
    return {
        "schema": SCHEMA,
        "key": "-".join(map(str, (method, dataset, setting, bits, protocol, seed))).replace("/", ""),
        "preset": None,
        "method": method,
        "dataset": dataset,
        "setting": setting,
        "protocol": protocol,
        "bits": bits,
        "seed": seed,
        "metrics": metrics,
        "control": {"method": "label_regression", "metrics": {"map": dict.fromkeys(WAYS, control + seed / 100)}},
        "counts": {way: {"queries": 4, "unanswerable": 0} for way in WAYS},
        "curves": dict.fromkeys(WAYS, curve),
        "health": {m: {"codes": 4, "distinct": 2, "ones": [0.25] * bits} for m in ("image", "text")} if bits else {},
        "seconds": 1.0,
        "phases": {"fit": 1.0},
        "config": {"seed": seed},
        "ties": "average",
        "unanswerable": "skip",
        "hashes": {"data": f"hash of {dataset}", "protocol": f"hash of {protocol}"},
        "protocol_fields": {"name": protocol, "learns": "all"},
        "train": {"patterns": {"image": 45, "image+text": 10, "text": 45} if setting == "hard" else {"image+text": 9}},
        "warnings": [],
        "environment": environment,
        "date": "2026-11-22T00:00:00+00:00",
        **more,
    }


def grid():
    """Two methods and the control on two data sets; seeds differ by known amounts."""
    lines = []
    for dataset, base in (("toys", 0.5), ("games", 0.4)):
        for setting, loss in (("complete", 0.0), ("hard", 0.1)):
            for seed, luck in enumerate((-0.01, 0.0, 0.01)):
                place = {"seed": seed, "dataset": dataset, "setting": setting}
                best = base - loss + luck
                lines.append(record("dch", (best, best - 0.1), **place))
                worse = best - 0.2 + 0.001 * seed
                lines.append(record("my_hash", (worse, worse - 0.1), **place))
                lines.append(record("label_regression", (0.3 + seed / 100,) * 2, **{**place, "bits": None}))
    return lines


def stored(folder, lines, failures=()):
    folder.mkdir(exist_ok=True)
    for name, rows in (("results", lines), ("failures", failures)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def material(tmp_path, lines, **options):
    return read_material(stored(tmp_path / "results", lines), **options)


def row_of(table, name, group=0):
    return [cell for cells in table.groups[group].rows if cells[0].text == name for cell in cells]


class Page(HTMLParser):
    """Everything a test asks of a page; complains of tags that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.ids, self.text = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href", "action", "srcset")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_words():
    assert [number(0.3121), number(-0.05), number(1.0), number(0.0), number(-0.0001)] == [
        ".312", "−.050", "1.000", ".000", ".000",
    ]  # fmt: skip
    assert [number(41.26, True), signed(0.02), signed(-0.02), plus_minus(0.5, float("nan"))] == [
        "41.3", "+.020", "−.020", ".500",
    ]  # fmt: skip
    assert [p_value(None), p_value(0.0001), p_value(0.03), p_value(1.0)] == ["–", "< .001", ".030", "1"]
    assert [listing(["a"]), listing("abc")] == ["a", "a, b and c"]


def test_the_table_of_results_by_hand(tmp_path):
    found = material(tmp_path, grid())
    table = results(found, found.chapters[0], "hard")
    assert table.spans == [("toys", 3), ("games", 3)]
    # at hard: .39 .40 .41 and .10 less the other way; sample sd .01; the mean of directions .05 below
    texts = [(cell.text, cell.mark) for cell in row_of(table, "dch")[1:4]]
    assert texts == [(".400 ± .010", "best"), (".300 ± .010", "best"), (".350 ± .010", "best")]
    assert row_of(table, "my_hash")[1] == Cell(".201 ± .011", "second")
    assert [cell.text for cell in row_of(table, "label_regression", -1)[1:4]] == [".310 ± .010"] * 3
    assert [cell.text for cell in row_of(table, "chance", -1)[1:]] == [".125"] * 6
    for part in ("Protocol heldout", "seeds 0, 1 and 2", "ties: average", "Training items: hard", "control"):
        assert part in table.caption


def test_tests_against_best_and_control_by_hand(tmp_path):
    found = material(tmp_path, grid())
    table = comparisons(found, found.chapters[0])
    (group,) = (one for one in table.groups if one.title == "toys, hard, 8 bit")
    best, other = group.rows
    assert [cell.text for cell in best[:3]] == ["dch", ".350 ± .010", "the best"]
    # differences -.2, -.199, -.198: mean -.199, sd .001, t(2) at 97.5 % is 4.303: half width .0025
    assert [cell.text for cell in other[2:8]] == ["−.199", "[−.201, −.197]", "< .001", ".250", "–", "below"]
    assert [best[k].text for k in (8, 13)] == ["+.040", "not tested (the same difference with every seed)"]


def test_what_is_lost_and_what_is_missing(tmp_path):
    found = material(tmp_path, grid())
    table = losses(found, found.chapters[0])
    assert [cell.text for cell in row_of(table, "dch")] == ["dch", ".100 ± .000", ".100 ± .000"]
    block = found.chapters[0].shown[0]
    assert missing_share(found, block.rows["dch"]) == pytest.approx(0.9)
    assert losses(*_only(tmp_path, [one for one in grid() if one["setting"] == "hard"])) is None


def _only(tmp_path, lines):
    found = material(tmp_path, lines)
    return found, found.chapters[0]


def test_protocols_that_drop_incomplete_items_are_placed_by_their_setting(tmp_path):
    fields = {"name": "cich-discard", "learns": "paired"}
    line = record("dch", (0.5, 0.5), protocol="cich-discard", protocol_fields=fields)
    line["train"]["patterns"] = {"image+text": 10}
    found, chapter = _only(tmp_path, [line])
    assert missing_share(found, chapter.blocks[0].rows["dch"]) == pytest.approx(0.9)


def test_ranks_over_data_and_directions(tmp_path):
    found = ranks(_only(tmp_path, grid())[1])
    assert (found.names, found.ranks, found.cases) == (("dch", "my_hash"), (1.0, 2.0), 4)


def test_equal_figures_are_marked_alike(tmp_path):
    lines = [record("dch", (0.5001, 0.4)), record("scratch", (0.4999, 0.3)), record("jimfh", (0.1, 0.1))]
    found, chapter = _only(tmp_path, lines)
    marks = {name: row_of(results(found, chapter, "hard"), name)[1].mark for name in ("dch", "scratch", "jimfh")}
    assert marks == {"dch": "best", "scratch": "best", "jimfh": "second"}


def test_within_noise_is_called_that(tmp_path):
    scores = {"dch": (0.50, 0.40, 0.45), "scratch": (0.44, 0.43, 0.46)}
    lines = [record(m, (v, v), seed=s) for m, values in scores.items() for s, v in enumerate(values)]
    found, chapter = _only(tmp_path, lines)
    table = results(found, chapter, "hard")
    assert row_of(table, "scratch")[3].text == ".443 ± .015 ≈"
    assert "within noise" in table.caption
    assert "within noise of scratch" in winners(found, chapter)[0].text


def test_protocols_and_editions_of_data_never_share_a_table(tmp_path):
    lines = [record("dch", (0.5, 0.5)), record("dch", (0.4, 0.4), protocol="dcmh")]
    other = record("dch", (0.3, 0.3), seed=1)
    lines.append({**other, "hashes": {**other["hashes"], "data": "another edition"}})
    found = material(tmp_path, lines)
    assert [chapter.protocol for chapter in found.chapters] == ["heldout", "dcmh"]
    for chapter, tables in tables_of(found):
        assert all(f"rotocol {chapter.protocol}" in table.caption for table in tables)
    assert found.chapters[0].datasets == ["toys (hash o)", "toys (anothe)"]


def test_what_to_distrust(tmp_path):
    lines = [record("dch", (0.2, 0.2), seed=s, control=0.3 + s / 50) for s in range(3)]
    lines[0]["environment"] = {**lines[0]["environment"], "source": "older"}
    failure = {"key": "z", "method": "cich", "dataset": "toys", "setting": "hard", "seed": 0, "error": "no luck."}
    folder = stored(tmp_path / "results", lines, [failure, {**failure, "key": lines[0]["key"]}])
    found = " ".join(f"{one.head}: {one.text}" for one in cautions(read_material(folder)))
    assert "Failed: 1 run of cich" in found  # the other has been done since
    assert "2 versions" in found
    assert "is above all methods on toys" in found
    assert "toys .125" in found
    assert "up to .100" in found
    assert "takes 6" in found


def test_csv_holds_every_single_value(tmp_path):
    rows = list(csv.DictReader(to_csv(material(tmp_path, grid())).splitlines()))
    assert len(rows) == 3 * 2 * 2 * 3
    (row,) = (
        r for r in rows
        if (r["method"], r["dataset"], r["setting"], r["direction"]) == ("my_hash", "toys", "hard", "mean")
    )  # fmt: skip
    values = [float(part.split(":")[1]) for part in row["values"].split()]
    assert np.mean(values) == pytest.approx(float(row["mean"]))
    assert np.std(values, ddof=1) == pytest.approx(float(row["sd"]))
    assert float(row["best.effect"]) == pytest.approx(-0.199)
    assert row["best.verdict"] == "below"


def test_latex_is_balanced_and_escaped():
    cells = [Cell(HOSTILE), Cell(".5 ± .1 ≈", "best"), Cell("−.2", "second")]
    text = to_latex(Table("my_table", HOSTILE, HOSTILE, [(HOSTILE, 2)], ["a_b", "x->y", "z"], [Group("g_1", [cells])]))
    bare = re.sub(r"\\[&%$#_{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert re.findall(r"\\begin\{(\w+)\}", text) == re.findall(r"\\end\{(\w+)\}", text)[::-1]
    for symbol in "_#&%":
        inside = bare.replace("%\n", "\n").replace("& ", "")
        assert symbol not in inside
    assert bare.count("$") % 2 == 0
    body = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {2}
    assert r"\textbf{.5 $\pm$ .1 $\approx$}" in text
    assert r"\underline{$-$.2}" in text
    assert r"x$\to$y" in text


def test_markdown_keeps_its_columns():
    cells = [Cell(HOSTILE), Cell("1", "best"), Cell("2", "second")]
    text = to_markdown(Table("t", "title", HOSTILE, [("", 2)], ["m", "a", "b"], [Group("", [cells])]))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}
    assert "<script>" not in text
    assert "| **1** | <u>2</u> |" in text


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of two protocols with hostile names."""
    folder = tmp_path_factory.mktemp("page")
    lines = [*grid(), record("dch", (0.5, 0.4), protocol="dcmh")]
    lines += [record(HOSTILE, (0.3 + s / 100, 0.2), seed=s, dataset=d) for s in range(3) for d in ("toys", HOSTILE)]
    lines[0]["warnings"] = [HOSTILE]
    failure = {"key": "z", "method": HOSTILE, "dataset": HOSTILE, "setting": "hard", "seed": 0, "error": HOSTILE}
    files = write_report(stored(folder / "results", lines, [failure]), folder / "out")
    assert [path.name for path in files] == ["tables.md", "tables.csv", "tables.tex", "index.html"]
    return read_material(folder / "results"), files[-1].read_text()


def test_the_page_needs_no_network_and_runs_nothing(page):
    found = Page(page[1])
    assert "script" not in found.tags
    assert all(link.startswith(("#", "data:image/")) for link in found.links)
    assert "url(http" not in page[1]
    assert "@import" not in page[1]
    assert len(page[1]) < 5_000_000


def test_the_page_holds_every_table_and_figure(page):
    text = " ".join(Page(page[1]).text)
    for _, tables in tables_of(page[0]):
        for table in tables:
            for cell in (cell for group in table.groups for row in group.rows for cell in row):
                assert cell.text in text
            assert table.caption in text
    for heading in ("Precision and recall", "NDCG of the first places", "By what is missing", "Balance of bits"):
        assert heading in text


def test_ids_are_unique_and_links_lead_somewhere(page):
    found = Page(page[1])
    assert len(found.ids) == len(set(found.ids))
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)


def test_figures_follow_the_page_and_speak(page):
    svgs = re.findall(r"<svg.*?</svg>", page[1], flags=re.DOTALL)
    assert len(svgs) > 10
    for svg in svgs:
        assert re.search(r'role="img".*?<title.*?</title><desc', svg, flags=re.DOTALL)
        assert re.search(r"#[0-9a-f]{6}", svg) is None  # no colour of its own, so that dark pages work
        assert "var(--" in svg


@pytest.mark.parametrize(
    "lines",
    [
        [record("dch", (0.5, 0.4))],
        [record("label_regression", (0.5, 0.4), bits=None)],
        [record("real", (0.5, 0.4), bits=None)],
        [record("dch", (0.5, None))],
        [record("dch", (0.5, 0.4)), record("scratch", (0.4, 0.4), seed=1)],
        [{**record("dch", (0.5, 0.4)), "curves": {}, "health": {}}],
    ],
    ids=["one run", "control alone", "real-valued", "one direction", "no shared seed", "no curves"],
)
def test_little_is_enough_for_a_page(tmp_path, lines):
    files = write_report(stored(tmp_path / "results", lines), tmp_path / "out")
    Page(files[-1].read_text())


def test_only_failures_make_a_page_and_nothing_makes_a_sentence(tmp_path):
    failure = {"key": "z", "method": "cich", "dataset": "toys", "setting": "hard", "seed": 0, "error": "no luck."}
    files = write_report(stored(tmp_path / "results", [], [failure]), tmp_path / "out")
    assert "no luck." in files[-1].read_text()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no results"):
        write_report(tmp_path / "empty", tmp_path / "out")


@pytest.mark.parametrize(("measure", "word"), [("mpa", '"map"'), ("rank.median", "higher is better")])
def test_measures_that_cannot_be_shown(tmp_path, measure, word):
    with pytest.raises(UsageError, match=word):
        material(tmp_path, grid(), measure=measure)


def test_percent(tmp_path):
    found = material(tmp_path, grid(), measure="recall@10")
    assert row_of(results(found, found.chapters[0], "hard"), "dch")[1].text == "41.3 ± 0.0"


def test_distances_of_pairs_from_the_curve_equal_those_counted():
    data = split_toy(200)
    arrangement = arrange(data, get_protocol("heldout"))
    method = Signs().fit(arrangement.train)
    curve = evaluate(method, arrangement).curves["image->text"]
    codes = encode_items(method, arrangement.queries)
    far = (codes["image"].signs()[:, None] != codes["text"].signs()[None]).sum(axis=2)
    labels = arrangement.queries.labels.matrix.toarray()
    relevant = labels @ labels.T > 0
    for found, mine in zip(shares(curve), (far[relevant], far[~relevant]), strict=True):
        np.testing.assert_allclose(found, np.bincount(mine, minlength=9) / len(mine), atol=1e-4)


def test_codes_and_logs_and_data_make_more_figures(tmp_path):
    data = toy(60)
    method = Signs().fit(data)
    folder = stored(tmp_path / "results", [])
    save_codes(folder / "codes.npz", encode_items(method, data), data)
    losses_of = [{"stage": "training", "epoch": e, "losses": {"loss": 1 / (e + 1), "x": -1.0}} for e in range(3)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in losses_of) + '{"torn')
    kept = {"codes": {"file": "codes.npz"}, "log": {"file": "log.jsonl"}}
    stored(folder, [{**record("dch", (0.5, 0.4)), **kept}])
    text = write_report(folder, tmp_path / "out", data=data)[-1].read_text()
    for heading in ("Training", "Codes in the plane", "Examples", "image asks, text answers", "✓"):
        assert heading in text
    assert data.labels.names[0] in text


def test_items_are_not_taken_for_those_of_another_data_set(tmp_path):
    found = material(tmp_path, grid(), data=toy(20))
    assert toy(20).name not in found.chapters[0].datasets
    assert found.items("toys") is None
    alone = material(tmp_path, [record("dch", (0.5, 0.4), dataset="mine")], data=toy(20))
    assert alone.items("mine") is alone.data
