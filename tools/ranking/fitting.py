"""Text in a picture: shortened to one line, or wrapped to fill a box."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

LINE = 1.25  # height of a line by the size of its letters
_SIZES = (7.5, 6.5, 5.5, 5.0)
_FILLED = 0.95  # of a line at most, because small letters are drawn wider than large ones
_MOST = 2000  # letters that are looked at
_MEASURED = 100  # points of the letters that are measured
_LETTER = ".[，。、；：！？）」』]*"  # these begin no line


class Fitted(NamedTuple):
    """Lines of a text, their size in points, and whether they are read from right to left."""

    lines: tuple[str, ...]
    size: float
    leftward: bool


def fit_text(text: str, width: float, height: float) -> Fitted:
    """The text on lines that fill a box, in inches, with letters as large as possible.

    At the smallest size the rest is left out, and '…' ends the last line. Letters are those of the fonts that
    are set.
    """
    shown, lines, most = text[:_MOST], [], 0
    for size in _SIZES:
        ems = _FILLED * width * 72 / size
        lines, most = _wrapped(shown, ems), max(1, int(height * 72 / size / LINE))
        if len(lines) <= most and len(shown) == len(text):
            break
    else:
        last = lines[:most][-1]
        while last and _ems(f"{last}…") > ems:
            last = last[:-1]
        lines = [*lines[: most - 1], f"{last}…"]
    directions = (unicodedata.bidirectional(letter) for letter in text)
    first = next((direction for direction in directions if direction in ("L", "R", "AL")), "L")
    return Fitted(tuple(lines), size, first != "L")


def _wrapped(text: str, width: float) -> list[str]:
    """Lines of at most this width, in ems."""
    lines, line, room = [], "", width
    for piece in _pieces(text, width):
        if _ems(piece) > room and line:
            lines.append(line.rstrip())
            line, room = "", width
        if line or not piece.isspace():
            line, room = line + piece, room - _ems(piece)
    return [*lines, line.rstrip()]


def _pieces(text: str, width: float) -> Iterator[str]:
    """Words and spaces; letters of a word that is Chinese or the like, or wider than a line."""
    for piece in re.findall(r"\s+|\S+", text):
        is_broken = columns(piece) > len(piece) or _ems(piece) > width
        yield from re.findall(_LETTER, piece) if is_broken else (piece,)


def _ems(text: str) -> float:
    """The width of a text by the size of its letters."""
    from matplotlib import rcParams

    return _measured(text, *rcParams["font.family"])


@lru_cache(1 << 16)
def _measured(text: str, *families: str) -> float:
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family=list(families), size=_MEASURED)
    return RendererAgg(1, 1, 72).get_text_width_height_descent(text, font, False)[0] / _MEASURED


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
