"""The page in a browser with sentences, names and cameras from right to left."""

import io
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

from retrieval import Gallery, Metadata
from service import Finder
from service.api import Limits, make_app
from service.page import mount_page
from tests.sentences import SENTENCES
from tests.service.conftest import running
from tests.service.page.conftest import photo

pytestmark = [pytest.mark.browser, pytest.mark.service]

LONG = "רחל בת־שבע לבית משפחת רוזנבלום־הררי מירושלים"
NAMES = ("王小明", LONG, "نیلوفر\u200cجان", "Анна")
CAMERAS = ("gate", "שער 2")
# The left edge of a letter of an element's text.
EDGE = """([selector, place]) => {
    const walker = document.createTreeWalker(document.querySelector(selector), NodeFilter.SHOW_TEXT);
    let node = walker.nextNode(), left = place;
    while (left >= node.length) { left -= node.length; node = walker.nextNode(); }
    const range = document.createRange();
    range.setStart(node, left);
    range.setEnd(node, left + 1);
    return range.getBoundingClientRect().x;
}"""


@pytest.fixture(scope="module")
def address(model, text_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("languages")
    models = {"reid": model.space_model, "text": text_model.space_model}
    with Gallery.create(folder / "gallery.db", models) as gallery:
        finder = Finder(gallery, model, text_model, folder / "pictures")
        for number, name in enumerate(NAMES):
            for hour, camera in enumerate(CAMERAS, start=8):
                facts = Metadata(identity=name, camera=camera, time=datetime(2026, 5, 4, hour, 30))
                finder.add(photo((60 * number, 50, 200), seed=10 * number + hour), facts)
        app = make_app(finder, Limits())
        mount_page(app, finder)
        with running(app) as address:
            yield address
        finder.close()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desk", "phone"])
def page(request, browser, address):
    context = browser.new_context(viewport=dict(zip(("width", "height"), request.param, strict=True)))
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.goto(address)
    page.get_by_text("8 pictures · 4 names · 2 cameras").wait_for()
    yield page
    assert page.evaluate("document.documentElement.scrollWidth") <= request.param[0]
    context.close()


def ink(field):
    """Where the letters of a field are, from 0, its left edge, to 1."""
    with Image.open(io.BytesIO(field.screenshot())) as image:
        grey = np.asarray(image.convert("L")).astype(int)[6:-6, 6:-6]
    places = np.nonzero((grey < 110).any(axis=0))[0]
    return places.mean() / grey.shape[1]


def ask(page, text):
    page.get_by_label("Or describe somebody").fill(text)
    page.keyboard.press("Enter")
    page.locator("#hits .hit").nth(7).wait_for()


@pytest.mark.parametrize("language", ["zh", "ru", "ar", "he", "fa", "th"])
@pytest.mark.parametrize("page", [(1280, 900)], ids=["desk"], indirect=True)
def test_a_sentence_is_asked(page, language):
    ask(page, SENTENCES[language])
    assert page.get_by_label("Or describe somebody").input_value() == SENTENCES[language]
    said = page.locator("#hits .verdict p", has_text="The sentence is too long for the model")
    said.wait_for()
    ask(page, SENTENCES[language][:4])
    said.wait_for(state="detached")


@pytest.mark.parametrize("page", [(1280, 900)], ids=["desk"], indirect=True)
def test_a_field_has_the_direction_of_what_is_typed(page):
    field = page.get_by_label("Or describe somebody")
    for text, is_left in (("a man", True), ("גבר", False), ("رجل", False), ("男人", True)):
        field.fill(text)
        page.locator("#head h1").click()  # no cursor
        assert (ink(field) < 0.5) == is_left, text


def test_names_are_ordered_and_stay_on_the_left(page):
    ask(page, "a man")
    cards = page.locator("#hits .hit")
    for place in range(8):
        name = f"#hits .hit:nth-child({place + 1}) .name"
        left, width = page.locator(name).evaluate("it => [it.getBoundingClientRect().x, it.offsetWidth]")
        text = cards.nth(place).locator(".name").inner_text()
        first, last = (page.evaluate(EDGE, [name, at]) for at in (0, len(text) - 1))
        assert (first > last) == (text in (LONG, NAMES[2])), text
        assert text == LONG or min(first, last) < left + 20
        assert left - 1 <= first <= left + width  # of a long name the beginning is seen
    page.locator("#hits .hit", has_text="שער").first.locator(".picture").click()
    facts = "dialog .facts"
    assert "שער 2" in page.locator(facts).first.inner_text()
    text = page.locator(facts).first.inner_text()
    dot = text.index("·")
    edges = [page.evaluate(EDGE, [facts, at]) for at in (0, text.index("2"), dot, dot + 2)]
    assert edges[1] < edges[0] < edges[2] < edges[3]  # the camera, within it the number; then the time


def test_a_count_stands_behind_its_camera(page):
    if not page.locator("#cameras").is_visible():
        page.get_by_role("button", name="Filters").click()
    page.get_by_label("Cameras").click()
    option = page.get_by_role("option", name="(4)").nth(1)
    text = option.evaluate("it => it.textContent")
    assert "שער 2" in text
    option.evaluate("it => { it.id = 'found'; }")
    letters = [page.evaluate(EDGE, ["#found", text.index(letter)]) for letter in ("ש", "2", "(")]
    assert letters[1] < letters[0] < letters[2]


def test_the_field_names_languages_where_the_model_has_them(browser, multilingual_model, tmp_path, page):
    assert "женщина" not in page.locator("#sentence").inner_text()
    models = {"text": multilingual_model.space_model}
    with Gallery.create(tmp_path / "gallery.db", models) as gallery:
        finder = Finder(gallery, None, multilingual_model, tmp_path / "pictures")
        finder.add(photo((200, 30, 30)), Metadata(identity="Anna"))
        app = make_app(finder, Limits())
        mount_page(app, finder)
        with running(app) as address:
            page.goto(address)
            page.get_by_text("1 pictures").wait_for()
            said = page.locator("#sentence").inner_text()
            assert all(words in said for words in ("穿红色大衣的女人", "женщина в красном пальто", "امرأة"))
            page.get_by_label("Or describe somebody").fill("женщина в красном пальто")
            page.keyboard.press("Enter")
            page.locator("#hits .hit").wait_for()
        finder.close()
