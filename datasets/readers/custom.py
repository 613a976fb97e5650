"""A user's own images: a CSV file that lists them, or folders that sort them.

Both become rows of text first; `_build` then turns labels of any kind into the numbers of a ReIDDataset.
"""

import csv
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from datasets.readers.options import DEFAULTS, ReadOptions
from datasets.readers.parsing import (
    MOST_DIGITS,
    label_texts,
    plain,
    quote,
    require_file,
    require_folder,
    require_records,
)
from datasets.records import ImageRecord, ReIDDataset, Trial
from utils.labels import NO_CAMERA, NO_PID

SPLITS = ("train", "query", "gallery")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_REQUIRED, _OPTIONAL = ("path", "pid", "split"), ("camid", "viewid")
_CAMERA_MARK = re.compile(r"_c(\d+)")
_LABEL_HINT = "in training without identities"
_INTEGER = re.compile(rf"-?[0-9]{{1,{MOST_DIGITS}}}")  # a longer number is treated as text

_logger = logging.getLogger("transreid.datasets")

_Label = int | str


class _Row(NamedTuple):
    """One image as the user describes it; None for a pid, camera or view that is not known."""

    path: str
    pid: str | None
    split: str
    camera: str | None
    view: str | None


def csv_dataset(root: Path, options: ReadOptions = DEFAULTS) -> ReIDDataset:
    """Read the CSV file `root`/`options.csv` with columns path, pid, split and, optionally, camid and viewid.

    Paths are relative to `root` or absolute; split is train, query or gallery; pid, camid and viewid are any
    integers or words; camid -1 is an unknown camera and, without `need_labels`, an empty pid in the split
    train an unknown identity. Other columns are ignored. Raises FileNotFoundError without the file,
    ValueError (file and line) for a missing column, another empty or an unknown value, or an image listed
    twice in one split.
    """
    file = require_file(root / options.csv, f"a CSV file with the columns {', '.join(_REQUIRED)}")
    return _build("csv", _read_csv(file, root, options.need_labels), file, options.need_train)


def folder_dataset(root: Path, options: ReadOptions = DEFAULTS) -> ReIDDataset:
    """Read `root`/{train,query,gallery}/<identity>/<image>; `_cN` in a file name gives the camera.

    Without `need_labels` images directly in `root`/train have an unknown identity. Raises FileNotFoundError
    for a missing folder, ValueError for an image at another depth or an empty split.
    """
    for split in SPLITS if options.need_train else SPLITS[1:]:
        require_folder(root / split, "<identity>/<image>")
    # Training cameras come first in the numbering of every split, so testing looks for them too.
    splits = [split for split in SPLITS if (root / split).is_dir()]
    rows = [row for split in splits for row in _read_folder(root, split, options.need_labels)]
    return _build("folder", rows, root, options.need_train, camera_mark="c")


