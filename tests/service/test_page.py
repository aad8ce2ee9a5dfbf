"""The page in a real Chromium, before a real service."""

import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest

import amodal
import amodal.service
from amodal.methods import get
from amodal.reranking import Reranker
from amodal.service.keys import KeyRing
from tests.retriever.catalogue import TINY, draw, short
from tests.service.processes import running

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PAGE = Path(amodal.service.__file__).parent / "page"
TIMEOUT = 30_000  # milliseconds; a model that was just opened reads its encoders
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
WHY = "/?text=a+red+circle&closer=yes&item=p0&why=yes"
HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>\' javascript:window.hit=1 {{7*7}}'
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path")

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()


@pytest.fixture(scope="module")
def imagining(catalogue, tmp_path_factory):
    """A folder with a retriever of the drawn shapes that can imagine what is missing."""
    shop = amodal.Retriever("cich", bits=16, **short()).fit(amodal.read(catalogue))
    return shop.save(tmp_path_factory.mktemp("models") / "imagining.amodal")


@pytest.fixture(scope="module")
def address(imagining, tmp_path_factory):
    with running(imagining, tmp_path_factory.mktemp("state")) as service:
        yield service.address


@pytest.fixture(scope="module")
def telling(catalogue, tmp_path_factory):
    """The address of a service over a retriever of the drawn shapes that re-ranks and says why."""
    matcher = Reranker(get("scan").create(epochs=2, width=32, batch_size=16), top=30)
    shop = amodal.Retriever("dch", bits=16, **TINY, rerank=matcher).fit(amodal.read(catalogue))
    model = shop.save(tmp_path_factory.mktemp("models") / "telling.amodal")
    with running(model, tmp_path_factory.mktemp("state")) as service:
        yield service.address


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        sync_api.expect.set_options(timeout=TIMEOUT)
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@contextmanager
def tab(chromium, address, **how):
    """A tab of a fresh profile; in the end nothing may have failed in it, or have been asked of anybody else."""
    context = chromium.new_context(base_url=address, **how)
    context.set_default_timeout(TIMEOUT)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Security Policy" in said.text else None)
    page.on("request", lambda asked: None if asked.url.startswith((address, "blob:")) else wrong.append(asked.url))
    try:
        yield page
        hit = page.evaluate("window.hit")
    finally:
        context.close()
    assert not wrong
    assert hit is None


@pytest.fixture
def page(chromium, address):
    with tab(chromium, address, viewport={"width": 1280, "height": 800}) as one:
        yield one


def found(page, count=None):
    """Waits for the results; their ids, in order."""
    page.wait_for_function("() => /result/.test(document.getElementById('count').textContent)")
    if count is not None:
        sync_api.expect(page.locator("#results > li")).to_have_count(count)
    links = page.locator("#results .open").evaluate_all("all => all.map((one) => one.search)")
    return [parse_qs(link[1:])["item"][0] for link in links]


def told(page):
    """What the address says."""
    return {
        name: values if len(values) > 1 else values[0] for name, values in parse_qs(urlsplit(page.url).query).items()
    }


def tags(page):
    """In what the results matched."""
    return set(page.locator("#results .tag").all_inner_texts())


def seen(page):
    """Waits until every picture that is shown has pixels; how many there are."""
    page.wait_for_function("() => [...document.images].every((one) => one.complete && one.naturalWidth)")
    return page.locator("#results img").count()


def picture(tmp_path, colour="red"):
    path = tmp_path / f"{colour}.png"
    draw(colour, "circle").save(path)
    return path


# ---- the files, without a browser


def test_nothing_is_fetched_from_elsewhere_and_no_data_become_markup():
    for path in PAGE.iterdir():
        text = path.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), path
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?! type=\"module\" src=)", html)


# ---- searching


