"""Text of unknown origin, such as file names, on one line of a log, a terminal or an error."""

_SHOWN = 300  # characters of an error's line


def printable(text: object) -> str:
    r"""The text with every character that cannot be printed escaped as Python writes it.

    Line breaks, escape sequences, invisible characters and bytes that are no text: `\n`, `\x1b`, `\ufeff`,
    `\udcff`. Letters of all scripts stay.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in str(text)
    )


def shortened(text: str, length: int = _SHOWN) -> str:
    """The text, or its two ends with '…' between them where it is longer than `length` characters."""
    if len(text) <= length:
        return text
    start = length * 2 // 3
    return f"{text[:start]}…{text[len(text) - (length - start - 1) :]}"
