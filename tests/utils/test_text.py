import pytest

from utils.text import printable, shortened


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
