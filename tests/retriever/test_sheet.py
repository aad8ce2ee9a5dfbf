"""The page of pictures: safe, self-contained, and whole whatever the pictures are."""

import re
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError

from amodal.entries import Match
from amodal.sheet import SIDE, Search, write_sheet
from tests.retriever.catalogue import draw

VOID = {"meta", "img", "br"}


class Outline(HTMLParser):
    """Checks that tags are closed in order, and collects texts and addresses."""

    def __init__(self, page):
        super().__init__()
        self.open, self.texts, self.addresses, self.tags = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and "style" not in self.open:
            self.texts.append(" ".join(data.split()))


def match(item, content, labels=(), distance=3.0, **attributes):
    return Match(item, distance, "image", content, labels, attributes)


@pytest.fixture
def page(tmp_path):
    def write(*searches, **how):
        write_sheet(tmp_path / "page.html", "A title & more", searches, **how)
        assert [path.name for path in tmp_path.iterdir() if path.suffix != ".png"] == ["page.html"]
        return Outline((tmp_path / "page.html").read_text())

    return write


def test_captions_are_text_and_never_html(page):
    evil = '<script>alert("x")</script> <img src=http://example.org/x.png> &amp;'
    found = [match(evil, evil, (evil,), name=evil), match("b", None, name=evil), match("c", evil + ".png")]
    shown = page(Search("text", evil, found, (evil,), name=evil), lead=evil, notes=[evil], figures=[(evil,), (evil,)])
    assert "script" not in shown.tags and "img" not in shown.tags
    assert shown.addresses == []
    assert sum(evil.replace("&amp;", "&amp;") in text for text in shown.texts) >= 7
    assert "A title & more" in shown.texts


def test_pictures_are_inside_and_nothing_is_outside(page, tmp_path):
    draw("red", "circle", 900).save(tmp_path / "red.png")
    red = str(tmp_path / "red.png")
    shown = page(Search("image", red, [match("a", red, ("circle",), name="red circle")], ("circle",), name="mine"))
    assert len(shown.addresses) == 2
    assert all(address.startswith("data:image/png;base64,") for address in shown.addresses)
    assert {"red circle", "mine", "circle", "✓"} <= set(shown.texts)
    text = (tmp_path / "page.html").read_text()
    assert not re.search(r"https?://|url\(|@import|<link|<script", text)

    import base64
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(shown.addresses[0].partition(",")[2])))
    assert picture.size == (SIDE, SIDE)


def test_missing_and_broken_pictures_leave_their_names(page, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nonsense")
    found = [match("gone", str(tmp_path / "gone.png")), match("broken", str(tmp_path / "broken.png"))]
    shown = page(Search("image", str(tmp_path / "none.png"), found))
    assert shown.addresses == []
    for name in ("gone.png", "broken.png", "none.png"):
        assert any(text.endswith(name) for text in shown.texts)


def test_searches_are_grouped_in_their_order_and_may_find_nothing(page):
    hit, miss = match("a", "one", ("x", "y"), 0.12345), match("b", "two", ("z",), 4.0)
    shown = page(
        Search("text", "first", [hit, miss], ("y",)), Search("image", "second", []), Search("text", "third", [miss])
    )
    expected = ["Searched by text", "first", "third", "Searched by image", "second"]
    assert [text for text in shown.texts if text in expected] == expected
    assert "Nothing found." in shown.texts
    assert "distance 0.123" in shown.texts and "distance 4" in shown.texts
    assert shown.texts.count("✓") == 1


def test_a_page_that_cannot_be_drawn_leaves_the_old_one(page, tmp_path):
    page(Search("text", "first", []))
    before = (tmp_path / "page.html").read_text()
    with pytest.raises(UndefinedError):
        page(Search("text", "first", [None]))
    assert (tmp_path / "page.html").read_text() == before
