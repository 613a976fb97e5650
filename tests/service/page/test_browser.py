"""The page in a browser, as somebody uses it: at a desk and on a phone, and without any other server."""

import base64
import re

import pytest

from service.api import Limits, make_app
from service.page import mount_page
from tests.service.conftest import running
from tests.service.page.conftest import BAD_NAME, BAD_TEMPLATE, PEOPLE, made_finder, photo

pytestmark = [pytest.mark.browser, pytest.mark.service]

LOOKS = {"desk": (1280, 900, "light"), "phone": (390, 844, "light"), "night": (1280, 900, "dark")}
ANNA = photo(PEOPLE["Anna"], seed=7)
NOBODY = photo((250, 250, 250), seed=7)


@pytest.fixture(scope="module")
def address(model, text_model, tmp_path_factory):
    with made_finder(tmp_path_factory.mktemp("browser"), model, text_model) as finder:
        finder.threshold = 0.05
        app = make_app(finder, Limits())
        mount_page(app, finder)
        with running(app) as address:
            yield address


def test_the_page_is_behind_the_key_of_the_service(model, text_model, browser, tmp_path):
    key = "0123456789abcdef"
    with made_finder(tmp_path, model, text_model) as finder:
        app = make_app(finder, Limits(), key=key)
        mount_page(app, finder)
        with running(app) as address:
            shut = browser.new_page()
            for path in ("/", "/config", "/theme.css", "/gradio_api/info", "/assets/a.js"):
                assert shut.request.get(address + path).status == 401
            shut.close()
            context = browser.new_context(http_credentials={"username": "me", "password": key})
            page = context.new_page()
            page.goto(address)
            page.get_by_text("24 pictures · 4 names").wait_for()
            choose(page, ANNA)
            page.locator("#hits .hit").nth(11).wait_for()
            context.close()


@pytest.fixture(params=("desk", "phone"))
def page(request, browser, address):
    """The page at a size; at the end nothing has been asked of another server, and no script has failed."""
    width, height, scheme = LOOKS[request.param]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page, outside, errors = context.new_page(), [], []
    page.on("request", lambda it: it.url.startswith((address, "data:", "blob:")) or outside.append(it.url))
    page.on("pageerror", lambda it: errors.append(str(it)))
    page.on("console", lambda it: it.type == "error" and errors.append(it.text))
    page.set_default_timeout(20_000)
    page.goto(address)
    page.get_by_text("24 pictures · 4 names · 3 cameras").wait_for()
    yield page
    assert not outside and not errors
    assert page.evaluate("window.hacked") is None
    # Nothing is wider than the window.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def choose(page, data, field="question"):
    file = {"name": "who.png", "mimeType": "image/png", "buffer": data}
    page.set_input_files(f"#{field} input[type=file]", file)


def give(page, data, event):
    """Drop a picture into the field, or paste it into the page."""
    page.evaluate(
        """([data, event]) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const files = new DataTransfer();
            files.items.add(new File([bytes], "who.png", { type: "image/png" }));
            const given = event === "drop"
                ? new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: files, bubbles: true, cancelable: true });
            const place = event === "drop" ? "#question .drop" : "body";
            document.querySelector(place).dispatchEvent(given);
        }""",
        [base64.b64encode(data).decode(), event],
    )


def title(page, words, part="hits"):
    page.locator(f"#{part} .verdict h2", has_text=re.compile(f"^{re.escape(words)}$")).wait_for()


def open_filters(page):
    if not page.locator("#cameras").is_visible():
        page.get_by_role("button", name="Filters").click()


