"""Pictures that a command line names for a gallery, and what folders, file names and tables say of them."""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from config.arguments import Parser
from tools.features.finding import expand
from tools.gallery_commands.options import moment, read_moment
from utils.text import Tally, printable
from utils.untrusted.forms import check_form
from utils.untrusted.table import check_cell, read_table

if TYPE_CHECKING:
    from retrieval import Metadata

CROPS = "crops.csv"  # of tools/crops.py
UNKNOWN = "-1"
REQUIRED, OPTIONAL = ("path",), ("identity", "pid", "camera", "camid", "time", "key", "picture", "track")
_NAMELESS = "under a path that cannot be printed or is no text"
_CAMERA_MARK = re.compile(r"_(c[0-9]+)")
_SECONDS = re.compile(r"([0-9]{1,7}|[0-9]{9,11})(\.[0-9]{1,9})?")  # eight digits are a day
_logger = logging.getLogger("transreid.tools")


class Found(NamedTuple):
    """A picture's file and what is said about it; `by_place`: its identity is its folder or track."""

    path: str
    metadata: Metadata
    by_place: bool = False


def add_source_options(parser: Parser) -> None:
    """The options that say what is known about pictures."""
    add = parser.add_argument
    add("--identity", metavar="NAME", help="name of the identity in all pictures")
    add("--camera", metavar="NAME", help="name of the camera of all pictures")
    add("--time", type=moment, metavar="TIME", help="time of all pictures, as 2026-05-04T08:30:00")
    add("--start", type=moment, metavar="TIME", help="time from which seconds in tables count")
    add("--tracks", action="store_true", help="tracks of crops.csv are identities")
    add("--no-folder-names", action="store_true", help="the name of a picture's folder is no identity")
    add("--no-file-cameras", action="store_true", help="_c1 in a picture's name is no camera")


def find_pictures(args: argparse.Namespace) -> list[Found]:
    """The pictures that `args.words` name, each real file once, in their order.

    A word is a folder, a .csv table, or what else `find_images` takes; a folder in which tools/crops.py wrote
    is read by its table. A warning counts what is not read. Raises FileNotFoundError for a word without
    pictures, ValueError for a table that cannot be read, and where there are no words or nothing is left.
    """
    if not args.words:
        raise ValueError("no pictures are named; allowed: folders, .csv tables, .txt lists, images")
    found: dict[str, Found] = {}
    left_out, clockless = Tally(), 0
    for source in args.words:
        table = _table_of(source)
        pictures = _read_table(table, args) if table else _look_through(source, args, left_out)
        for picture in pictures:
            clockless += "seconds" in picture.metadata.more and picture.metadata.time is None
            if not picture.metadata.path:
                left_out.add(_NAMELESS, picture.path)
            else:
                found.setdefault(os.path.realpath(picture.path), picture)
    if not found:
        raise ValueError(f"no picture is left to add; not read: {left_out or 'empty tables'}")
    if left_out:
        _logger.warning("not read: %s", str(left_out))  # logging takes a single dict apart
    if clockless:
        _logger.warning("%d times are seconds and so not known; needed: --start", clockless)
    return list(found.values())


def _table_of(source: str) -> Path | None:
    """The table that is read in place of a source."""
    path = Path(source)
    if path.suffix.lower() == ".csv" and path.is_file():
        return path
    # Folders of tracks have numbers, which are no names of people.
    beside = path / CROPS if path.name != "crops" else path.parent / CROPS
    if path.is_dir() and beside.is_file():
        _logger.info("%s is read by %s", source, beside)
        return beside
    return None


def _look_through(source: str, args: argparse.Namespace, left_out: Tally) -> Iterator[Found]:
    root = Path(source)
    is_folder = root.is_dir()
    for path in expand(source, left_out, "source"):
        said = {}
        in_subfolder = is_folder and path.parent != root
        if in_subfolder and not args.no_folder_names and path.parent.name != UNKNOWN:
            said["identity"] = path.parent.name
        mark = _CAMERA_MARK.search(path.name)
        if mark and not args.no_file_cameras:
            said["camera"] = mark[1]
        yield Found(*_facts(path, said, args, str(path)), by_place="identity" in said and not args.identity)


def _read_table(table: Path, args: argparse.Namespace) -> Iterator[Found]:
    for cells, where in read_table(table, REQUIRED, OPTIONAL, others=True):
        check_cell("path", cells["path"], where)
        said: dict[str, object] = {
            "identity": _label(cells, ("identity", "pid"), where),
            "camera": _label(cells, ("camera", "camid"), where),
        }
        known = (*REQUIRED, *OPTIONAL[:-1])
        more = {name: cell for name, cell in cells.items() if name not in known and name and cell}
        if args.tracks:
            if not cells.get("track"):
                raise ValueError(f"{where}: no track; needed with --tracks: a table of tools/crops.py")
            # The same number in the table of another video is another track.
            said["identity"] = f"{table.absolute().parent.name} track {cells['track']}"
        clock = cells.get("time", "")
        if _SECONDS.fullmatch(clock):
            more["seconds"] = clock
        said["time"] = _time(clock, args.start, where)
        facts = _facts(table.parent / cells["path"], said | {"more": more}, args, where)
        yield Found(*facts, by_place=args.tracks and not args.identity)


def _label(cells: Mapping[str, str], columns: tuple[str, str], where: str) -> str:
    """The first of the columns that says something; '' where it is unknown."""
    for name in columns:
        cell = cells.get(name, "")
        check_cell(name, cell, where, hint=" (empty or -1: unknown)", may_be_empty=True)
        if cell not in ("", UNKNOWN):
            return cell
    return ""


def _time(cell: str, start: datetime | None, where: str) -> datetime | None:
    if _SECONDS.fullmatch(cell):
        return None if start is None else start + timedelta(seconds=float(cell))
    try:
        return read_moment(cell) if cell else None
    except ValueError as error:
        raise ValueError(f"{where}: {error}, or seconds") from None


def _facts(
    path: Path, said: Mapping[str, object], args: argparse.Namespace, where: str
) -> tuple[str, Metadata]:
    """The absolute path, and the metadata, of which options come first."""
    from retrieval import Metadata

    place = os.path.abspath(path)
    given = {name: getattr(args, name) for name in ("identity", "camera", "time")}
    said = {**said, **{name: value for name, value in given.items() if value is not None}}
    texts = {name: _storable(str(said.get(name, ""))) for name in ("identity", "camera")}
    fields = {**said, **texts, "path": place if _storable(place) == place else ""}
    return place, check_form(fields, Metadata, where)


@lru_cache(1 << 16)
def _storable(text: str) -> str:
    """The text, or where a gallery cannot store such letters, with them escaped."""
    from retrieval import Metadata

    try:
        return Metadata(path=text).path
    except ValueError:
        return printable(text)
