"""Shared by the commands of a gallery: its address, models, filters and times."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from config.arguments import Parser
from config.errors import as_keys
from tools.features.finding import pair
from utils.text import quoted

if TYPE_CHECKING:
    from clipreid import Model, TextModel
    from retrieval import Entry, Gallery

_DAY = re.compile(r"\d{4}-\d\d-\d\d|\d{8}")
_TIMES = "allowed: 2026-05-04, 2026-05-04T08:30, or with seconds and a zone as 2026-05-04T08:30:00+02:00"


class Command(NamedTuple):
    """A command: a line of help, its options, the words that follow the address (or ''), and what it does."""

    help: str
    words: str
    add_options: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], None]


def command_parser(name: str, command: Command) -> Parser:
    """The parser of one command, whose `address` and `words` are those of `take_address`."""
    usage = "%(prog)s ADDRESS" + (f" {command.words}" if command.words else "") + " [OPTION]..."
    parser = Parser(prog=name, usage=usage, description=command.help, allow_abbrev=False, epilog=_ADDRESS)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--gallery", metavar="ADDRESS", help="the address, in place of the first word")
    command.add_options(parser)
    return parser


_ADDRESS = (
    "ADDRESS is a folder whose name ends in .db, or http://host:19530[/database] of a Milvus server, whose "
    "token is MILVUS_TOKEN in the environment"
)


def take_address(parser: Parser, args: argparse.Namespace) -> None:
    """Make the first word the gallery's address, unless --gallery is; ends the program without either."""
    if args.gallery is None:
        if not args.words:
            parser.error("the gallery's address is missing; allowed: logs/gallery.db, http://host:19530")
        args.gallery, *args.words = args.words


def log_beside() -> None:
    """Log to stderr, because stdout is read by another program."""
    for handler in logging.getLogger("transreid").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)


def no_words(args: argparse.Namespace) -> None:
    """Raise ValueError for words behind the address of a command that takes none."""
    if args.words:
        raise ValueError(f"{quoted(args.words[0])} follows the address; allowed: options only")


def add_model_options(parser: Parser) -> None:
    """--weight and --text-weight, and what their files may not say."""
    add = parser.add_argument
    add("--weight", metavar="FILE", help="re-id model: file, folder of tools/hub.py, or hf-hub:org/name")
    add("--model", metavar="NAME", help="MODEL.NAME of --weight (default: from card, file name or shapes)")
    add("--size", type=int, nargs=2, metavar=("H", "W"), help="image size of --weight (default: its card's)")
    add("--text-weight", metavar="FILE", help="text search model, for sentences; given as --weight is")
    add("--text-model", metavar="NAME", help="MODEL.NAME of --text-weight")
    add("--text-size", type=int, nargs=2, metavar=("H", "W"), help="image size of --text-weight")


def load_models(args: argparse.Namespace, device: str) -> dict[str, Model | TextModel]:
    """The models in the options by the space of their features; raises as `clipreid.load_model` does.

    ValueError, too, for options of a model that is not given.
    """
    from clipreid import load_model, load_text_model

    for option in ("model", "size"):
        for prefix in ("", "text_"):
            if getattr(args, prefix + option) is not None and getattr(args, f"{prefix}weight") is None:
                name = f"{prefix}{option}".replace("_", "-")
                raise ValueError(f"--{name} is given without --{prefix.replace('_', '-')}weight")
    models: dict[str, Model | TextModel] = {}
    if args.weight is not None:
        with as_keys({"path": "--weight", "name": "--model", "size": "--size"}):
            models["reid"] = load_model(args.weight, device=device, size=pair(args.size), name=args.model)
    if args.text_weight is not None:
        with as_keys({"path": "--text-weight", "name": "--text-model", "size": "--text-size"}):
            models["text"] = load_text_model(
                args.text_weight, device=device, size=pair(args.text_size), name=args.text_model
            )
    return models


def accept_all(gallery: Gallery, models: Mapping[str, Model | TextModel]) -> None:
    """Let a gallery take features of its own models in every space, those that are not loaded among them.

    Raises ValueError where a model that is loaded is not the space's.
    """
    gallery.accept({space: model.space_model for space, model in models.items()})
    gallery.accept(gallery.models)


def add_filter_options(parser: Parser) -> None:
    """--identity, --camera, --since and --until."""
    add = parser.add_argument
    add("--identity", nargs="+", metavar="NAME", help="entries of these identities; '' is no name")
    add("--camera", nargs="+", metavar="NAME", help="entries of these cameras; '' is an unknown one")
    add_span_options(parser)


def add_span_options(parser: Parser) -> None:
    """--since and --until."""
    add = parser.add_argument
    add("--since", type=moment, metavar="TIME", help="entries seen then or later, as 2026-05-04T08:30:00")
    add("--until", type=end_moment, metavar="TIME", help="entries seen until then; a day counts as a whole")


def chosen(gallery: Gallery, args: argparse.Namespace) -> Iterator[Entry]:
    """The entries that meet all of the filters; one without a time is in no span."""
    return gallery.entries(identities=args.identity, cameras=args.camera, since=args.since, until=args.until)


def moment(text: str) -> datetime:
    """The `type` of options that are a time; a day is its beginning, no zone the system's.

    Raises ArgumentTypeError.
    """
    try:
        return read_moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def end_moment(text: str) -> datetime:
    """The same, where a day is its end."""
    found = moment(text)
    return datetime.combine(found, time.max).astimezone() if _DAY.fullmatch(text.strip()) else found


def read_moment(text: str) -> datetime:
    """A time in ISO's form, with its zone. Raises ValueError."""
    text = text.strip()
    try:
        # Python 3.10 knows no Z.
        return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).astimezone()
    except (ValueError, OverflowError, OSError):  # OverflowError, OSError: a year that the system cannot have
        raise ValueError(f"{quoted(text)} is no time; {_TIMES}") from None


def printed_json(content: Any) -> str:
    """JSON for stdout, where what it cannot show is escaped as JSON does it."""
    encoding = sys.stdout.encoding or "ascii"

    def is_shown(letter: str) -> bool:
        return letter == "\n" or (letter.isprintable() and bool(letter.encode(encoding, "ignore")))

    text = json.dumps(content, indent=2, ensure_ascii=False)
    return "".join(letter if is_shown(letter) else json.dumps(letter)[1:-1] for letter in text)


def shown_time(when: datetime | None) -> str:
    """A time to the second in the system's zone, '' for none."""
    return "" if when is None else when.astimezone().isoformat(" ", "seconds")


def number(count: int, noun: str = "entries") -> str:
    """A count in words, as '1 entry'."""
    singular = f"{noun[:-3]}y" if noun.endswith("ies") else noun.removesuffix("s")
    return f"{count} {singular if count == 1 else noun}"


def own_pictures(address: str) -> Path | None:
    """Where a server keeps the pictures that this gallery was sent; None for a gallery on a Milvus server."""
    return None if "://" in address else Path(address).with_suffix(".pictures")
