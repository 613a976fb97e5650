"""Values of a browser as questions and times; each may be anything."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime, time
from typing import Any

from service.finder import Key, Picture, Sentence
from utils.text import quoted

_DATA = re.compile(r"data:image/[\w.+-]{0,40};base64,")
_FORM = "allowed: 2026-11-28 or 2026-11-28 14:30"


def read_question(value: Any, max_bytes: int) -> Picture | Sentence | Key | None:
    """The question in the value of the page's field, None where it is empty.

    Raises ValueError for anything else, and for a picture of more than `max_bytes`.
    """
    if not isinstance(value, dict):
        return None
    key, text, data = (value.get(name) or "" for name in ("key", "text", "data"))
    if not all(isinstance(each, str) for each in (key, text, data)):
        raise ValueError("question is neither a picture nor a sentence")
    if key:
        return Key(key)
    if text.strip():
        return Sentence(text.strip())
    return Picture(read_bytes(data, max_bytes)) if data else None


def read_bytes(data: str, max_bytes: int) -> bytes:
    """The bytes of a file as a browser gives them, `data:image/png;base64,…`.

    Raises ValueError for anything else, and for more than `max_bytes`.
    """
    start = _DATA.match(data)
    if not start:
        raise ValueError("the file is no picture; allowed: JPEG, PNG, WebP and the like")
    try:
        found = base64.b64decode(data[start.end() :], validate=True)
    except binascii.Error:
        raise ValueError("the picture did not arrive whole; try it again") from None
    if len(found) > max_bytes:
        raise ValueError(f"the picture has {len(found):,} bytes; allowed: at most {max_bytes:,}")
    return found


def read_time(text: str | None, *, last: bool = False) -> datetime | None:
    """The time that somebody typed, None for nothing; a date is its first moment, or its `last`.

    Raises ValueError.
    """
    text = (text or "").strip()
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"time is {quoted(text)}; {_FORM}") from None
    return datetime.combine(moment, time.max) if last and len(text) <= len("2026-11-28") else moment


def read_distance(text: str | None) -> float | None:
    """The distance that somebody typed, None for nothing. Raises ValueError."""
    text = (text or "").strip()
    try:
        return float(text) if text else None
    except ValueError:
        raise ValueError(f"largest distance is {quoted(text)}; allowed: a number from 0 to 4") from None
