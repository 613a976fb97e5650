"""A user's own images: a CSV file that lists them, or folders that sort them.

Both become rows of labels first; `_build` then turns these into the numbers of a ReIDDataset.
"""

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from datasets.readers.labels import (
    UNKNOWN,
    in_table,
    number_pids,
    rank_labels,
    written_alike,
)
from datasets.readers.options import DEFAULTS, ReadOptions
from datasets.readers.parsing import label_texts, require_file, require_folder, require_records
from datasets.records import ImageRecord, ReIDDataset, Trial
from utils.labels import NO_CAMERA, NO_PID, LabelTexts
from utils.notes import without
from utils.text import Tally, few, quoted, shortened
from utils.untrusted.folders import EMPTY, find_files, find_folders
from utils.untrusted.pictures import picture_suffixes
from utils.untrusted.table import check_cell, read_table

SPLITS = ("train", "query", "gallery")
REQUIRED, OPTIONAL = ("path", "pid", "split"), ("camid", "viewid")
_CAMERA_MARK = re.compile(r"_c([0-9]+)")
_LABEL_HINT = "in training without identities, as `need_labels` says"
_SPLIT_HINT = " (tools/split.py makes splits of a folder of images)"
_TEST_HINT = " (one identity in two images is enough for a test; on another data set: `need_test`)"
_SHOWN = 100  # characters of a path in a message

_logger = logging.getLogger("transreid.datasets")


class OwnRow(NamedTuple):
    """One image as the user describes it; None for a pid, camera or view that is not known."""

    path: str
    pid: str | None
    split: str
    camera: str | None
    view: str | None
    texts: LabelTexts  # identity and camera as people see them


def csv_dataset(root: Path, options: ReadOptions = DEFAULTS) -> ReIDDataset:
    """Read the CSV file `root`/`options.csv` with columns path, pid, split and, optionally, camid and viewid.

    Paths are relative to `root` or absolute; split is train, query or gallery; pid, camid and viewid are any
    integers (7, 007 and 7.0 are one) or words; camid -1 is an unknown camera, pid -1 an unknown identity of
    query or gallery and, without `need_labels`, an empty pid one of the split train. Other columns are
    ignored. Raises FileNotFoundError without the file, ValueError (file and line) for a missing column,
    another empty or an unknown value, or an image listed twice in one split.
    """
    file = require_file(root / options.csv, f"a CSV file with the columns {', '.join(REQUIRED)}{_SPLIT_HINT}")
    return _build("csv", _read_csv(file, root, options.need_labels), file, options, in_table)


def folder_dataset(root: Path, options: ReadOptions = DEFAULTS) -> ReIDDataset:
    """Read `root`/{train,query,gallery}/<identity>/<image>; `_cN` in a file name gives the camera.

    The names of folders are identities as they are written (5 and 005 are two); -1 in query and gallery is an
    unknown one. Without `need_labels` images directly in `root`/train have an unknown identity too. Files are
    those of `find_files`; one warning counts what it leaves out, and identities that have no other files.
    Raises FileNotFoundError for a missing folder, ValueError for an image at another depth or an empty split.
    """
    needed = _needed(options)
    # Without identities nothing can be split by them.
    is_unlabelled = options.need_train and not options.need_labels
    for split in needed:
        hint = _TEST_HINT if is_unlabelled and split != "train" else _SPLIT_HINT
        require_folder(root / split, f"<identity>/<image>{hint}")
    # Training cameras come first in the numbering of every split, so testing looks for them too.
    splits = [split for split in SPLITS if (root / split).is_dir()]
    left_out = Tally()
    rows = [
        row
        for split in splits
        for row in read_folder(root, split, left_out, options.need_labels or split != "train")
    ]
    if left_out:
        for split in sorted({*needed} - {row.split for row in rows}):
            require_records([], split, root, left_out)
        _logger.warning("%s: not read: %s", root, left_out, extra=without(left_out.counts()))
    warn_of_marks(rows, root)
    return _build("folder", rows, root, options, str)


def _needed(options: ReadOptions) -> tuple[str, ...]:
    return SPLITS[not options.need_train : None if options.need_test else 1]