@needs_chromium
def test_words_find_pictures_and_the_address_says_so(page):
    page.goto("/")
    sync_api.expect(page.get_by_text("Search by words, or by a picture dropped anywhere on this page.")).to_be_visible()
    page.get_by_label("Words to search by").fill("a red circle")
    page.keyboard.press("Enter")
    everything = found(page, 24)
    page.get_by_label("image", exact=True).check(force=True)
    pictures = found(page)
    assert tags(page) == {"image"}
    assert seen(page) == len(pictures) == 24
    assert told(page) == {"text": "a red circle", "into": "image"}
    assert page.title() == "“a red circle” · amodal"
    assert page.locator("#count").inner_text() == "24 results for “a red circle”"
    assert re.fullmatch(r"score \d\.\d\d, \d+ bits?", page.locator(".facts").first.inner_text())
    page.reload()
    assert found(page) == pictures
    page.go_back()
    assert found(page) == everything
    assert told(page) == {"text": "a red circle"}
    page.go_back()
    sync_api.expect(page.locator("#welcome")).to_be_visible()


@needs_chromium
@pytest.mark.parametrize("how", ["chosen", "dropped", "pasted"])
def test_a_picture_finds_words(page, tmp_path, how):
    page.goto("/?into=text")
    page.wait_for_selector("#welcome p")
    path = picture(tmp_path)
    if how == "chosen":
        page.locator("#file").set_input_files(path)
    else:
        carried = page.evaluate_handle(
            """(bytes) => {
              const carried = new DataTransfer();
              carried.items.add(new File([new Uint8Array(bytes)], "red.png", { type: "image/png" }));
              return carried;
            }""",
            list(path.read_bytes()),
        )
        if how == "dropped":
            page.dispatch_event("main", "dragenter", {"dataTransfer": carried})
            sync_api.expect(page.get_by_text("Drop the picture to search by it")).to_be_visible()
            page.dispatch_event("main", "drop", {"dataTransfer": carried})
            sync_api.expect(page.locator("#drop")).to_be_hidden()
        else:
            page.evaluate(
                "(clipboardData) =>"
                " document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true }))",
                carried,
            )
    found(page, 24)
    assert tags(page) == {"text"}
    assert told(page) == {"picture": "red.png", "into": "text"}
    page.wait_for_function("() => document.querySelector('#query img').naturalWidth === 64")
    page.get_by_role("link", name="Remove").click()
    sync_api.expect(page.locator("#query")).to_be_hidden()
    page.go_back()
    found(page, 24)
    page.reload()
    alert = page.get_by_role("alert")
    sync_api.expect(alert).to_contain_text("The picture red.png was known only to the tab that searched by it.")


@needs_chromium
def test_what_is_no_picture_is_refused_in_a_sentence(page, tmp_path):
    page.goto("/")
    page.wait_for_selector("#welcome p")
    (tmp_path / "notes.txt").write_text("no picture")
    page.locator("#file").set_input_files(tmp_path / "notes.txt")
    sync_api.expect(page.get_by_role("alert")).to_contain_text("notes.txt is no picture.")
    (tmp_path / "broken.png").write_bytes(picture(tmp_path).read_bytes()[:60])
    page.locator("#file").set_input_files(tmp_path / "broken.png")
    sync_api.expect(page.get_by_role("alert")).to_contain_text("Invalid request: ")


@needs_chromium
def test_more_like_this_goes_across_modalities(page):
    page.goto("/?text=a+green+square&into=image")
    first = found(page)[0]
    page.get_by_role("link", name=f"More like {first}: text").click()
    page.wait_for_url(f"**/?like={first}&into=text")
    sync_api.expect(page.locator("#query")).to_contain_text(f"What is like {first}")
    assert first not in found(page)
    assert tags(page) == {"text"}
    page.wait_for_function("() => document.querySelector('#query .view')")
    assert page.evaluate("document.activeElement.id") == "count", "focus is not lost with the card"
    page.go_back()
    assert found(page)[0] == first


