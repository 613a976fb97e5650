"""Text in a picture: shortened to one line, or wrapped to fill a box."""

import unicodedata
from bisect import bisect_left
from itertools import accumulate
from typing import NamedTuple

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

LINE = 1.25  # height of a line by the size of its letters
_SIZES = (7.5, 6.5, 5.5, 5.0)
_MOST, _MOST_OF_LINE = 2000, 150  # letters that are looked at
_DPI = 200


class Fitted(NamedTuple):
    """Lines of a text, their size in points, and whether they are read from right to left."""

    lines: tuple[str, ...]
    size: float
    leftward: bool


def fit_text(text: str, width: float, height: float) -> Fitted:
    """The text on lines that fill a box, in inches, with letters as large as possible.

    At the smallest size the rest is left out, and '…' ends the last line.
    """
    shown, lines, most = text[:_MOST], [], 0
    for size in _SIZES:
        lines, most = _wrapped(shown, width, size), max(1, int(height * 72 / size / LINE))
        if len(lines) <= most and len(shown) == len(text):
            break
    else:
        last = lines[most - 1] if len(lines) >= most else lines[-1]
        while last and _length(f"{last}…", size) > width:
            last = last[:-1]
        lines = [*lines[: most - 1], f"{last}…"]
    directions = (unicodedata.bidirectional(letter) for letter in text)
    first = next((direction for direction in directions if direction in ("L", "R", "AL")), "L")
    return Fitted(tuple(lines), size, first != "L")


def _wrapped(text: str, width: float, size: float) -> list[str]:
    """Lines of at most this width, broken at spaces; at any letter in a longer word, and in Chinese."""
    lines = []
    while text:
        places = range(1, min(len(text), _MOST_OF_LINE) + 1)
        count = max(1, bisect_left(places, True, key=lambda place: _length(text[:place], size) > width))
        if count < len(text) and " " not in text[count - 1 : count + 1]:
            space = text.rfind(" ", 0, count)
            if space > 0 and columns(text[count - 1 : count + 1]) < 4:
                count = space
        lines.append(text[:count].rstrip())
        text = text[count:].lstrip()
    return lines


def _length(text: str, size: float) -> float:
    """Inches of a line of text in the fonts that are set."""
    width, _, _ = _RENDERER.get_text_width_height_descent(text, FontProperties(size=size), False)
    return width / _DPI


_RENDERER = RendererAgg(1, 1, _DPI)


def cropped(text: str, most: int) -> str:
    """The text, shortened in the middle to this many columns."""
    if columns(text) <= most:
        return text
    head = _fitting(text, most // 3)
    tail = _fitting(text[::-1], most - most // 3 - 1)[::-1]
    return f"{head}…{tail}"


def _fitting(text: str, most: int) -> str:
    """The longest start of the text of at most this width."""
    return "".join(
        letter for letter, end in zip(text, accumulate(map(columns, text)), strict=True) if end <= most
    )


def columns(text: str) -> int:
    """The width of a text in letters; Chinese and the like take two columns a letter."""
    return sum(2 if unicodedata.east_asian_width(letter) in "FW" else 1 for letter in text)
