"""What README.md and docs/ name exists: files, anchors, keys, messages, the tree of the repository."""

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
    blocks,
    prose,
    spans,
    tree,
)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_and_named_files_exist(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if not link.startswith("https://"):
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
    for span in spans(path):
        if re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*", span) or span in PROGRAMS:
            assert (ROOT / span).exists(), span


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_named_keys_exist_and_no_local_path_is_told(path):
    text = path.read_text(encoding="utf-8")
    unknown = {
        key for key in KEY.findall(text) if key not in KEYS and not any(k.startswith(f"{key}.") for k in KEYS)
    }
    assert not unknown
    assert not re.search(r"(?<![\w.])/(?:work|home|root|tmp|usr|opt)\b|\.\./shared", text)


def test_the_tree_of_the_architecture_is_the_repository():
    (block,) = (b for b in blocks(ROOT / "docs/architecture.md") if b.text.startswith("README.md"))
    named = tree(block.text)
    assert all(named.values()), "a line without description"
    missing = [path for path in named if not (ROOT / path).exists()]
    files = {path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).glob("*.py")}
    files |= {path.name for path in ROOT.glob("*.py")} | {
        f"docs/{path.name}" for path in (ROOT / "docs").iterdir()
    }
    assert not missing and not files - named.keys()


def test_the_quoted_messages_are_in_the_code():
    table = DOCS[0].read_text().partition("| the message says")[2].partition("\n\n")[0]
    quoted = [text for row in table.splitlines()[2:] for text in re.findall(r"`(.*?)`", row.split(" | ")[0])]
    quoted = [text for text in quoted if " " in text]
    source = "".join(path.read_text() for room in ROOMS for path in (ROOT / room).glob("*.py"))
    assert len(quoted) >= 12
    assert [text for text in quoted if text not in source] == []
