"""Reads MATLAB files of unknown origin, versions 5 to 7: numbers, texts, cells and structs.

Format: MathWorks, "MAT-File Format". SciPy's parser ends the process at damaged files: a class or type of an
element that does not exist leads it out of its tables, and deep nesting out of its stack.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from utils.text import printable, quoted, shortened
from utils.untrusted.plain import MEBIBYTE, read_plain

_MAX_CONTENT = 4 * MEBIBYTE  # of the file, and of what it inflates to; ours have 300 kilobytes
_MAX_DEPTH = 8
_HEADER, _ORDER = 128, slice(126, 128)  # bytes of the header, and those that tell the order of bytes
_ORDERS = {b"IM": "<", b"MI": ">"}
# Types of elements, and classes of matrices.
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELLS, _STRUCT, _CHARACTERS, _NUMERIC = 1, 2, 4, range(6, 16)


def read_matlab(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The variables in a MATLAB file by name: arrays (n,) of numbers, str, lists of cells, dicts of structs.

    Shapes are left out, and imaginary parts. Raises FileNotFoundError or OSError, or ValueError for a file
    that is of another form, damaged or large; each is one line with the path.
    """
    content = read_plain(path, _MAX_CONTENT)
    try:
        return dict(_variables(content))
    except (ValueError, struct.error, zlib.error) as error:
        reason = shortened(printable(error))
        raise ValueError(f"{printable(path)} is no MATLAB file of version 5 to 7: {reason}") from error


def _variables(content: bytes) -> Iterator[tuple[str, Any]]:
    order = _ORDERS.get(content[_ORDER])
    if order is None:
        raise ValueError("its header is of another kind")
    room, at = _MAX_CONTENT, _HEADER
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        element = content[at : at + 8 + size]
        if kind == _COMPRESSED:
            element = zlib.decompressobj().decompress(element[8:], room + 1)
        room, at = room - len(element), at + 8 + size
        if room < 0:
            raise ValueError(f"it holds more than {_MAX_CONTENT:,} bytes")
        for _, matrix in _elements(memoryview(element), order):
            yield _matrix(matrix, order, 0)


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and content of each element. Raises ValueError or struct.error."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        start, room = at + 8, len(content)
        if kind >> 16:  # a short element has its content in the tag
            kind, size, start, room = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if start + size > room:
            raise ValueError(f"an element of {size:,} bytes ends outside of what it is in")
        yield kind, content[start : start + size]
        at = start + size
        at += -at % 8


def _matrix(content: memoryview, order: str, depth: int) -> tuple[str, Any]:
    """Name and value."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
    if not content:
        return "", np.empty(0)
    (_, flags), _, (_, name), *rest = _elements(content, order)
    group = struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    if group in _NUMERIC:
        return _text(name), _numbers(rest[0], order) if rest else np.empty(0)
    if group == _CHARACTERS:
        return _text(name), _characters(rest[0], order) if rest else ""
    if group not in (_CELLS, _STRUCT):
        raise ValueError(
            f"{quoted(_text(name))} is of the class {group}; allowed: numbers, text, cells, structs"
        )
    fields = []
    if group == _STRUCT:
        (_, width), (_, names), *rest = rest
        (step,) = struct.unpack(f"{order}i", width)
        if step < 1 or len(names) % step or len(names) // step != len(rest):
            raise ValueError("a struct has not one value for each field")
        fields = [_text(names[at : at + step]) for at in range(0, len(names), step)]
    if any(kind != _MATRIX for kind, _ in rest):
        raise ValueError("a cell or field is no matrix")
    values = [_matrix(element, order, depth + 1)[1] for _, element in rest]
    return _text(name), dict(zip(fields, values, strict=True)) if group == _STRUCT else values


def _text(content: memoryview) -> str:
    """A name, up to the zero byte that ends it."""
    return bytes(content).partition(b"\0")[0].decode("latin-1")


def _numbers(element: tuple[int, memoryview], order: str) -> np.ndarray:
    kind, content = element
    if kind not in _NUMBERS:
        raise ValueError(f"numbers are of the type {kind}; allowed: {', '.join(map(str, _NUMBERS))}")
    form = np.dtype(order + _NUMBERS[kind])
    return np.frombuffer(content, form).astype(form.newbyteorder("="))


def _characters(element: tuple[int, memoryview], order: str) -> str:
    kind, content = element
    if kind not in _TEXTS:
        raise ValueError(f"text is of the type {kind}; allowed: {', '.join(map(str, _TEXTS))}")
    form = _TEXTS[kind]
    if form not in ("latin-1", "utf-8"):
        form += "-le" if order == "<" else "-be"
    return bytes(content).decode(form)
