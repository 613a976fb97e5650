"""Installed fonts with the letters of a text: matplotlib's own has no Chinese and draws boxes for it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

_WEIGHTS = ("normal", "bold")  # of the texts in pictures


@dataclass(frozen=True)
class Fonts:
    """Font families, matplotlib's setting first, and the letters that none of them has."""

    families: tuple[str, ...]
    missing: frozenset[str]

    def drawable(self, text: str, instead: str) -> str:
        """The text, or `instead` where a letter of it is missing."""
        return text if self.missing.isdisjoint(text) else instead

    def boxed(self, text: str) -> str:
        """The text with a box in place of each letter that is missing."""
        return "".join("□" if letter in self.missing else letter for letter in text)

    def describe_missing(self) -> str:
        """The missing letters, or the first ten, for one line that warns of them."""
        letters = sorted(self.missing)
        return "".join(letters[:10]) + ("…" if len(letters) > 10 else "")


def find_fonts(texts: Iterable[str]) -> Fonts:
    """Installed fonts for the letters of these texts: those with most letters first, plain ones first."""
    from matplotlib import ft2font, rcParams

    letters = frozenset().union(*texts)
    # Without libraqm matplotlib draws Arabic and Hebrew from left to right.
    is_shaped = hasattr(ft2font, "__libraqm_version__")
    turned = {
        letter for letter in letters if not is_shaped and unicodedata.bidirectional(letter) in ("R", "AL")
    }
    families = list(rcParams["font.family"])
    missing = letters - turned - _in_family(None, letters)
    candidates = [(entry, _in_file(entry.fname, missing)) for entry in _installed()] if missing else []
    candidates.sort(key=lambda candidate: (-len(candidate[1]), *_oddities(candidate[0])))
    for entry, found in candidates:
        found = _in_family(entry.name, found & missing)
        if found:
            families.append(entry.name)
            missing -= found
    return Fonts(tuple(families), missing | turned)


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
