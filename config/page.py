"""docs/keys.md, the page of all keys, written from the key tables: python -m config.page."""

import textwrap
from collections import Counter
from pathlib import Path

from config import TABLES
from config.keys import Key

PAGE = Path(__file__).parents[1] / "docs/keys.md"
_HEAD = """\
# Keys

All keys of the configuration with their defaults; the files in `configs/` change many of them. A value is a
Python literal or text, in a YAML file or after the options of a program (`SOLVER.SEED 1`).
`make keys` writes this page from `config/`.
"""
_Uses = list[tuple[str, str, Key]]  # training program, full name, key


def page() -> str:
    """The text of the page: a section for each top node, keys of the same meaning in one entry."""
    sections: dict[str, dict[tuple[str, str], _Uses]] = {}
    for table in TABLES:
        for name, key in table.keys.items():
            section = sections.setdefault(name.partition(".")[0], {})
            same = (name.rpartition(".")[2], key.comment)
            section.setdefault(same, []).append((table.programs[0], name, key))
    parts = [
        f"\n## {title}\n\n" + "".join(map(_entry, section.values())) for title, section in sections.items()
    ]
    return _HEAD + "".join(parts)


def _entry(uses: _Uses) -> str:
    key = uses[0][2]
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(name for _, name, _ in uses))
    defaults = [f"`{key.default!r}`" for *_, key in uses]
    ((usual, _),) = Counter(defaults).most_common(1)
    sentences = [f"- {names}: {', '.join([usual, *_others(uses, defaults, usual)])}.", key.comment]
    sentences += [f"Allowed: {key.rule.allowed}."] if key.rule else []
    sentences += [f"Needs {key.needs[0]} {key.needs[1].allowed}."] if key.needs else []
    reasons = [key.unused for *_, key in uses]
    shown = reasons[:1] if len(set(reasons)) == 1 else _others(uses, reasons, "")
    sentences += [f"Unused: {'; '.join(shown)}."] if any(reasons) else []
    sentences += ["A resumed run must keep it."] if key.fixed else []
    return textwrap.fill(" ".join(sentences), 110, subsequent_indent="  ", break_on_hyphens=False) + "\n"


def _others(uses: _Uses, facts: list[str], usual: str) -> list[str]:
    """The facts that are not the usual one, each with its programs, or with its keys among several."""
    programs = Counter(program for program, *_ in uses)
    others: dict[str, list[str]] = {}
    for (program, name, _), fact in zip(uses, facts, strict=True):
        if fact != usual:
            others.setdefault(fact, []).append(program if programs[program] == 1 else f"`{name}`")
    return [f"{fact} ({', '.join(places)})" for fact, places in others.items()]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
