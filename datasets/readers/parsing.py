"""Shared by the readers: folders, file names, list files, relabelling."""

import functools
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.readers.labels import MOST_DIGITS
from datasets.readers.options import ReadOptions
from datasets.records import EmptySplit, ImageRecord
from utils.labels import NO_CAMERA, NO_PID, LabelTexts
from utils.notes import without
from utils.text import Tally, few, printable, quoted
from utils.untrusted.folders import find_files
from utils.untrusted.plain import open_plain, read_plain_lines

SPLIT_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")  # of Market-1501 and its followers
label_texts = functools.lru_cache(1 << 16)(LabelTexts)  # the images of a label share one text
_NAME = re.compile(r"(-?[0-9]+)_c([0-9]+)")
_SUFFIXES = (".jpg",)  # as published

_logger = logging.getLogger("transreid.datasets")


@dataclass(frozen=True)
class NameRule:
    """A file name that starts with pid and camera, both in full: 0002_c1s1_000451_03.jpg.

    `pids` and `cameras` are the numbers that may occur, `junk` is a pid whose images are left out.
    """

    cameras: range
    pids: range
    junk: int | None = None

    def read(self, path: Path) -> tuple[int, int, LabelTexts]:
        """pid and camera, and how they are written, ('0002', 'c1').

        Raises ValueError, naming the file, for a name that breaks the rule.
        """
        found = _NAME.match(path.name)
        name = printable(path)
        if not found:
            raise ValueError(f"{name}: the file name does not start with the pattern {_NAME.pattern}")
        pid, camera = map(int, found.groups())
        if pid != self.junk and pid not in self.pids:
            raise ValueError(f"{name}: identity {pid}, allowed are {self.pids.start} to {self.pids.stop - 1}")
        if camera not in self.cameras:
            raise ValueError(
                f"{name}: camera {camera}, allowed are {self.cameras.start} to {self.cameras.stop - 1}"
            )
        return pid, camera, label_texts(found[1], f"c{found[2]}")


def require_folder(folder: Path, expected: str) -> Path:
    """The folder itself. Raises FileNotFoundError that names it and what is expected there."""
    return first_folder([folder], expected)


def first_folder(folders: Sequence[Path], expected: str) -> Path:
    """The first that exists; the log names it where there are others.

    Raises FileNotFoundError that names them all and what is expected there.
    """
    found = [folder for folder in folders if folder.is_dir()]
    if not found:
        names = " or ".join(map(str, folders))
        raise FileNotFoundError(f"{names}: no such folder, expected there: {expected}")
    if len(found) > 1:
        _logger.info("%s is read, not %s", found[0], " or ".join(map(str, found[1:])))
    return found[0]


def require_file(file: Path, expected: str) -> Path:
    """The file itself. Raises FileNotFoundError that names it and what is expected, ValueError for a pipe."""
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file, expected there: {expected}")
    open_plain(file).close()
    return file


def require_records(
    records: list[ImageRecord], split: str, source: Path, left_out: Tally | None = None
) -> list[ImageRecord]:
    """The records themselves, which every reader checks so.

    Raises EmptySplit that names split, source and files `left_out` when there are none, and ValueError for a
    record whose pid is not a whole number, or whose camera (-1: unknown) or view is not one from 0 on.
    """
    if not records:
        hint = f"; not read: {left_out}" if left_out else ""
        raise EmptySplit(f"{source}: 0 images in the {split} split, at least 1 is needed{hint}")
    for record in records:
        for name, least in (("pid", record.pid), ("camid", NO_CAMERA), ("viewid", 0)):
            value = getattr(record, name)
            if type(value) is not int or value < least:
                numbers = "whole numbers" if name == "pid" else f"whole numbers from {least} on"
                raise ValueError(f"{source}: {name} {value!r} of {record.path}, allowed are {numbers}")
    return records


def read_named(
    folder: Path, splits: Sequence[str], rule: NameRule, options: ReadOptions, viewid: int = 0
) -> tuple[list[ImageRecord], list[ImageRecord], list[ImageRecord]]:
    """Training, query and gallery records by the names of *.jpg files in the folders `splits` of `folder`.

    They are sorted by name, cameras from 0, pids as written. One warning counts other image files. Raises
    FileNotFoundError without a folder, ValueError for a name that breaks the rule or an empty split.
    """
    left_out = Tally()
    train, query, gallery = (folder / split for split in splits)
    records = (
        _read_split(train, "train", rule, left_out, viewid) if options.need_train else [],
        _read_split(query, "query", rule, left_out, viewid) if options.need_test else [],
        _read_split(gallery, "gallery", rule, left_out, viewid) if options.need_test else [],
    )
    if left_out:
        _logger.warning("%s: not read: %s", folder, left_out, extra=without(left_out.counts()))
    return records


def _read_split(folder: Path, split: str, rule: NameRule, left_out: Tally, viewid: int) -> list[ImageRecord]:
    require_folder(folder, f"the {split} images, *.jpg")
    records = []
    files = find_files(folder, _SUFFIXES, left_out, deep=False)
    for path in files:
        pid, camera, texts = rule.read(path)
        if pid != rule.junk:
            records.append(ImageRecord(str(path), pid, camera - rule.cameras.start, viewid, texts=texts))
    if len(records) < len(files):
        text = "%s: %d of %d images have identity %d and are left out"
        junk = len(files) - len(records)
        counted = without({f"images of identity {rule.junk}": junk})
        _logger.info(text, folder, junk, len(files), rule.junk, extra=counted)
    return require_records(records, split, folder, left_out)


def read_list(file: Path, fields: str) -> Iterator[tuple[str, int, str]]:
    """Yield (first field, pid, "file:line") of every line that is not blank.

    `fields` describes the line in errors. Lines that repeat an earlier one are left out with a warning.
    Raises FileNotFoundError without the file, ValueError with file and line number for a line that is not two
    fields with a number ≥ 0, of at most 18 digits, in the second, or has another number than an earlier one.
    """
    require_file(file, f"lines of {fields}")
    seen: dict[str, tuple[int, int]] = {}  # line and number by the first field
    repeated: list[str] = []
    for number, line in enumerate(read_plain_lines(file), start=1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        name, *rest = line.rsplit(maxsplit=1)
        if not (rest and is_number(rest[0])):
            raise ValueError(f"{where}: the line is {quoted(line)}, allowed is {fields} with a number ≥ 0")
        name, pid = name.strip(), int(rest[0])
        earlier, other = seen.setdefault(os.path.normpath(name), (number, pid))
        if pid != other:
            raise ValueError(f"{where}: {quoted(name)} has the number {pid}, but {other} in line {earlier}")
        if number == earlier:
            yield name, pid, where
        else:
            repeated.append(f"line {number} repeats line {earlier}")
    if repeated:
        counted = without({"lines that repeat an earlier one": len(repeated)})
        _logger.warning("%s: %d lines are left out: %s", file, len(repeated), few(repeated), extra=counted)


def is_number(text: str) -> bool:
    """Whether the text is a number ≥ 0 in digits that fits an int64."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def relabel(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """The records with pids replaced by their ranks 0..C-1 in ascending order; `NO_PID` stays."""
    ranks = {pid: rank for rank, pid in enumerate(sorted({record.pid for record in records} - {NO_PID}))}
    return [record._replace(pid=ranks.get(record.pid, NO_PID)) for record in records]
