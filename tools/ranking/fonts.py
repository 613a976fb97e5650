"""Installed fonts with the letters of a text: matplotlib's own has no Chinese and draws boxes for it."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

_WEIGHTS = ("normal", "bold")  # of the texts in pictures
# Indic scripts, Tibetan, Burmese, Khmer: letters change their form and their place next to others.
_SHAPED = re.compile("[\u0900-\u0dff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff]")
_SELECTORS = re.compile("[\ufe00-\ufe0f]")
# Languages that a script names; browsers draw the same ideographs otherwise for each of the first three.
_LANGUAGES = {
    "ja": re.compile("[\u3041-\u30ff]"),
    "ko": re.compile("[\uac00-\ud7a3]"),
    "zh": re.compile("[\u3400-\u9fff]"),
    "th": re.compile("[\u0e01-\u0e5b]"),
    "he": re.compile("[\u05d0-\u05ea]"),
}


@dataclass(frozen=True)
class Fonts:
    """Font families, matplotlib's setting first, and the letters that cannot be drawn.

    `unshaped` are those of them that are not drawn because this matplotlib would put them in a wrong order or
    form.
    """

    families: tuple[str, ...]
    missing: frozenset[str]
    unshaped: frozenset[str] = frozenset()

    def drawable(self, text: str, instead: str) -> str:
        """The text, or `instead` where a letter of it is missing."""
        return text if self.missing.isdisjoint(text) else instead

    def boxed(self, text: str) -> str:
        """The text with a box in place of each letter that is missing."""
        return "".join("□" if letter in self.missing else letter for letter in text)

    def describe_missing(self) -> str:
        """Why letters are missing, with the first ten of them, for one line that warns of them."""
        reasons = []
        if self.unshaped:
            import matplotlib

            first = f"matplotlib {matplotlib.__version__} cannot draw"
            reasons.append(f"{first} {_first(self.unshaped)} (3.11, for Python 3.11 or newer, can)")
        if self.missing - self.unshaped:
            reasons.append(f"No installed font has {_first(self.missing - self.unshaped)}")
        return ", ".join(reasons)


def _first(letters: frozenset[str]) -> str:
    return "".join(sorted(letters)[:10]) + ("…" if len(letters) > 10 else "")


@contextmanager
def quiet_fonts() -> Iterator[None]:
    """Leaves out matplotlib's warnings about fonts that have no bold letters, of which there are many."""
    logger = logging.getLogger("matplotlib.font_manager")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@quiet_fonts()
def find_fonts(texts: Iterable[str]) -> Fonts:
    """Installed fonts for the letters of these texts: those with most letters first, plain ones first."""
    from matplotlib import ft2font, rcParams

    letters = frozenset().union(*texts)
    # Without libraqm matplotlib draws Arabic and Hebrew from left to right, and each letter by itself.
    is_shaping = hasattr(ft2font, "__libraqm_version__")
    turned = frozenset(letter for letter in letters if not is_shaping and _needs_shaping(letter))
    families = list(rcParams["font.family"])
    missing = letters - turned - _in_family(None, letters)
    candidates = [(entry, _in_file(entry.fname, missing)) for entry in _installed()] if missing else []
    candidates.sort(key=lambda candidate: (-len(candidate[1]), *_oddities(candidate[0])))
    for entry, found in candidates:
        found = _in_family(entry.name, found & missing)
        if found:
            families.append(entry.name)
            missing -= found
    missing = frozenset(letter for letter in missing if not _is_invisible(letter))
    return Fonts(tuple(families), missing | turned, turned)


def language(text: str) -> str:
    """The language of a text for a page, '' where its letters do not say it."""
    return next((name for name, letters in _LANGUAGES.items() if letters.search(text)), "")


def _needs_shaping(letter: str) -> bool:
    return unicodedata.bidirectional(letter) in ("R", "AL") or _SHAPED.match(letter) is not None


def _is_invisible(letter: str) -> bool:
    """Whether a letter needs no font: it shapes those beside it."""
    return unicodedata.category(letter) == "Cf" or _SELECTORS.match(letter) is not None


def _installed() -> list[FontEntry]:
    """The fonts that matplotlib can draw with, also those installed since it last looked."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    for path in findSystemFonts():
        if path not in known:
            try:
                fontManager.addfont(path)
            except (OSError, RuntimeError):  # not a font that FreeType reads
                continue
    # Others than the first of a collection have the same letters; "Last Resort" has boxes for all letters.
    return [
        entry
        for entry in fontManager.ttflist
        if not getattr(entry, "index", 0) and "lastresort" not in entry.name.lower().replace(" ", "")
    ]


def _in_file(path: str, letters: Iterable[str]) -> frozenset[str]:
    from matplotlib.font_manager import get_font

    try:
        font = get_font(path)
    except (OSError, RuntimeError):  # gone since matplotlib last looked
        return frozenset()
    # Fonts of bitmaps, such as coloured emoji, cannot be drawn.
    return frozenset(letter for letter in letters if font.scalable and font.get_char_index(ord(letter)))


def _in_family(family: str | None, letters: frozenset[str]) -> frozenset[str]:
    """The letters that a family has in all weights of a picture; None is matplotlib's setting."""
    from matplotlib.font_manager import FontProperties, fontManager

    for weight in _WEIGHTS if letters else ():
        letters = _in_file(fontManager.findfont(FontProperties(family=family, weight=weight)), letters)
    return letters


def _oddities(entry: FontEntry) -> tuple[bool, ...]:
    name, is_regular = entry.name.lower(), entry.weight in (400, "normal", "regular")
    return entry.style != "normal", not is_regular, "sans" not in name, "mono" in name
