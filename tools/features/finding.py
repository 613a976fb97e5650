"""Images that a command line names: finding them, and the options about reading them. Imports no torch."""

import argparse
import glob
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from config.arguments import Parser
from config.shared import PRECISIONS
from utils.limits import usual_workers
from utils.text import Tally
from utils.untrusted.folders import find_files, find_folders
from utils.untrusted.pictures import picture_suffixes
from utils.untrusted.plain import read_plain_lines

_ANY_DEPTH = re.compile(r"(?:^|(?<=/))(?:\*\*(?:/|$))+")
_logger = logging.getLogger("transreid.tools")


class NoneReadableError(ValueError):
    """None of the images could be read."""


def find_images(sources: Sequence[str]) -> list[str]:
    """Image paths that the sources name, in their order, each path once.

    A source is a folder (searched to any depth by `find_files`), a .txt file of paths, a pattern with * ? []
    ** (sorted), or an image file. Of several sources each real file is taken once. One warning counts what is
    left out. Whether the files are images is not looked at. Raises FileNotFoundError for a source without
    any, ValueError for a .txt file that is not UTF-8.
    """
    left_out = Tally()
    paths: dict[str, str] = {}
    for path in (str(path) for source in sources for path in expand(source, left_out)):
        real = os.path.realpath(path) if len(sources) > 1 else path
        if real in paths:
            left_out.add("named twice", path)
        paths.setdefault(real, path)
    if left_out:
        _logger.warning("--images: not read: %s", str(left_out))  # logging takes a single dict apart
    return list(paths.values())


def expand(source: str, left_out: Tally, option: str = "--images") -> list[Path]:
    """The image paths that one source of `find_images` names; `left_out` counts what is not read in a folder.

    Raises as that does; `option` names the source in its errors.
    """
    path = Path(source)
    if path.is_dir():
        found = find_files(path, picture_suffixes(), left_out)
    elif path.exists() and path.suffix.lower() == ".txt":
        found = [Path(line.strip()) for line in read_plain_lines(path) if line.strip()]
    elif path.exists():
        found = [path]
    else:
        found = sorted(Path(name) for name in _match(source) if os.path.isfile(name))
    if not found:
        hint = f"; not read: {left_out}" if left_out else ""
        kinds = " ".join(sorted(picture_suffixes(), key=lambda suffix: suffix != ".jpg"))
        raise FileNotFoundError(
            f"{option} {source}: no image there; allowed: a folder of {kinds}, "
            f"a .txt file with a path a line, a pattern in quotes, an image{hint}"
        )
    return found


def _match(pattern: str) -> list[str]:
    """What glob finds, but `**` enters each real folder once: glob follows links that lead in circles."""
    pattern = pattern.replace(os.sep, "/")  # Windows takes both
    deep = _ANY_DEPTH.search(pattern)
    if not deep:
        return glob.glob(pattern)
    bases = glob.glob(pattern[: deep.start()]) if deep.start() else ["."]
    folders = (folder for base in bases if os.path.isdir(base) for folder in find_folders(base))
    rest = pattern[deep.end() :] or "*"
    return [name for folder in folders for name in _match(os.path.join(glob.escape(str(folder)), rest))]


def add_image_options(parser: Parser) -> None:
    """--orientation, --device, --amp, --batch, --workers and --strict."""
    add = parser.add_argument
    add(
        "--orientation",
        choices=("exif", "stored"),
        default="exif",
        help="'exif' (default) turns images as their EXIF orientation says, 'stored' leaves them as they lie",
    )
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cuda (default): the GPU if there is one")
    add("--amp", choices=PRECISIONS, default="off", help="precision, TEST.AMP (default: off, float32)")
    add("--batch", type=int, default=128, metavar="N", help="images at once (default: %(default)s)")
    add(
        "--workers",
        type=int,
        default=usual_workers(),
        metavar="N",
        help="processes that load images, 0: none besides this one (default: the processors, %(default)s)",
    )
    add("--strict", action="store_true", help="an image that cannot be read is an error; else it is left out")


def check_image_options(args: argparse.Namespace) -> None:
    """Raise ValueError for numbers that no run can have."""
    if args.batch < 1:
        raise ValueError(f"--batch is {args.batch}; allowed: 1 or more")
    if args.workers < 0:
        raise ValueError(f"--workers is {args.workers}; allowed: 0 or more")


def pair(numbers: Sequence[int] | None) -> tuple[int, int] | None:
    """Two numbers of an option, such as --size."""
    return (numbers[0], numbers[1]) if numbers else None