def _read_csv(file: Path, root: Path, need_labels: bool) -> list[OwnRow]:
    rows: list[OwnRow] = []
    lines: dict[tuple[str, str], str] = {}
    for cells, where in read_table(file, REQUIRED, OPTIONAL):
        hint = f", or none {_LABEL_HINT}" if cells["split"] == "train" else ""
        row = parse_row(cells, root, where, SPLITS, need_labels or not hint, hint)
        first = lines.setdefault((row.split, row.path), where)
        if first != where:
            path = shortened(row.path, _SHOWN)
            line = first.rpartition(":")[2]
            raise ValueError(f"{where}: {path} is already in the {row.split} split, line {line}")
        rows.append(row)
    return rows


def parse_row(
    cells: Mapping[str, str], root: Path, where: str, splits: Sequence[str], need_label: bool, hint: str = ""
) -> OwnRow:
    """The row of a table with the columns `REQUIRED` and, perhaps, `OPTIONAL`; split is one of `splits`.

    Without `need_label` the pid may be empty; `hint` says in an error what else it may be. Raises ValueError
    that begins with `where` for another empty cell and an unknown split.
    """
    hints = {"pid": hint, "camid": " (-1: unknown camera)"}
    for name in (*REQUIRED, *OPTIONAL):
        may_be_empty = name == "pid" and not need_label
        check_cell(name, cells.get(name), where, hint=hints.get(name, ""), may_be_empty=may_be_empty)
    if cells["split"] not in splits:
        others = (
            "; captions stand in a file of captions, or are for text search" if "caption" in cells else ""
        )
        raise ValueError(f"{where}: split {quoted(cells['split'])}, allowed are {', '.join(splits)}{others}")
    camera = cells.get("camid", UNKNOWN)
    is_known = in_table(camera) != UNKNOWN
    return OwnRow(
        str(root / cells["path"]),
        cells["pid"] or None,
        cells["split"],
        camera if is_known else None,
        cells.get("viewid"),
        label_texts(cells["pid"], camera if is_known else ""),
    )


def read_folder(root: Path, split: str, left_out: Tally, need_labels: bool = True) -> list[OwnRow]:
    """The images of `root`/`split`/<identity>/; without `need_labels` those of `root`/`split`/, too.

    `left_out` counts what is not read. Raises ValueError for an image at another depth.
    """
    rows = []
    for path in find_files(root / split, picture_suffixes(), left_out):
        parts = path.relative_to(root / split).parts
        is_unlabelled = len(parts) == 1
        if len(parts) != 2 and (need_labels or not is_unlabelled):
            hint = f"; {split}/<image> {_LABEL_HINT}" if is_unlabelled and split == "train" else ""
            raise ValueError(f"{path}: image at the wrong depth, allowed is {split}/<identity>/<image>{hint}")
        pid = None if is_unlabelled else parts[0]
        camera = next(iter(camera_marks(path.name)), None)
        texts = label_texts(pid or "", f"c{camera}" if camera else "")
        rows.append(OwnRow(str(path), pid, split, camera, None, texts))
    identities = {row.pid for row in rows}
    for folder in find_folders(root / split):
        if folder.parent == root / split and folder.name not in identities:
            left_out.add(EMPTY, str(folder))
    return rows


def warn_of_marks(rows: Sequence[OwnRow], source: Path) -> None:
    """Log how many file names hold the marks of several cameras."""
    marks = [row.path for row in rows if len(set(map(in_table, camera_marks(row.path)))) > 1]
    if marks:
        text = "%s: %d file names hold several cameras, of which the first counts, such as %s"
        _logger.warning(text, source, len(marks), marks[0])


def camera_marks(path: str) -> list[str]:
    """The cameras that a file name holds, digits after `_c`, in order."""
    return _CAMERA_MARK.findall(os.path.basename(path))


class Numbers(NamedTuple):
    """Text → number of the labels of each kind."""

    train_pids: dict[str, int]
    test_pids: dict[str, int]
    cameras: dict[str, int]
    views: dict[str, int]

    def record(self, row: OwnRow) -> ImageRecord:
        """The image with numbers for its labels, of which its pid is one of training or of the tests."""
        pids = self.train_pids if row.split == "train" else self.test_pids
        return ImageRecord(
            row.path,
            NO_PID if row.pid is None else pids[row.pid],
            NO_CAMERA if row.camera is None else self.cameras[row.camera],
            0 if row.view is None else self.views[row.view],
            texts=row.texts,
        )


