"""Scripts without spaces between words: Chinese, Japanese, Thai, Lao, Tibetan, Burmese and Khmer."""

import re
import unicodedata

_LETTERS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai
    "\u0e81-\u0edf"  # Lao
    "\u0f40-\u0fbc"  # Tibetan
    "\u1000-\u103f\u1050-\u108f\ua9e0-\ua9ef\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17d3"  # Khmer
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u3105-\u312f\u31a0-\u31bf"  # Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese
)
_RUN = re.compile(f"([{_LETTERS}]+)")
_JOINING = "\u1039\u17d2"  # in Burmese and Khmer the next letter stands below the one before


def runs(word: str) -> list[tuple[str, bool]]:
    """The parts of a word without spaces in turn, and whether each is a run of letters of such a script."""
    parts = _RUN.split(word)
    return [(part, place % 2 == 1) for place, part in enumerate(parts) if part]


def letters(run: str) -> list[str]:
    """The letters of a run, each with the marks that belong to it."""
    found: list[str] = []
    for letter in run:
        is_mark = unicodedata.category(letter).startswith("M")
        if found and (is_mark or found[-1][-1] in _JOINING):
            found[-1] += letter
        else:
            found.append(letter)
    return found
