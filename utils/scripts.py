"""Letters with the signs on them, and scripts without spaces between words.

Those are Chinese, Japanese, Thai, Lao, Tibetan, Burmese and Khmer.
"""

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
_SIGNS = ("Mn", "Mc", "Me", "Cf")  # categories of what stands on, under or inside other letters
_TONES = re.compile("[\U0001f3fb-\U0001f3ff\u1160-\u11ff]")  # of skin; and parts of a Korean syllable
_VIRAMA, _JOINER = 9, "\N{ZERO WIDTH JOINER}"


def has_runs(text: str) -> bool:
    """Whether letters of such a script are in the text."""
    return _RUN.search(text) is not None


def runs(word: str) -> list[tuple[str, bool]]:
    """The parts of a word without spaces in turn, and whether each is a run of letters of such a script."""
    parts = _RUN.split(word)
    return [(part, place % 2 == 1) for place, part in enumerate(parts) if part]


def clusters(text: str) -> list[str]:
    """The letters of a text, each with the signs on it and with all that it is joined to."""
    found: list[str] = []
    for letter in text:
        last = found[-1][-1] if found else ""
        is_joined = last == _JOINER or (last and unicodedata.combining(last) == _VIRAMA)
        is_sign = unicodedata.category(letter) in _SIGNS or _TONES.match(letter)
        if found and not last.isspace() and (is_sign or (is_joined and not letter.isspace())):
            found[-1] += letter
        else:
            found.append(letter)
    return found
