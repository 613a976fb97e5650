"""Checks that the shapes in an untrusted file of a model agree, before a model of its size is built.

A small file can state any shape; a model of the shapes that pass is about as large as the file.
"""

import re

import torch
from torch import Tensor

from model.names import REID_FILE, TOWER, Layout
from model.prompts.deep import FIRST, MARK

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_LARGEST_PATCH, _MOST_BLOCKS = 128, 500
_DIMENSIONS = {  # of the tensors of an image tower that its architecture is read from
    "conv1.weight": 4,
    "positional_embedding": 2,
    "attnpool.positional_embedding": 2,
}
_PROMPTS, _DOWN, _UP = f"{TOWER}{FIRST}", "adapter.fc.0.weight", "adapter.fc.2.weight"
Shapes = dict[str, tuple[int, ...]]


def shapes_of(weights: dict[str, Tensor]) -> Shapes:
    """The shape of each tensor."""
    return {key: tuple(value.shape) for key, value in weights.items()}


def check_reid_weights(weights: dict[str, Tensor], path: str) -> None:
    """Raise ValueError when the image side in file `path` has tensors that do not agree or cannot be tried.

    `weights` has the image tower and both necks; other parts may be missing.
    """
    shape = shapes_of(weights)
    check_tower(shape, path, REID_FILE)
    _check_widths(shape, path)
    check_numbers(weights, path, REID_FILE)


def check_tower(shape: Shapes, path: str, layout: Layout) -> None:
    """Raise ValueError for what the architecture is read from: dimensions, patches and blocks.

    The first layer of the image tower is there; other parts may be missing.
    """
    of_tower = {f"{layout.towers[0]}{key}": dimensions for key, dimensions in _DIMENSIONS.items()}
    for key, dimensions in {**layout.dimensions, **of_tower}.items():
        if key in shape and (len(shape[key]) != dimensions or 0 in shape[key]):
            allowed = f"{dimensions} dimensions, none of them 0"
            raise refused(path, key, shape[key], allowed, layout)
    patches = f"{layout.towers[0]}conv1.weight"
    if max(shape[patches][2:]) > _LARGEST_PATCH:
        allowed = f"patches of up to {_LARGEST_PATCH} pixels"
        raise refused(path, patches, shape[patches], allowed, layout)
    for prefix in layout.towers:
        layers = count_blocks(shape, prefix)
        if not all(layers) or sum(layers) > _MOST_BLOCKS:
            counts = " + ".join(map(str, layers))
            raise ValueError(f"{path} is no {layout.what}: {counts} blocks; allowed: 1 to {_MOST_BLOCKS}")


def count_blocks(shape: Shapes, tower: str) -> tuple[int, ...]:
    """Blocks of the transformer (one number) or of a ResNet's four layers behind the prefix `tower`."""
    if f"{tower}attnpool.positional_embedding" in shape and f"{tower}class_embedding" not in shape:
        stages = [rf"{tower}layer{stage}\.(\d+)\." for stage in range(1, 5)]
    else:
        stages = [rf"{tower}transformer\.resblocks\.(\d+)\."]
    return tuple(len({found[1] for key in shape if (found := re.match(stage, key))}) for stage in stages)


def find_deep_prompts(shape: Shapes) -> tuple[int, int] | None:
    """Tokens of deep prompts in the image tower and the blocks that have them, None without any."""
    if _PROMPTS not in shape:
        return None
    return shape[_PROMPTS][0], sum(MARK in key for key in shape if key.startswith(TOWER))


def has_joint_classifier(shape: Shapes) -> bool:
    """Whether there is one classifier on both features, side by side, as PCL-CLIP has it."""
    if "classifier_proj.weight" in shape or "classifier.weight" not in shape:
        return False
    return shape["classifier.weight"][1] == shape["bottleneck.weight"][0] + shape["bottleneck_proj.weight"][0]


def _check_widths(shape: Shapes, path: str) -> None:
    feature, projected = shape["bottleneck.weight"][0], shape["bottleneck_proj.weight"][0]
    classes, *_ = shape.get("classifier.weight", (None,))
    widths = {
        "classifier.weight": feature + projected if has_joint_classifier(shape) else feature,
        "classifier_proj.weight": projected,
        "cv_embed": feature,
    }
    wanted = {
        key: (shape[key][0] if key == "cv_embed" or classes is None else classes, width)
        for key, width in widths.items()
        if key in shape
    }
    if _DOWN in shape:
        inner = shape[_DOWN][0]
        wanted |= {_DOWN: (inner, feature), _UP: (feature, inner)}
    if _PROMPTS in shape:
        tokens = shape[_PROMPTS][0]
        wanted |= {key: (tokens, feature) for key in shape if MARK in key and key.startswith(TOWER)}
    for key, (rows, width) in wanted.items():
        if shape.get(key) != (rows, width):
            allowed = f"{[rows, width]}, as other layers have it"
            raise refused(path, key, shape.get(key, ()), allowed, REID_FILE)


def check_numbers(weights: dict[str, Tensor], path: str, layout: Layout) -> None:
    """Raise ValueError unless layers hold finite floats; only the counters of batch norms are integers."""
    for key, value in weights.items():
        counter = key.endswith("num_batches_tracked") and value.dtype == torch.int64
        if not key.startswith(layout.read) or counter:
            continue
        if value.dtype not in _FLOATS:
            kind = str(value.dtype).removeprefix("torch.")
            raise ValueError(f"{path} is no {layout.what}: {key} holds {kind}; allowed: floats")
        # Without numbers, strides of (0, 10**12, 10**12) are larger than torch can have.
        if value.numel() and not value.isfinite().all():
            raise ValueError(f"{path}: {key} has numbers that are not finite, so no feature would be right")


def refused(path: str, key: str, shape: tuple[int, ...], allowed: str, layout: Layout) -> ValueError:
    """The error about a tensor of a wrong shape."""
    return ValueError(f"{path} is no {layout.what}: {key} is {list(shape)}; allowed: {allowed}")
