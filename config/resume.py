"""Whether a run can be resumed with a configuration that differs from the one it was started with."""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from config.keys import table_of
from config.load import leaves
from config.stages import ENDLESS

_PERIODS = ("CHECKPOINT_PERIOD", "EVAL_PERIOD", "LOG_PERIOD")
# What changes no weights, or by rounding alone.
_HARMLESS = (
    *("OUTPUT_DIR", "LOG.", "TEST.", "SOLVER.SKIP_FINISHED", "SOLVER.SAVE_EVERY_MIN", "SOLVER.KEEP"),
    *("SOLVER.COMPILE", "SOLVER.MICRO_BATCH", "SOLVER.GRAD_CHECKPOINT", "SOLVER.SYNC_BN", "SOLVER.SHARD"),
    *("SOLVER.AMP", "SOLVER.DETERMINISTIC", "DATASETS.ROOT_DIR", "DATASETS.TEST", "DATASETS.CHECK_IMAGES"),
    *("DATASETS.DOWNLOAD", "DATASETS.VEHICLEID_TEST_SIZE", "DATALOADER.NUM_WORKERS", "DATALOADER.CACHE"),
    *("DATALOADER.ON_ERROR", "MODEL.DEVICE", "MODEL.DIST_TRAIN", "MODEL.STAGE1_WEIGHT"),
)
# What stage 2 alone is trained with: its losses and batches.
_OF_STAGE2 = re.compile(
    r"SOLVER\.(MARGIN|STAGE2\.)|DATALOADER\.|CLUSTER\.|MODEL\.(\w+_LOSS_WEIGHT|TEACHER\.|METRIC_LOSS_TYPE"
    r"|NO_MARGIN|IF_LABELSMOOTH|MEMORY_|PCL_)"
)
_AUGMENTATION = re.compile(r"INPUT\.(PROB|PADDING|RE_PROB|RE_MODE)$")  # not in stage 1
_OF_GRAPHS = ("DATALOADER.GRAPH_", "DATALOADER.NUM_INSTANCE")
_logger = logging.getLogger("transreid.config")


def require_same_run(cfg: CfgNode, before: Mapping[str, Any], where: str) -> None:
    """Compare with the values by full key of the run in the file `where`; one warning per changed key.

    Raises ValueError when a key that defines the run has changed, or when there are none.
    """
    keys, now = table_of(cfg).keys, leaves(cfg)
    if not keys.keys() & before.keys():
        raise ValueError(f"{where} holds no configuration")
    for name in sorted(now.keys() & before.keys()):
        if now[name] == before[name]:
            continue
        if keys[name].fixed:
            raise ValueError(
                f"{name} is {now[name]!r}, but the run in {where} has {before[name]!r}; allowed with "
                "--resume: that value, or another OUTPUT_DIR for another run"
            )
        _logger.warning("resumed with %s %r, was %r", name, now[name], before[name])


def is_longer(
    cfg: CfgNode, before: Mapping[str, Any], where: str, finished: Sequence[str], in_work: str = ""
) -> bool:
    """Whether the last stage that the run in the file `where` has `finished` has more epochs now.

    `in_work` is the stage that has begun since, '' for none. Raises ValueError when a finished stage has
    another number of epochs and cannot go on to it.
    """
    longer = False
    for stage in finished:
        node = f"SOLVER.{stage.upper()}" if stage.upper() in cfg.SOLVER else "SOLVER"
        key, now = f"{node}.MAX_EPOCHS", leaves(cfg)
        epochs = before.get(key, now[key])
        if now[key] == epochs:
            continue
        why = ""
        if in_work or stage != finished[-1]:
            why = "what comes after that stage has been trained from its end"
        elif now[key] < epochs:
            why = "these epochs are over"
        elif not ENDLESS.holds(now[f"{node}.SCHEDULE"]):
            why = f"{node}.SCHEDULE {now[f'{node}.SCHEDULE']!r} has other rates for another number of epochs"
        elif now.get(f"{node}.GAUSS_STD"):
            why = f"with {node}.GAUSS_STD the stage has ended as the mean of its epochs"
        if why:
            raise ValueError(
                f"{key} is {now[key]}, but the run in {where} has finished {stage} with {epochs}, and {why}; "
                f"allowed with --resume: {epochs}, or another OUTPUT_DIR for another run"
            )
        longer = True
    return longer


def require_same_stages(cfg: CfgNode, before: Mapping[str, Any], where: str, stages: Collection[str]) -> None:
    """Compare with the values by full key of the run whose finished `stages`, such as 'stage1', are used.

    All keys that shape what these stages have trained must be equal. Raises ValueError with the first
    difference, numbers of epochs before all others; `where` names the file.
    """
    now = leaves(cfg)
    for name in sorted(now.keys() & before.keys(), key=lambda name: (not name.endswith("MAX_EPOCHS"), name)):
        if now[name] != before[name] and _shapes(name, cfg, stages):
            raise ValueError(
                f"{name} is {now[name]!r}, but {where} was trained with {before[name]!r}; allowed with "
                "SOLVER.SKIP_FINISHED: that value, or another OUTPUT_DIR"
            )


def _shapes(name: str, cfg: CfgNode, stages: Collection[str]) -> bool:
    """Whether the key has a part in what these stages have trained."""
    if name.startswith(_HARMLESS) or name.endswith(_PERIODS) or table_of(cfg).keys[name].unused:
        return False
    if name.startswith("SOLVER.STAGE0."):  # that there was one counts for those after it
        return "stage0" in stages or name.endswith("MAX_EPOCHS")
    if name.startswith("SOLVER.STAGE1."):
        return "stage1" in stages
    if "stage2" in stages:
        return True
    if name.startswith(_OF_GRAPHS) and cfg.SOLVER.STAGE1.SAMPLER == "graph":
        return "stage1" in stages
    if _AUGMENTATION.match(name):
        return "stage0" in stages
    return not _OF_STAGE2.match(name)
