"""A sheet of titled tables, as Markdown for a terminal and as one HTML page; the option that writes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from config.arguments import Parser, say
from utils.pages import fill_page
from utils.text import Lines, aligned, printable, shortened

FORMATS = (".md", ".html")
_TEMPLATE = Path(__file__).with_name("page.html.j2")
_LONGEST = 600  # characters of a cell: a file may hold longer ones, and a line has room for no more


class Table(NamedTuple):
    """Rows of cells, the first of them the heading, with the text above them; no rows is text only."""

    title: str
    rows: Sequence[Sequence[str]] = ()
    note: str = ""


def add_out_option(parser: Parser) -> None:
    """Add --out, a file for the sheet."""
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"write the tables there, too: {' or '.join(FORMATS)}"
    )


def require_out(out: Path | None) -> None:
    """Raise ValueError or OSError for an --out that cannot be written, MissingExtra without its package."""
    from utils.files import require_writable
    from utils.package import require_extra

    if out is None:
        return
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"--out is {out}; allowed: a file name that ends in {', '.join(FORMATS)}")
    require_writable(out, "--out")
    if out.suffix.lower() == ".html":
        require_extra("plots", "jinja2")


def publish(title: str, tables: Sequence[Table], out: Path | None) -> None:
    """Print the sheet, and write it to `out`, as a page with that title or as text. Raises OSError."""
    from utils.files import write_atomically

    text = as_text(tables)
    say("%s", Lines(text))
    if out is not None:
        content = as_page(title, tables) if out.suffix.lower() == ".html" else f"{text}\n"
        write_atomically(out, lambda path: path.write_text(content, encoding="utf-8"))
        say("\nWritten: %s", out)


def as_text(tables: Sequence[Table]) -> str:
    """The sheet in Markdown; names in it are escaped."""
    return "\n\n".join(part for table in tables for part in _text_parts(table) if part)


def _text_parts(table: Table) -> tuple[str, str, str]:
    if not table.rows:
        return printable(table.title), "", printable(table.note)
    head, *rows = (
        f"| {' | '.join(cells)} |"
        for cells in aligned([[_shown(cell).replace("|", r"\|") for cell in row] for row in table.rows])
    )
    line = "".join(letter if letter == "|" else "-" for letter in head.replace(r"\|", "--"))
    return printable(table.title), "\n".join([head, line, *rows]), printable(table.note)


def _shown(cell: str) -> str:
    return shortened(cell, _LONGEST)


def as_page(title: str, tables: Sequence[Table]) -> str:
    """The sheet as HTML, which fetches nothing, runs no script and escapes all texts. Needs jinja2."""
    return fill_page(_TEMPLATE, {"shown": printable, "cell": _shown}, title=title, tables=tables)