@needs_chromium
def test_chips_and_bounds_narrow_the_search(page, address):
    page.goto("/?text=shape")
    found(page, 24)
    page.get_by_role("button", name="red", exact=True).click()
    sync_api.expect(page.get_by_role("button", name="red", exact=True)).to_have_attribute("aria-pressed", "true")
    found(page, 8)
    assert page.evaluate("document.activeElement.textContent") == "red", "focus stays on the chip"
    page.get_by_role("button", name="blue", exact=True).click()
    found(page, 16)
    page.get_by_role("button", name="circle", exact=True).click()
    found(page, 8)
    page.get_by_label("year, from").fill("1990")
    page.keyboard.press("Enter")
    assert sorted(found(page, 4)) == ["p16", "p17", "p18", "p19"]
    assert told(page)["is"] == ["colour:red", "colour:blue", "labels:circle"]
    assert page.locator("summary").inner_text() == "Filters (4)"
    page.go_back()
    found(page, 8)
    page.goto("/?text=shape&is=nothing:3")
    sync_api.expect(page.get_by_role("alert")).to_contain_text('unknown attribute "nothing". Known: colour')
    page.get_by_role("button", name="3", exact=True).click()
    found(page, 24)
    assert page.get_by_role("alert").inner_text() == ""


@needs_chromium
def test_more_results_keep_the_place(page):
    page.goto("/?text=a+blue+square")
    found(page, 24)
    more = page.get_by_role("button", name="More results")
    more.scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    more.click()
    ids = found(page, 32)
    assert len(set(ids)) == 32
    assert page.evaluate("scrollY") == before > 0
    sync_api.expect(more).to_be_hidden()
    assert page.locator("#count").inner_text() == "32 results for “a blue square”"
    assert page.evaluate("document.activeElement.search").endswith(f"item={ids[24]}")
    page.get_by_role("link", name=f"More like {ids[30]}: text").click()
    found(page)
    assert page.evaluate("scrollY") == 0
    page.go_back()
    assert found(page, 32) == ids
    page.wait_for_function("() => scrollY > 0")


# ---- an item


@needs_chromium
def test_the_missing_side_is_suggested(page):
    page.goto("/?text=a+red+circle&item=p1")
    dialog = page.get_by_role("dialog")
    sync_api.expect(dialog).to_contain_text("a red circle of size 1")
    sync_api.expect(dialog.get_by_role("heading", name="No image: a suggestion")).to_be_visible()
    assert re.search(r"The model imagines it \(trust [01]\.\d\d of 1\)", dialog.inner_text())
    cards = dialog.get_by_role("list", name="Suggestions for image").get_by_role("listitem")
    sync_api.expect(cards).to_have_count(3)
    assert set(dialog.locator(".card .tag").all_inner_texts()) == {"image"}
    seen(page)
    page.keyboard.press("Escape")
    sync_api.expect(dialog).to_be_hidden()
    assert told(page) == {"text": "a red circle"}


@needs_chromium
def test_an_item_opens_over_the_results_and_back_closes_it(page):
    page.goto("/?text=a+red+circle")
    first, *_ = found(page, 24)
    card = page.locator("#results .open").first
    card.click()
    dialog = page.get_by_role("dialog")
    sync_api.expect(dialog.get_by_role("heading", name=first, exact=True)).to_be_visible()
    assert told(page)["item"] == first
    page.go_back()
    sync_api.expect(dialog).to_be_hidden()
    assert page.evaluate("document.activeElement.search").endswith(f"item={first}"), "focus returns to the card"
    page.goto("/?item=nobody")
    sync_api.expect(page.get_by_role("alert")).to_contain_text('Not found: no item "nobody" is indexed.')


# ---- a closer look, where the model has a matcher


