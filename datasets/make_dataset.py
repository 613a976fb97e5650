"""From the configuration to a data set."""

import dataclasses
import difflib
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from yacs.config import CfgNode

from config.errors import as_keys
from config.nodes import single_name
from datasets.readers import READERS, ReadOptions
from datasets.readers.parsing import require_folder
from datasets.records import ReIDDataset, join_training
from datasets.sources import fetch_missing, naming_download
from utils.text import Lines

_KEYS = {
    "test_size": "DATASETS.VEHICLEID_TEST_SIZE",
    "need_labels": "CLUSTER.METHOD",
    "need_test": "DATASETS.TEST",
}
_SAME_PEOPLE = ({"dukemtmc", "occ_duke"},)
_logger = logging.getLogger("transreid.datasets")


def make_dataset(
    cfg: CfgNode, *, need_train: bool = True, need_test: bool = True, need_labels: bool = True
) -> ReIDDataset:
    """Read the training splits of DATASETS.NAMES and TRAIN_ALSO and the trials of TEST; log their table.

    All lie under DATASETS.ROOT_DIR; those that do not are fetched where DATASETS.DOWNLOAD is set. Without
    `need_train` only the data set that is tested is read, whose training split may be absent, and `.train` is
    empty; without `need_test` query and gallery may be absent, and are empty. Without `need_labels` the
    identities of training images may be unknown (csv and folder). Raises ValueError for an unknown name,
    training sets that share people or images, several nouns for prompts, and bad lines or file names;
    FileNotFoundError for missing folders and lists, with what fetches them; OSError where a set cannot be
    fetched.
    """
    names = _training_names(cfg)
    tested = cfg.DATASETS.TEST.strip() or names[0]
    require_known("TEST", tested, READERS)
    trained = names if need_train else []
    parts = {
        name: _read(
            cfg,
            name,
            need_train=name in trained,
            need_test=need_test and name == tested,
            need_labels=need_labels,
        )
        for name in dict.fromkeys((*trained, tested))
    }
    dataset, where = parts[tested], Path(cfg.DATASETS.ROOT_DIR).expanduser()
    if trained not in ([], [tested]):
        dataset = join_training([parts[name] for name in trained], parts[tested])
        _require_one_noun(cfg, dataset.parts)
        where = f"{where}, query and gallery of {tested}"
        if cfg.MODEL.SIE_VIEW and not cfg.MODEL.SIE_CAMERA:
            _logger.warning("%s: views of one number share a row of the SIE table", dataset.name)
    _logger.info("Data set %s at %s\n%s", dataset.name, where, Lines(dataset.table()))
    how = "upright, as EXIF says" if dataset.upright else "as stored"
    _logger.info("Images are read %s (INPUT.ORIENTATION)", how)
    return dataset


def _training_names(cfg: CfgNode) -> list[str]:
    """DATASETS.NAMES and the names in TRAIN_ALSO, whose people are all different."""
    also = cfg.DATASETS.TRAIN_ALSO
    names = [single_name(cfg.DATASETS.NAMES), *(also.split(",") if also else ())]
    names = [name.strip() for name in names]
    for place, name in enumerate(names):
        require_known("TRAIN_ALSO" if place else "NAMES", name, READERS)
        same = next((other for other in names[:place] if {name, other} in (*_SAME_PEOPLE, {name})), None)
        if same:
            raise ValueError(
                f"DATASETS.TRAIN_ALSO is {also!r}, but {name} has the people of {same}; allowed: one of them"
            )
    return names


def require_known(key: str, name: str, readers: Collection[str]) -> None:
    """Raise ValueError for a name, in DATASETS.`key`, that no reader has."""
    if name not in readers:
        raise ValueError(
            f"DATASETS.{key} {name!r} is unknown{_nearest(name, readers)}, allowed are {', '.join(readers)}"
        )


def _read(cfg: CfgNode, name: str, *, need_train: bool, need_test: bool, need_labels: bool) -> ReIDDataset:
    root = Path(cfg.DATASETS.ROOT_DIR).expanduser()
    if cfg.DATASETS.DOWNLOAD:
        fetch_missing(name, root)
    options = ReadOptions(
        need_train=need_train,
        need_test=need_test,
        need_labels=need_train and need_labels,
        need_views=cfg.MODEL.SIE_VIEW,
        csv=cfg.DATASETS.CSV,
        test_size=cfg.DATASETS.VEHICLEID_TEST_SIZE,
        seed=cfg.SOLVER.SEED,
    )
    with as_keys(_KEYS), naming_download(name, root):
        require_folder(root, f"the data set {name} (DATASETS.ROOT_DIR)")
        dataset = READERS[name](root, options)
    if cfg.INPUT.ORIENTATION != "auto":
        dataset = dataclasses.replace(dataset, upright=cfg.INPUT.ORIENTATION == "exif")
    if cfg.DATASETS.SUBJECT:
        dataset = dataclasses.replace(dataset, subject=cfg.DATASETS.SUBJECT)
    return dataset


def _require_one_noun(cfg: CfgNode, parts: Sequence[ReIDDataset]) -> None:
    nouns = {part.subject for part in parts}
    if len(nouns) > 1 and cfg.MODEL.TEXT == "prompts":
        each = ", ".join(f"{part.name} ({part.subject})" for part in parts)
        raise ValueError(f"DATASETS.SUBJECT is ''; allowed with {each}: the noun of all their prompts")


def _nearest(name: str, readers: Collection[str]) -> str:
    """', did you mean …?' or nothing; upper and lower case count as equal."""
    known = {key.lower(): key for key in readers}
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f", did you mean {known[close[0]]!r}?" if close else ""