@pytest.mark.parametrize(
    ("page", "way"), [("desk", "drop"), ("desk", "paste"), ("phone", "choose")], indirect=["page"]
)
def test_a_picture_is_ranked(page, way):
    choose(page, ANNA) if way == "choose" else give(page, ANNA, way)
    title(page, "Anna")
    assert page.locator("#hits .hit.same").count() == 6 and page.locator("#hits .hit.beyond").count() == 6
    assert page.locator("#hits .line").inner_text() == "threshold 0.05: the same above, others below"
    card = page.locator("#hits .hit").first
    assert card.locator(".name").inner_text() == "Anna"
    assert re.fullmatch(r"2026-05-0[45] (08|09|10):30", card.locator(".facts").last.inner_text())
    assert re.fullmatch(r"0\.00\d", card.locator(".distance b").inner_text())
    # The pictures are really there.
    widths = page.eval_on_selector_all("#hits .hit img", "all => all.map((it) => it.naturalWidth)")
    assert len(widths) == 12 and min(widths) > 0
    page.get_by_role("button", name="Take the picture away").click()
    title(page, "Who is this?")


def test_nobody_then_somebody_with_a_name(page):
    choose(page, NOBODY)
    title(page, "Nobody")
    assert page.locator("#hits .hit.same").count() == 0
    page.get_by_role("button", name="Add this picture with a name").click()
    page.locator("#new .drop.filled").wait_for()
    page.get_by_label("Name", exact=True).last.fill("Ines")
    page.get_by_label("Camera", exact=True).fill("gate")
    page.locator("#time input").first.fill("2026-05-06 09:00:00")
    page.get_by_role("button", name="Add to the gallery").click()
    page.get_by_text("Added: Ines, gate").wait_for()
    page.get_by_text("25 pictures · 5 names").wait_for()
    page.get_by_role("tab", name="Search").click()
    choose(page, photo((250, 250, 250), seed=8))
    title(page, "Ines")
    # And goes again.
    page.locator("#hits .picture").first.click()
    page.get_by_text("Remove from the gallery").click()
    page.get_by_role("button", name="Remove it").click()
    page.get_by_text("24 pictures · 4 names").wait_for()
    title(page, "Nobody")


def test_filters(page):
    choose(page, ANNA)
    title(page, "Anna")
    open_filters(page)
    page.get_by_label("Cameras").click()
    page.get_by_role("option", name="大厅 (8)").click()
    page.locator("#hits .hit").nth(7).wait_for()
    page.wait_for_function("document.querySelectorAll('#hits .hit').length === 8")
    assert {it.inner_text() for it in page.locator("#hits .facts:nth-of-type(2)").all()} == {"大厅"}
    page.keyboard.press("Escape")
    page.locator("#since input").first.fill("2026-05-05 00:00:00")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('#hits .hit').length === 4")
    page.get_by_label("Largest distance of the same person").fill("0")
    page.keyboard.press("Enter")
    title(page, "Nobody")
    page.get_by_label("Largest distance of the same person").fill("near")
    page.keyboard.press("Enter")
    page.get_by_text("largest distance is 'near'; allowed: a number from 0 to 4").wait_for()


def test_a_sentence_is_ranked(page):
    page.get_by_label("Or describe somebody").fill("a man in red")
    page.keyboard.press("Enter")
    title(page, "Nearest first")
    assert page.locator("#hits .hit").count() == 12 and page.locator("#hits .line").count() == 0


def test_a_hit_is_the_next_question(page):
    choose(page, ANNA)
    title(page, "Anna")
    page.get_by_role("button", name="Search with picture 8").click()
    page.locator("#hits .hit.same").nth(4).wait_for()
    page.wait_for_function("document.querySelectorAll('#hits .hit.same').length === 5")  # without its own
    assert page.locator("#question img").get_attribute("src").startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize(("page", "name"), [("desk", BAD_NAME), ("phone", BAD_TEMPLATE)], indirect=["page"])
def test_names_are_texts(page, name):
    choose(page, photo(PEOPLE[name], seed=7))
    title(page, name)
    page.locator("#hits .picture").first.click()
    assert page.locator("dialog h2").inner_text() == name
    page.locator("dialog").get_by_role("button", name="Timeline").click()
    title(page, name, "line")
    assert page.get_by_label("Name", exact=True).first.input_value() == name
    assert page.locator("img[onerror]").count() == 0


