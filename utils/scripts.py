"""Letters with the signs on them, and scripts without spaces between words.

Those are Chinese, Japanese, Thai, Lao, Tibetan, Burmese and Khmer.
"""

import regex

_SCRIPTS = ("Thai", "Lao", "Tibetan", "Myanmar", "Khmer", "Han", "Hiragana", "Katakana", "Bopomofo")
_LETTERS = "".join(rf"\p{{{script}}}" for script in _SCRIPTS) + "\u30fc\uff70"  # long vowels of both kana
# Digits and punctuation of these scripts are no letters, but for the Chinese zero.
_RUN = regex.compile(rf"((?:[[{_LETTERS}]--\p{{N}}--\p{{P}}--\p{{S}}]|\u3007)+)", regex.VERSION1)


def has_runs(text: str) -> bool:
    """Whether letters of such a script are in the text."""
    return _RUN.search(text) is not None


def runs(word: str) -> list[tuple[str, bool]]:
    """The parts of a word without spaces in turn, and whether each is a run of letters of such a script."""
    parts = _RUN.split(word)
    return [(part, place % 2 == 1) for place, part in enumerate(parts) if part]


def clusters(text: str) -> list[str]:
    """The letters of a text, each with the signs on it and with all that it is joined to (UAX #29)."""
    return regex.findall(r"\X", text)
