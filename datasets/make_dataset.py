"""From the configuration to a data set."""

import dataclasses
import difflib
import logging
from pathlib import Path

from yacs.config import CfgNode

from config.errors import as_keys
from datasets.readers import READERS, ReadOptions
from datasets.readers.parsing import require_folder
from datasets.records import ReIDDataset
from utils.text import Lines

_KEYS = {"test_size": "DATASETS.VEHICLEID_TEST_SIZE"}
_logger = logging.getLogger("transreid.datasets")


def make_dataset(cfg: CfgNode, *, need_train: bool = True, need_labels: bool = True) -> ReIDDataset:
    """Read the data set DATASETS.NAMES under DATASETS.ROOT_DIR and log its table.

    Without `need_train` the training split may be absent and `.train` is empty. Without `need_labels` the
    identities of training images may be unknown (csv and folder). Raises ValueError for an unknown name and
    for bad lines or file names, FileNotFoundError for missing folders and lists.
    """
    name = _single_name(cfg.DATASETS.NAMES)
    if name not in READERS:
        raise ValueError(
            f"DATASETS.NAMES {name!r} is unknown{_nearest(name)}, allowed are {', '.join(READERS)}"
        )
    root = Path(cfg.DATASETS.ROOT_DIR).expanduser()
    require_folder(root, f"the data set {name} (DATASETS.ROOT_DIR)")
    options = ReadOptions(
        need_train=need_train,
        need_labels=need_train and need_labels,
        need_views=cfg.MODEL.SIE_VIEW,
        csv=cfg.DATASETS.CSV,
        test_size=cfg.DATASETS.VEHICLEID_TEST_SIZE,
        seed=cfg.SOLVER.SEED,
    )
    with as_keys(_KEYS):
        dataset = READERS[name](root, options)
    if cfg.INPUT.ORIENTATION != "auto":
        dataset = dataclasses.replace(dataset, upright=cfg.INPUT.ORIENTATION == "exif")
    if cfg.DATASETS.SUBJECT:
        dataset = dataclasses.replace(dataset, subject=cfg.DATASETS.SUBJECT)
    _logger.info("Data set %s at %s\n%s", dataset.name, root, Lines(dataset.table()))
    return dataset


def _single_name(names: str | list[str] | tuple[str, ...]) -> str:
    """The one name, which older configurations write as a tuple of one."""
    if isinstance(names, str):
        return names
    if len(names) != 1:
        raise ValueError(f"DATASETS.NAMES {tuple(names)} has {len(names)} names, allowed is one")
    return names[0]


def _nearest(name: str) -> str:
    """', did you mean …?' or nothing; upper and lower case count as equal."""
    known = {key.lower(): key for key in READERS}
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f", did you mean {known[close[0]]!r}?" if close else ""
