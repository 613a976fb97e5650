"""open_clip's description of the towers in a file: by a known name, else from shapes and model card."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from open_clip import CLIPTextCfg, CLIPVisionCfg

from model.clip import clip_config
from model.files.info import TowerInfo
from utils.weights import split_choice

HEAD_WIDTH = 64  # of attention, in all published CLIPs
_logger = logging.getLogger("transreid.model")


def describe_towers(info: TowerInfo) -> tuple[str, dict[str, Any]]:
    """The model's name for `clip_config`, '' if none is known, and the description of its towers.

    The name is `info.name`, else that in the card or of the file if a model of that name has such an image
    tower; without any, the text tower is not described. What shapes do not show is as the card or else the
    name says, or OpenAI's. Raises ValueError for a width that is not a multiple of the heads'.
    """
    likely = _name_in(info.path) if info.card is None else info.card.name
    name = info.name or _known_name(likely, info.layers, info.projected_width)
    config = clip_config(name) if name else _from_shapes(info)
    if info.name:
        return name, config
    vision = config["vision_cfg"]
    if info.card is not None:
        config["quick_gelu"], vision["head_width"] = info.card.quick_gelu, info.card.head_width
    require_heads(info.path, info.width, vision.get("head_width", HEAD_WIDTH))
    return name, config


def _name_in(path: str) -> str:
    """The start of a file name such as `ViT-B-16_60.pth`, which may be a model's name."""
    return re.sub(r"(_stage1)?(_\d+)?\.[^.]+$", "", split_choice(path)[0].name)


def _known_name(name: str, layers: tuple[int, ...], projected_width: int) -> str:
    """`name` if open_clip knows a model of that name with such an image tower, else ''."""
    try:
        config = clip_config(name)
    except (ValueError, FileNotFoundError):
        return ""
    blocks = config["vision_cfg"]["layers"]
    blocks = tuple(blocks) if isinstance(blocks, list | tuple) else (blocks,)
    return name if blocks == layers and config["embed_dim"] == projected_width else ""


def unseen_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """The facts in a description of towers that shapes do not show, by their names in model cards."""
    return {
        "quick_gelu": config.get("quick_gelu", False),
        "head_width": config["vision_cfg"].get("head_width", CLIPVisionCfg.head_width),
        "text_heads": config["text_cfg"].get("heads", CLIPTextCfg.heads),
    }


def require_heads(path: str, width: int, head_width: int) -> None:
    """Raise ValueError for a width that is not a multiple of that of a head."""
    if width % head_width:
        raise ValueError(f"{path} has features of {width} numbers; allowed: multiples of {head_width}")


def _from_shapes(info: TowerInfo) -> dict[str, Any]:
    """The description of a tower whose name open_clip does not know."""
    if info.kind == "ViT" and info.card is None:
        _logger.info("%s: no model name in the file name; taken as a ViT with OpenAI's QuickGELU", info.path)
    vision: dict[str, Any] = {"image_size": 224}
    if info.kind == "ResNet":
        vision |= {"layers": list(info.layers), "width": info.width // 32}
    else:
        vision |= {"layers": info.layers[0], "width": info.width, "patch_size": info.patch[0]}
    return {"embed_dim": info.projected_width, "vision_cfg": vision, "quick_gelu": True}
