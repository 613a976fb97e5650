"""A user's own images: a CSV file that lists them, or folders that sort them.

Both become rows of labels first; `_build` then turns these into the numbers of a ReIDDataset.
"""

import csv
import logging
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
from utils.text import Tally, few, quoted, shortened
from utils.untrusted.folders import EMPTY, find_files, find_folders
from utils.untrusted.pictures import picture_suffixes
from utils.untrusted.plain import open_plain_text

SPLITS = ("train", "query", "gallery")
_REQUIRED, _OPTIONAL = ("path", "pid", "split"), ("camid", "viewid")
_CAMERA_MARK = re.compile(r"_c([0-9]+)")
_LABEL_HINT = "in training without identities"
# What pandas, R and databases write for an empty cell, as pandas reads it.
_NOTHING = {"NaN", "nan", "-nan", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaT", "NULL", "null", "None"}
_SHOWN = 100  # characters of a path or of columns in a message

_logger = logging.getLogger("transreid.datasets")


class _Row(NamedTuple):
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
    file = require_file(root / options.csv, f"a CSV file with the columns {', '.join(_REQUIRED)}")
    return _build("csv", _read_csv(file, root, options.need_labels), file, options, in_table)


def folder_dataset(root: Path, options: ReadOptions = DEFAULTS) -> ReIDDataset:
    """Read `root`/{train,query,gallery}/<identity>/<image>; `_cN` in a file name gives the camera.

    The names of folders are identities as they are written (5 and 005 are two); -1 in query and gallery is an
    unknown one. Without `need_labels` images directly in `root`/train have an unknown identity too. Files are
    those of `find_files`; one warning counts what it leaves out, and identities that have no other files.
    Raises FileNotFoundError for a missing folder, ValueError for an image at another depth or an empty split.
    """
    needed = _needed(options)
    for split in needed:
        require_folder(root / split, "<identity>/<image>")
    # Training cameras come first in the numbering of every split, so testing looks for them too.
    splits = [split for split in SPLITS if (root / split).is_dir()]
    left_out = Tally()
    rows = [row for split in splits for row in _read_folder(root, split, options.need_labels, left_out)]
    if left_out:
        for split in sorted({*needed} - {row.split for row in rows}):
            require_records([], split, root, left_out)
        _logger.warning("%s: not read: %s", root, left_out)
    marks = [row.path for row in rows if len(set(map(in_table, _cameras(row.path)))) > 1]
    if marks:
        text = "%s: %d file names hold several cameras, of which the first counts, such as %s"
        _logger.warning(text, root, len(marks), marks[0])
    return _build("folder", rows, root, options, str)


def _needed(options: ReadOptions) -> tuple[str, ...]:
    return SPLITS[not options.need_train : None if options.need_test else 1]


def _read_csv(file: Path, root: Path, need_labels: bool) -> list[_Row]:
    rows: list[_Row] = []
    lines: dict[tuple[str, str], int] = {}
    with open_plain_text(file) as stream:
        # Files that were put together may have a byte order mark in several lines.
        reader = csv.reader(line.removeprefix("\ufeff") for line in stream)
        try:
            columns = _check_columns(next(reader, []), file)
            for fields in reader:
                where = f"{file}:{reader.line_num}"
                if not fields:  # a blank line
                    continue
                if len(fields) != len(columns):
                    names = shortened(", ".join(columns), _SHOWN)
                    raise ValueError(f"{where}: {len(fields)} fields, allowed are {len(columns)}: {names}")
                cells = dict(zip(columns, map(str.strip, fields), strict=True))
                row = _parse_row(cells, root, need_labels, where)
                first = lines.setdefault((row.split, row.path), reader.line_num)
                if first != reader.line_num:
                    path = shortened(row.path, _SHOWN)
                    raise ValueError(f"{where}: {path} is already in the {row.split} split, line {first}")
                rows.append(row)
        except csv.Error as error:
            raise ValueError(f"{file}:{reader.line_num}: cannot be read as a CSV file: {error}") from error
    return rows


def _check_columns(columns: Sequence[str], file: Path) -> list[str]:
    stripped = [column.strip() for column in columns]
    where = f"{file}:1"
    for column in _REQUIRED:
        if column not in stripped:
            raise ValueError(
                f"{where}: no column {column!r} among {shortened(', '.join(stripped), _SHOWN) or 'none'};"
                f" needed are {', '.join(_REQUIRED)}, optional are {', '.join(_OPTIONAL)}"
            )
    for column in (*_REQUIRED, *_OPTIONAL):
        if stripped.count(column) > 1:
            times = stripped.count(column)
            raise ValueError(f"{where}: column {column!r} comes {times} times, allowed is once")
    others = [column for column in stripped if column not in (*_REQUIRED, *_OPTIONAL)]
    if others:
        names = shortened(", ".join(map(quoted, others)), _SHOWN)
        _logger.info("%s: %d columns are not read: %s", where, len(others), names)
    return stripped


def _parse_row(cells: Mapping[str, str], root: Path, need_labels: bool, where: str) -> _Row:
    is_train = cells["split"] == "train"
    hints = {
        "pid": f", or none {_LABEL_HINT}" if is_train else "",
        "camid": " (-1: unknown camera)",
    }
    for name in (*_REQUIRED, *_OPTIONAL):
        cell, hint = cells.get(name), hints.get(name, "")
        if cell == "" and not (name == "pid" and is_train and not need_labels):
            raise ValueError(f"{where}: {name} is empty, allowed is any text or number{hint}")
        if cell in _NOTHING:
            raise ValueError(
                f"{where}: {name} is {cell!r}, as tables write an empty cell; allowed is other text or a"
                f" number{hint}"
            )
    if cells["split"] not in SPLITS:
        raise ValueError(f"{where}: split {quoted(cells['split'])}, allowed are {', '.join(SPLITS)}")
    camera = cells.get("camid", UNKNOWN)
    is_known = in_table(camera) != UNKNOWN
    return _Row(
        str(root / cells["path"]),
        cells["pid"] or None,
        cells["split"],
        camera if is_known else None,
        cells.get("viewid"),
        label_texts(cells["pid"], camera if is_known else ""),
    )


def _read_folder(root: Path, split: str, need_labels: bool, left_out: Tally) -> list[_Row]:
    rows = []
    for path in find_files(root / split, picture_suffixes(), left_out):
        parts = path.relative_to(root / split).parts
        is_unlabelled = split == "train" and len(parts) == 1
        if len(parts) != 2 and (need_labels or not is_unlabelled):
            hint = f"; {split}/<image> {_LABEL_HINT}" if is_unlabelled else ""
            raise ValueError(f"{path}: image at the wrong depth, allowed is {split}/<identity>/<image>{hint}")
        pid = None if is_unlabelled else parts[0]
        camera = next(iter(_cameras(path.name)), None)
        texts = label_texts(pid or "", f"c{camera}" if camera else "")
        rows.append(_Row(str(path), pid, split, camera, None, texts))
    identities = {row.pid for row in rows}
    for folder in find_folders(root / split):
        if folder.parent == root / split and folder.name not in identities:
            left_out.add(EMPTY, str(folder))
    return rows


def _cameras(path: str) -> list[str]:
    return _CAMERA_MARK.findall(path.rpartition("/")[2])


def _build(
    name: str, rows: list[_Row], source: Path, options: ReadOptions, pid_form: Callable[[str], str]
) -> ReIDDataset:
    """Number the labels: training cameras and views first, even when that split is not asked for.

    `pid_form` gives the form in which equal identities are written alike.
    """
    by_split = {split: [row for row in rows if row.split == split] for split in SPLITS}
    train_rows, test_rows = by_split["train"], by_split["query"] + by_split["gallery"]
    cameras = _number("camera", in_table, rank_labels, train_rows, test_rows)
    views = _number("view", in_table, rank_labels, train_rows, test_rows)
    # Ranks from the first, so that a label '-1' is not taken for an unknown identity.
    train_pids = _number("pid", pid_form, rank_labels, train_rows if options.need_train else [])
    test_pids = _number("pid", pid_form, number_pids, test_rows)
    _warn_of_forms(
        source, {"training pid": train_pids, "test pid": test_pids, "camid": cameras, "viewid": views}
    )
    if any(pid_form(text) == UNKNOWN for text in train_pids):
        text = "%s: the training label %s is an identity like others; unknown ones have no label, %s"
        _logger.warning(text, source, UNKNOWN, _LABEL_HINT)
    if not train_rows and cameras:
        _logger.warning("%s: no training split, cameras are numbered from query and gallery only", source)

    def records(split: str, pids: Mapping[str, int]) -> list[ImageRecord]:
        if split not in _needed(options):
            return []
        found = [
            ImageRecord(
                row.path,
                NO_PID if row.pid is None else pids[row.pid],
                NO_CAMERA if row.camera is None else cameras[row.camera],
                0 if row.view is None else views[row.view],
                texts=row.texts,
            )
            for row in by_split[split]
        ]
        return require_records(found, split, source)

    train = records("train", train_pids)
    trial = Trial(records("query", test_pids), records("gallery", test_pids))
    _log_unknown(source, train, trial)
    return ReIDDataset(name, train, [trial], "person", upright=True)


def _number(
    column: str,
    form: Callable[[str], str],
    assign: Callable[..., dict[str, int]],
    *groups: list[_Row],
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


def _log_unknown(source: Path, train: Sequence[ImageRecord], trial: Trial) -> None:
    tests = [*trial.query, *trial.gallery]
    unknown = sum(record.camid == NO_CAMERA for record in (*train, *tests))
    if unknown:
        _logger.info("%s: no camera known for %d of %d images", source, unknown, len(train) + len(tests))
    unlabelled = sum(record.pid == NO_PID for record in train)
    if unlabelled:
        _logger.info("%s: no identity known for %d of %d training images", source, unlabelled, len(train))
    strangers = sum(record.pid == NO_PID for record in tests)
    if strangers:
        text = "%s: no identity known (%s) for %d of %d query and gallery images, which match nothing"
        _logger.info(text, source, UNKNOWN, strangers, len(tests))
