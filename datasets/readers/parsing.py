"""Shared by the readers: folders, file names, list files, relabelling."""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.records import ImageRecord
from utils.labels import NO_CAMERA, NO_PID, NO_TEXTS, LabelTexts

# A longer number (a time stamp with an id, say) does not fit an int64 tensor.
MOST_DIGITS = 18
label_texts = functools.lru_cache(1 << 16)(LabelTexts)  # the images of a label share one text
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_QUOTED = 100  # characters of a file that an error shows


@dataclass(frozen=True)
class NameRule:
    """How a file name gives pid and camera.

    `pattern` has two groups, both numbers, and is matched from the start of the name; `pids` and `cameras`
    are the numbers that may occur, `junk` is a pid whose images are left out.
    """

    pattern: re.Pattern[str]
    cameras: range
    pids: range
    junk: int | None = None

    def read(self, path: Path) -> tuple[int, int]:
        """pid and camera as written. Raises ValueError, naming the file, for a name that breaks the rule."""
        found = self.pattern.match(path.name)
        numbers = [_as_int(text) for text in found.groups()] if found else [None]
        if None in numbers:
            raise ValueError(f"{path}: the file name does not start with the pattern {self.pattern.pattern}")
        pid, camera = numbers
        if pid != self.junk and pid not in self.pids:
            raise ValueError(f"{path}: identity {pid}, allowed are {self.pids.start} to {self.pids.stop - 1}")
        if camera not in self.cameras:
            raise ValueError(
                f"{path}: camera {camera}, allowed are {self.cameras.start} to {self.cameras.stop - 1}"
            )
        return pid, camera

    def as_written(self, path: Path) -> LabelTexts:
        """Identity and camera as in the file name, ('0002', 'c1')."""
        found = self.pattern.match(path.name)
        return label_texts(found[1], f"c{found[2]}") if found else NO_TEXTS


def require_folder(folder: Path, expected: str) -> Path:
    """The folder itself. Raises FileNotFoundError that names it and what is expected there."""
    return first_folder([folder], expected)


def first_folder(folders: Sequence[Path], expected: str) -> Path:
    """The first that exists. Raises FileNotFoundError that names them all and what is expected there."""
    for folder in folders:
        if folder.is_dir():
            return folder
    names = " or ".join(map(str, folders))
    raise FileNotFoundError(f"{names}: no such folder, expected there: {expected}")


def require_file(file: Path, expected: str) -> Path:
    """The file itself. Raises FileNotFoundError that names it and what is expected in it."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file, expected there: {expected}")
    return file


def require_records(records: list[ImageRecord], split: str, source: Path) -> list[ImageRecord]:
    """The records themselves, which every reader checks so.

    Raises ValueError that names split and source when there are none, and a record whose pid is not a whole
    number, or whose camera (-1: unknown) or view is not one from 0 on.
    """
    if not records:
        raise ValueError(f"{source}: 0 images in the {split} split, at least 1 is needed")
    for record in records:
        for name, least in (("pid", record.pid), ("camid", NO_CAMERA), ("viewid", 0)):
            value = getattr(record, name)
            if type(value) is not int or value < least:
                numbers = "whole numbers" if name == "pid" else f"whole numbers from {least} on"
                raise ValueError(f"{source}: {name} {value!r} of {record.path}, allowed are {numbers}")
    return records


def read_named(folder: Path, split: str, rule: NameRule, viewid: int = 0) -> list[ImageRecord]:
    """Records of the folder's *.jpg files, sorted by name; cameras from 0, pids as written.

    Raises FileNotFoundError without the folder, ValueError for a name that breaks the rule or an empty split.
    """
    require_folder(folder, f"the {split} images, *.jpg")
    records = []
    for path in sorted(entry for entry in folder.iterdir() if entry.suffix.lower() == ".jpg"):
        pid, camera = rule.read(path)
        if pid != rule.junk:
            texts = rule.as_written(path)
            records.append(ImageRecord(str(path), pid, camera - rule.cameras.start, viewid, texts=texts))
    return require_records(records, split, folder)


def read_lines(file: Path) -> list[str]:
    """The lines of a text file. Raises ValueError, naming the file, when it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: cannot be read as text in UTF-8: {error}") from error


def read_list(file: Path, fields: str) -> Iterator[tuple[str, int, str]]:
    """Yield (first field, pid, "file:line") of every line that is not blank.

    `fields` describes the line in errors. Raises FileNotFoundError without the file, ValueError with file and
    line number for a line that is not two fields with a number ≥ 0, of at most 18 digits, in the second.
    """
    require_file(file, f"lines of {fields}")
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        name, *rest = line.rsplit(maxsplit=1)
        if not (rest and is_number(rest[0])):
            raise ValueError(
                f"{file}:{number}: the line is {quote(line)}, allowed is {fields} with a number ≥ 0"
            )
        yield name.strip(), int(rest[0]), f"{file}:{number}"


def is_number(text: str) -> bool:
    """Whether the text is a number ≥ 0 in digits that fits an int64."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def quote(text: str) -> str:
    """Text of a file for an error: in quotes, escaped, and cut off if it is long."""
    return repr(_cut(text))


def plain(text: str) -> str:
    """The same without quotes: control characters escaped, cut off if it is long."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], _cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


def relabel(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """The records with pids replaced by their ranks 0..C-1 in ascending order; `NO_PID` stays."""
    ranks = {pid: rank for rank, pid in enumerate(sorted({record.pid for record in records} - {NO_PID}))}
    return [record._replace(pid=ranks.get(record.pid, NO_PID)) for record in records]


def _as_int(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # the published pattern [-\d]+ also matches "1-2"
        return None
