"""Cards as pages and as plain values."""

import json
from dataclasses import fields, replace

from amodal.methods import Card

CARD = Card(
    slug="sample",
    name="Sample",
    summary="What it does.",
    paper="A. Author, Venue 2024",
    url="https://doi.org/10.0/0",
    family="shallow",
    returns="codes",
    needs_labels=True,
    needs_pairs="helpful",
    native="any",
    fills=("zero", "mean"),
    checked="against a loop",
    departures=("means instead of sums", "another start"),
    reference_code="none",
)


def test_a_card_as_values_has_every_field():
    values = json.loads(json.dumps(CARD.as_dict()))
    assert set(values) == {field.name for field in fields(Card)}
    assert values["fills"] == ["zero", "mean"]


def test_a_card_as_page_says_everything_a_reader_needs():
    lines = CARD.as_markdown().splitlines()
    assert lines[0] == "# Sample"
    for line in (
        "What it does.",
        "- Paper: A. Author, Venue 2024 https://doi.org/10.0/0",
        "- Returns: codes",
        "- Labels: needed",
        "- Pairs: helpful",
        "- Incompleteness: any, fill: zero, mean",
        "- Reference code: none",
        "- Checked: against a loop",
        "- means instead of sums",
        "- another start",
    ):
        assert line in lines


def test_a_card_says_what_is_not_there():
    page = replace(CARD, url="", departures=(), needs_labels=False, fills=(), reconstruction=True).as_markdown()
    assert page.startswith("# Sample (reconstruction)\n")
    assert "- Paper: A. Author, Venue 2024\n" in page
    assert "- Labels: not used\n" in page
    assert "- Incompleteness: any\n" in page
    assert page.endswith("## Departures\n\n- none\n")
