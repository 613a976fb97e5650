"""Re-id checkpoints of the published form: what a file holds, read off its names and shapes, and loading it.

The published files carry no configuration. Backbone, grid, classes and the rows of the side information
table are all in the shapes, so testing needs the file and images and nothing else.
"""

import itertools
import logging
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from model.clip import check_fit, clip_config, image_tower, load_strictly
from model.files.shapes import (
    check_blocks,
    check_head_width,
    check_numbers,
    check_shapes,
    has_joint_classifier,
)
from model.reid import ReIDModel, SideInformation
from model.towers.image import grid_size, make_backbone
from utils.files import read_state_dict

_logger = logging.getLogger("transreid.model")

_TOWER = "image_encoder."
_IMAGE_SIDE = (
    _TOWER,
    "bottleneck.",
    "bottleneck_proj.",
    "classifier.",
    "classifier_proj.",
    "cv_embed",
)
_TEXT_SIDE = ("prompt_learner.", "text_encoder.")
_COMMON_SIZES = ((256, 128), (256, 256), (384, 128), (224, 224), (384, 192), (320, 320), (128, 64))
_PUBLISHED_OVERLAP = 12
_RESNET_STEP = (16, 16)
_Pair = tuple[int, int]


@dataclass(frozen=True)
class CheckpointInfo:
    """What a re-id file says of itself.

    `positions` counts the rows of the position embedding without the class (or mean) row; `side_rows` is 0
    without side information, `num_classes` 0 without classifiers, of which `joint_classifier` says that there
    is one for both features. `name`, `size` (H, W) and `stride` are what
    the model was built with: chosen so that they give that many positions.
    """

    path: str
    kind: str  # "ViT" or "ResNet"
    width: int
    projected_width: int
    layers: tuple[int, ...]
    patch: tuple[int, int]
    positions: int
    num_classes: int
    side_rows: int
    joint_classifier: bool = False
    name: str = ""
    size: tuple[int, int] = (0, 0)
    stride: tuple[int, int] = (0, 0)


def read_info(weights: dict[str, Tensor], path: str) -> CheckpointInfo:
    """Read the architecture off a re-id state dict; raises ValueError when it is none."""
    shape = {key: tuple(value.shape) for key, value in weights.items()}
    vit, resnet = "image_encoder.class_embedding" in shape, "image_encoder.attnpool.q_proj.weight" in shape
    needed = ["image_encoder.conv1.weight", "bottleneck.weight", "bottleneck_proj.weight"]
    needed += (
        ["image_encoder.positional_embedding"] if vit else ["image_encoder.attnpool.positional_embedding"]
    )
    missing = [key for key in needed if key not in shape]
    if missing or not (vit or resnet):
        what = "a state dict"
        if "visual.conv1.weight" in shape:
            what = "CLIP weights (MODEL.PRETRAIN_PATH takes them)"
        raise ValueError(
            f"{path} is no re-id checkpoint but {what}: {[*missing, 'the image tower'][0]} is missing; "
            f"it holds e.g. {', '.join(list(shape)[:3])}"
        )
    check_shapes(shape, path)
    if vit:
        layers = (_count(shape, r"image_encoder\.transformer\.resblocks\.(\d+)\."),)
    else:
        layers = tuple(_count(shape, rf"image_encoder\.layer{stage}\.(\d+)\.") for stage in range(1, 5))
    check_blocks(layers, path)
    return CheckpointInfo(
        path=path,
        kind="ViT" if vit else "ResNet",
        width=shape["bottleneck.weight"][0],
        projected_width=shape["bottleneck_proj.weight"][0],
        layers=layers,
        patch=shape["image_encoder.conv1.weight"][2:] if vit else _RESNET_STEP,
        positions=shape[needed[3]][0] - 1,
        num_classes=shape.get("classifier.weight", (0,))[0],
        joint_classifier=has_joint_classifier(shape),
        side_rows=shape.get("cv_embed", (0,))[0],
    )


