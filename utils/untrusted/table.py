"""A user's table: a CSV file whose first line names the columns, and its cells."""

import csv
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from utils.text import quoted, shortened
from utils.untrusted.plain import open_plain_text

# What pandas, R and databases write for an empty cell, as pandas reads it.
_NOTHING = {"NaN", "nan", "-nan", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaT", "NULL", "null", "None"}
_SHOWN = 100  # characters of columns in a message

_logger = logging.getLogger("transreid.datasets")


def read_columns(file: Path) -> list[str]:
    """The names of a table's columns, without the spaces around them. Raises as `read_table` does."""
    with open_plain_text(file) as stream:
        try:
            return [column.strip() for column in next(csv.reader([stream.readline()]), [])]
        except csv.Error as error:
            raise ValueError(f"{file}:1: cannot be read as a CSV file: {error}") from error


def read_table(
    file: Path, required: Sequence[str], optional: Sequence[str], *, others: bool = False
) -> Iterator[tuple[dict[str, str], str]]:
    """Yield the cells of each row by column, without the spaces around them, and "file:line".

    Blank lines are left out; other columns are named in the log, unless the caller reads these `others` too.
    Raises ValueError (file and line) for a missing or repeated column, a row of another length, and what is
    no CSV file.
    """
    with open_plain_text(file) as stream:
        # Files that were put together may have a byte order mark in several lines.
        reader = csv.reader(line.removeprefix("\ufeff") for line in stream)
        try:
            columns = _check_columns(next(reader, []), file, required, optional)
            _handle_others(columns, file, (*required, *optional), read=others)
            for fields in reader:
                where = f"{file}:{reader.line_num}"
                if not fields:
                    continue
                if len(fields) != len(columns):
                    names = shortened(", ".join(columns), _SHOWN)
                    raise ValueError(f"{where}: {len(fields)} fields, allowed are {len(columns)}: {names}")
                yield dict(zip(columns, map(str.strip, fields), strict=True)), where
        except csv.Error as error:
            raise ValueError(f"{file}:{reader.line_num}: cannot be read as a CSV file: {error}") from error


def check_cell(
    name: str, cell: str | None, where: str, *, hint: str = "", may_be_empty: bool = False
) -> None:
    """Raise ValueError for an empty cell, unless it may be, and one that other programs write for that.

    None, for a column that the table does not have, passes. `hint` says what else is allowed.
    """
    if cell == "" and not may_be_empty:
        raise ValueError(f"{where}: {name} is empty, allowed is any text or number{hint}")
    if cell in _NOTHING:
        raise ValueError(
            f"{where}: {name} is {cell!r}, as tables write an empty cell; allowed is other text or a"
            f" number{hint}"
        )


def _check_columns(
    columns: Sequence[str], file: Path, required: Sequence[str], optional: Sequence[str]
) -> list[str]:
    stripped = [column.strip() for column in columns]
    where = f"{file}:1"
    for column in required:
        if column not in stripped:
            raise ValueError(
                f"{where}: no column {column!r} among {shortened(', '.join(stripped), _SHOWN) or 'none'};"
                f" needed are {', '.join(required)}, optional are {', '.join(optional)}"
            )
    for column in (*required, *optional):
        if stripped.count(column) > 1:
            times = stripped.count(column)
            raise ValueError(f"{where}: column {column!r} comes {times} times, allowed is once")
    return stripped


def _handle_others(columns: Sequence[str], file: Path, known: Sequence[str], *, read: bool) -> None:
    """Log which columns are not read; if they are `read`, raise ValueError for one that comes twice."""
    others = [column for column in columns if column not in known]
    if read:
        twice = [column for column in others if others.count(column) > 1]
        if twice:
            raise ValueError(f"{file}:1: column {quoted(twice[0])} comes several times, allowed is once")
    elif others:
        names = shortened(", ".join(map(quoted, others)), _SHOWN)
        _logger.info("%s:1: %d columns are not read: %s", file, len(others), names)
