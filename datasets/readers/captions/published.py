"""The published data sets of captions and their prepared form, which TBPS-CLIP has introduced.

CUHK-PEDES (Li et al., "Person Search with Natural Language Description", CVPR 2017), ICFG-PEDES (Ding et
al., "Semantically Self-Aligned Network for Text-to-Image Part-aware Person Re-identification", 2021),
RSTPReid (Zhu et al., "DSSL: Deep Surroundings-person Separation Learning", ACM MM 2021).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, create_model

from datasets.readers.captions.described import DEFAULTS, CaptionOptions, Described, build
from datasets.readers.labels import MOST_DIGITS
from datasets.readers.parsing import label_texts, require_folder
from datasets.records import CaptionDataset, ImageRecord
from utils.labels import NO_CAMERA
from utils.languages import language_of
from utils.untrusted.forms import Form, Texts, read_json_rows
from utils.untrusted.plain import MEBIBYTE, read_plain_text

# CUHK-PEDES and ICFG-PEDES have about 25 MiB. Reading takes up to 20 times the memory, if all is short.
_MAX_JSON = 128 * MEBIBYTE
_IMAGES = "imgs"
_CAPTIONS, _TRANSLATIONS = "captions", "captions_bt"
_KEY = re.compile(r'"(captions(?:_bt)?(?:_[A-Za-z0-9-]+)?)"\s*:')


class _Row(Form):
    """An image with its captions; the identity is that of its split."""

    id: int = Field(ge=0, lt=10**MOST_DIGITS)
    captions: Texts
    path: str = Field(validation_alias="file_path", min_length=1)


class _OfficialRow(_Row):
    split: Literal["train", "val", "test"]


class _RstpRow(_OfficialRow):
    path: str = Field(validation_alias="img_path", min_length=1)


def cuhk_pedes(root: Path, options: CaptionOptions = DEFAULTS) -> CaptionDataset:
    """Read `root`/CUHK-PEDES/reid_raw.json, with the images in imgs/ there.

    Raises FileNotFoundError without the file or the folder of images, ValueError (file and row) for another
    form of the file.
    """
    return _official("cuhk_pedes", root / "CUHK-PEDES", ("reid_raw.json",), _OfficialRow, options)


def icfg_pedes(root: Path, options: CaptionOptions = DEFAULTS) -> CaptionDataset:
    """Read `root`/ICFG-PEDES/ICFG-PEDES.json or, if it is missing, ICFG_PEDES.json; as `cuhk_pedes`.

    There is no validation split, and an identity of the test is another one than that of the same number in
    training.
    """
    files = ("ICFG-PEDES.json", "ICFG_PEDES.json")
    return _official("icfg_pedes", root / "ICFG-PEDES", files, _OfficialRow, options)


def rstpreid(root: Path, options: CaptionOptions = DEFAULTS) -> CaptionDataset:
    """Read `root`/RSTPReid/data_captions.json; as `cuhk_pedes`."""
    return _official("rstpreid", root / "RSTPReid", ("data_captions.json",), _RstpRow, options)


def prepared(root: Path, options: CaptionOptions = DEFAULTS) -> CaptionDataset:
    """Read train_reid.json and test_reid.json in `root`, with the images in `options.image_dir` there.

    Raises as `cuhk_pedes`.
    """
    return _prepared("captions", options.annotation_dir or root, root / options.image_dir, options)


def _official(
    name: str, folder: Path, files: Sequence[str], form: type[_OfficialRow], options: CaptionOptions
) -> CaptionDataset:
    if options.annotation_dir:
        return _prepared(name, options.annotation_dir, folder / _IMAGES, options)
    file = next((folder / file for file in files if (folder / file).exists()), None)
    if file is None:
        names = " or ".join(str(folder / name) for name in files)
        raise FileNotFoundError(f"{names}: no such file, expected there: a list of images with captions")
    images = require_folder(folder / _IMAGES, f"the images that {file.name} names")
    read = _Reader(file, form, options.languages_of(*options.splits))
    return build(name, [read.described(row, row.split, images, n) for n, row in read.rows()], file, options)


def _prepared(name: str, folder: Path, images: Path, options: CaptionOptions) -> CaptionDataset:
    rows = []
    for split in options.splits:
        file = folder / f"{split}_reid.json"
        if not file.exists():
            raise FileNotFoundError(f"{file}: no such file, expected there: images of {split} with captions")
        require_folder(images, f"the images that {file.name} names")
        read = _Reader(file, _Row, options.languages_of(split), translated=True)
        rows += [read.described(row, split, images, n) for n, row in read.rows()]
    return build(name, rows, folder, options)


class _Reader:
    """Rows of a file with the captions of all languages that it has, each in a field of its own.

    Captions without a language may be missing where others are there and no row has them, or they are not
    `asked` for.
    """

    def __init__(
        self, file: Path, form: type[_Row], asked: Sequence[str], *, translated: bool = False
    ) -> None:
        self.file = file
        keys = dict.fromkeys(_KEY.findall(read_plain_text(file, _MAX_JSON)))
        self.captions = self._by_language(keys, _CAPTIONS)
        self.translations = self._by_language(keys, _TRANSLATIONS) if translated else {}
        others = self.captions.keys() - {""}
        may_miss = others and ("" not in asked or "" not in self.captions)
        names = {*self.captions.values(), *self.translations.values()} - {_CAPTIONS}
        fields: dict[str, Any] = {
            name: (Texts, Field(default_factory=list))
            for name in (*sorted(names), *([_CAPTIONS] if may_miss else ()))
        }
        self.form = create_model(form.__name__, __base__=form, **fields)

    @staticmethod
    def _by_language(keys: Mapping[str, Any], stem: str) -> dict[str, str]:
        found = {language_of(key, stem): key for key in keys}
        return {language: key for language, key in found.items() if language is not None}

    def rows(self) -> Iterator[tuple[int, Any]]:
        """The rows, counted from 1. Raises as `read_json_rows` does."""
        return enumerate(read_json_rows(self.file, self.form, _MAX_JSON), start=1)

    def described(self, row: Any, split: str, images: Path, number: int) -> Described:
        texts = label_texts(str(row.id), "")
        image = ImageRecord(str(images / row.path), row.id, NO_CAMERA, 0, texts=texts)
        captions, translations = (
            {language: getattr(row, key) for language, key in keys.items()}
            for keys in (self.captions, self.translations)
        )
        return Described(image, split, captions, translations, f"{self.file}: row {number}")
