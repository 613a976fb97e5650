"""A user's own captions: a CSV file that lists images with captions, or text files next to the images."""

import logging
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
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
from utils.languages import CAPTION, TRANSLATION, column_of, is_language, language_of
from utils.notes import without
from utils.text import Tally
from utils.untrusted.folders import find_files
from utils.untrusted.pictures import picture_suffixes
from utils.untrusted.plain import read_plain_lines
from utils.untrusted.table import check_cell, read_columns, read_table

_TEST, _QUERY, _GALLERY = "test", "query", "gallery"
# The test may be in parts: images of `_QUERY` are in no gallery, captions of `_GALLERY` are no queries.
_PARTS = {_TEST: (_TEST, _QUERY, _GALLERY)}
_SPLITS = (TRAIN, "val", _TEST, _QUERY, _GALLERY)
_BETWEEN = "|"  # captions in a cell
_TEXT = ".txt"
_ALONE = "a text file without an image of its name"

_logger = logging.getLogger("transreid.datasets")


_Texts = Mapping[str, Sequence[str]]  # by language


class _Own(NamedTuple):
    row: OwnRow
    captions: _Texts
    translations: _Texts
    where: str


def csv_captions(root: Path, options: CaptionOptions = DEFAULTS) -> CaptionDataset:
    """Read the CSV file `root`/`options.csv` with the columns path, pid, split and caption.

    Split is train, val, test, query or gallery; the others, and camid and viewid, are as in
    `csv_dataset`. Each image of an empty pid is an identity of its own. An image may have several rows,
    and a cell several captions with | between them, or none. The column back_translation, which may be
    absent, has as many parts. Captions of the language zh are in the columns caption_zh and
    back_translation_zh; those asked for must be there. Raises FileNotFoundError without the file,
    ValueError (file and line) as `csv_dataset`, for a query without caption and as `build`.
    """
    asked = options.languages_of(*options.splits)
    needed = (*REQUIRED, *map(column_of, asked))
    file = require_file(root / options.csv, f"a CSV file with the columns {', '.join(needed)}")
    columns = read_columns(file)
    there = [code for code in map(language_of, dict.fromkeys(columns)) if code is not None]
    tested = options.test_languages
    if options.for_check and there:
        asked, tested, needed = there, there, (*REQUIRED, *map(column_of, there))
    languages = tuple(dict.fromkeys((*asked, *there)))
    others = [column_of(code) for code in there if code not in asked]
    translated = [column_of(code, TRANSLATION) for code in languages]
    rows = []
    for cells, where in read_table(file, needed, (*OPTIONAL, *translated, *others)):
        row = parse_row(cells, root, where, _SPLITS, need_label=False)
        captions, translations = (_cells(cells, stem, languages) for stem in (CAPTION, TRANSLATION))
        for name in (column_of(code, stem) for code in asked for stem in (CAPTION, TRANSLATION)):
            check_cell(name, cells.get(name, ""), where, may_be_empty=True)
        if row.split == _QUERY and not any(captions[code] for code in tested):
            check_cell(column_of(tested[0]), "", where)
        rows.append(_Own(row, captions, translations, where))
    return _build("csv", rows, file, options, in_table)


def _cells(cells: Mapping[str, str], stem: str, languages: Sequence[str]) -> _Texts:
    """The texts of a row in each language."""
    found = {code: cells.get(column_of(code, stem), "") for code in languages}
    return {code: cell.split(_BETWEEN) if cell else [] for code, cell in found.items()}


def folder_captions(root: Path, options: CaptionOptions = DEFAULTS) -> CaptionDataset:
    """Read `root`/{train,val,test,query,gallery}/<identity>/<image>, with captions in text files next to it.

    An image directly in the folder of a split is an identity of its own. The text of x.jpg is in x.txt or
    x.jpg.txt (if both exist, both are read), one caption a line, that of the language zh in x.zh.txt or
    x.jpg.zh.txt; the suffix may be .TXT, and letters may be composed or not. The test is test/, or query/ and
    gallery/, or all. All else is as in `folder_dataset`; one warning counts what
    is not read. Raises as that does, and as `build`.
    """
    wanted = [part for split in options.splits for part in _PARTS.get(split, (split,))]
    there = [split for split in wanted if (root / split).is_dir()]
    for split in options.splits:
        if split not in there and not (split == _TEST and {_QUERY, _GALLERY} <= {*there}):
            require_folder(root / split, f"<identity>/<image>, with captions in <image>{_TEXT}")
    left_out = Tally()
    rows = [row for split in there for row in _read_split(root, split, left_out)]
    if left_out:
        _logger.warning("%s: not read: %s", root, left_out, extra=without(left_out.counts()))
    warn_of_marks([each.row for each in rows], root)
    return _build("folder", rows, root, options, str)