def test_a_timeline(page):
    page.get_by_role("tab", name="Timeline").click()
    page.get_by_label("Name", exact=True).first.click()
    page.get_by_role("option", name="王小明").click()
    title(page, "王小明", "line")
    rows = [it.inner_text() for it in page.locator("#line .camera").all()]
    assert rows == ["gate", "hall", "大厅"]
    assert page.locator("#line .day:not(.whole)").all_inner_texts() == ["Mon 2026-05-04", "Tue 2026-05-05"]
    pictures = page.locator("#line .picture")
    assert pictures.count() == 6
    tops = {name: page.locator("#line .camera", has_text=name).bounding_box()["y"] for name in rows}
    for picture in pictures.all():
        camera = picture.get_attribute("aria-label").split(", ")[1]
        box = picture.bounding_box()
        assert tops[camera] < box["y"] < tops[camera] + 150
    assert page.locator("#line .life").evaluate("it => it.scrollWidth > 0")
    pictures.first.click()
    page.locator("dialog").get_by_role("button", name="Search with this picture").click()
    title(page, "王小明")


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_a_name_is_changed(page):
    choose(page, photo(PEOPLE["王小明"], seed=7))
    title(page, "王小明")
    page.locator("#hits .picture").first.click()
    for name in ("李四 O'Neill", "王小明"):
        page.get_by_label("Name", exact=True).last.fill(name)
        page.locator("dialog").get_by_role("button", name="Save").click()
        page.locator("dialog h2", has_text=name).wait_for()
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


@pytest.mark.parametrize("page", ["desk"], indirect=True)
def test_by_keyboard_only(page):
    def until(condition, key="Tab", most=40):
        for _ in range(most):
            if page.evaluate(f"(() => {{ const it = document.activeElement; return {condition}; }})()"):
                return
            page.keyboard.press(key)
        raise AssertionError(f"the focus never came to {condition}")

    until("it.type === 'file'")
    assert page.locator("#question .drop").evaluate("it => getComputedStyle(it).outlineStyle") == "solid"
    until("!!it.closest('#sentence')")
    page.keyboard.type("a man in red")
    page.keyboard.press("Enter")
    title(page, "Nearest first")
    until("it.matches('#hits .picture')")
    page.keyboard.press("Enter")
    page.locator("dialog[open]").wait_for()
    until("it.textContent === 'Search with this picture'")
    page.keyboard.press("Enter")
    page.locator("#question .drop.filled").wait_for()
    assert page.locator("dialog[open]").count() == 0
    page.wait_for_function("document.querySelectorAll('#hits .hit.same').length === 5")


@pytest.mark.parametrize("page", ["desk"], indirect=True)
def test_what_is_no_picture_is_refused_in_the_browser(page):
    page.set_input_files(
        "#question input[type=file]", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"words"}
    )
    page.get_by_text("This file is no picture.").wait_for()
    choose(page, b"x" * (11 * 2**20))
    page.get_by_text("This picture has more than 10.0 MB.").wait_for()
    choose(page, b"not a PNG at all")
    page.locator("#hits").get_by_text("cannot be read as an image").wait_for()


CONTRAST = """(selector) => {
    const parts = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((it) => it / 255);
    const light = (colour) => parts(colour)
        .map((it) => (it <= 0.03928 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4))
        .reduce((sum, it, at) => sum + it * [0.2126, 0.7152, 0.0722][at], 0);
    const item = document.querySelector(selector);
    let behind = item;
    while (["rgba(0, 0, 0, 0)", "transparent"].includes(getComputedStyle(behind).backgroundColor))
        behind = behind.parentElement;
    const both = [getComputedStyle(item).color, getComputedStyle(behind).backgroundColor].map(light);
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
}"""


@pytest.mark.parametrize("page", ["desk", "night"], indirect=True)
def test_letters_can_be_read_by_day_and_by_night(page):
    choose(page, ANNA)
    title(page, "Anna")
    parts = ("#head h1", "#head p", ".verdict h2", ".verdict p", ".hit .name", ".hit .facts", ".line span")
    for part in (*parts, ".hit.same .distance b", "#rooms button[aria-selected=true]", ".quiet"):
        assert page.evaluate(CONTRAST, part) >= 4.5, part