def _count(shape: dict[str, tuple[int, ...]], pattern: str) -> int:
    return len({found[1] for key in shape if (found := re.match(pattern, key))})


def fit_geometry(
    info: CheckpointInfo, size: tuple[int, int] | None, stride: tuple[int, int] | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The (H, W) and the stride that give the file's number of positions, the wanted ones if they do.

    Then the strides that people train with, at the wanted size and at the sizes in common use. Odd strides
    fit many numbers by chance and are taken where they leave one grid. Raises ValueError when nothing fits.
    """
    wanted = [size] if size is not None else []
    common = [candidate for candidate in _COMMON_SIZES if candidate != size]
    likely, *odd = _strides(info, stride)
    fits = _fits(info, wanted + common, likely)
    if fits:
        return fits[0]
    for strides in odd:
        fits = _fits(info, wanted or common, strides)
        if len({(place, grid_size(place, info.patch, step)) for place, step in fits}) == 1:
            return fits[0]
    raise ValueError(
        f"{info.path} has {info.positions} positions, which no stride gives at "
        f"{'any common size' if size is None else f'{size[0]}x{size[1]} or another common size'}, or several "
        "do: give the size and stride it was trained with (INPUT.SIZE_TEST, MODEL.STRIDE_SIZE)"
    )


def _fits(info: CheckpointInfo, sizes: list[_Pair], strides: list[_Pair]) -> list[tuple[_Pair, _Pair]]:
    """The pairs of a size and a stride that give the file's number of positions."""
    return [
        (size, step)
        for size, step in itertools.product(sizes, strides)
        if size[0] >= info.patch[0] and size[1] >= info.patch[1]
        if math.prod(grid_size(size, info.patch, step)) == info.positions
    ]


def _strides(info: CheckpointInfo, wanted: _Pair | None) -> list[list[_Pair]]:
    """Groups of strides to try: wanted and published ones, square ones, all; each from large to small."""
    if info.kind == "ResNet":
        return [[_RESNET_STEP]]
    published = [info.patch]
    if min(info.patch) > _PUBLISHED_OVERLAP:
        published.append((_PUBLISHED_OVERLAP, _PUBLISHED_OVERLAP))
    rows, columns = (range(side, 0, -1) for side in info.patch)
    return [
        ([wanted] if wanted is not None else []) + published,
        [(step, step) for step in rows if step in columns],
        list(itertools.product(rows, columns)),
    ]


def load_reid_model(
    path: str | Path,
    size: tuple[int, int] | None = None,
    *,
    name: str | None = None,
    stride: tuple[int, int] | None = None,
    side_information: SideInformation | None = None,
    neck_feature: str = "before",
) -> tuple[ReIDModel, CheckpointInfo]:
    """A model in evaluation mode from a re-id file alone: no CLIP download, no data set.

    Args:
        path: a file of the published form; text tower and prompts in it are not needed and not loaded.
        size: (H, W) of the images; None tries the sizes in common use.
        name: MODEL.NAME; None takes it from the file name (`ViT-B-16_60.pth`) or else from the shapes,
            where ViT activations are taken as OpenAI's QuickGELU.
        stride: of the patches; another one is adopted, with a log line, where the file tells so.
        side_information: how cameras and views number the rows of the file's table and its scale; None takes
            every row as one camera, scale 1. A single camera and view stand for the mean row.
        neck_feature: 'before' or 'after' the BNNeck.

    Returns the model and what was read off the file. Raises FileNotFoundError, or ValueError that names the
    first mismatches when the file is no re-id checkpoint or of another architecture than `name`.
    """
    weights = read_state_dict(path)
    return build_reid_model(
        weights,
        read_info(weights, str(path)),
        size,
        name=name,
        stride=stride,
        side_information=side_information,
        neck_feature=neck_feature,
    )


def build_reid_model(
    weights: dict[str, Tensor],
    info: CheckpointInfo,
    size: tuple[int, int] | None,
    *,
    name: str | None,
    stride: tuple[int, int] | None,
    side_information: SideInformation | None,
    neck_feature: str,
) -> tuple[ReIDModel, CheckpointInfo]:
    """`load_reid_model` for a file that was read already; `info` is what `read_info` says of it."""
    path = info.path
    known = [key for key in weights if key.startswith(_IMAGE_SIDE + _TEXT_SIDE)]
    if len(known) < len(weights):
        odd = next(key for key in weights if key not in known)
        _logger.warning("%s: %s and other entries of that kind are not of a re-id model; ignored", path, odd)
    weights = {key: value for key, value in weights.items() if key.startswith(_IMAGE_SIDE)}
    check_numbers(weights, path)

    fitted_size, fitted_stride = fit_geometry(info, size, stride)
    for key, wanted, fitted in (("size", size, fitted_size), ("stride", stride, fitted_stride)):
        if wanted is not None and wanted != fitted and not (key == "stride" and info.kind == "ResNet"):
            _logger.warning("%s: %s %s adopted from the file instead of %s", path, key, fitted, wanted)
    name = name or _name_from_file(info)
    info = replace(info, name=name, size=fitted_size, stride=fitted_stride)

    source = f"{path} (MODEL.NAME {name})" if name else str(path)
    config = _tower_config(info)
    # First of all, because stride and grid of another architecture would be complained about instead; and
    # without memory for it, because shapes of a hostile file may be any.
    with torch.device("meta"):
        check_fit(_unresized(image_tower(config).state_dict(prefix=_TOWER)), _unresized(weights), source)
    model = ReIDModel(
        make_backbone(image_tower(config), fitted_size, fitted_stride),
        info.num_classes,
        joint_classifier=info.joint_classifier,
        side_information=_fit_side(weights, info, side_information),
        neck_feature=neck_feature,
    )
    load_strictly(model, weights, source)
    return model.eval(), info


def _unresized(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the tower has at any image size and stride."""
    return {k: v for k, v in weights.items() if k.startswith(_TOWER) and "positional_embedding" not in k}


def _fit_side(
    weights: dict[str, Tensor], info: CheckpointInfo, side: SideInformation | None
) -> SideInformation | None:
    if not info.side_rows:
        return None
    if side is None:
        return SideInformation(cameras=info.side_rows, views=0, scale=1.0)
    if side.rows == 1 and info.side_rows > 1:
        weights["cv_embed"] = weights["cv_embed"].mean(dim=0, keepdim=True)
    return side


def _name_from_file(info: CheckpointInfo) -> str:
    """MODEL.NAME from the file name's prefix when the shapes agree; '' when only the shapes tell."""
    prefix = re.sub(r"(_stage1)?(_\d+)?\.[^.]+$", "", Path(info.path).name)
    try:
        config = clip_config(prefix)
    except ValueError:
        return ""
    vision = config["vision_cfg"]
    layers = vision["layers"]
    layers = tuple(layers) if isinstance(layers, list | tuple) else (layers,)
    return prefix if layers == info.layers and config["embed_dim"] == info.projected_width else ""


def _tower_config(info: CheckpointInfo) -> dict:
    if info.name:
        return clip_config(info.name)
    check_head_width(info.width, info.path)
    if info.kind == "ResNet":
        return {
            "embed_dim": info.projected_width,
            "vision_cfg": {"layers": list(info.layers), "width": info.width // 32, "image_size": 224},
            "quick_gelu": True,
        }
    _logger.info("%s: no model name in the file name; taken as a ViT with OpenAI's QuickGELU", info.path)
    vision = {"layers": info.layers[0], "width": info.width, "patch_size": info.patch[0], "image_size": 224}
    return {"embed_dim": info.projected_width, "vision_cfg": vision, "quick_gelu": True}
