"""Facts about a re-id file: its architecture, read from names and shapes, and how its images are prepared.

The published files carry no configuration. Backbone, grid, classes and rows of the SIE table follow from the
shapes; the preparation of images is in the model card next to the file, or else assumed as published.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from timm.data.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
)
from torch import Tensor

from model.clip import KNOWN_NAMES
from model.files.card import ModelCard, card_path, read_card
from model.files.names import TOWER
from model.files.shapes import check_weights, count_blocks, has_joint_classifier
from utils.weights import split_choice

_logger = logging.getLogger("transreid.model")
RESNET_STEP = (16, 16)
# Mean and standard deviation of pixels in the published configurations.
_PUBLISHED_PIXELS = {
    "ViT": (IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD),
    "ResNet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
}


@dataclass(frozen=True)
class CheckpointInfo:
    """Facts about a re-id file and the model built from it.

    `positions` counts the rows of the position embedding without the class (or mean) row; `side_rows` is 0
    without side information, `num_classes` 0 without classifiers; `joint_classifier`: one classifier on both
    features. `name`, `size` (H, W), `stride`, `neck` and `sie_scale` are those of the model that was built.
    `mean`, `std` and `resize` ('bilinear' or 'bicubic') prepare its images. They come from `card`; without
    one they are those of the published configurations.
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
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: str = "bilinear"
    neck: str = "before"
    sie_scale: float = 1.0
    card: ModelCard | None = None


def read_info(weights: dict[str, Tensor], path: str) -> CheckpointInfo:
    """The facts about file `path` with these weights, before a model is built.

    Raises ValueError when the file is no re-id checkpoint or its model card is wrong.
    """
    shape = {key: tuple(value.shape) for key, value in weights.items()}
    is_vit, is_resnet = f"{TOWER}class_embedding" in shape, f"{TOWER}attnpool.q_proj.weight" in shape
    positions = f"{TOWER}{'' if is_vit else 'attnpool.'}positional_embedding"
    needed = (f"{TOWER}conv1.weight", "bottleneck.weight", "bottleneck_proj.weight", positions)
    missing = [key for key in needed if key not in shape]
    if missing or not (is_vit or is_resnet):
        what = "a state dict"
        if not shape.keys().isdisjoint(KNOWN_NAMES[1:]):
            what = "CLIP weights (training starts from them)"
        raise ValueError(
            f"{path} is no re-id checkpoint but {what}: {[*missing, 'the image tower'][0]} is missing; "
            f"it holds e.g. {', '.join(list(shape)[:3])}"
        )
    check_weights(weights, path)
    kind = "ViT" if is_vit else "ResNet"
    patch = shape[f"{TOWER}conv1.weight"]
    mean, std = _PUBLISHED_PIXELS[kind]
    info = CheckpointInfo(
        path=path,
        kind=kind,
        width=shape["bottleneck.weight"][0],
        projected_width=shape["bottleneck_proj.weight"][0],
        layers=count_blocks(shape),
        patch=(patch[2], patch[3]) if is_vit else RESNET_STEP,
        positions=shape[positions][0] - 1,
        num_classes=shape.get("classifier.weight", (0,))[0],
        side_rows=shape.get("cv_embed", (0,))[0],
        joint_classifier=has_joint_classifier(shape),
        mean=mean,
        std=std,
    )
    card = read_card(path)
    return info if card is None else _described(info, card)


def _described(info: CheckpointInfo, card: ModelCard) -> CheckpointInfo:
    rows = 0 if card.sie is None else card.sie.rows
    facts = {"classes": (card.classes, info.num_classes), "rows of sie": (rows, info.side_rows)}
    for what, (stated, found) in facts.items():
        if stated != found:
            raise ValueError(f"{card_path(info.path)} has {stated} {what}, but {info.path} {found}")
    return replace(
        info,
        mean=card.mean,
        std=card.std,
        resize=card.resize,
        neck=card.neck,
        sie_scale=info.sie_scale if card.sie is None else card.sie.scale,
        card=card,
    )


def warn_of_other_facts(info: CheckpointInfo, given: Mapping[str, Any]) -> None:
    """Warn of facts that are given by hand although the file's model card has others."""
    stated = {"sie_scale": info.sie_scale, **dict(info.card or ())}
    for key, value in given.items():
        if value != stated[key] and (key != "sie_scale" or info.side_rows):
            _logger.warning(
                "%s: %s %s is used as given, but %s has %s",
                *(info.path, key, value, card_path(info.path), stated[key]),
            )


def warn_of_assumptions(info: CheckpointInfo, given: Collection[str]) -> None:
    """Warn of facts that only a model card would have; those in `given` are known."""
    names = ("mean", "std", "resize", "neck", "size", "stride", *(["sie_scale"] if info.side_rows else []))
    assumed = [f"{name} {getattr(info, name)}" for name in names if name not in given]
    if assumed:
        settings = split_choice(info.path)[0].with_name("config.yml")
        hint = f"; {settings} may have those of training" if settings.is_file() else ""
        _logger.warning(
            "%s has no model card: assumed are %s, as published, with size and stride by its shapes; "
            "where its training had others, the features are wrong%s",
            *(info.path, ", ".join(assumed), hint),
        )
