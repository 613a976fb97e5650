"""A user's own captions: a CSV file that lists images with captions, or text files next to the images."""

import logging
import os
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from datasets.readers.captions.described import DEFAULTS, TRAIN, CaptionOptions, Described, build
from datasets.readers.custom import (
    OPTIONAL,
    REQUIRED,
    OwnRow,
    log_strangers,
    number_labels,
    parse_row,
    read_folder,
    warn_of_marks,
)
from datasets.readers.labels import in_table
from datasets.readers.parsing import require_file, require_folder
from datasets.records import CaptionDataset
from utils.text import Tally
from utils.untrusted.folders import find_files
from utils.untrusted.plain import read_plain_lines
from utils.untrusted.table import check_cell, read_table

_TEST, _QUERY, _GALLERY = "test", "query", "gallery"
# The test may be in parts: images of `_QUERY` are in no gallery, captions of `_GALLERY` are no queries.
_PARTS = {_TEST: (_TEST, _QUERY, _GALLERY)}
_SPLITS = (TRAIN, "val", _TEST, _QUERY, _GALLERY)
_CAPTION, _TRANSLATION = "caption", "back_translation"
_BETWEEN = "|"  # captions in a cell
_TEXT = ".txt"
_ALONE = "a text file without an image of its name"

_logger = logging.getLogger("transreid.datasets")


class _Own(NamedTuple):
    row: OwnRow
    captions: Sequence[str]
    translations: Sequence[str]
    where: str


def csv_captions(root: Path, options: CaptionOptions = DEFAULTS) -> CaptionDataset:
    """Read the CSV file `root`/`options.csv` with the columns path, pid, split and caption.

    Split is train, val, test, query or gallery; the others, and camid and viewid, are as in `csv_dataset`. An
    image may have several rows, and a cell several captions with | between them, or none. The column
    back_translation, which may be absent, has as many parts. Raises FileNotFoundError without the file,
    ValueError (file and line) as `csv_dataset`, for a query without caption and as `build`.
    """
    columns = (*REQUIRED, _CAPTION)
    file = require_file(root / options.csv, f"a CSV file with the columns {', '.join(columns)}")
    rows = []
    for cells, where in read_table(file, columns, (*OPTIONAL, _TRANSLATION)):
        row = parse_row(cells, root, where, _SPLITS, need_label=True)
        texts = []
        for name in (_CAPTION, _TRANSLATION):
            cell = cells.get(name, "")
            check_cell(name, cell, where, may_be_empty=name == _TRANSLATION or row.split != _QUERY)
            texts.append(cell.split(_BETWEEN) if cell else [])
        rows.append(_Own(row, *texts, where))
    return _build("csv", rows, file, options, in_table)


def folder_captions(root: Path, options: CaptionOptions = DEFAULTS) -> CaptionDataset:
    """Read `root`/{train,val,test,query,gallery}/<identity>/<image>, with captions in text files next to it.

    The text of x.jpg is in x.txt or x.jpg.txt (if both exist, both are read), one caption a line; the suffix
    may be .TXT, and letters may be composed or not. The test is test/, or query/ and gallery/, or all. All
    else is as in `folder_dataset`; one warning counts what is not read. Raises as that does, and as `build`.
    """
    wanted = [part for split in options.splits for part in _PARTS.get(split, (split,))]
    there = [split for split in wanted if (root / split).is_dir()]
    for split in options.splits:
        if split not in there and not (split == _TEST and {_QUERY, _GALLERY} <= {*there}):
            require_folder(root / split, f"<identity>/<image>, with captions in <image>{_TEXT}")
    left_out = Tally()
    rows = [row for split in there for row in _read_split(root, split, left_out)]
    if left_out:
        _logger.warning("%s: not read: %s", root, left_out)
    warn_of_marks([each.row for each in rows], root)
    return _build("folder", rows, root, options, str)


def _read_split(root: Path, split: str, left_out: Tally) -> list[_Own]:
    texts = find_files(root / split, (_TEXT,), Tally())
    by_name = {_plain_name(file): file for file in texts}
    read: dict[Path, str] = {}  # text files with their images
    shared: dict[Path, str] = {}
    rows = []
    for row in read_folder(root, split, left_out):
        path = Path(row.path)
        named = (path.with_suffix(_TEXT), Path(f"{path}{_TEXT}"))
        files = [file if os.path.lexists(file) else by_name.get(_plain_name(file)) for file in named]
        files = [file for file in files if file]
        captions = [line for file in files for line in read_plain_lines(file) if line.strip()]
        rows.append(_Own(row, captions, (), " and ".join(map(str, files)) or row.path))
        shared |= {file: f"{read[file]} and {path}" for file in files if file in read}
        read |= dict.fromkeys(files, row.path)
    for file in texts:
        if file not in read:
            left_out.add(_ALONE, str(file))
    if shared:
        text = "%s: %d text files describe images of one name with several suffixes, such as %s"
        _logger.warning(text, root, len(shared), next(iter(shared.values())))
    return rows


def _plain_name(path: Path) -> str:
    """The path without the case of its suffix and the form of its letters in Unicode."""
    return unicodedata.normalize("NFC", f"{path.with_suffix(path.suffix.lower())}")


def _build(
    name: str, rows: list[_Own], source: Path, options: CaptionOptions, pid_form: Callable[[str], str]
) -> CaptionDataset:
    numbers = number_labels([each.row for each in rows], source, pid_form, options.need_train)
    described = []
    needless = 0
    for row, captions, translations, where in rows:
        if row.split == TRAIN and not options.need_train:
            continue
        if row.split == _GALLERY:
            needless += len(captions)
            captions = ()
        split = _TEST if row.split in _PARTS[_TEST] else row.split
        in_gallery = row.split != _QUERY
        described.append(Described(numbers.record(row), split, captions, translations, where, in_gallery))
    if needless:
        _logger.info("%s: %d captions in gallery are not searched for", source, needless)
    dataset = build(name, described, source, options, upright=True)
    log_strangers(source, dataset.gallery)
    return dataset
