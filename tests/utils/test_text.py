from pathlib import Path

import numpy as np
import pytest
import torch

from utils.text import Lines, filled, printable, shortened


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