def _read_csv(file: Path, root: Path, need_labels: bool) -> list[_Row]:
    rows: list[_Row] = []
    lines: dict[tuple[str, str], int] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            columns = _check_columns(next(reader, []), file)
            for fields in reader:
                where = f"{file}:{reader.line_num}"
                if not fields:  # a blank line
                    continue
                if len(fields) != len(columns):
                    names = plain(", ".join(columns))
                    raise ValueError(f"{where}: {len(fields)} fields, allowed are {len(columns)}: {names}")
                cells = dict(zip(columns, map(str.strip, fields), strict=True))
                row = _parse_row(cells, root, need_labels, where)
                first = lines.setdefault((row.split, row.path), reader.line_num)
                if first != reader.line_num:
                    raise ValueError(
                        f"{where}: {plain(row.path)} is already in the {row.split} split, line {first}"
                    )
                rows.append(row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read as a CSV file in UTF-8: {error}") from error
    return rows


def _check_columns(columns: Sequence[str], file: Path) -> list[str]:
    stripped = [column.strip() for column in columns]
    for column in _REQUIRED:
        if column not in stripped:
            raise ValueError(
                f"{file}:1: no column {column!r} among {plain(', '.join(stripped)) or 'none'}; needed are"
                f" {', '.join(_REQUIRED)}, optional are {', '.join(_OPTIONAL)}"
            )
    for column in (*_REQUIRED, *_OPTIONAL):
        if stripped.count(column) > 1:
            raise ValueError(
                f"{file}:1: column {column!r} comes {stripped.count(column)} times, allowed is once"
            )
    return stripped


def _parse_row(cells: Mapping[str, str], root: Path, need_labels: bool, where: str) -> _Row:
    is_train = cells["split"] == "train"
    hints = {
        "pid": f", or none {_LABEL_HINT}" if is_train else "",
        "camid": " (-1: unknown camera)",
    }
    for name in (*_REQUIRED, *_OPTIONAL):
        if cells.get(name) == "" and not (name == "pid" and is_train and not need_labels):
            raise ValueError(f"{where}: {name} is empty, allowed is any text or number{hints.get(name, '')}")
    if cells["split"] not in SPLITS:
        raise ValueError(f"{where}: split {quote(cells['split'])}, allowed are {', '.join(SPLITS)}")
    camera = cells.get("camid")
    return _Row(
        str(root / cells["path"]),
        cells["pid"] or None,
        cells["split"],
        None if camera == str(NO_CAMERA) else camera,
        cells.get("viewid"),
    )


def _read_folder(root: Path, split: str, need_labels: bool) -> list[_Row]:
    # os.walk, because rglob skips identity folders that are links.
    walk = os.walk(root / split, followlinks=True)
    paths = sorted(Path(folder, name) for folder, _, names in walk for name in names)
    rows = []
    for path in paths:
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        parts = path.relative_to(root / split).parts
        is_unlabelled = split == "train" and len(parts) == 1
        if len(parts) != 2 and (need_labels or not is_unlabelled):
            hint = f"; {split}/<image> {_LABEL_HINT}" if is_unlabelled else ""
            raise ValueError(f"{path}: image at the wrong depth, allowed is {split}/<identity>/<image>{hint}")
        mark = _CAMERA_MARK.search(path.name)
        pid = None if is_unlabelled else parts[0]
        rows.append(_Row(str(path), pid, split, mark[1] if mark else None, None))
    return rows


def _build(name: str, rows: list[_Row], source: Path, need_train: bool, camera_mark: str = "") -> ReIDDataset:
    """Number the labels: training cameras and views first, even when that split is not asked for.

    `camera_mark` stands before the label of a camera where people see it.
    """
    by_split = {split: [row for row in rows if row.split == split] for split in SPLITS}
    train_rows, test_rows = by_split["train"], by_split["query"] + by_split["gallery"]
    cameras = _number_labels((row.camera for row in train_rows), (row.camera for row in test_rows))
    views = _number_labels((row.view for row in train_rows), (row.view for row in test_rows))
    if not train_rows and cameras:
        _logger.warning("%s: no training split, cameras are numbered from query and gallery only", source)

    def records(split_rows: list[_Row], pids: Mapping[str, int]) -> list[ImageRecord]:
        return [
            ImageRecord(
                row.path,
                NO_PID if row.pid is None else pids[row.pid],
                NO_CAMERA if row.camera is None else cameras[row.camera],
                0 if row.view is None else views[row.view],
                texts=label_texts(row.pid or "", f"{camera_mark}{row.camera}" if row.camera else ""),
            )
            for row in split_rows
        ]

    train: list[ImageRecord] = []
    if need_train:
        # Ranks from the first, so that a label '-1' is not taken for an unknown identity.
        train = records(train_rows, _number_labels((row.pid for row in train_rows), ()))
        require_records(train, "train", source)
    test_pids = _number_pids(row.pid for row in test_rows if row.pid is not None)
    trial = Trial(*(records(by_split[split], test_pids) for split in ("query", "gallery")))
    require_records(trial.query, "query", source)
    require_records(trial.gallery, "gallery", source)
    _log_unknown(source, train, trial)
    return ReIDDataset(name, train, [trial], "person")


def _log_unknown(source: Path, train: Sequence[ImageRecord], trial: Trial) -> None:
    records = (*train, *trial.query, *trial.gallery)
    unknown = sum(record.camid == NO_CAMERA for record in records)
    if unknown:
        _logger.info("%s: no camera known for %d of %d images", source, unknown, len(records))
    unlabelled = sum(record.pid == NO_PID for record in train)
    if unlabelled:
        _logger.info("%s: no identity known for %d of %d training images", source, unlabelled, len(train))


def _number_pids(pids: Iterable[str]) -> dict[str, int]:
    """Text → pid: integers keep their value; if any is a word, all are ranked in the order of words."""
    keys = _sortable(set(pids))
    if all(isinstance(key, int) for key in keys.values()):
        return {text: int(key) for text, key in keys.items()}
    return {text: rank for rank, text in enumerate(sorted(keys))}


def _number_labels(train: Iterable[str | None], test: Iterable[str | None]) -> dict[str, int]:
    """Text → 0..: labels of the training split in sorted order, then the others."""
    first, others = ({label for label in labels if label is not None} for labels in (train, test))
    keys = _sortable(first | others)
    ranks: dict[_Label, int] = {}
    for labels in (first, others):
        for key in sorted({keys[label] for label in labels}):
            ranks.setdefault(key, len(ranks))
    return {text: ranks[key] for text, key in keys.items()}


def _sortable(labels: set[str]) -> dict[str, _Label]:
    """Each label as an integer if all are integers, as itself otherwise."""
    if all(_INTEGER.fullmatch(label) for label in labels):
        return {label: int(label) for label in labels}
    return {label: label for label in labels}
