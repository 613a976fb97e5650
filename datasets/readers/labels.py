"""Labels as a user writes them, and the numbers they get.

Which labels are the same one never depends on other labels; which number a label gets may.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from decimal import Decimal

from utils.labels import NO_PID
from utils.text import quoted

# A longer number (a time stamp with an id, say) does not fit an int64 tensor.
MOST_DIGITS = 18
UNKNOWN = "-1"
_INTEGER = re.compile(rf"-?[0-9]{{1,{MOST_DIGITS}}}")
# Of a spreadsheet or a table with empty cells: 7.0, and 1e+05. Without the sign, 1e5 may be a word.
_WHOLE = re.compile(r"-?[0-9]+(\.0*)?|-?[0-9](\.[0-9]+)?[eE]\+[0-9]{2,3}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,25}(\.[0-9]{0,9})?(e[+-]?[0-9]{1,3})?")
_ZEROS = re.compile(r"(?<![0-9.])0+(?=[0-9])")
_INVISIBLE = ("Cc", "Cf", "Zs")  # categories of Unicode: control, format, space
_QUOTED = 40  # characters of a label that a message shows


def in_table(text: str) -> str:
    """A label in a table: integers and whole floats in one form (7, 007, 7.0, 7e+00), words as they are."""
    if not _WHOLE.fullmatch(text):
        return text
    number = Decimal(text)
    if number.adjusted() >= MOST_DIGITS or number != number.to_integral_value():
        return text
    return str(int(number))


def number_pids(labels: Iterable[str]) -> dict[str, int]:
    """Label → pid of query and gallery, each label another one; -1 is the unknown identity.

    An integer keeps its value; words, and names with the value of another, follow the largest in order.
    """
    labels = sorted(set(labels), key=_order)
    # Backwards, so that the first of several names of one value keeps it.
    by_value = {_value(label): label for label in reversed(labels)}
    by_value.pop(None, None)
    by_value |= {NO_PID: UNKNOWN}
    kept = {label: value for value, label in by_value.items()}
    first = max(kept.values()) + 1
    others = (label for label in labels if label not in kept)
    return kept | {label: first + place for place, label in enumerate(others)}


def rank_labels(first: Iterable[str], others: Iterable[str] = ()) -> dict[str, int]:
    """Label → 0..: the first ones in order, then the others; integers by value, then words."""
    known = sorted(set(first), key=_order)
    known += sorted(set(others) - set(known), key=_order)
    return {label: rank for rank, label in enumerate(known)}


def written_alike(numbers: Mapping[str, int]) -> list[str]:
    """One text for each group of labels, given with their numbers, that differ only in how they are written.

    That is in the form of a number, leading zeros, upper and lower case, invisible characters, or the form of
    letters, digits and dashes in Unicode: "'7' = '7.0'" where they are one label, "'A' ≠ 'a'" where not.
    """
    groups: dict[str, dict[int, list[str]]] = {}
    for text in sorted(numbers, key=_order):
        groups.setdefault(_folded(text), {}).setdefault(numbers[text], []).append(text)
    return [
        " ≠ ".join(" = ".join(quoted(label, _QUOTED) for label in same) for same in group.values())
        for group in groups.values()
        if sum(map(len, group.values())) > 1
    ]


def _order(label: str) -> tuple[bool, int, int, str]:
    value = _value(label)
    return (True, 0, 0, label) if value is None else (False, value, len(label), label)


def _value(label: str) -> int | None:
    return int(label) if _INTEGER.fullmatch(label) else None


def _in_ascii(letter: str) -> str:
    """A digit or minus sign of any script in ASCII, '' for an invisible letter, others as they are."""
    kind = unicodedata.category(letter)
    if kind == "Nd":
        return str(unicodedata.digit(letter))
    return "" if kind in _INVISIBLE else "-" if kind == "Pd" or letter == "\N{MINUS SIGN}" else letter


def _folded(text: str) -> str:
    letters = unicodedata.normalize("NFKC", text).casefold()
    visible = "".join(map(_in_ascii, letters))
    if _DECIMAL.fullmatch(number := visible.replace(",", ".")):
        return str(Decimal(number).normalize() + 0)
    return _ZEROS.sub("", visible)
