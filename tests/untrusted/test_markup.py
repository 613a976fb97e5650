"""Elements of XML files, and files that are made to do harm."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.untrusted.markup import read_elements
from utils.untrusted.plain import MEBIBYTE

TEN = [10 * f"&a{number};" for number in range(10)]
BOMB = "".join(f"<!ENTITY a{number} '{ten}'>" for number, ten in enumerate(TEN, start=1))


def read(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_elements(path, "Item", MEBIBYTE)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "labels.xml"


@pytest.mark.parametrize("start", ['<?xml version="1.0" encoding="utf-8"?>', "", "\ufeff"])
def test_elements_are_found_at_any_depth_with_their_lines(file, start):
    found = read(file, f"{start}<a>\n<Item n='1'/>\n<b><Item n='&lt;2'><Item/></Item></b><item/></a>")
    assert found == [({"n": "1"}, 2), ({"n": "<2"}, 3), ({}, 3)]


@pytest.mark.parametrize("name", ["gb2312", "GBK", "gb18030", "UTF-8"])
def test_the_declared_encoding_is_followed(file, name):
    text = f"<?xml version='1.0' encoding='{name}'?><a note='车辆'><Item n='轿车'/></a>"
    assert read(file, text.encode(name)) == [({"n": "轿车"}, 1)]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("", ":1: no valid XML: no element found"),
        ("<a>\n<Item n=1/></a>", ":2: no valid XML: not well-formed"),
        ("<a>\n<Item>", ":2: no valid XML: no element found"),
        ("<a/>\n<a/>", ":2: no valid XML: junk after document element"),
        ("<a>&b;</a>", ":1: no valid XML: undefined entity"),
        ("<a>\0</a>", ":1: no valid XML: not well-formed"),
        (b"<a>\xff</a>", ": cannot be read as text in utf-8: invalid start byte"),
        (b"<?xml version='1.0' encoding='gb2312'?><a>\xff</a>", ": cannot be read as text in gb2312: "),
        ("<?xml version='1.0' encoding='rot13'?><a/>", " declares the encoding 'rot13'; allowed: utf-8, gb"),
        ("<a>" * 101 + "</a>" * 101, ":1: elements 101 deep; allowed: up to 100"),
        ("<a>" * 200_000, ":1: elements 101 deep; allowed: up to 100"),
        (f"<!DOCTYPE a [<!ENTITY a0 'a'>{BOMB}]><a>&a10;</a>", ":1: a document type; allowed: XML wi"),
        ("<!DOCTYPE a [<!ENTITY b SYSTEM '/etc/hostname'>]><a>&b;</a>", ":1: a document type"),
        ("\n<!DOCTYPE a SYSTEM 'https://127.0.0.1/a.dtd'><a/>", ":2: a document type"),
        ("<!DOCTYPE a [<!ENTITY % b 'c'> %b;]><a/>", ":1: a document type"),
        ("<a>" + " " * MEBIBYTE, " has 1,048,579 bytes; allowed: at most 1,048,576"),
    ],
)
def test_other_files_are_refused_with_path_and_line(file, data, told):
    with pytest.raises(ValueError, match=f"^{re.escape(str(file) + told)}"):
        read(file, data)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=60), st.integers(0, 70))
def test_damage_is_one_error(tmp_path_factory, junk, place):
    whole = b"<?xml version='1.0' encoding='gb2312'?><a><Item n='1'/><Item/></a>"
    file = tmp_path_factory.mktemp("damaged") / "a.xml"
    try:
        found = read(file, whole[:place] + junk + whole[place:])
    except ValueError as error:
        assert str(error).startswith(str(file))
    else:
        assert len(found) <= 2 + junk.count(b"<")
