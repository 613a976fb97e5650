"""Training runs in their folders: settings, last checkpoint, and features of a test that are still right."""

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from config import cfg as two_stages
from config import cfg_base as one_stage
from config.keys import table_of
from config.load import leaves, load_config
from config.nodes import main_solver
from datasets import Trial
from model import model_label
from retrieval import FeatureSet, RetrievalTask
from utils.untrusted.plain import read_plain_text
from utils.untrusted.settings import parse_settings

CONFIG_FILE = "config.yml"
_RUN = "the OUTPUT_DIR of a training run of an image method"
_logger = logging.getLogger("transreid.tools")


def read_run(folder: Path, opts: Sequence[Any]) -> CfgNode:
    """The settings of a run with those of `opts` (KEY, VALUE, …); TEST.WEIGHT is its last checkpoint.

    Raises FileNotFoundError for a folder without `config.yml` or checkpoint, and as `load_config` does.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG_FILE}; allowed: {_RUN}")
    written = leaves(parse_settings(read_plain_text(file), str(file)).tree)
    # The keys of one-stage methods are the same; keys of neither kind are named when the file is loaded.
    trees = (tree for tree in (two_stages, one_stage) if written.keys() <= table_of(tree).keys.keys())
    tree = next(trees, two_stages)
    # A test of several runs is one process, however they were trained.
    pairs = ["MODEL.DIST_TRAIN", False, *opts]
    weight = last_checkpoint(folder, model_label(load_config(tree, file, pairs).MODEL.NAME))
    config = load_config(tree, file, [*pairs, "TEST.WEIGHT", str(weight)])
    epoch, epochs = int(weight.stem.rpartition("_")[2]), main_solver(config).MAX_EPOCHS
    if epoch < epochs:
        _logger.warning("%s is of epoch %d, the run has %d", weight, epoch, epochs)
    return config


def last_checkpoint(folder: Path, name: str) -> Path:
    """The file `{name}_{epoch}.pth` of the highest epoch. Raises FileNotFoundError where there is none."""
    found = (re.fullmatch(rf"{re.escape(name)}_(\d+)\.pth", file.name) for file in folder.iterdir())
    epochs = {int(match[1]): match[0] for match in found if match}
    if not epochs:
        raise FileNotFoundError(f"{folder} has no checkpoint {name}_EPOCH.pth; allowed: {_RUN}")
    return folder / epochs[max(epochs)]


def find_features(cfg: CfgNode, trials: Sequence[Trial], made_with: Mapping[str, Any]) -> Path | None:
    """The feature file next to TEST.WEIGHT, if it has what a test of these trials would give.

    That is where it is newer than TEST.WEIGHT, its items are those of the trials, its facts are `made_with`,
    and it is not of `zero_shot.py --mm`. Otherwise the log says why it is not used, and the result is None.
    """
    weight = Path(cfg.TEST.WEIGHT)
    file = weight.parent / (cfg.TEST.FEATURES or "features.npz")
    if not file.is_file():
        return None
    reason = _why_not(file, weight, trials, json.loads(json.dumps(made_with)))
    if reason:
        _logger.info("%s is not used: %s", file, reason)
        return None
    _logger.info("%s has the features of %s", file, weight)
    return file


def _why_not(file: Path, weight: Path, trials: Sequence[Trial], made_with: Mapping[str, Any]) -> str:
    """Why a feature file is not used; '' where it is."""
    try:
        task = RetrievalTask.load(file)
    except ValueError as error:
        return str(error)
    if os.path.realpath(str(task.info.get("weight"))) != os.path.realpath(weight):
        return f"its weight is {task.info.get('weight')}"
    if file.stat().st_mtime_ns < weight.stat().st_mtime_ns:
        return f"{weight} is newer"
    if "attributes" in task.info:
        return "its features are fused with probabilities of attributes (zero_shot.py --mm)"
    differ = [key for key in made_with if key != "weight" and task.info.get(key) != made_with[key]]
    if differ:
        return f"it was made with another {', '.join(differ)}"
    if [(_items(query), _items(gallery), rule) for query, gallery, rule in task] != [
        ([_item(record) for record in query], [_item(record) for record in gallery], rule)
        for query, gallery, rule in trials
    ]:
        return "its images, identities or cameras are others"
    return ""


def _items(images: FeatureSet) -> list[tuple[str, int, int]]:
    return list(zip(images.keys, images.pids.tolist(), images.camids.tolist(), strict=True))


def _item(record: Any) -> tuple[str, int, int]:
    return record.key, record.pid, record.camid
