"""From the configuration to a data set: one table from DATASETS.NAMES to the function that reads it."""

import dataclasses
import difflib
import logging
from collections.abc import Callable
from pathlib import Path

from yacs.config import CfgNode

from datasets.readers.custom import csv_dataset, folder_dataset
from datasets.readers.dukemtmc import dukemtmc, occ_duke
from datasets.readers.market1501 import market1501
from datasets.readers.msmt17 import msmt17
from datasets.readers.parsing import require_folder
from datasets.readers.vehicleid import vehicleid
from datasets.readers.veri import veri
from datasets.records import ReIDDataset

_logger = logging.getLogger("transreid.datasets")

_READERS: dict[str, Callable[[CfgNode, Path, bool], ReIDDataset]] = {
    "market1501": lambda cfg, root, need_train: market1501(root, need_train=need_train),
    "dukemtmc": lambda cfg, root, need_train: dukemtmc(root, need_train=need_train),
    "occ_duke": lambda cfg, root, need_train: occ_duke(root, need_train=need_train),
    "msmt17": lambda cfg, root, need_train: msmt17(
        root, need_train=need_train, allow_outside=cfg.DATASETS.ALLOW_OUTSIDE
    ),
    "veri": lambda cfg, root, need_train: veri(root, need_views=cfg.MODEL.SIE_VIEW, need_train=need_train),
    "VehicleID": lambda cfg, root, need_train: vehicleid(
        root,
        test_size=cfg.DATASETS.VEHICLEID_TEST_SIZE,
        seed=cfg.SOLVER.SEED,
        need_train=need_train,
        allow_outside=cfg.DATASETS.ALLOW_OUTSIDE,
    ),
    "csv": lambda cfg, root, need_train: csv_dataset(
        root,
        file_name=cfg.DATASETS.CSV,
        need_train=need_train,
        need_labels=need_train and cfg.CLUSTER.METHOD == "none",
        allow_outside=cfg.DATASETS.ALLOW_OUTSIDE,
    ),
    "folder": lambda cfg, root, need_train: folder_dataset(
        root, need_train=need_train, need_labels=need_train and cfg.CLUSTER.METHOD == "none"
    ),
}


def make_dataset(cfg: CfgNode, *, need_train: bool = True) -> ReIDDataset:
    """Read the data set DATASETS.NAMES under DATASETS.ROOT_DIR and log its table.

    Without `need_train` the training split may be absent and `.train` is empty. Without it or with
    CLUSTER.METHOD the identities of training images of csv and folder may be unknown. Raises ValueError for
    an unknown name, bad lines or file names, paths out of ROOT_DIR without DATASETS.ALLOW_OUTSIDE, and
    FileNotFoundError for missing folders and lists.
    """
    name = _single_name(cfg.DATASETS.NAMES)
    reader = _READERS.get(name)
    if reader is None:
        raise ValueError(f"DATASETS.NAMES {name!r}{_nearest(name)}, allowed are {', '.join(_READERS)}")
    root = Path(cfg.DATASETS.ROOT_DIR).expanduser()
    require_folder(root, f"the data set {name} (DATASETS.ROOT_DIR)")
    dataset = reader(cfg, root, need_train)
    if cfg.DATASETS.SUBJECT:
        dataset = dataclasses.replace(dataset, subject=cfg.DATASETS.SUBJECT)
    _logger.info("Data set %s at %s\n%s", dataset.name, root, dataset.table())
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
    known = {key.lower(): key for key in _READERS}
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f" is unknown, did you mean {known[close[0]]!r}?" if close else " is unknown"
