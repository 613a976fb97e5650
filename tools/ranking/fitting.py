"""Text in a picture: shortened to one line, or wrapped to fill a box."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from utils.scripts import clusters
from utils.text import columns, direction

LINE = 1.25  # height of a line by the size of its letters
_SIZES = (7.5, 6.5, 5.5, 5.0)
_FILLED = 0.95  # of a line at most, because small letters are drawn wider than large ones
_MOST = 2000  # letters that are looked at
_MEASURED = 100  # points of the letters that are measured
_BREAK = "\N{ZERO WIDTH SPACE}"
# Signs that begin no line and that end none; the last ones are vowels of Thai and Lao.
_CLOSING = frozenset(
    "，。、；：！？）」』》】〉〕…—～·ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ,.;:!?)]}”’%ฯะาำๅๆະາຳ"
)
_OPENING = frozenset("（「『《【〈〔([{“‘เแโใไເແໂໃໄ")
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")


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
        last = clusters(lines[:most][-1])
        while last and _ems(f"{''.join(last)}…") > ems:
            last.pop()
        lines = [*lines[: most - 1], f"{''.join(last)}…"]
    return Fitted(tuple(lines), size, direction(text) == "rtl")


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
    """Words and spaces; letters of a word that is wider than a line, or Chinese or Japanese."""
    for word in re.findall(rf"\s+|[^\s{_BREAK}]+{_BREAK}*|{_BREAK}+", text):
        letters = clusters(word)
        if _ems(word) > width:
            yield from _bound(letters, width)
        elif any(map(_is_ideograph, letters)):
            yield from _bound(_runs(letters), width)
        else:
            yield word


def _is_ideograph(letter: str) -> bool:
    """Whether a line may end next to the letter: Korean has spaces between words."""
    return unicodedata.east_asian_width(letter[0]) in "FW" and not _HANGUL.match(letter)


def _runs(letters: Iterable[str]) -> Iterator[str]:
    """Ideographs, and what stands between them in one piece."""
    run = ""
    for letter in letters:
        if _is_ideograph(letter):
            yield from filter(None, (run, letter))
            run = ""
        else:
            run += letter
    if run:
        yield run


def _bound(pieces: Iterable[str], width: float) -> Iterator[str]:
    """The pieces; one that may not begin or end a line stays with its neighbour where there is room."""
    held = ""
    for piece in pieces:
        is_bound = held and (held[-1] in _OPENING or piece[0] in _CLOSING) and _ems(held + piece) <= width
        if held and not is_bound:
            yield held
            held = ""
        held += piece
    if held:
        yield held


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
    letters = clusters(text)
    head = _fitting(letters, most // 3)
    tail = _fitting(letters[::-1], most - most // 3 - 1)[::-1]
    return f"{''.join(head)}…{''.join(tail)}"


def folded(text: str, most: int, lines: int) -> tuple[str, ...]:
    """The text on so many lines of this many columns, shortened in the middle where these do not hold it."""
    # A wide letter leaves a column empty at the end of a line.
    letters = clusters(cropped(text, (most - 1) * lines + 1))
    parts = []
    while letters:
        part = _fitting(letters, most) or letters[:1]
        parts.append("".join(part))
        letters = letters[len(part) :]
    return tuple(parts)


def _fitting(letters: list[str], most: int) -> list[str]:
    """The first letters, as many as there is room for."""
    return [
        letter for letter, end in zip(letters, accumulate(map(columns, letters)), strict=True) if end <= most
    ]
