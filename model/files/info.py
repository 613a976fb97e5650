"""Facts about a re-id file: its architecture, read from names and shapes, and how its images are prepared.

The published files carry no configuration. Backbone, grid, classes and rows of the SIE table follow from the
shapes; the preparation of images is in the model card next to the file, or else assumed as published.
"""

import hashlib
import json
import logging
from collections.abc import Collection, Container, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

from timm.data.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
)
from torch import Tensor

from model.clip import KNOWN_NAMES
from model.files.card import Card, ModelCard, card_source, read_card
from model.files.shapes import (
    Shapes,
    check_reid_weights,
    count_blocks,
    find_deep_prompts,
    has_joint_classifier,
    shapes_of,
)
from model.names import TEXT_SEARCH, TOWER, has_text_tower
from utils.files import sha256_of_file
from utils.weights import split_choice

_logger = logging.getLogger("transreid.model")
RESNET_STEP = (16, 16)
_COMMON_SIZES = ((256, 128), (256, 256), (384, 128), (224, 224), (384, 192), (320, 320), (128, 64))
_PUBLISHED_OVERLAP = 12
# Stored features are known by them: a name more is another kind of features for all files.
_SHAPE_FEATURES = ("name", "size", "stride", "mean", "std", "resize", "neck", "sie_scale", "text_length")
# Mean and standard deviation of pixels in the published configurations.
_PUBLISHED_PIXELS = {
    "ViT": (IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD),
    "ResNet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
}


@dataclass(frozen=True)
class TowerInfo:
    """Facts about the image tower in a file, and about the model built from it.

    `positions` counts the rows of the position embedding without the class (or mean) row. `name`, `size`
    (H, W) and `stride` are those of the model that was built. `mean`, `std` and `resize` ('bilinear' or
    'bicubic') prepare its images. They come from `card`; without one they are the published ones.
    """

    path: str
    kind: str  # "ViT" or "ResNet"
    width: int
    projected_width: int
    layers: tuple[int, ...]
    patch: tuple[int, int]
    positions: int
    _: KW_ONLY
    name: str = ""
    size: tuple[int, int] = (0, 0)
    stride: tuple[int, int] = (0, 0)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: str = "bilinear"
    card: Card | None = None

    @property
    def usual_sizes(self) -> tuple[tuple[int, int], ...]:
        """Sizes (H, W) of images to try where none is stated, the likeliest first."""
        return _COMMON_SIZES

    @property
    def overlap(self) -> int | None:
        """The stride of overlapping patches in published files; None where no file has such patches."""
        return _PUBLISHED_OVERLAP

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex over the weights' file and all that shapes features."""
        file, choice = split_choice(self.path)
        facts = {name: getattr(self, name, None) for name in _SHAPE_FEATURES}
        text = json.dumps({"weights": sha256_of_file(file), "choice": choice, **facts}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class CheckpointInfo(TowerInfo):
    """Facts about a re-id file and the model built from it.

    `side_rows` is 0 without side information, `num_classes` 0 without classifiers; `joint_classifier`: one
    classifier on both features. `neck` and `sie_scale` are those of the model that was built.
    """

    num_classes: int
    side_rows: int
    joint_classifier: bool = False
    neck: str = "before"
    sie_scale: float = 1.0
    deep_prompts: tuple[int, int] | None = None  # tokens and blocks
    adapter_width: int = 0  # between its layers, 0 without an adapter
    adapter_ratio: float = 0.2  # as published
    card: ModelCard | None = field(default=None, kw_only=True)


def tower_facts(shape: Shapes, tower: str) -> dict[str, Any]:
    """The facts of `TowerInfo` about the image tower behind a prefix, whose tensors were checked."""
    is_vit = f"{tower}class_embedding" in shape
    patch = shape[f"{tower}conv1.weight"]
    return {
        "kind": "ViT" if is_vit else "ResNet",
        "layers": count_blocks(shape, tower),
        "patch": (patch[2], patch[3]) if is_vit else RESNET_STEP,
        "positions": shape[position_name(shape, tower)][0] - 1,
    }


def position_name(names: Container[str], tower: str) -> str:
    """The name of the position embedding of the image tower behind a prefix."""
    return f"{tower}{'' if f'{tower}class_embedding' in names else 'attnpool.'}positional_embedding"


def read_info(weights: dict[str, Tensor], path: str) -> CheckpointInfo:
    """The facts about file `path` with these weights, before a model is built.

    Raises ValueError when the file is no re-id checkpoint or its model card is wrong.
    """
    shape = shapes_of(weights)
    is_vit, is_resnet = f"{TOWER}class_embedding" in shape, f"{TOWER}attnpool.q_proj.weight" in shape
    positions = position_name(shape, TOWER)
    needed = (f"{TOWER}conv1.weight", "bottleneck.weight", "bottleneck_proj.weight", positions)
    missing = [key for key in needed if key not in shape]
    if missing or not (is_vit or is_resnet):
        what = "a state dict"
        if has_text_tower(weights):
            what = TEXT_SEARCH
        elif not shape.keys().isdisjoint(KNOWN_NAMES[1:]):
            what = "CLIP weights (training starts from them)"
        raise ValueError(
            f"{path} is no re-id checkpoint but {what}: {[*missing, 'the image tower'][0]} is missing; "
            f"it holds e.g. {', '.join(list(shape)[:3])}"
        )
    check_reid_weights(weights, path)
    mean, std = _PUBLISHED_PIXELS["ViT" if is_vit else "ResNet"]
    info = CheckpointInfo(
        path=path,
        **tower_facts(shape, TOWER),
        width=shape["bottleneck.weight"][0],
        projected_width=shape["bottleneck_proj.weight"][0],
        num_classes=shape.get("classifier.weight", (0,))[0],
        side_rows=shape.get("cv_embed", (0,))[0],
        joint_classifier=has_joint_classifier(shape),
        deep_prompts=find_deep_prompts(shape),
        adapter_width=shape.get("adapter.fc.0.weight", (0,))[0],
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
            raise ValueError(f"{card_source(info.path)} has {stated} {what}, but {info.path} {found}")
    return replace(
        info,
        mean=card.mean,
        std=card.std,
        resize=card.resize,
        neck=card.neck,
        sie_scale=info.sie_scale if card.sie is None else card.sie.scale,
        adapter_ratio=card.adapter_ratio or info.adapter_ratio,
        card=card,
    )


def warn_of_other_facts(info: TowerInfo, given: Mapping[str, Any], stated: Mapping[str, Any]) -> None:
    """Warn of facts that are given by hand although the file's model card states others."""
    for key, value in given.items():
        if value != stated[key]:
            _logger.warning(
                "%s: %s %s is used as given, but %s has %s",
                *(info.path, key, value, card_source(info.path), stated[key]),
            )


def warn_of_assumptions(info: TowerInfo, names: Collection[str], given: Collection[str]) -> None:
    """Warn of the facts in `names`, which only a model card would have; those in `given` are known."""
    assumed = [f"{name} {getattr(info, name)}" for name in names if name not in given]
    if assumed:
        settings = split_choice(info.path)[0].with_name("config.yml")
        hint = f"; {settings} may have those of training" if settings.is_file() else ""
        _logger.warning(
            "%s has no model card: assumed are %s, as published, with size and stride by its shapes; "
            "where its training had others, the features are wrong%s",
            *(info.path, ", ".join(assumed), hint),
        )
