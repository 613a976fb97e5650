"""The deeds of the page with a finder, without a browser."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from retrieval import Gallery
from service import Finder
from service.page import make_page
from service.page.deeds import Deeds, Filters
from service.page.pictures import small_picture
from tests.service.page.conftest import PEOPLE, fill, made_finder, photo

ALL = Filters([], "", "", 12, "0.05")


@pytest.fixture(scope="module")
def shared(model, text_model, tmp_path_factory):
    with made_finder(tmp_path_factory.mktemp("deeds"), model, text_model) as finder:
        yield Deeds(finder, 2**20)


@pytest.fixture
def deeds(finder):
    fill(finder)
    return Deeds(finder, 2**20)


def asked(data, kind="png"):
    return {"data": f"data:image/{kind};base64,{base64.b64encode(data).decode()}"}


def test_a_picture_is_ranked(shared):
    page = shared.search(asked(photo(PEOPLE["Anna"], seed=1)), ALL)
    assert page.count('class="hit same"') == 6 and page.count('class="hit beyond"') == 6
    assert '<h2 dir="auto">Anna</h2>' in page and page.count("data:image/jpeg;base64,") == 12
    assert 'data-act="keep"' in page
    assert '<h2 dir="auto">Nobody</h2>' in shared.search(asked(photo((250, 250, 250))), ALL)


def test_filters_leave_out(shared):
    question = asked(photo(PEOPLE["Anna"], seed=1))
    page = shared.search(question, Filters(["大厅"], "2026-05-04", "2026-05-04", 12, "0.05"))
    assert page.count('class="hit ') == 4 and page.count('class="hit same"') == 1
    assert "2026-05-05" not in page and "gate" not in page
    assert shared.search(question, Filters([], "", "", 1, "0.05")).count('class="hit ') == 1
    assert "passes these filters" in shared.search(question, Filters([], "2027-01-01", "", 12, ""))


def test_an_entry_is_the_next_question(shared):
    key = shared.finder.timeline("王小明")[0].key
    question = shared.ask_again(key)
    page = shared.search(question, ALL)
    assert question["key"] == key and question["data"].startswith("data:image/jpeg;base64,")
    assert '<h2 dir="auto">王小明</h2>' in page and f'data-key="{key}"' not in page
    assert 'data-act="keep"' not in page  # it is there already


def test_a_sentence_is_ranked(shared):
    page = shared.search({"text": "a man in red"}, Filters([], "", "", 5, ""))
    assert (
        page.count('class="hit ') == 5 and '<h2 dir="auto">Nearest first</h2>' in page and "keep" not in page
    )


@pytest.mark.parametrize(
    ("question", "filters", "words"),
    [
        (asked(b"no picture"), ALL, "cannot be read as an image"),
        (asked(photo((1, 2, 3))[:200]), ALL, "cannot be read as an image"),
        ({"key": "unknown"}, ALL, "no entry with the key"),
        (asked(photo((1, 2, 3))), Filters([], "", "", float("nan"), ""), "filters: hits is nan"),
        (asked(photo((1, 2, 3))), Filters([], "", "", None, ""), "filters: hits is None"),
        (asked(photo((1, 2, 3))), Filters(5, "", "", 12, ""), "filters: cameras is 5"),
        (asked(photo((1, 2, 3))), Filters([], 3, "", 12, ""), "filters: since is 3"),
        (asked(photo((1, 2, 3))), Filters([], "", "", 12, [1]), "filters: threshold is [1]"),
        (asked(photo((1, 2, 3))), Filters([], "soon", "", 12, ""), "time is &#x27;soon&#x27;"),
        (asked(photo((1, 2, 3))), Filters([], "", "", 12, "-1"), "threshold is -1"),
        (asked(photo((1, 2, 3))), Filters([], "", "", 12, "nan"), "threshold is nan"),
        (asked(photo((1, 2, 3))), Filters([], "0001-01-01", "", 12, ""), "since is 0001-01-01"),
    ],
)
def test_an_error_is_one_line_on_the_page(shared, question, filters, words):
    page = shared.search(question, filters)
    assert page.startswith('<p class="message problem" role="alert">') and words in page
    assert "\n" not in page and "<article" not in page


def test_no_question_is_a_welcome(shared):
    assert "describe somebody" in shared.search({}, ALL)
    assert "describe somebody" not in Deeds(_without_sentences(shared.finder), 2**20).search({}, ALL)


def _without_sentences(finder):
    return Finder(finder.gallery, finder._models["reid"])


def test_lists(shared):
    head, names, cameras = shared.lists()
    assert "24 pictures · 4 names · 3 cameras" in head
    assert names == sorted(PEOPLE)
    assert cameras == [("gate (8)", "gate"), ("hall (8)", "hall"), ("大厅 (8)", "大厅")]


def test_adding_renaming_removing(deeds):
    data = photo((250, 250, 250))
    said, was_added = deeds.add(
        asked(data), {"identity": " Ines ", "camera": "gate", "time": "2026-05-06 09:00"}
    )
    assert was_added and "Added: Ines, gate" in said
    (entry,) = deeds.finder.timeline("Ines")
    assert f"{entry.metadata.time:%Y-%m-%d %H:%M}" == "2026-05-06 09:00"
    assert Path(entry.metadata.path).read_bytes() == data
    assert '<h2 dir="auto">Ida</h2>' in deeds.rename(entry.key, "Ida ")
    assert "Ida" in deeds.timeline("Ida") and "nobody is named" in deeds.timeline("Ines")
    assert "Removed" in deeds.remove(entry.key)
    assert not Path(entry.metadata.path).exists() and "nobody is named" in deeds.timeline("Ida")
    assert "not there any more" in deeds.remove(entry.key)
    assert "no entry with the key" in deeds.look(entry.key)
    assert "no entry with the key" in deeds.rename(entry.key, "Ida")


def test_what_cannot_be_added(deeds):
    count = deeds.finder.gallery.count()
    for question, facts, words in (
        ({}, {}, "no picture is chosen"),
        ({"text": "a man"}, {}, "no picture is chosen"),
        (asked(b"no picture"), {}, "cannot be read as an image"),
        (asked(photo((1, 1, 1))), {"identity": "a\nb"}, "identity"),
        (asked(photo((1, 1, 1))), {"time": "noon"}, "time is"),
    ):
        said, was_added = deeds.add(question, facts)
        assert not was_added and words in said and "problem" in said
    assert deeds.finder.gallery.count() == count
    assert not Deeds(_without_sentences(deeds.finder), 2**20).may_add


def test_a_picture_that_changed_is_not_shown(deeds):
    entry = deeds.finder.timeline("Anna")[0]
    Path(entry.metadata.path).write_bytes(photo((0, 0, 0)))
    assert deeds.shown(entry.key) == "" and "The picture is not there." in deeds.look(entry.key)
    Path(entry.metadata.path).unlink()
    assert deeds.shown(entry.key) == ""
    page = deeds.search(asked(photo(PEOPLE["Anna"], seed=1)), ALL)
    assert page.count('class="lost"') == 1 and page.count("data:image/jpeg") == 11


def test_where_the_store_lies_is_only_for_the_log(deeds, monkeypatch, caplog):
    def fail(*args, **settings):
        raise OSError("/secret/gallery.db: no space left on device")

    monkeypatch.setattr(deeds.finder.gallery, "search", fail)
    monkeypatch.setattr(deeds.finder.gallery, "identities", fail)
    page = deeds.search(asked(photo((1, 2, 3))), ALL)
    assert "the gallery or its disk cannot be reached" in page and "secret" not in page
    assert "cannot be reached" in deeds.lists().head
    assert "/secret/gallery.db: no space left on device" in caplog.text


def test_pictures_of_the_page_are_small_and_upright():
    turned, data = Image.new("RGB", (800, 400), (200, 0, 0)), io.BytesIO()
    exif = turned.getexif()
    exif[0x0112], exif[0x010E] = 6, "secret"  # turned by a quarter; a description
    turned.save(data, "JPEG", exif=exif)
    address = small_picture(data.getvalue(), 320)
    small = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))))
    assert small.size == (160, 320) and not small.getexif()
    with pytest.raises(ValueError, match="cannot be read as an image"):
        small_picture(b"no picture", 320)


def test_with_a_text_search_model_only(text_model, tmp_path):
    with Gallery.create(tmp_path / "gallery.db", {"text": text_model.space_model}) as gallery:
        finder = Finder(gallery, None, text_model, tmp_path / "pictures")
        fill(finder)
        deeds = Deeds(finder, 2**20)
        assert "24 pictures" in deeds.lists().head
        assert deeds.search(asked(photo(PEOPLE["Anna"], seed=1)), ALL).count('class="hit ') == 12
        assert deeds.search({"text": "a man in red"}, ALL).count('class="hit ') == 12
        assert deeds.search(deeds.ask_again(finder.timeline("Anna")[0].key), ALL).count('class="hit ') == 12
        finder.close()


def test_what_the_finder_cannot_do_is_not_offered(shared):
    def shown(finder):
        parts = {
            each["props"].get("elem_id") or each["props"].get("label"): each["props"].get("visible")
            for each in make_page(finder).get_config_file()["components"]
        }
        return parts["sentence"], parts["Add"]

    assert shown(shared.finder) == (True, True)
    assert shown(_without_sentences(shared.finder)) == (False, False)