@needs_chromium
def test_a_closer_look_puts_the_best_answers_in_order(chromium, telling):
    query = {"by": "text", "text": "a red circle", "into": "image", "k": 24}
    plain, closer = (
        [one["id"] for one in httpx.post(f"{telling}/v1/search", json=query | {"rerank": rerank}).json()["matches"]]
        for rerank in (False, True)
    )
    assert plain != closer
    with tab(chromium, telling) as page:
        page.goto("/?text=a+red+circle&into=image")
        assert found(page, 24) == plain
        page.get_by_label("Look closer").focus()
        page.keyboard.press("Space")
        page.wait_for_function("() => /looked at closely/.test(document.getElementById('count').textContent)")
        assert found(page, 24) == closer
        assert told(page) == {"text": "a red circle", "into": "image", "closer": "yes"}
        assert re.fullmatch(
            r"on closer look -?\d\.\d\d, score \d\.\d\d, \d+ bits?", page.locator(".facts").first.inner_text()
        )
        sync_api.expect(page.get_by_role("button", name="More results")).to_be_hidden()
        page.go_back()
        page.wait_for_function("() => !/closely/.test(document.getElementById('count').textContent)")
        assert found(page, 24) == plain
        sync_api.expect(page.get_by_label("Look closer")).not_to_be_checked()


@needs_chromium
def test_a_result_says_why_it_matched(chromium, telling):
    with tab(chromium, telling) as page:
        page.goto("/?text=a+red+circle&into=image")
        first = found(page, 24)[0]
        page.locator("#results .open").first.focus()
        for _ in range(3):
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.ariaLabel") == f"Why {first} matched"
        page.keyboard.press("Enter")
        why = page.get_by_role("region", name="Why it matched")
        words = why.get_by_role("group", name="Words").get_by_role("button")
        sync_api.expect(words).to_have_text(["a", "red", "circle"])
        assert told(page) == {"text": "a red circle", "into": "image", "item": first, "why": "yes"}
        lights = []
        for n, word in enumerate(["a", "red", "circle"]):
            words.nth(n).focus()
            page.keyboard.press("Enter")
            sync_api.expect(words.nth(n)).to_have_attribute("aria-pressed", "true")
            sync_api.expect(why.locator("[aria-pressed=true]")).to_have_count(1)
            sync_api.expect(why.get_by_role("status")).to_contain_text(f"“{word}” looks mostly at the ")
            assert why.get_by_role("img").get_attribute("aria-label").startswith(f"The picture as “{word}” sees it")
            lights.append(
                why.locator("canvas").evaluate(
                    "(one) => [...one.getContext('2d').getImageData(0, 0, one.width, one.height).data]"
                    ".filter((_, n) => n % 404 === 0)"  # the red of some pixels
                )
            )
        assert lights[1] != lights[2], "words see the picture each in its own light"
        assert max(lights[1]) > 200 and min(lights[1]) < 100
        page.keyboard.press("Escape")
        sync_api.expect(page.get_by_role("dialog")).to_be_hidden()
        assert told(page) == {"text": "a red circle", "into": "image"}


@needs_chromium
def test_a_picture_asks_why_words_match(chromium, telling, tmp_path):
    with tab(chromium, telling) as page:
        page.goto("/?into=text")
        page.wait_for_selector("#welcome p")
        page.locator("#file").set_input_files(picture(tmp_path))
        found(page, 24)
        page.locator("#results .open").first.click()
        page.get_by_role("button", name="Why did it match?").click()
        why = page.get_by_role("region", name="Why it matched")
        sync_api.expect(why.locator("[aria-pressed=true]")).to_be_focused()
        assert why.locator("canvas").evaluate("(one) => [one.width, one.height]") == [640, 640]


@needs_chromium
def test_without_a_matcher_there_is_no_closer_look(page):
    page.goto("/?text=a+red+circle&into=image&closer=yes")
    first = found(page, 24)[0]
    assert "closely" not in page.locator("#count").inner_text()
    sync_api.expect(page.locator("#closer")).to_be_hidden()
    assert page.get_by_role("link", name="Why").count() == 0
    page.goto(f"/?text=a+red+circle&into=image&item={first}&why=yes")
    sync_api.expect(page.get_by_role("dialog")).to_be_visible()
    assert page.get_by_role("region", name="Why it matched").count() == 0


# ---- keys, phones, eyes