def _read_split(root: Path, split: str, left_out: Tally) -> list[_Own]:
    texts = _TextFiles(find_files(root / split, (_TEXT,), Tally()))
    images = list(read_folder(root, split, left_out, need_labels=False))
    read: dict[Path, str] = {}  # text files with their images
    shared: dict[Path, str] = {}
    rows = []
    plain = {file for row in images for file in texts.of(Path(row.path), "")}
    for row in images:
        path = Path(row.path)
        by_language = {"": texts.of(path, "")}
        for language in texts.languages:
            # Those of an image x.zh.jpg are no Chinese ones of x.jpg.
            by_language[language] = [file for file in texts.of(path, language) if file not in plain]
        captions = {
            language: [line for file in files for line in read_plain_lines(file) if line.strip()]
            for language, files in by_language.items()
        }
        files = [file for some in by_language.values() for file in some]
        rows.append(_Own(row, captions, {}, " and ".join(map(str, files)) or row.path))
        shared |= {file: f"{read[file]} and {path}" for file in files if file in read}
        read |= dict.fromkeys(files, row.path)
    for file in texts.files:
        if file not in read:
            left_out.add(_ALONE, str(file))
    if shared:
        text = "%s: %d text files describe images of one name with several suffixes, such as %s"
        _logger.warning(text, root, len(shared), next(iter(shared.values())))
    return rows


class _TextFiles:
    """The text files of a split, and the languages that their names may say."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self._by_name = {_plain_name(file): file for file in files}
        ends = {Path(file.stem).suffix[1:] for file in files}
        pictures = picture_suffixes()
        self.languages = [
            code for code in sorted(ends - {""}) if is_language(code) and f".{code.lower()}" not in pictures
        ]

    def of(self, image: Path, language: str) -> list[Path]:
        """The files of an image in a language; those that are no files are found when they are read."""
        end = f".{language}{_TEXT}" if language else _TEXT
        named = (image.with_suffix(end), Path(f"{image}{end}"))
        found = (file if os.path.lexists(file) else self._by_name.get(_plain_name(file)) for file in named)
        return [file for file in found if file]


def _plain_name(path: Path) -> str:
    """The path without the case of its suffix and the form of its letters in Unicode."""
    return unicodedata.normalize("NFC", f"{path.with_suffix(path.suffix.lower())}")


def _with_identities(rows: list[_Own], source: Path) -> list[_Own]:
    """The rows, where each image of which no identity is known has its path as one."""
    alone = {each.row.path for each in rows if each.row.pid is None}
    if alone:
        text = "%s: no identity known for %d images, each is taken for one of its own, such as %s"
        _logger.info(text, source, len(alone), min(alone))
    return [
        each if each.row.pid is not None else each._replace(row=each.row._replace(pid=each.row.path))
        for each in rows
    ]


def _build(
    name: str, rows: list[_Own], source: Path, options: CaptionOptions, pid_form: Callable[[str], str]
) -> CaptionDataset:
    rows = _with_identities(rows, source)
    numbers = number_labels([each.row for each in rows], source, pid_form, options.need_train)
    described = []
    needless = 0
    for row, captions, translations, where in rows:
        if row.split == TRAIN and not options.need_train:
            continue
        if row.split == _GALLERY:
            needless += sum(len(captions.get(code, ())) for code in options.test_languages)
            captions = {}
        split = _TEST if row.split in _PARTS[_TEST] else row.split
        in_gallery = row.split != _QUERY
        described.append(Described(numbers.record(row), split, captions, translations, where, in_gallery))
    if needless:
        _logger.info("%s: %d captions in gallery are not searched for", source, needless)
    dataset = build(name, described, source, options, upright=True)
    log_strangers(source, dataset.gallery)
    return dataset
