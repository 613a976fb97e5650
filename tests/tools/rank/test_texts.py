"""Queries and hits that are texts, in the page and in the PNG."""

from dataclasses import replace
from pathlib import Path

import matplotlib.text
import pytest
from PIL import Image

from retrieval import RetrievalTask
from tests.tools.captions import CAPTIONS, caption_task
from tests.tools.pages import Page
from tools.rank import find_query, main
from tools.ranking.fitting import columns, cropped, fit_text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    caption_task(Path("imgs")).save("features.npz")
    return tmp_path


@pytest.fixture
def show(folder):
    """show('--swap') -> the page of all queries."""

    def run(*options, queries="012345"):
        words = ["--features", "features.npz", "--out", "out", "--queries", *queries, *options]
        assert main(words) == 0
        return Page(Path("out/ranking.html").read_text("utf-8"))

    return run


@pytest.fixture
def drawn(monkeypatch):
    """The texts of the PNG as they are drawn: (text, inches from the left, alignment)."""
    texts = []
    draw = matplotlib.text.Text.draw

    def note(self, renderer):
        texts.append((self.get_text().replace("\u200e", ""), self.get_position()[0], self.get_ha()))
        return draw(self, renderer)

    monkeypatch.setattr(matplotlib.text.Text, "draw", note)
    return texts


def said(page):
    return [text for _, text in page.all("p", "text")]


def test_queries_are_shown_as_texts(show):
    page = show("--top", "3")
    assert said(page) == list(CAPTIONS)
    assert all(attributes["dir"] == "auto" for attributes, _ in page.all("p", "text"))
    assert len(page.pictures()) == 6 * 3 and "Query" not in " ".join(page.alts())
    assert "Query 0 · 1_0.png#0" in page.source and "gallery of 7 images" in page.source
    assert page.labels().count("query") == 6
    assert not page.all("span", "missing")


def test_hits_are_shown_as_texts(show):
    page = show("--swap", "--top", "6", queries="06")
    assert sorted(said(page)) == sorted(2 * CAPTIONS)
    assert len(page.pictures()) == 2 and "gallery of 6 texts" in page.source
    assert [attributes["class"] for attributes, _ in page.all("ol")] == ["texts", "texts"]
    marks = [attributes["class"] for attributes, _ in page.all("figure") if "class" in attributes]
    assert marks.count("match") == 2 and marks.count("miss") == 10
    assert "no match in the gallery" in page.source


def test_images_of_unknown_camera_have_their_name(show):
    page = show("--top", "7", queries="0")
    names = [text for _, text in page.all("span", "origin")]
    assert sorted(names) == ["1_0.png", "1_1.png", "2_0.png", "2_1.png", "3_0.png", "3_1.png", "4_0.png"]


@pytest.mark.parametrize("swap", [[], ["--swap"]])
def test_the_png_has_the_texts(show, drawn, swap):
    show(*swap, "--top", "6")
    texts = [text for text, _, _ in drawn]
    whole = "".join(texts).replace(" ", "")
    for caption in CAPTIONS:
        if caption.isascii():  # whether other letters can be drawn depends on the fonts
            assert caption.replace(" ", "") in whole
    with Image.open("out/ranking.png") as image:
        assert image.width > 1000


def test_letters_that_no_font_has_are_boxes(folder, show, drawn, capsys):
    task = caption_task(Path("imgs"), ["a man with a \ue000 hat", *CAPTIONS[1:]])
    task.save("features.npz")
    assert task.names.items[task.images.keys[0]] == r"a man with a \ue000 hat"  # not printable: escaped
    caption_task(Path("imgs"), ["a man with a \U00012031 hat", *CAPTIONS[1:]]).save("features.npz")
    page = show("--top", "1", queries="0")
    assert said(page) == ["a man with a \U00012031 hat"]
    text = " ".join(text for text, _, _ in drawn)
    if "□" in text:  # no font has the sign
        assert "a man with a □ hat" in text.replace("  ", " ")
        assert "\U00012031" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("word", "row"),
    [
        ("3", 3),
        ("imgs/1_0.png#1", 1),
        ("1_0.png#0", 0),
        ("Blue Backpack", 0),
        ("umbrella red", 1),
        ("双肩包", 2),
        ("سترة", 3),
        ("somebody in white", 4),
    ],
)
def test_queries_are_found_by_words(folder, word, row):
    query = next(iter(RetrievalTask.load("features.npz"))).query
    assert find_query(word, query) == row


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--queries", "somebody"], "2 queries say 'somebody'"),
        (["--queries", "blue zeppelin"], "no query is called 'blue zeppelin'; nearest: "),
        (["--queries", "imgs/1_0.png"], "2 queries are called"),
        (["--queries", " "], "no query is called ' '"),
        (
            ["--queries", "0", "--weight", "gone.pth"],
            "--weight shows where a model looks in queries, but 6 of",
        ),
    ],
)
def test_refusals_are_one_line(folder, capsys, words, told):
    with pytest.raises(SystemExit) as end:
        main(["--features", "features.npz", "--out", "out", *words])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith("error: ") and told in error and error.count("\n") == 1


def test_weight_is_for_queries_that_are_images(folder, capsys):
    with pytest.raises(SystemExit):
        main(["--features", "features.npz", "--out", "out", "--swap", "--weight", "gone.pth"])
    assert "no weights file at gone.pth" in capsys.readouterr().err


def test_a_thousand_letters(folder, show, drawn):
    long = " ".join(["the person wears a long green coat"] * 30)
    caption_task(Path("imgs"), [long, "红" * 1000, *CAPTIONS[2:]]).save("features.npz")
    assert said(show("--top", "1", queries="01")) == [long, "红" * 1000]
    lines = [text for text, _, _ in drawn if "green" in text or "红" in text or "□" in text]
    assert 20 < len(lines) < 60 and lines[-1].endswith("…")


# ---- fitting


def test_short_texts_have_large_letters():
    short, long = (fit_text("a man with a blue hat " * count, 1.3, 1.4) for count in (1, 12))
    assert short.size > long.size and not short.leftward
    assert " ".join(short.lines) == "a man with a blue hat"
    assert " ".join(long.lines) == ("a man with a blue hat " * 12).strip()


def test_what_has_no_room_is_left_out():
    lines = fit_text("a man with a blue hat " * 100, 1.3, 1.4).lines
    assert lines[-1].endswith("…") and not any("…" in line for line in lines[:-1])
    assert ("a man with a blue hat " * 100).startswith(" ".join(lines).removesuffix("…"))
    assert fit_text("x" * 10**6, 1.3, 1.4).lines[-1].endswith("…")


def test_words_that_are_too_long_are_broken():
    lines = fit_text("x" * 60, 1.0, 1.4).lines
    assert len(lines) > 1 and "".join(lines) == "x" * 60


@pytest.mark.parametrize(
    ("text", "leftward"), [("(1) رجل", True), ("a رجل", False), ("1", False), ("", False)]
)
def test_the_first_letter_has_the_direction(text, leftward):
    assert fit_text(text, 1.3, 1.4).leftward is leftward


def test_columns_and_cropping():
    assert (columns("ab王"), cropped("ab王", 4), cropped("abcdefghij", 7)) == (4, "ab王", "ab…ghij")


def test_texts_of_a_query_without_identity(folder, show):
    task = RetrievalTask.load("features.npz")
    pids = task.images.pids.clone()
    pids[0] = -1
    replace(task, images=replace(task.images, pids=pids)).save("features.npz")
    page = show("--top", "2", queries="0")
    assert page.all("p", "summary")[0][1] == "identity not known" and "id ?" not in page.source
