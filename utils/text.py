"""Text of unknown origin, such as file names, on one line of a log, a terminal or an error.

A message is a form, which the program wrote, and arguments, which may hold anything: a name can bring escape
sequences to a terminal, or a line break and then what looks like the next line of the log.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

_SHOWN, _PATH, _QUOTED = 300, 150, 100  # characters of an error's line, of a path and of a value in it
_LOG_LINE = re.compile(r"(\[process \d+\] )?\d{4}-\d\d-\d\d ")  # how a line of `utils.logger` begins
_PARTER, _JOINER, _BREAK = (
    "\u200c",
    "\u200d",
    "\u200b",
)  # ZWNJ, ZWJ, and a break between words that shows no space
_WIDE_SPACE = "\u3000"  # of Chinese and Japanese
_VIRAMA = 9  # combining class of the signs that join consonants of Indic scripts
_UNSPACED = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff]")  # Thai, Lao, Tibetan, Burmese, Khmer


def printable(text: object) -> str:
    r"""The text with every character that cannot be printed escaped as Python writes it.

    Line breaks, escape sequences, invisible characters and bytes that are no text: `\n`, `\x1b`, `\ufeff`,
    `\udcff`. Letters of all scripts stay, and invisible characters where the spelling needs them: between
    letters of Arabic script, next to a sign that joins Indic consonants, inside an emoji, between letters of
    scripts without spaces. What changes the direction of a text is escaped everywhere.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable() or letter == _WIDE_SPACE or _is_spelling(text, place)
        else letter.encode("unicode_escape").decode("ascii")
        for place, letter in enumerate(text)
    )


def _is_spelling(text: str, place: int) -> bool:
    """Whether the invisible character there belongs to the spelling of a word or an emoji."""
    before, letter, after = text[place - 1 : place] if place else "", text[place], text[place + 1 : place + 2]
    if letter not in (_PARTER, _JOINER, _BREAK) or not before:
        return False
    if letter == _BREAK:
        return bool(_UNSPACED.match(before) and _UNSPACED.match(after))
    if _VIRAMA in (unicodedata.combining(before), after and unicodedata.combining(after)):
        return True
    sides = {unicodedata.bidirectional(each) for each in (before, after) if each}
    if after and "AL" in sides and sides <= {"AL", "NSM"}:
        return True
    is_emoji = unicodedata.category(before) in ("So", "Sk") or before == "\ufe0f"
    return letter == _JOINER and is_emoji and bool(after) and unicodedata.category(after) == "So"


def composed(text: str) -> str:
    """The text with each letter and the signs on it as one character where there is one, Unicode's NFC."""
    return unicodedata.normalize("NFC", text)


def direction(text: str) -> str:
    """'rtl' where the first letter with a direction is of a script from right to left, else 'ltr'."""
    found = (unicodedata.bidirectional(letter) for letter in text)
    return "rtl" if next((each for each in found if each in ("L", "R", "AL")), "L") != "L" else "ltr"


def has_leftward(text: str) -> bool:
    """Whether letters of the text are read from right to left."""
    return any(unicodedata.bidirectional(letter) in ("R", "AL", "AN") for letter in text)


def isolated(text: str) -> str:
    """The text for a line of a page, in which letters from right to left move nothing beside it."""
    return f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}" if has_leftward(text) else text


def columns(text: str) -> int:
    """The width of a text in letters: two for Chinese and the like, none for signs on other letters."""
    return sum(map(_columns, text))


def _columns(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "FW" else 1


def aligned(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The cells of a table, escaped, with spaces behind them up to the width of their column."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(columns, column)) for column in zip(*shown, strict=True)]
    return [
        [cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True)]
        for row in shown
    ]


def shortened(text: object, length: int = _SHOWN) -> str:
    """The text escaped, or its two ends with '…' between them where it is longer than `length` characters."""
    text = printable(text)
    if len(text) <= length:
        return text
    start = length * 2 // 3
    return f"{text[:start]}…{text[len(text) - (length - start - 1) :]}"


def quoted(text: object, length: int = _QUOTED) -> str:
    """The shortened text in quotes, for a value in a message."""
    return f"'{shortened(text, length)}'"


def few(texts: Sequence[str], most: int = 3) -> str:
    """The first of the texts, and how many more there are."""
    more = f", and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def one_line(error: object, length: int = _SHOWN) -> str:
    """The message of an error, escaped, on one line of at most `length` characters.

    Lines that are indented continue the one before, as libraries write them; other line breaks are a name's.
    """
    return shortened(re.sub(r"[ \t]*\n[ \t]+", " ", str(error).strip()), length)


class Tally(dict[str, tuple[int, str]]):
    """Files of several kinds: by kind how many there are, and the first by name."""

    def add(self, kind: str, path: str, count: int = 1) -> None:
        """Count further ones."""
        others, first = self.get(kind, (0, path))
        self[kind] = others + count, min(first, path)

    def join(self, other: Mapping[str, tuple[int, str]]) -> None:
        """Count those of another tally."""
        for kind, (count, first) in other.items():
            self.add(kind, first, count)

    def counts(self) -> dict[str, int]:
        """How many there are by kind."""
        return {kind: count for kind, (count, _) in self.items()}

    def __str__(self) -> str:
        return "; ".join(
            f"{count} ({kind}), such as {shortened(first, _PATH)}"
            for kind, (count, first) in sorted(self.items())
        )


class Lines(str):
    """Text of several lines, such as a table, as an argument of a message: its line breaks are meant."""

    __slots__ = ()


def filled(form: object, args: tuple[Any, ...] | Mapping[str, Any] = ()) -> str:
    """`form % args`, in which only the form and arguments of type `Lines` may begin a line.

    Everything else in an argument that cannot be printed is escaped, and a line of `Lines` that begins as
    one of the log does is indented. Without arguments the form is the text.
    """
    if not isinstance(form, str):  # a log takes any object, such as an error
        form, args = "%s", (form,)
    if not args:
        return form
    if isinstance(args, Mapping):
        return form % {name: _argument(value) for name, value in args.items()}
    return form % tuple(map(_argument, args))


def _argument(value: Any) -> Any:
    is_number = hasattr(value, "__float__") and not isinstance(value, str)  # numpy's text has the method too
    return value if is_number else _Shown(value)


class _Shown:
    """An argument that `%s` and `%r` show escaped."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        if not isinstance(self.value, Lines):
            return printable(self.value)
        lines = ("\t".join(map(printable, line.split("\t"))) for line in self.value.split("\n"))
        return "\n".join(f" {line}" if _LOG_LINE.match(line) else line for line in lines)

    def __repr__(self) -> str:
        return printable(repr(self.value))