@needs_chromium
def test_the_keyboard_is_enough(page):
    page.goto("/")
    page.wait_for_selector("#welcome p")
    press = page.keyboard.press
    at = "() => document.activeElement.search?.match(/item=(\\w+)/)?.[1] ?? document.activeElement.id"
    press("/")
    page.keyboard.type("a gold square")
    press("Enter")
    ids = found(page, 24)
    columns = page.evaluate(
        "() => { const tops = [...document.querySelectorAll('#results > li')].map((one) => one.offsetTop);"
        " return tops.filter((top) => top === tops[0]).length }"
    )
    assert columns == 6
    press("/")
    for key, expected in [
        ("ArrowDown", 0),
        ("ArrowRight", 1),
        ("ArrowDown", 7),
        ("ArrowLeft", 6),
        ("ArrowUp", 0),
        ("End", 23),
        ("Home", 0),
        ("ArrowLeft", 0),
    ]:
        press(key)
        assert page.evaluate(at) == ids[expected], key
    press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "image"
    press("Tab")
    press("Tab")
    assert page.evaluate(at) == "more", "one card's links, then what comes after the cards"
    press("Shift+Tab")
    press("Escape")
    assert page.evaluate(at) == "words"
    press("ArrowDown")
    press("Enter")
    dialog = page.get_by_role("dialog")
    sync_api.expect(dialog).to_be_visible()
    sync_api.expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    press("Escape")
    sync_api.expect(dialog).to_be_hidden()
    assert page.evaluate(at) == ids[0]
    page.goto("/")
    page.wait_for_selector("#welcome p")
    order = []
    for _ in range(5):
        press("Tab")
        order.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.textContent || document.activeElement.name"
            )
        )
    assert order == ["amodal", "words", "file", "Search", "into"]


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/?text=red&is=colour:red", "/?like=p4&item=p1", "/?text=red&is=nothing:3", WHY])
def test_contrast_is_enough(chromium, request, scheme, path):
    address = request.getfixturevalue("telling" if path == WHY else "address")
    with tab(chromium, address, color_scheme=scheme, reduced_motion="reduce") as page:
        page.goto(path)
        page.wait_for_load_state("networkidle")
        measured = page.evaluate(CONTRAST)
        assert len(measured) > 10
        assert not [one for one in measured if one[0] < one[1]]
        light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(250, 250, 248)"
        assert light == (scheme == "light")


@needs_chromium
def test_a_phone_scrolls_one_way_only(chromium, address, telling):
    with tab(chromium, telling, **PHONE) as page:
        page.goto(WHY)
        page.wait_for_selector("canvas")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    with tab(chromium, address, **PHONE) as page:
        for path in ("/", "/?text=a+red+circle", "/?like=p4&item=p1", f"/?text={'long' * 60}"):
            page.goto(path)
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        small = page.evaluate(
            "() => [...document.querySelectorAll('a, button, label, summary')].filter((one) => one.checkVisibility())"
            ".map((one) => [one.getBoundingClientRect().height, one.textContent]).filter(([height]) => height < 20)"
        )
        assert not small
        page.goto("/?text=a+red+circle")
        found(page, 24)
        assert not page.locator("details").get_attribute("open"), "filters make room for the results"
        lefts = page.locator("#results > li").evaluate_all("all => all.map((one) => one.offsetLeft)")
        assert len(set(lefts)) == 2, "two columns"


@needs_chromium
def test_whoever_listens_finds_everything_named(page):
    page.goto("/?text=a+red+circle&item=p4")
    page.wait_for_load_state("networkidle")
    page.keyboard.press("Escape")
    seen(page)
    assert page.locator("html").get_attribute("lang") == "en"
    for role in ("banner", "main", "contentinfo", "search"):
        assert page.get_by_role(role).count() == 1, role
    unnamed = page.evaluate(
        "() => [...document.querySelectorAll('input, button, a, summary')].filter((one) => one.checkVisibility() &&"
        " !(one.ariaLabel || one.textContent.trim() || one.labels?.length)).map((one) => one.outerHTML)"
    )
    assert not unnamed
    alternatives = page.locator("#results img").evaluate_all("all => all.map((one) => one.alt)")
    assert all(re.fullmatch(r"image of p\d+", one) for one in alternatives)
    assert page.get_by_role("group", name="colour").count() == 1
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].filter((one) => one.checkVisibility()).map((one) => one.tagName)"
    )
    assert levels == ["H1", "H2"]


