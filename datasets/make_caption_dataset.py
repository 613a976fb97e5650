"""From the configuration to a data set of captions."""

import dataclasses
import logging
from pathlib import Path

from yacs.config import CfgNode

from config.errors import as_keys
from config.nodes import single_name
from datasets.make_dataset import require_known
from datasets.readers.captions import CAPTION_READERS, CaptionOptions
from datasets.records import CaptionDataset
from datasets.sources import fetch_missing, naming_download
from utils.text import Lines

_KEYS = {"annotation_dir": "DATASETS.ANNOTATION_DIR", "eval_split": "DATASETS.EVAL_SPLIT"}
_logger = logging.getLogger("transreid.datasets")


def make_caption_dataset(cfg: CfgNode, *, need_train: bool = True, for_check: bool = False) -> CaptionDataset:
    """Read the training split of DATASETS.NAMES and its DATASETS.EVAL_SPLIT; log their table.

    Without `need_train` the training split may be absent, and `.train` is empty. With `for_check` captions
    are whole and of all languages that are there, and those of which cleaning leaves nothing are '' instead
    of an error. Raises ValueError for an unknown name, bad rows, an empty split and a language without
    captions; FileNotFoundError for missing folders and files, with what fetches them; OSError where
    DATASETS.DOWNLOAD is set and the set cannot be fetched.
    """
    name = single_name(cfg.DATASETS.NAMES).strip()
    require_known("NAMES", name, CAPTION_READERS)
    root, annotations = Path(cfg.DATASETS.ROOT_DIR).expanduser(), cfg.DATASETS.ANNOTATION_DIR
    options = CaptionOptions(
        need_train=need_train,
        eval_split=cfg.DATASETS.EVAL_SPLIT,
        image_dir=cfg.DATASETS.IMAGE_DIR,
        annotation_dir=Path(annotations).expanduser() if annotations else None,
        csv=cfg.DATASETS.CSV,
        for_check=for_check,
        languages=tuple(cfg.DATASETS.LANGUAGES),
        test_languages=tuple(cfg.TEST.LANGUAGES),
    )
    if cfg.DATASETS.DOWNLOAD:
        fetch_missing(name, root)
    with as_keys(_KEYS), naming_download(name, root):
        dataset = CAPTION_READERS[name](root, options)
    if cfg.INPUT.ORIENTATION != "auto":
        dataset = dataclasses.replace(dataset, upright=cfg.INPUT.ORIENTATION == "exif")
    _logger.info("Data set %s at %s\n%s", dataset.name, root, Lines(dataset.table()))
    how = "upright, as EXIF says" if dataset.upright else "as stored"
    _logger.info("Images are read %s (INPUT.ORIENTATION)", how)
    return dataset
