"""Elements of XML files of unknown origin.

Entities can stand for gigabytes of text or for other files. They are declared in a document type, so a file
that has one is refused there, before any entity is read.
"""

import re
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from utils.text import few, quoted
from utils.untrusted.plain import read_plain

_DECLARED = re.compile(rb"""<\?xml[^>]{0,100}?\sencoding\s*=\s*["']([\w.-]{1,40})["']""")
_CHINESE = dict.fromkeys(("gb2312", "gbk", "gb18030"), "gb18030")  # the last includes the others
_ENCODINGS = {"utf-8": "utf-8-sig", **_CHINESE}
_DEEPEST = 100  # elements in each other; each open one takes memory


class Element(NamedTuple):
    """Attributes of an element, and the line in which it begins, from 1."""

    attributes: dict[str, str]
    line: int


def read_elements(path: str | Path, tag: str, limit: int) -> list[Element]:
    """The elements `tag` of an XML file of at most `limit` bytes, in its order, wherever they stand.

    The text is in UTF-8 or, if the file declares it, GB 2312, GBK or GB 18030. Raises as `read_plain`, and
    ValueError, with path and line, for another encoding, broken XML, a document type and deep nesting.
    """
    parser = expat.ParserCreate()  # a str is parsed as it is: the declared encoding is ignored
    found: list[Element] = []
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(
                f"{path}:{parser.CurrentLineNumber}: elements {depth} deep; allowed: up to {_DEEPEST}"
            )
        if name == tag:
            found.append(Element(attributes, parser.CurrentLineNumber))

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*_: object) -> None:
        raise ValueError(f"{path}:{parser.CurrentLineNumber}: a document type; allowed: XML without DOCTYPE")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(_decode(read_plain(path, limit), path), True)
    except expat.ExpatError as error:
        raise ValueError(f"{path}:{error.lineno}: no valid XML: {expat.ErrorString(error.code)}") from error
    return found


def _decode(data: bytes, path: str | Path) -> str:
    declared = _DECLARED.match(data)
    name = declared[1].decode().lower() if declared else "utf-8"
    if name not in _ENCODINGS:
        allowed = few(list(_ENCODINGS), len(_ENCODINGS))
        raise ValueError(f"{path} declares the encoding {quoted(name)}; allowed: {allowed}")
    try:
        return data.decode(_ENCODINGS[name])
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: cannot be read as text in {name}: {error.reason}") from error
