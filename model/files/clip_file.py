"""The CLIP model that a run starts from: random, by tag, or from a file."""

import logging

import open_clip

from model.clip import (
    KNOWN_NAMES,
    build_clip,
    clip_config,
    clip_weights_by_tag,
    openai_weights,
    require_clip,
)
from model.files.geometry import adopt_geometry
from model.files.text_search_file import read_text_search_file
from model.names import clip_names, has_text_tower
from model.towers.image import grid_size
from utils.weights import read_state_dict

_logger = logging.getLogger("transreid.model")


def load_clip(name: str, choice: str, path: str, tag: str) -> open_clip.CLIP:
    """The CLIP model a run starts from: random if `choice` is 'none', else from `path` or by `tag`.

    A file has the names of OpenAI, open_clip or Hugging Face, or is a text search model with a ViT, whose
    towers keep the positions that they have. Raises ValueError for any other one, FileNotFoundError for none.
    """
    config = clip_config(name)
    if choice == "none":
        _logger.info("CLIP %s starts from random weights", name)
        return build_clip(config, None)
    if path:
        weights, source = read_state_dict(path, KNOWN_NAMES), path
        if has_text_tower(weights):
            return _from_text_search(path, name)
        require_clip(weights, path)
        weights = openai_weights(weights, path, name, config)
    else:
        weights, source = clip_weights_by_tag(name, tag, config)
    _logger.info("CLIP %s starts from the weights in %s", name, source)
    return build_clip(config, weights, f"{source} (`name` {name})")


def _from_text_search(path: str, name: str) -> open_clip.CLIP:
    file = read_text_search_file(path, name)
    info, vision = file.info, file.config["vision_cfg"]
    if info.kind != "ViT":
        raise ValueError(f"path {path} is a text search model with a {info.kind}; allowed: one with a ViT")
    size, stride = adopt_geometry(info, None, None)
    rows, columns = grid_size(size, info.patch, stride)
    image_size = rows * info.patch[0], columns * info.patch[1]  # at which CLIP has this grid
    _logger.info(
        "CLIP %s starts from the text search model in %s, with positions of %dx%d patches and %d tokens",
        *(name, path, rows, columns, info.text_length),
    )
    config = {**file.config, "vision_cfg": {**vision, "image_size": image_size}}
    return build_clip(config, clip_names(file.weights), file.source)