# ---- what goes wrong


@needs_chromium
def test_hostile_words_are_words(page, address):
    id = 'evil"/<b>&item=1'
    item = {
        "modalities": {"text": [HOSTILE]},
        "labels": ["<i>circle"],
        "attributes": {"colour": HOSTILE},
    }
    where = f"{address}/v1/items/{quote(id, safe='')}"
    assert httpx.put(where, json=item).status_code == 200
    try:
        page.goto(f"/?text={quote(HOSTILE)}&into=text&is=colour:{quote(HOSTILE)}")
        assert found(page, 1) == [id]
        assert page.locator("#results .words").inner_text() == HOSTILE
        page.locator("#results .open").click()
        dialog = page.get_by_role("dialog")
        sync_api.expect(dialog.get_by_role("heading", name=id)).to_be_visible()
        sync_api.expect(dialog).to_contain_text("<i>circle")
        sync_api.expect(dialog.get_by_role("heading", name="No image")).to_be_visible()
        dialog.get_by_role("link", name=f"More like {id}: image").first.click()
        found(page, 24)
        assert told(page) == {"like": id, "into": "image"}
        assert page.locator("script").count() == 1
    finally:
        assert httpx.delete(where).status_code == 200


@needs_chromium
def test_failures_are_told_in_sentences_and_can_be_tried_again(chromium, imagining, tmp_path):
    model = shutil.copytree(imagining, tmp_path / "m.amodal")
    with running(model, tmp_path / "state") as service, tab(chromium, service.address) as page:
        page.goto("/?like=nobody")
        alert = page.get_by_role("alert")
        sync_api.expect(alert).to_contain_text('Not found: no item "nobody" is indexed.')
        document = {"title": "Unavailable", "detail": "the index does not answer; try again.", "request_id": "0f3c"}
        page.route("**/v1/search", lambda route: route.fulfill(status=503, json=document))
        page.get_by_label("Words to search by").fill("red")
        page.keyboard.press("Enter")
        sync_api.expect(alert).to_contain_text("Unavailable: the index does not answer; try again. Request 0f3c.")
        page.unroute("**/v1/search")
        page.get_by_role("button", name="Try again").click()
        found(page, 24)
        service.kill()
        page.get_by_role("button", name="More results").click()
        sync_api.expect(alert).to_contain_text("The service cannot be reached.")
        assert len(found(page)) == 24, "what was there stays"


@needs_chromium
def test_a_key_is_asked_for_and_kept_in_the_tab_alone(chromium, shapes, tmp_path):
    model, state = shutil.copytree(shapes, tmp_path / "m.amodal"), tmp_path / "state"
    _, key = KeyRing(state).add("page", "read")
    with running(model, state) as service, tab(chromium, service.address) as page:
        page.goto("/?text=a+red+circle&into=image")
        field = page.get_by_label("API key")
        sync_api.expect(page.locator("#key-why")).to_contain_text("A key is needed")
        sync_api.expect(field).to_be_focused()
        field.fill("amodal_12345678_wrong")
        page.keyboard.press("Enter")
        sync_api.expect(page.locator("#key-why")).to_contain_text("The key is not known")
        field.fill(key)
        page.keyboard.press("Enter")
        found(page, 24)
        assert seen(page) == 24
        sync_api.expect(field).to_be_hidden()
        assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
        assert key not in page.url
        page.goto("/?item=p1")
        sync_api.expect(page.get_by_role("dialog")).to_contain_text("This model cannot imagine it; these real items")
