"""The published data sets of captions and their prepared form, which TBPS-CLIP has introduced.

CUHK-PEDES (Li et al., "Person Search with Natural Language Description", CVPR 2017), ICFG-PEDES (Ding et
al., "Semantically Self-Aligned Network for Text-to-Image Part-aware Person Re-identification", 2021),
RSTPReid (Zhu et al., "DSSL: Deep Surroundings-person Separation Learning", ACM MM 2021).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from datasets.readers.captions.described import DEFAULTS, CaptionOptions, Described, build
from datasets.readers.labels import MOST_DIGITS
from datasets.readers.parsing import label_texts, require_folder
from datasets.records import CaptionDataset, ImageRecord
from utils.labels import NO_CAMERA
from utils.untrusted.forms import Form, Texts, read_json_rows
from utils.untrusted.plain import MEBIBYTE

# CUHK-PEDES and ICFG-PEDES have about 25 MiB. Reading takes up to 20 times the memory, if all is short.
_MAX_JSON = 128 * MEBIBYTE
_IMAGES = "imgs"


class _Row(Form):
    """An image with its captions; the identity is that of its split."""

    id: int = Field(ge=0, lt=10**MOST_DIGITS)
    captions: Texts
    path: str = Field(validation_alias="file_path", min_length=1)


class _OfficialRow(_Row):
    split: Literal["train", "val", "test"]


class _RstpRow(_OfficialRow):
    path: str = Field(validation_alias="img_path", min_length=1)


class _PreparedRow(_Row):
    captions_bt: Texts = Field(default_factory=list)


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
    rows = [
        _described(row, row.split, (), images, f"{file}: row {number}")
        for number, row in enumerate(read_json_rows(file, form, _MAX_JSON), start=1)
    ]
    return build(name, rows, file, options)


def _prepared(name: str, folder: Path, images: Path, options: CaptionOptions) -> CaptionDataset:
    rows = []
    for split in options.splits:
        file = folder / f"{split}_reid.json"
        if not file.exists():
            raise FileNotFoundError(f"{file}: no such file, expected there: images of {split} with captions")
        require_folder(images, f"the images that {file.name} names")
        rows += [
            _described(row, split, row.captions_bt, images, f"{file}: row {number}")
            for number, row in enumerate(read_json_rows(file, _PreparedRow, _MAX_JSON), start=1)
        ]
    return build(name, rows, folder, options)


def _described(row: _Row, split: str, translations: Sequence[str], images: Path, where: str) -> Described:
    image = ImageRecord(str(images / row.path), row.id, NO_CAMERA, 0, texts=label_texts(str(row.id), ""))
    return Described(image, split, row.captions, translations, where)
