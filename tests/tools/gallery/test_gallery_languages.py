"""gallery.py with names, cameras and sentences of any script."""

import io
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("pymilvus")

from tests.sentences import SENTENCES
from tests.tools.pages import Page
from utils.text import columns

NAMES = {"anna": "王小明", "ben": "דנה כהן", "carla": "نیلوفر\u200cجان"}


@pytest.fixture
def named(run):
    for name, other in NAMES.items():
        run("rename", "g.db", name, other)
    return run


def test_sentences_of_any_script(run, weights):
    printed = run(
        "search", "g.db", *SENTENCES.values(), "--text-weight", weights[2], "--top", "2", "--html", "o"
    )
    lines = printed.splitlines()
    assert [line for line in lines if line.startswith("sentence ")] == [
        f"sentence {text}" for text in SENTENCES.values()
    ]
    page = Page(Path("o/ranking.html").read_text("utf-8"))
    shown = page.all("p", "text")
    assert [text for _, text in shown] == list(SENTENCES.values())
    assert {attributes["dir"] for attributes, _ in shown} == {"auto"}
    given = json.loads(
        run("search", "g.db", *SENTENCES.values(), "--text-weight", weights[2], "--top", "2", "--json", "-")
    )
    assert [answer["sentence"] for answer in given["answers"]] == list(SENTENCES.values())


def test_columns_of_names(named, weights):
    printed = named(
        "search", "g.db", "a man", "--text-weight", weights[2], "--top", "9", "--camera", "c1"
    ).splitlines()
    rows = [line for line in printed if any(name in line for name in NAMES.values())]
    assert len(rows) == 3 and len({columns(row.partition("  c1  ")[0]) for row in rows}) == 1
    table = named("list", "g.db").splitlines()
    assert len(table) == 10 and len({columns(row.partition("  c")[0]) for row in table}) == 1
    assert all(any(name in line for line in table) for name in NAMES.values())


def test_names_from_right_to_left_move_nothing_on_the_page(named, weights):
    named("search", "g.db", "a man", "--text-weight", weights[2], "--top", "9", "--html", "found")
    page = Page(Path("found/ranking.html").read_text("utf-8"))
    origins = {text for _, text in page.all("span", "origin")}
    assert "\u2068דנה כהן\u2069 · c1" in origins and "王小明 · c1" in origins
    assert any("(\u2068נ" in alt or "(\u2068דנה כהן\u2069, " in alt for alt in page.alts())


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_for_any_terminal(named, monkeypatch, encoding):
    odd = "Ana\u00a0é 👩"
    named("rename", "g.db", "王小明", odd)
    from tools import gallery

    terminal = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert gallery.main(["list", "g.db", "--form", "json"]) == 0
    found = json.loads(terminal.buffer.getvalue().decode(encoding))
    assert {entry["identity"] for entry in found} == {odd, NAMES["ben"], NAMES["carla"]}
    assert gallery.main(["stats", "g.db", "--json"]) == 0
    written = terminal.buffer.getvalue().decode(encoding)
    assert ("דנה" in written) == (encoding == "utf-8") and "\u00a0" not in written
