"""Split your own images by identity: dataset.csv with training identities, and others as query and gallery.

python tools/split.py --images my_photos
python tools/split.py --images my_photos --name '{pid}_c{camid:d}_*' --test_share 0.5
python tools/split.py --images my_photos --query_camera 1

Without --name a folder is an identity, and _c1 in a file name its camera, as in my_photos/anna/03_c1.jpg.
No image is moved or copied; train with DATASETS.NAMES csv DATASETS.ROOT_DIR my_photos.
"""

from __future__ import annotations

import argparse
import csv
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a tool runs from any folder

from config.arguments import Parser, end_in_one_line, one_or_more, say
from config.errors import as_keys
from utils.files import require_writable, write_atomically
from utils.logger import setup_logger
from utils.text import Lines, Tally, few, quoted, shortened
from utils.untrusted.folders import find_files
from utils.untrusted.pictures import picture_suffixes
from utils.untrusted.table import check_cell

if TYPE_CHECKING:
    from datasets import LabelledImage

FOLDERS = "{pid}/*"
_READ_FOLDERS = {"train", "query", "gallery"}
_SPLIT_FOLDERS = {*_READ_FOLDERS, "test", "val"}
_OTHER_NAME = "without identity by the rule of names"
_UNWRITABLE = "with a name that a CSV file cannot hold"
_PER_IDENTITY, _BATCH = 4, 64  # images of an identity and of a batch, as in the shipped settings
_STRANGER = "of the identity -1, which is only tested"
_UNASKED = "of the queries' camera, which is not in the gallery"

_logger = logging.getLogger("transreid.tools")


class Found(NamedTuple):
    """Images with their labels, and what of the folder is not among them."""

    images: list[LabelledImage]
    left_out: Tally


def find_images(folder: Path, rule_text: str | None) -> Found:
    """The images below a folder, with identity and camera by the rule of their names.

    Raises ValueError where no name has an identity, or all have that of a split; and for a label that cannot
    stand in a CSV file.
    """
    from datasets import LabelledImage, NamingRule, camera_marks

    with as_keys({"rule": "--name"}):
        rule = NamingRule(FOLDERS if rule_text is None else rule_text)
    found = Found([], Tally())
    paths = [
        PurePosixPath(path.relative_to(folder).as_posix())
        for path in find_files(folder, picture_suffixes(), found.left_out)
    ]
    for path in paths:
        labels = rule.read(path)
        if labels is None:
            found.left_out.add(_OTHER_NAME, str(folder / path))
            continue
        marks = camera_marks(path.name) if rule_text is None else []
        camera = labels.camid or next(iter(marks), "-1")
        image = LabelledImage(str(path), labels.pid.strip(), camera.strip())
        for name in ("pid", "camid"):
            check_cell(name, getattr(image, name), str(folder / path))
        if all(map(_is_writable, image)):
            found.images.append(image)
        else:
            found.left_out.add(_UNWRITABLE, str(folder / path))
    _require_identities(folder, rule_text, paths, {image.pid for image in found.images}, found.left_out)
    return found


def _is_writable(cell: str) -> bool:
    """Whether a CSV file in UTF-8 gives the text back, without line breaks and spaces at its ends."""
    is_text = cell.encode("utf-8", "ignore").decode() == cell
    return is_text and cell == cell.strip("\ufeff").strip() and not set(cell) & {*"\r\n\0"}


def _require_identities(
    folder: Path, rule: str | None, paths: list[PurePosixPath], pids: set[str], left_out: Tally
) -> None:
    from datasets import likely_rule

    if not paths:
        hint = f"; not read: {left_out}" if left_out else ""
        raise ValueError(f"--images {folder}: 0 images there, at least 1 is needed{hint}")
    tops = {path.parts[0] for path in paths if len(path.parts) > 1}
    names_of_splits = rule is None and bool(tops) and tops <= _SPLIT_FOLDERS
    if pids and not names_of_splits:
        return
    example = shortened(paths[0], 100)
    if names_of_splits:
        problem = f"the folders {', '.join(sorted(tops))} in {folder} are no identities"
    else:
        wanted = "is in a folder of its identity" if rule is None else f"fits --name {rule}"
        problem = f"none of the {len(paths)} images in {folder} {wanted}, such as {example}"
    likely = likely_rule(paths)
    if names_of_splits and "/" in likely:
        likely = ""  # it would take the splits for identities
    hint = f"--name {quoted(likely)} would fit" if likely else "allowed: a --name that fits them"
    if names_of_splits and tops <= _READ_FOLDERS:
        hint += "; DATASETS.NAMES folder reads them as they are"
    raise ValueError(f"{problem}; {hint}")


