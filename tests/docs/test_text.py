"""What README.md, its translations and docs/ name exists: files, anchors, keys, messages."""

import re

import pytest

from tests.docs.reading import (
    DOCS,
    FOLDERS,
    KEY,
    KEYS,
    PROGRAMS,
    ROOMS,
    ROOT,
    anchors,
    prose,
    spans,
)
from tests.docs.translations import TRANSLATIONS

# Their commands are README.md's, which test_translations.py sees to, and are not typed again.
PAGES = [*DOCS, *(ROOT / name for name in TRANSLATIONS)]


def is_file(text):
    """Whether a text names a file or folder of the repository."""
    return re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*", text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_and_named_files_exist(path):
    for label, link in re.findall(r"\[([^]]*)\]\(([^)\s]+)\)", prose(path)):
        if not link.startswith("https://"):
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
            assert not is_file(label) or target == ROOT / label, (label, link)
    for span in spans(path):
        if is_file(span) or span in PROGRAMS:
            assert (ROOT / span).exists(), span


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_named_keys_exist_and_no_local_path_is_told(path):
    text = path.read_text(encoding="utf-8")
    unknown = {
        key for key in KEY.findall(text) if key not in KEYS and not any(k.startswith(f"{key}.") for k in KEYS)
    }
    added = re.findall(r'^\+ +"(\w+)": Key', text, re.MULTILINE)  # by differences that the page shows
    assert {key.rpartition(".")[2] for key in unknown} <= set(added)
    assert not re.search(r"(?<![\w.])/(?:work|home|root|tmp|usr|opt)\b|\.\./shared", text)


def test_the_quoted_messages_are_in_the_code():
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    quoted = [text for row in rows for text in re.findall(r"`(.*?)`", row)]
    source = "".join(path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py"))

    def is_said(text):
        """Its words in this order, with no more between than a line's end or a value."""
        return re.search(r"[^\n]{0,20}\s*[^\w\n]{0,20}".join(map(re.escape, text.split())), source)

    assert [text for text in quoted if " " in text and not is_said(text)] == []
