"""Names of the tensors in re-id files, and the model's name in the file's."""

import logging
import re

from torch import Tensor

from model.clip import clip_config
from utils.weights import split_choice

TOWER = "image_encoder."
IMAGE_SIDE = (TOWER, "bottleneck.", "bottleneck_proj.", "classifier.", "classifier_proj.", "cv_embed")
_TEXT_SIDE = ("prompt_learner.", "text_encoder.")
_logger = logging.getLogger("transreid.model")


def image_side(weights: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    """The image side of the weights in file `path`; warns of entries that no re-id model has."""
    odd = next((key for key in weights if not key.startswith(IMAGE_SIDE + _TEXT_SIDE)), None)
    if odd is not None:
        _logger.warning("%s: %s and other entries of that kind are not of a re-id model; ignored", path, odd)
    return {key: value for key, value in weights.items() if key.startswith(IMAGE_SIDE)}


def name_in(path: str) -> str:
    """The start of a file name such as `ViT-B-16_60.pth`, which may be a model's name."""
    return re.sub(r"(_stage1)?(_\d+)?\.[^.]+$", "", split_choice(path)[0].name)


def known_name(name: str, layers: tuple[int, ...], projected_width: int) -> str:
    """`name` if open_clip knows a model of that name with such an image tower, else ''."""
    try:
        config = clip_config(name)
    except (ValueError, FileNotFoundError):
        return ""
    blocks = config["vision_cfg"]["layers"]
    blocks = tuple(blocks) if isinstance(blocks, list | tuple) else (blocks,)
    return name if blocks == layers and config["embed_dim"] == projected_width else ""
