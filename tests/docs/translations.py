"""README.md next to its translations: what they must share, and a line of text for each difference.

Who edits README.md need not read the translations: a message names the lines and what is to be copied.
"""

import difflib
import itertools
import re
from typing import NamedTuple

from tests.docs.reading import anchor

ORIGINAL = "README.md"
TRANSLATIONS = ("README.zh-CN.md", "README.ru.md")
COMMENT = re.compile(r"(^|(?<=  ))# .*$", re.MULTILINE)
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
PICTURE = re.compile(r"!\[[^]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
GROUPED = re.compile(r"(?<=\d)[,\u00a0\u202f ](?=\d{3}(?!\d))")  # 10,000 is 10 000 in Russian
BLOCK = "the block; only comments may be translated"
ROW = "columns, numbers, `code` and links"


class Part(NamedTuple):
    """A fenced block or a row of a table: its line in the page, and what no language changes in it."""

    line: int
    facts: tuple


class Section(NamedTuple):
    """A heading with all that stands under it, up to the next heading."""

    line: int
    level: int
    title: str
    blocks: list[Part]
    rows: list[Part]
    prose: list[str]


def read_page(text):
    """The sections of a page that begins with a heading."""
    found = []
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if line.startswith("```"):
            code = [inside for _, inside in itertools.takewhile(lambda pair: pair[1] != "```", lines)]
            if line in ("```bash", "```python"):
                code = [COMMENT.sub("# …", inside) for inside in code]
            found[-1].blocks.append(Part(number, (line, *code)))
        elif heading := re.fullmatch(r"(#+) (.*)", line):
            found.append(Section(number, len(heading[1]), heading[2], [], [], []))
        elif line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            facts = ((*numbers(cell), *SPAN.findall(cell), *LINK.findall(cell)) for cell in cells)
            found[-1].rows.append(Part(number, tuple(facts)))
        else:
            found[-1].prose.append(line)
    return found


def numbers(text):
    """The numbers of a text outside of code, pictures and addresses."""
    text = SPAN.sub("", LINK.sub(lambda link: link[0].partition("](")[0], PICTURE.sub("", text)))
    return re.findall(r"\d+(?:\.\d+)?", GROUPED.sub("", text))


def links(text, page):
    """Where the links of a text go; a heading of the page is named by its place, as languages differ."""
    places = {anchor(section.title): f"heading {place}" for place, section in enumerate(page, start=1)}
    targets = (link for link in LINK.findall(PICTURE.sub("", text)) if link not in (ORIGINAL, *TRANSLATIONS))
    return [places.get(link[1:], link) if link.startswith("#") else link for link in targets]


def unequal(there, here):
    """Pairs of indices at which two lists differ; None for what the other list has no counterpart of."""
    for tag, *ends in difflib.SequenceMatcher(None, there, here, autojunk=False).get_opcodes():
        if tag != "equal":
            yield from itertools.zip_longest(range(*ends[:2]), range(*ends[2:]))


def differences(original, translation, name):
    """A line for each way in which `translation`, the text of the file `name`, is out of step."""
    pages = read_page(original), read_page(translation)
    if len(pages[0]) != len(pages[1]):
        shapes = ([(s.level, *(b.facts for b in s.blocks), len(s.rows)) for s in page] for page in pages)
        return list(of_parts(*pages, *shapes, (name, 1, "the section, translated")))
    return [line for sections in zip(*pages, strict=True) for line in of_section(*sections, pages, name)]


def of_parts(ours, theirs, there, here, told):
    """Differences of parts, whose facts are `there` and `here`; `told` has file, line, what to copy."""
    name, line, what = told
    for one, other in unequal(there, here):
        if one is None:
            yield f"{name}:{theirs[other].line}: {ORIGINAL} has nothing of the kind; remove it"
        elif other is None:
            yield f"{name}:{line}: below this, {ORIGINAL}:{ours[one].line} is missing; copy {what}"
        else:
            pairs = itertools.zip_longest(there[one], here[other])
            first = next(pair for pair in pairs if pair[0] != pair[1])
            yield (
                f"{name}:{theirs[other].line}: not as {ORIGINAL}:{ours[one].line}, "
                f"which has {first[0]!r} and not {first[1]!r}; copy {what}"
            )


def of_section(ours, theirs, pages, name):
    """Differences of two sections at the same place of their pages."""
    for parts, what in (((ours.blocks, theirs.blocks), BLOCK), ((ours.rows, theirs.rows), ROW)):
        facts = ([part.facts for part in side] for side in parts)
        yield from of_parts(*parts, *facts, (name, theirs.line, what))
    prose = ["\n".join(section.prose) for section in (ours, theirs)]
    for what, sides in (
        ("heading of level", [{section.level} for section in (ours, theirs)]),
        ("pictures, in this order", [PICTURE.findall(text) for text in prose]),
        ("links", [set(links(*each)) for each in zip(prose, pages, strict=True)]),
        ("`code`", [set(SPAN.findall(text)) for text in prose]),
        ("numbers", [set(numbers(text)) for text in prose]),
    ):
        there, here = map(list, sides)
        if sides[0] != sides[1]:
            yield (
                f"{name}:{theirs.line}: the section of {ORIGINAL}:{ours.line} ({ours.title}) differs in "
                f"{what}: "
                f"only there {sorted(x for x in there if x not in here)}, "
                f"only here {sorted(x for x in here if x not in there)}"
            )
