"""A sheet of titled tables, as Markdown for a terminal and as one HTML page."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from utils.text import aligned, printable

_TEMPLATE = "page.html.j2"


class Table(NamedTuple):
    """Rows of cells, the first of them the heading, with the text above them; no rows is text only."""

    title: str
    rows: Sequence[Sequence[str]] = ()
    note: str = ""


def as_text(tables: Sequence[Table]) -> str:
    """The sheet in Markdown; names in it are escaped."""
    return "\n\n".join(part for table in tables for part in _text_parts(table) if part)


def _text_parts(table: Table) -> tuple[str, str, str]:
    if not table.rows:
        return printable(table.title), "", printable(table.note)
    head, *rows = (
        f"| {' | '.join(cells)} |"
        for cells in aligned([[cell.replace("|", r"\|") for cell in row] for row in table.rows])
    )
    line = "".join(letter if letter == "|" else "-" for letter in head.replace(r"\|", "--"))
    return printable(table.title), "\n".join([head, line, *rows]), printable(table.note)


def as_page(title: str, tables: Sequence[Table]) -> str:
    """The sheet as HTML, which fetches nothing, runs no script and escapes all texts. Needs jinja2."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = printable
    return environment.get_template(_TEMPLATE).render(title=title, tables=tables)
