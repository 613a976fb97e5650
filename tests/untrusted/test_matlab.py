"""MATLAB files made to do harm or damaged by chance: their variables, or an error in one line."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from tests.conftest import GOLDEN
from utils.untrusted.matlab import read_matlab

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
MARKET = GOLDEN / "prompts" / "market_attribute.mat"
CELLS, NUMBERS, TEXT, MATRIX, COMPRESSED = 6, 5, 1, 14, 15


def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def cells(name, rows, columns, *content):
    """A cell array of those elements; its class is 1."""
    head = element(CELLS, struct.pack("<II", 1, 0)) + element(NUMBERS, struct.pack("<2i", rows, columns))
    return element(MATRIX, head + element(TEXT, name) + b"".join(content))


def nested(levels):
    """Cells inside each other, the outermost named a."""
    inner = cells(b"", 0, 0)
    parts, size = [inner], len(inner)
    for level in range(levels):
        whole = cells(b"a" if level == levels - 1 else b"", 1, 1)
        parts.append(struct.pack("<II", MATRIX, len(whole) - 8 + size) + whole[8:])
        size += len(whole)
    return b"".join(reversed(parts))


def compressed(content):
    packed = zlib.compress(content)
    return struct.pack("<II", COMPRESSED, len(packed)) + packed


def refusal(path, content):
    """The message about a file of that content, one line that names it."""
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_matlab(path)
    text = str(error.value)
    assert text.startswith(str(path)) and "\n" not in text and len(text) < 1000
    return text


@pytest.mark.parametrize("pack", [bytes, compressed])
def test_nesting(tmp_path, pack):
    """SciPy's parser overflows its stack at 20,000 levels."""
    path = tmp_path / "a.mat"
    path.write_bytes(HEADER + pack(nested(3)))
    assert read_matlab(path) == {"a": [[[[]]]]}
    assert "deep" in refusal(path, HEADER + pack(nested(20_000)))
    refusal(path, HEADER + pack(nested(3)[:-8]))


def test_sizes_that_are_only_claimed(tmp_path):
    path = tmp_path / "a.mat"
    assert "4,194,304 bytes" in refusal(path, HEADER + compressed(bytes(2**28)))
    path.write_bytes(HEADER + bytes(2**22))
    with pytest.raises(ValueError, match="4,194,304"):
        read_matlab(path)
    assert "2,147,483,648 bytes" in refusal(path, HEADER + struct.pack("<II", MATRIX, 2**31) + bytes(64))
    path.write_bytes(HEADER + cells(b"a", 2**14, 2**14))
    assert read_matlab(path) == {"a": []}


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (16, 3, "'numbers' is of the class 3"),  # an object
        (16, 17, "'numbers' is of the class 17"),
        (56, 99, "numbers are of the type 99"),
        (56, 8, "numbers are of the type 8"),
    ],
)
def test_classes_and_types_that_are_not_read(tmp_path, place, value, told):
    savemat(tmp_path / "a.mat", {"numbers": np.arange(9.0)})
    content = bytearray((tmp_path / "a.mat").read_bytes())
    assert content[128 + 16] == 6 and content[128 + 56] == 9
    content[128 + place] = value
    assert told in refusal(tmp_path / "a.mat", bytes(content))


@pytest.mark.parametrize(
    "content", [b"", b"identity,hat\n", HEADER[:100], HEADER[:126] + b"XX", b"\x89HDF" * 99]
)
def test_other_files(tmp_path, content):
    assert "header" in refusal(tmp_path / "a.mat", content)


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_read(tmp_path, compress):
    """Numbers of all types, text, cells and structs, as SciPy writes them."""
    types = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
    listed = np.empty((1, 2), object)
    listed[0] = ["ä text", np.arange(3)]
    content = {name: np.arange(5, dtype=name)[None] for name in types}
    content |= {"b": {"c": "text", "long_name": 7.0}, "cells": listed, "no": np.zeros((0, 0)), "empty": ""}
    savemat(tmp_path / "a.mat", content, do_compression=compress)
    found = read_matlab(tmp_path / "a.mat")
    assert list(found) == list(content)
    for name in types:
        assert found[name].tolist() == [0, 1, 2, 3, 4]
    assert found["b"]["c"] == "text" and found["b"]["long_name"].tolist() == [7]
    text, numbers = found["cells"]
    assert text == "ä text" and numbers.tolist() == [0, 1, 2]
    assert len(found["no"]) == 0 and found["empty"] == ""


def test_the_other_order_of_bytes(tmp_path):
    """A 1 x 2 array of int16, then a short name."""
    flags, dims = struct.pack(">II", 10, 0), struct.pack(">2i", 1, 2)
    head = struct.pack(">II", CELLS, 8) + flags + struct.pack(">II", NUMBERS, 8) + dims
    head += struct.pack(">HH", 1, TEXT) + b"a\0\0\0" + struct.pack(">HHhh", 4, 3, 258, -1)
    (tmp_path / "a.mat").write_bytes(HEADER[:126] + b"MI" + struct.pack(">II", MATRIX, len(head)) + head)
    assert read_matlab(tmp_path / "a.mat")["a"].tolist() == [258, -1]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8), st.booleans())
def test_damaged_bytes(tmp_path_factory, place, change, inflated):
    """Variables, or an error in one line."""
    content = MARKET.read_bytes()
    if inflated:
        content = content[:128] + zlib.decompress(content[136:])
    place %= len(content)
    path = tmp_path_factory.mktemp("damaged") / "a.mat"
    path.write_bytes(content[:place] + change + content[place + len(change) :])
    try:
        assert isinstance(read_matlab(path), dict)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
