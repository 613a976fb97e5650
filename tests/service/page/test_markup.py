"""The page's own HTML: nothing in it is a text of others, the line stands where the threshold is."""

from datetime import datetime
from html.parser import HTMLParser

import pytest

from retrieval import Entry, Hit, Metadata
from service import Answer
from service.page import markup

HOSTILE = ('"><script>alert(1)</script>', "'><img src=x onerror=alert(1)>", "\x1b[31m</h2>‮")


class Parts(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def of_class(self, name):
        return [each for each in self.tags if name in (each[1].get("class") or "").split()]


def hit(distance, **facts):
    return Hit(f"key-{distance}", 1 - distance / 2, Metadata(**facts))


def ranking(answer, may_add=False):
    return Parts(markup.ranking(answer, lambda key: "data:image/jpeg;base64,AAAA", may_add=may_add))


def test_the_line_stands_between_the_same_and_the_others():
    hits = [hit(0.2, identity="Anna"), hit(0.5, identity="Anna"), hit(0.9, identity="Ben")]
    page = ranking(Answer(hits, 0.5, "reid", nobody=False))
    rows = [facts.get("class", "") for _, facts in page.tags]
    kinds = [row.split()[-1] for row in rows if row.startswith("hit ") or row == "line"]
    assert kinds == ["same", "same", "line", "beyond"]
    assert page.words[:2] == ["Anna", "2 of 3 pictures are within the threshold of 0.5."]


def test_names_from_right_to_left_keep_to_themselves():
    names = ("דנה", "نیلوفر\u200cجان", "רחל")
    page = ranking(Answer([hit(0.1, identity=name, camera="שער 2") for name in names], 0.5, "reid", False))
    assert page.words[:2] == [
        "דנה",
        "3 of 3 pictures are within the threshold of 0.5; some of them are of "
        "\u2068نیلوفر\u200cجان\u2069, \u2068רחל\u2069.",
    ]
    assert all(facts["dir"] == "auto" for _, facts in page.of_class("name"))
    assert {facts["aria-label"] for _, facts in page.of_class("picture")} == {
        f"{place}: \u2068{name}\u2069, \u2068שער 2\u2069, no time, distance 0.100"
        for place, name in enumerate(names, start=1)
    }
    said = Parts(markup.added(Metadata(identity="דנה", camera="gate")))
    assert "".join(said.words) == "Added: \u2068דנה\u2069, gate"
    cut = ranking(Answer([hit(0.1)], None, "text", nobody=False, cut=True))
    assert cut.words[1].endswith("The sentence is too long for the model, which reads its beginning only.")


def test_nobody_is_said_plainly():
    page = ranking(Answer([hit(0.8, identity="Anna")], 0.5, "reid", nobody=True), may_add=True)
    assert page.words[:2] == [
        "Nobody",
        "The nearest picture is at distance 0.800, beyond the threshold of 0.5.",
    ]
    assert [parts["data-act"] for _, parts in page.of_class("quiet")] == ["keep"]
    assert len(page.of_class("line")) == 1 and len(page.of_class("beyond")) == 1
    empty = ranking(Answer([], 0.5, "reid", nobody=True))
    assert empty.words == ["Nobody", "No picture of the gallery passes these filters."]


def test_without_a_threshold_nobody_is_the_same():
    page = ranking(Answer([hit(0.1, identity="Anna")], None, "reid", nobody=False))
    assert page.words[0] == "Nearest first" and not page.of_class("line") and not page.of_class("same")


@pytest.mark.parametrize(
    ("names", "title", "others"),
    [
        (("", "Anna"), "Seen before, without a name", "Anna"),
        (("Anna", "", "Ben", "Anna"), "Anna", "Ben"),
        (("Anna", "Ben", "Cleo", "Dan", "Eve"), "Anna", "Ben, Cleo, Dan, and 1 more"),
    ],
)
def test_who_it_is_follows_from_the_nearest(names, title, others):
    hits = [hit(0.1 + place / 100, identity=name) for place, name in enumerate(names)]
    said, reason, *_ = ranking(Answer(hits, 0.5, "reid", nobody=False)).words
    assert said == title and reason.endswith(f"; some of them are of {others}.")


@pytest.mark.parametrize("words", HOSTILE)
def test_texts_of_others_are_texts(words):
    facts = Metadata.model_construct(identity=words, camera=words, time=datetime(2026, 5, 4, 8), more={})
    entry = Entry(words, facts)
    answer = Answer([Hit(words, 1.0, facts)], 0.5, "reid", nobody=False)
    pages = (
        markup.ranking(answer, lambda key: "", may_add=True),
        markup.one_picture(entry, ""),
        markup.timeline(words, [entry], lambda key: "", total=1),
        markup.message(words),
    )
    for page in pages:
        parts = Parts(page)
        assert {tag for tag, _ in parts.tags}.isdisjoint({"script", "img"})
        assert not any(name.startswith("on") for _, attributes in parts.tags for name in attributes)
        assert "\x1b" not in "".join(parts.words)
    (picture,) = (parts for _, parts in Parts(pages[0]).of_class("picture"))
    assert picture["data-key"] == words  # a button names its entry, whatever the key is


def test_visits_are_joined_by_camera_day_and_pause():
    def seen(camera, *time):
        return Entry(
            f"{camera}{time}", Metadata(camera=camera, time=datetime(2026, 5, *time) if time else None)
        )

    entries = [
        *(seen("gate", 4, 8, 0), seen("gate", 4, 8, 10), seen("gate", 4, 8, 21)),
        *(seen("hall", 4, 8, 22), seen("gate", 4, 8, 23)),
        *(seen("gate", 4, 23, 59), seen("gate", 5, 0, 1)),
        *(seen("gate"), seen("gate")),
    ]
    found = markup.visits(entries)
    assert [(visit.camera, len(visit.entries)) for visit in found] == [
        *(("gate", 2), ("gate", 1), ("hall", 1), ("gate", 1), ("gate", 1), ("gate", 1), ("gate", 2)),
    ]
    assert [entry for visit in found for entry in visit.entries] == entries


def test_timeline_has_a_row_for_each_camera_and_a_column_for_each_visit():
    places = [("hall", 4, 8), ("gate", 4, 9), ("hall", 5, 8)]
    entries = [
        Entry(str(at), Metadata(camera=at[0], time=datetime(2026, 5, at[1], at[2], 30))) for at in places
    ]
    page = Parts(markup.timeline("Anna", entries, lambda key: "", total=7))
    assert [parts["style"] for _, parts in page.of_class("visit")] == [
        "grid-row:3;grid-column:2",
        "grid-row:2;grid-column:3",
        "grid-row:3;grid-column:4",
    ]
    days = [parts["style"] for _, parts in page.of_class("day") if "whole" not in parts["class"]]
    assert days == ["grid-column:2/span 2", "grid-column:4/span 1"]
    assert "Mon 2026-05-04" in page.words and "08:30" in page.words
    assert page.words[:2] == ["Anna", "7 pictures, 2 cameras, 2 days; the last 3 are shown"]
