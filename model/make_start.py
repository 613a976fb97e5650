"""From the configuration to a model that starts from a re-id file."""

import logging
from collections.abc import Mapping

from yacs.config import CfgNode

from config.errors import as_keys
from model.clip import KNOWN_NAMES, clip_config
from model.files.architecture import unseen_facts
from model.files.card import ModelCard
from model.files.start import NewRun, take_image_side
from model.prompts.deep import MARK
from model.reid import ReIDModel
from utils.weights import read_state_dict

_logger = logging.getLogger("transreid.model")


@as_keys({"path": "MODEL.REID_WEIGHT", "name": "MODEL.NAME"})
def start_from_reid(cfg: CfgNode, model: ReIDModel, cameras: Mapping[str, int], views: int) -> None:
    """Fill the image side of a model that was made from the configuration from the file MODEL.REID_WEIGHT.

    `cameras` (highest id + 1) are those of each data set in training, `views` the highest view + 1.

    Warns where the file's model card says that its images were prepared in another way. Raises
    FileNotFoundError, or ValueError for a file that is no re-id checkpoint or of another architecture.
    """
    path, node = cfg.MODEL.REID_WEIGHT, cfg.MODEL
    size, stride = tuple(cfg.INPUT.SIZE_TRAIN), tuple(node.STRIDE_SIZE)
    run = NewRun(
        (size[0], size[1]),
        (stride[0], stride[1]),
        node.POSITION_RESIZE,
        cameras,
        views,
        keep=(MARK,) if "PROMPT" in node and node.PROMPT.WEIGHT else (),
    )
    try:
        weights = read_state_dict(path, KNOWN_NAMES)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}, which `path` names") from error
    info = take_image_side(model, weights, path, run)
    if info.card is None:
        _logger.info(
            "%s has no model card: whether its images had the mean %s and deviation %s of INPUT is not known",
            *(path, cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD),
        )
    else:
        _warn_of_other_facts(cfg, info.card)


def _warn_of_other_facts(cfg: CfgNode, card: ModelCard) -> None:
    """Warn of what the card states about the file and the configuration has otherwise."""
    tower = unseen_facts(clip_config(cfg.MODEL.NAME))
    facts = {
        "INPUT.PIXEL_MEAN": (tuple(cfg.INPUT.PIXEL_MEAN), card.mean),
        "INPUT.PIXEL_STD": (tuple(cfg.INPUT.PIXEL_STD), card.std),
        "quick_gelu of MODEL.NAME": (tower["quick_gelu"], card.quick_gelu),
        "head_width of MODEL.NAME": (tower["head_width"], card.head_width),
    }
    if cfg.MODEL.ADAPTER_RATIO and card.adapter_ratio:
        facts["MODEL.ADAPTER_RATIO"] = cfg.MODEL.ADAPTER_RATIO, card.adapter_ratio
    for name, (here, there) in facts.items():
        if here != there:
            _logger.warning(
                "%s is %s, but MODEL.REID_WEIGHT %s was trained with %s, says its model card: training "
                "starts from other features than its own",
                *(name, here, cfg.MODEL.REID_WEIGHT, there),
            )
