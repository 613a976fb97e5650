import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.sentences import SENTENCES
from utils.text import (
    Lines,
    aligned,
    columns,
    composed,
    direction,
    filled,
    has_leftward,
    isolated,
    printable,
    shortened,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("东门 машина35 é", "东门 машина35 é"),
        ("a\n2026-01-01 transreid INFO: mAP: 99.9%", r"a\n2026-01-01 transreid INFO: mAP: 99.9%"),
        ("\x1b[2Jred\x9b1m", r"\x1b[2Jred\x9b1m"),
        ("\ufeff0001.jpg\u200b\u202e", r"\ufeff0001.jpg\u200b\u202e"),
        (b"caf\xe9.jpg".decode("utf-8", "surrogateescape"), r"caf\udce9.jpg"),
    ],
)
def test_what_cannot_be_printed_is_escaped(text, shown):
    assert printable(text) == shown
    assert printable(text).encode("utf-8")


def test_long_text_keeps_both_ends():
    text = shortened("a" * 500 + "b" * 500, 60)
    assert len(text) == 60 and text.startswith("aaa") and "…" in text and text.endswith("bbb")
    assert shortened("short", 60) == "short"


FORGED = "2026-01-01 00:00:00,000 transreid INFO: mAP: 99.9%"
NAME = f"a\x1b[2J\n{FORGED}"
SHOWN = rf"a\x1b[2J\n{FORGED}"


@pytest.mark.parametrize(
    ("form", "args", "text"),
    [
        ("of %s\n", (NAME,), f"of {SHOWN}\n"),
        ("%s", (Path(NAME),), SHOWN),
        ("%.3s", (NAME,), r"a\x"),
        ("%r", (NAME,), f"'{SHOWN}'"),
        ("%s", (ValueError(NAME),), SHOWN),
        ("%s", ([NAME],), f"['{SHOWN}']"),
        ("%(name)s", {"name": NAME}, SHOWN),
        (ValueError(NAME), (), SHOWN),
        ("100 %", (), "100 %"),
        ("%d %.1f %g %s", (True, 0.5, np.float32(2), None), "1 0.5 2 None"),
        ("%d %.2f %s", (np.int64(3), torch.tensor(0.25), torch.Size([1, 2])), "3 0.25 torch.Size([1, 2])"),
        ("%s", (Lines("a\tb\n\x1b c\n"),), "a\tb\n\\x1b c\n"),
        ("%s", (Lines(NAME),), r"a\x1b[2J" + f"\n {FORGED}"),
        ("%s", (Lines(f"\n[process 12] {FORGED}"),), f"\n [process 12] {FORGED}"),
    ],
)
def test_arguments_begin_no_line_of_a_message(form, args, text):
    assert filled(form, args) == text


@pytest.mark.parametrize(
    "text",
    [
        *SENTENCES.values(),
        "نیلوفر\u200cجان",
        "山田\u3000太郎",
        "ക്\u200d",  # a final letter of Malayalam
        "র\u200d্যাম",  # Bengali: joined before the sign
        "👩\u200d🦰 👁️\u200d🗨️ 👩🏽\u200d🚀",
        "មនុស្ស\u200bម្នាក់",
    ],
)
def test_spelling_that_cannot_be_seen_stays(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "an\u200cna",
        "an\u200dna",
        "\u200danna",
        "anna\u200d",
        "e\u0301\u200c\u0301",
        "کفش\u200c",
        "کفش\u200c\u200cها",
        "a\u200bb",
        "👩\u200d",
        "👩\u200da",
        "دانا\u200fb",
        "דנה\u202e",
        "\u2066דנה\u2069",
        "a\u00adb",
    ],
)
def test_what_hides_in_a_text_is_escaped(text):
    assert printable(text) != text and printable(text).isprintable()


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("ab", 2),
        ("王小明", 6),
        ("한국", 4),
        ("Ａ", 2),
        ("ใส่", 2),
        ("e\u0301", 1),
        ("کفش\u200cها", 5),
        ("", 0),
    ],
)
def test_columns(text, width):
    assert columns(text) == width


def test_tables_are_aligned_by_columns():
    rows = aligned([("王小明", "x"), ("anna", "大厅"), ("ใส่", "a\n")])
    assert rows == [["王小明", "x   "], ["anna  ", "大厅"], ["ใส่    ", r"a\n "]]
    assert aligned([]) == []


@pytest.mark.parametrize(
    ("text", "way"),
    [("(1) رجل", "rtl"), ("a رجل", "ltr"), ("1", "ltr"), ("", "ltr"), ("דנה a", "rtl"), ("王", "ltr")],
)
def test_the_first_letter_has_the_direction(text, way):
    assert direction(text) == way


def test_only_texts_from_right_to_left_are_isolated():
    assert isolated("Anna 王") == "Anna 王"
    assert isolated("a דנה") == "\u2068a דנה\u2069" and has_leftward("a דנה") and not has_leftward("42")


def test_composed_letters():
    decomposed = unicodedata.normalize("NFD", "чёрный 한국 Một")
    assert len(decomposed) > len("чёрный 한국 Một") and composed(decomposed) == "чёрный 한국 Một"
