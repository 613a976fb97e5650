"""The CLIP model that a run starts from: CLIP itself, or the towers of a text search model."""

import logging

import open_clip

from model.clip import KNOWN_NAMES, build_clip, clip_from_file, load_clip
from model.files.geometry import adopt_geometry
from model.files.text_search_file import read_text_search_file
from model.names import clip_names, has_text_tower
from model.towers.image import grid_size
from utils.notes import reads_weights
from utils.weights import read_state_dict

_logger = logging.getLogger("transreid.model")


def load_starting_clip(name: str, choice: str, path: str, tag: str) -> open_clip.CLIP:
    """`load_clip`, or the towers of a text search model with a ViT in file `path`.

    These keep the positions that they have. Raises ValueError for any other file, FileNotFoundError for none.
    """
    if choice == "none" or not path:
        return load_clip(name, choice, "", tag)
    weights = read_state_dict(path, KNOWN_NAMES)
    return _from_text_search(path, name) if has_text_tower(weights) else clip_from_file(weights, path, name)


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
        extra=reads_weights("clip", path),
    )
    config = {**file.config, "vision_cfg": {**vision, "image_size": image_size}}
    return build_clip(config, clip_names(file.weights), file.source)
