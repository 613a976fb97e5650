"""gallery.py remove: entries leave the gallery by key, name, camera or age."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from config.arguments import Parser, say
from tools.gallery_commands.options import Command, add_filter_options, chosen, moment, number, own_pictures

if TYPE_CHECKING:
    from retrieval import Entry, Gallery

_AT_ONCE = 1000  # entries


def add_options(parser: Parser) -> None:
    """Add the options of which entries are removed, and how."""
    add = parser.add_argument
    add_filter_options(parser)
    add(
        "--before",
        type=moment,
        metavar="TIME",
        help="entries seen before, as 2026-05-04; none without a time",
    )
    add(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="where a server keeps what it was sent: pictures there are deleted, too (default: beside the "
        "gallery, logs/gallery.pictures of logs/gallery.db)",
    )
    add("--dry-run", action="store_true", help="say which would be removed, and remove none")
    add(
        "--erase", action="store_true", help="erase them from the disk at once: the gallery is written afresh"
    )


def remove(args: argparse.Namespace) -> None:
    """Remove the entries that meet all conditions, and the pictures of theirs that a server was sent.

    Raises ValueError without conditions, KeyError for a key that is not there.
    """
    from retrieval import Gallery

    conditions = (args.identity, args.camera, args.since, args.until, args.before)
    if not args.words and all(each is None for each in conditions):
        raise ValueError("nothing says which entries; needed: keys, --identity, --camera or --before")
    with Gallery.open(args.gallery) as gallery:
        entries, timeless = _choose(gallery, args)
        if args.dry_run:
            for entry in entries:
                say("%s  %s  %s", entry.key, entry.metadata.identity or "?", entry.metadata.path)
            say("%s would be removed", number(len(entries)))
        else:
            _remove(gallery, entries, args)
        if timeless:
            say("%s without a time: not removed", number(timeless))
        if args.erase and not args.dry_run:
            gallery.compact()
            if "://" in args.gallery:
                say("The server erases their rows from its disk when its garbage collection comes by")
            else:
                say("The gallery is written afresh: nothing of removed entries is left in it")


def _choose(gallery: Gallery, args: argparse.Namespace) -> tuple[list[Entry], int]:
    """The entries that meet all conditions, and how many do but for their time, which is not known."""
    if args.words:
        gallery.get(args.words)
    wanted = set(args.words)
    found = [entry for entry in chosen(gallery, args) if not wanted or entry.key in wanted]
    if args.before is None:
        return found, 0
    known = [entry for entry in found if entry.metadata.time is not None]
    return [entry for entry in known if entry.metadata.time < args.before], len(found) - len(known)


def _remove(gallery: Gallery, entries: Sequence[Entry], args: argparse.Namespace) -> None:
    folder = args.pictures or own_pictures(args.gallery)
    removed = deleted = left = 0
    for start in range(0, len(entries), _AT_ONCE):
        part = entries[start : start + _AT_ONCE]
        for entry in part:
            path = Path(entry.metadata.path)
            if (
                folder
                and path.parent == Path(os.path.abspath(folder))
                and path.stem == entry.metadata.picture
            ):
                # First the picture: after an interruption the entry is there, to be removed again.
                path.unlink(missing_ok=True)
                deleted += 1
            else:
                left += path.is_file()
        removed += gallery.remove([entry.key for entry in part])
    say("%s removed", number(removed))
    if deleted:
        say("%s in %s deleted", number(deleted, "pictures"), folder)
    if left:
        say("%s left elsewhere", number(left, "picture files"))


COMMAND = Command(
    "Remove entries that meet all conditions: keys, names, cameras, times.", "[KEY]...", add_options, remove
)
