"""From the configuration to what warns when a stage learns nothing."""

import logging
from typing import cast

from yacs.config import CfgNode

from config.nodes import main_solver, single_name
from datasets import ReIDDataset
from processor.colours import ColourFloor
from processor.make_parts import Parts
from utils.package import MissingExtra, require_extra

_logger = logging.getLogger("transreid")


def colour_floor(cfg: CfgNode, parts: Parts) -> ColourFloor | None:
    """Colour histograms of the test images; None, with a line in the log, without the package for them.

    None, too, where another data set is tested, on which a model may be poor whatever it learns.
    """
    why, tested = "", cfg.DATASETS.TEST.strip()
    if tested not in ("", single_name(cfg.DATASETS.NAMES)):
        why = f"DATASETS.TEST {tested} is not what is trained on"
    try:
        require_extra("draw")
    except MissingExtra as error:
        why = str(error)
    if why:
        _logger.info("evaluations are not compared with colour histograms: %s", why)
        return None
    upright = cast(ReIDDataset, parts.dataset).upright
    return ColourFloor(upright=upright, seed=cfg.SOLVER.SEED)


def usual_reasons(cfg: CfgNode) -> list[str]:
    """What most often is the reason when a run with this configuration learns nothing."""
    node = main_solver(cfg)
    name = "SOLVER.STAGE2" if "STAGE2" in cfg.SOLVER else "SOLVER"
    mixed = "identities or captions are mixed up in the training images (tools/check_dataset.py shows them)"
    if "CLUSTER" in cfg and cfg.CLUSTER.METHOD != "none":
        mixed = f"clusters mix identities or are too few (CLUSTER.EPS {cfg.CLUSTER.EPS:g}; the log has them)"
    reasons = [
        f"{name}.BASE_LR {node.BASE_LR:g} is too high or too low for these weights (try a tenth of it, then "
        "ten times it)",
        f"{name}.MAX_EPOCHS {node.MAX_EPOCHS} is too low for so few images",
        mixed,
    ]
    if cfg.MODEL.PRETRAIN_CHOICE == "none" and not cfg.MODEL.get("REID_WEIGHT", ""):
        few = "MODEL.PRETRAIN_CHOICE is 'none': random weights need far more images and epochs than CLIP's"
        reasons.insert(0, few)
    return reasons