def number_labels(
    rows: Sequence[OwnRow], source: Path, pid_form: Callable[[str], str], need_train: bool
) -> Numbers:
    """Number the labels: cameras and views of the split train first, whether or not it is needed.

    `pid_form` gives the form in which equal identities are written alike. Warns of labels that are almost
    alike.
    """
    train = [row for row in rows if row.split == "train"]
    test = [row for row in rows if row.split != "train"]
    numbers = Numbers(
        # Ranks from the first, so that a label '-1' is not taken for an unknown identity.
        _number("pid", pid_form, rank_labels, train if need_train else []),
        _number("pid", pid_form, number_pids, test),
        _number("camera", in_table, rank_labels, train, test),
        _number("view", in_table, rank_labels, train, test),
    )
    kinds = ("training pid", "test pid", "camid", "viewid")
    _warn_of_forms(source, dict(zip(kinds, numbers, strict=True)))
    if any(pid_form(text) == UNKNOWN for text in numbers.train_pids):
        _logger.warning("%s: the training label %s is an identity like others", source, UNKNOWN)
    return numbers


def _build(
    name: str, rows: list[OwnRow], source: Path, options: ReadOptions, pid_form: Callable[[str], str]
) -> ReIDDataset:
    numbers = number_labels(rows, source, pid_form, options.need_train)
    if numbers.cameras and not any(row.split == "train" for row in rows):
        _logger.warning("%s: no training split, cameras are numbered from query and gallery only", source)

    def records(split: str) -> list[ImageRecord]:
        if split not in _needed(options):
            return []
        return require_records([numbers.record(row) for row in rows if row.split == split], split, source)

    train, query, gallery = map(records, SPLITS)
    _log_unknown(source, train, [*query, *gallery])
    return ReIDDataset(name, train, [Trial(query, gallery)], "person", upright=True)


def _number(
    column: str,
    form: Callable[[str], str],
    assign: Callable[..., dict[str, int]],
    *groups: list[OwnRow],
) -> dict[str, int]:
    """Text → number of a column of groups of rows: texts of one form get one number from `assign`."""
    texts = [{text for row in rows if (text := getattr(row, column)) is not None} for rows in groups]
    numbers = assign(*(set(map(form, some)) for some in texts))
    return {text: numbers[form(text)] for some in texts for text in some}


def _warn_of_forms(source: Path, columns: Mapping[str, Mapping[str, int]]) -> None:
    alike = [f"{name} {group}" for name, numbers in columns.items() for group in written_alike(numbers)]
    if alike:
        text = "%s: %d labels are written in several ways (=: taken as one, ≠: as different ones): %s"
        _logger.warning(text, source, len(alike), few(alike))

    # Of 202301000001 and 202301000002 a spreadsheet makes 2.02301E+11.
    short = [
        text for numbers in columns.values() for text in numbers if "E+" in text and text != in_table(text)
    ]
    if short:
        text = "%s: %d labels are powers of ten, of which a spreadsheet may have left out digits, such as %s"
        _logger.warning(text, source, len(short), quoted(min(short)))


def _log_unknown(source: Path, train: Sequence[ImageRecord], tests: Sequence[ImageRecord]) -> None:
    unknown = sum(record.camid == NO_CAMERA for record in (*train, *tests))
    if unknown:
        _logger.info("%s: no camera known for %d of %d images", source, unknown, len(train) + len(tests))
    unlabelled = sum(record.pid == NO_PID for record in train)
    if unlabelled:
        _logger.info("%s: no identity known for %d of %d training images", source, unlabelled, len(train))
    log_strangers(source, tests)


def log_strangers(source: Path, tests: Sequence[ImageRecord]) -> None:
    """Log how many images of the tests have no known identity."""
    strangers = sum(record.pid == NO_PID for record in tests)
    if strangers:
        text = "%s: no identity known (%s) for %d of %d query and gallery images, which match nothing"
        _logger.info(text, source, UNKNOWN, strangers, len(tests))