def write_split(args: argparse.Namespace) -> None:
    """Write the CSV file that the options ask for, and print the table of its splits.

    Raises ValueError or OSError for a folder, a rule or a share with which that cannot be.
    """
    from datasets import split_by_identity

    folder = args.images.expanduser()
    out = (args.out or folder / "dataset.csv").absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"--images {folder}: no such folder")
    if out.exists() and not args.overwrite:
        raise FileExistsError(f"--out {out} exists already; allowed: a new file, or --overwrite")
    require_writable(out, "--out")
    images, left_out = find_images(folder, args.name)
    with as_keys({name: f"--{name}" for name in ("test_share", "queries", "query_camera")}):
        division = split_by_identity(
            images,
            test_share=args.test_share,
            seed=args.seed,
            queries=args.queries or (1 if args.query_camera is None else None),
            query_camera=args.query_camera,
        )
    for image in images:
        if image.path not in division.splits:
            left_out.add(_UNASKED if args.test_share else _STRANGER, str(folder / image.path))
    if left_out:
        _logger.warning("%s: not read: %s", folder, left_out)
    if division.without_match and args.test_share:
        _warn_of_unpaired(division.without_match, args)
    rows = [image for image in images if image.path in division.splits]
    write_atomically(out, lambda beside: _write_rows(beside, rows, division.splits))
    _show(folder, out, len(rows), args)


def _warn_of_unpaired(pids: Sequence[str], args: argparse.Namespace) -> None:
    kind = "one image or one camera" if args.query_camera is None else "the queries' or of other cameras only"
    where = "in the gallery only" if args.test_share == 1 else "for training only"
    names = few([shortened(pid, 40) for pid in pids])
    text = "identities of %s, whose queries would have no match: %d, %s: %s"
    _logger.warning(text, kind, len(pids), where, names)


def _write_rows(path: Path, images: Sequence[LabelledImage], splits: Mapping[str, str]) -> None:
    """The table of images; without a camera in any name, without that column."""
    with_camera = any(image.camid != "-1" for image in images)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "pid", "split", *(["camid"] if with_camera else [])])
        for image in images:
            camera = [image.camid] if with_camera else []
            writer.writerow([image.path, image.pid, splits[image.path], *camera])


def _show(folder: Path, out: Path, count: int, args: argparse.Namespace) -> None:
    """Read the file as a training does, and print what it has."""
    from datasets.readers import READERS, ReadOptions

    options = ReadOptions(need_train=args.test_share < 1, need_test=args.test_share > 0, csv=str(out))
    dataset = READERS["csv"](folder, options)
    if len({record.pid for record in dataset.gallery}) == 1:
        _logger.warning("1 identity is in the gallery, which every query finds: a test says nothing")
    say("%d images in %s, split with seed %d\n%s", count, folder, args.seed, Lines(dataset.table()))
    say("Written: %s", out if args.out else folder / "dataset.csv")
    file = "" if args.out is None else f" DATASETS.CSV {shlex.quote(str(out))}"
    say("Read it with DATASETS.NAMES csv DATASETS.ROOT_DIR %s%s", shlex.quote(str(folder)), file)
    most = _PER_IDENTITY * dataset.num_train_pids
    if 0 < most < _BATCH:
        say(
            "%d training identities: batches of %d images at most, %d of each: SOLVER.STAGE2.IMS_PER_BATCH "
            "%d, or SOLVER.IMS_PER_BATCH %d in programs of one stage; docs/small.md has settings for so few",
            *(dataset.num_train_pids, most, _PER_IDENTITY, most, most),
        )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: 0 to 1")
    return value


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="folder of the images, searched in depth")
    add(
        "--name",
        metavar="RULE",
        help="where identity and camera are in a file name, without its suffix, or, with a / in the rule, in "
        "the path below DIR: {pid} and {camid} are the shortest text that fits, {pid:d} and {camid:d} "
        "digits, * is any text (default: a folder is an identity, and _c1 in a name the camera)",
    )
    add(
        "--test_share",
        type=_share,
        default=0.3,
        metavar="X",
        help="share of the identities that are tested and not trained on, 0 to 1 (default: %(default)s)",
    )
    add(
        "--queries",
        type=one_or_more,
        metavar="N",
        help="queries of an identity from each camera, at most; every one keeps a match in the gallery "
        "(default: 1, or with --query_camera all)",
    )
    add(
        "--query_camera",
        metavar="NAME",
        help="the queries are from this camera, the gallery from the others (default: both from all cameras)",
    )
    add("--seed", type=int, default=0, metavar="N", help="equal seeds give equal splits (default: 0)")
    add("--out", type=Path, metavar="FILE", help="CSV file to write (default: dataset.csv in DIR)")
    add("--overwrite", action="store_true", help="replace the file if it exists")
    args = parser.parse_args(argv)
    if not args.test_share and args.query_camera is not None:
        parser.error("--query_camera needs a --test_share above 0, for there are no queries")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """0, or SystemExit with status 2 after one line on stderr for a wrong option or folder."""
    args = _parse(argv)
    setup_logger(None, "")
    with end_in_one_line():
        write_split(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
