"""gallery.py list and stats: the entries as a table, CSV or JSON, and their numbers."""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.arguments import Parser, one_or_more, say
from tools.gallery_commands.options import (
    Command,
    add_filter_options,
    chosen,
    log_beside,
    no_words,
    number,
    printed_json,
    shown_time,
)
from utils.files import require_writable, write_atomically
from utils.text import Lines, aligned

if TYPE_CHECKING:
    from retrieval import Entry, Gallery

_COLUMNS = ("key", "identity", "camera", "time", "path", "picture")
_TITLES = ("key", "identity", "camera", "time", "path")
_MOST = 20  # cameras and identities that are printed
_KEY = 64  # letters, those of a picture's


def add_list_options(parser: Parser) -> None:
    """Add the options of which entries are shown, and their form."""
    add = parser.add_argument
    add_filter_options(parser)
    add("--form", choices=("table", "csv", "json"), default="table", help="default: table")
    add("--out", type=Path, metavar="FILE", help="write a file in place of printing")
    add("--most", type=one_or_more, metavar="N", help="show N entries at most (default: all)")


def list_entries(args: argparse.Namespace) -> None:
    """Print or write the entries that meet the filters."""
    from retrieval import Gallery

    no_words(args)
    if args.form != "table":
        log_beside()
    if args.out:
        require_writable(args.out, "--out")
    with Gallery.open(args.gallery) as gallery:
        entries = itertools.islice(chosen(gallery, args), args.most)
        if args.form == "json":
            records = [_record(entry) for entry in entries]
            text = json.dumps(records, indent=2, ensure_ascii=False) if args.out else printed_json(records)
            text += "\n"
        elif args.form == "csv":
            text = _as_csv(entries)
        else:
            text = _as_table(entries)
    if args.out:
        write_atomically(args.out, lambda beside: beside.write_text(text, encoding="utf-8"))
        say("%s", args.out)
    else:
        say("%s", Lines(text.removesuffix("\n")))


def _record(entry: Entry) -> dict[str, Any]:
    return {"key": entry.key} | entry.metadata.model_dump(mode="json")


def _as_csv(entries: Iterable[Entry]) -> str:
    """A table that `add` reads again, if the pictures lie where they lay."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in entries:
        record = _record(entry)
        writer.writerow("" if record[name] is None else record[name] for name in _COLUMNS)
    return file.getvalue()


def _as_table(entries: Iterable[Entry]) -> str:
    rows = [_TITLES]
    for key, facts in entries:
        known = (facts.identity or "?", facts.camera or "?", shown_time(facts.time) or "?")
        rows.append((key if len(key) <= _KEY else f"{key[: _KEY - 1]}…", *known, facts.path))
    cells = aligned([row[:-1] for row in rows])
    return "\n".join("  ".join([*row, last]) for row, (*_, last) in zip(cells, rows, strict=True))


def add_stats_options(parser: Parser) -> None:
    """The form."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def stats(args: argparse.Namespace) -> None:
    """Print the numbers of a gallery: entries by space, camera and identity, times, index, disk, models."""
    from retrieval import Gallery

    no_words(args)
    if args.json:
        log_beside()
    with Gallery.open(args.gallery) as gallery:
        found = _numbers(gallery)
    if args.json:
        say("%s", Lines(printed_json(found)))
        return
    for space, numbers in found["spaces"].items():
        model = numbers["model"]
        row = (
            space,
            number(numbers["entries"]),
            numbers["index"],
            model["name"],
            model["width"],
            model["sha256"][:12],
        )
        say("space %s: %s, index %s; model %s, %d wide, %s", *row)
    count, named, people = found["named"]
    say("%s in all, %d with a name, of %s", number(count), named, number(people, "identities"))
    first, last = found["times"]["first"], found["times"]["last"]
    if first is not None:
        say("seen from %s to %s; %d without a time", first, last, found["times"]["unknown"])
    if found["bytes"] is not None:
        say("%.1f MB in %s", found["bytes"] / 1e6, found["gallery"])
    for what in ("cameras", "identities"):
        counts = sorted(found[what].items(), key=lambda item: (-item[1], item[0]))
        for name, count in counts[:_MOST]:
            say("%s %s: %d", {"cameras": "camera", "identities": "identity"}[what], name or "?", count)
        if len(counts) > _MOST:
            say("and %d more %s (--json has all)", len(counts) - _MOST, what)


def _numbers(gallery: Gallery) -> dict[str, Any]:
    identities: Counter[str] = Counter()
    cameras: Counter[str] = Counter()
    first = last = None
    timeless = 0
    for _, facts in gallery.entries():
        identities[facts.identity] += 1
        cameras[facts.camera] += 1
        if facts.time is None:
            timeless += 1
        else:
            first = facts.time if first is None else min(first, facts.time)
            last = facts.time if last is None else max(last, facts.time)
    count, indexes = identities.total(), gallery.indexes
    return {
        "gallery": gallery.address,
        "spaces": {
            space: {"entries": gallery.count(space), "index": indexes[space], "model": model.model_dump()}
            for space, model in gallery.models.items()
        },
        "named": [count, count - identities[""], len(identities.keys() - {""})],
        "times": {
            "first": first and first.isoformat(" ", "seconds"),
            "last": last and last.isoformat(" ", "seconds"),
            "unknown": timeless,
        },
        "bytes": _bytes(Path(gallery.address)),
        "cameras": dict(sorted(cameras.items())),
        "identities": dict(sorted(identities.items())),
    }


def _bytes(folder: Path) -> int | None:
    """The size of a folder's files; None for a server."""
    if not folder.is_dir():
        return None
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


LIST = Command("Show the entries that meet all filters.", "", add_list_options, list_entries)
STATS = Command("Show how many entries of what there are.", "", add_stats_options, stats)
