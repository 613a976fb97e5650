"""Queries and hits that are texts, in the page and in the PNG."""

import unicodedata
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib.text
import pytest
from matplotlib import rc_context
from PIL import Image

from retrieval import RetrievalTask
from tests.sentences import LEFTWARD, SENTENCES
from tests.tools.captions import CAPTIONS, caption_task
from tests.tools.pages import Page
from tools.rank import find_query, main
from tools.ranking.fitting import clusters, cropped, fit_text, folded
from tools.ranking.fonts import find_fonts
from utils.text import columns


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
    assert "Query 0 · <bdi>1_0.png#0</bdi>" in page.source and "gallery of 7 images" in page.source
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


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a.jpg", ("a.jpg",)),
        ("", ()),
        ("anna_0003_c1_17.jpg", ("anna_000", "3_c1_17.", "jpg")),
        ("a" * 30 + "_17.jpg", ("aaaaaaa…", "aaaaaaa_", "17.jpg")),
        ("a" + "王" * 9, ("a王王王", "王王王王", "王王")),
        ("a" + "王" * 30, ("a王王王…", "王王王王", "王王王")),
    ],
)
def test_a_name_on_lines(text, lines):
    assert folded(text, 8, 3) == lines and all(columns(line) <= 8 for line in lines)


def test_columns_and_cropping():
    assert (columns("ab王"), cropped("ab王", 4), cropped("abcdefghij", 7)) == (4, "ab王", "ab…ghij")
    assert cropped("ใส่เสื้อยืดสี", 6) == "ใส่…ยืดสี"  # signs stay with their letters


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("เงิน", ["เ", "งิ", "น"]),
        ("e\u0301a", ["e\u0301", "a"]),
        ("क्षि a", ["क्षि", " ", "a"]),
        ("👩🏽\u200d🚀x", ["👩🏽\u200d🚀", "x"]),
        ("\u1112\u1161\u11ab국", ["\u1112\u1161\u11ab", "국"]),
        ("می\u200cپوشد", ["م", "ی\u200c", "پ", "و", "ش", "د"]),
        ("\u0301a", ["\u0301", "a"]),
        ("", []),
    ],
)
def test_signs_belong_to_letters(text, parts):
    assert clusters(text) == parts


def fitted(text, width):
    """The text on lines of that width, in fonts that have its letters as far as there are any."""
    with rc_context({"font.family": list(find_fonts([text]).families)}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_text(text, width, 5)


@pytest.mark.parametrize("language", SENTENCES)
@pytest.mark.parametrize("width", [0.35, 0.8])
def test_lines_of_any_script(language, width):
    text = SENTENCES[language]
    found = fitted(text, width)
    assert "".join(found.lines).replace(" ", "") == text.replace(" ", "") and len(found.lines) > 1
    for line, following in zip(found.lines, found.lines[1:], strict=False):
        assert unicodedata.category(following[0]) not in ("Mn", "Mc", "Me", "Cf")
        assert following[0] not in "，。、）" and line[-1] not in "（(เใ"
    assert found.leftward == (language in LEFTWARD)


def test_lines_end_between_words_or_ideographs():
    lines = fitted("他穿着iPhone标志的白色T恤，「红色」的鞋子和黑色长裤", 0.7).lines
    assert len(lines) > 1 and any("iPhone" in line for line in lines)
    assert not any(line.endswith("「") or line[0] in "，」" for line in lines)
    assert " ".join(fitted(SENTENCES["ko"], 0.8).lines) == SENTENCES["ko"]  # Korean has spaces
    for text in ("。" * 100, "មនុស្ស\u200bម្នាក់\u200b" * 3):
        lines = fitted(text, 0.8).lines
        assert "".join(lines) == text and len(lines) > 1


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences_of_any_script_in_page_and_png(folder, show, drawn, language):
    text = SENTENCES[language]
    caption_task(Path("imgs"), [text, *CAPTIONS[1:]]).save("features.npz")
    page = show("--top", "1", queries="0")
    ((attributes, shown),) = page.all("p", "text")
    assert shown == text and attributes["dir"] == "auto"
    assert attributes["lang"] == (language if language in ("zh", "ja", "ko", "th", "he") else "")
    if find_fonts([text]).missing:  # it depends on the machine
        return
    mark = "\u200f" if language in LEFTWARD else ""
    lines = [
        (line, side) for line, x, side in drawn if 0.3 < x < 1.8 and side != "center" and line[:1] != "0"
    ]
    own = [(line, side) for line, side in lines if line and line.strip(mark) in text]
    assert own and {side for _, side in own} == {"right" if mark else "left"}
    assert all(line.startswith(mark) and line.endswith(mark) for line, _ in own)
    whole = "".join(line.strip(mark) for line, _ in own).replace(" ", "")
    assert whole.count(text.replace(" ", "")) >= 1


def test_texts_of_a_query_without_identity(folder, show):
    task = RetrievalTask.load("features.npz")
    pids = task.images.pids.clone()
    pids[0] = -1
    replace(task, images=replace(task.images, pids=pids)).save("features.npz")
    page = show("--top", "2", queries="0")
    assert page.all("p", "summary")[0][1] == "identity not known" and "id ?" not in page.source
