"""Checks that the shapes in an untrusted re-id file agree, before a model of its size is built.

A small file can state any shape; a model of the shapes that pass is about as large as the file.
"""

import re

import torch
from torch import Tensor

from model.files.names import IMAGE_SIDE, TOWER

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_LARGEST_PATCH, _MOST_BLOCKS = 128, 500
_DIMENSIONS = {  # of the tensors that the architecture is read from
    "bottleneck.weight": 1,
    "bottleneck_proj.weight": 1,
    "classifier.weight": 2,
    "classifier_proj.weight": 2,
    "cv_embed": 2,
    f"{TOWER}conv1.weight": 4,
    f"{TOWER}positional_embedding": 2,
    f"{TOWER}attnpool.positional_embedding": 2,
}
_Shapes = dict[str, tuple[int, ...]]


def check_weights(weights: dict[str, Tensor], path: str) -> None:
    """Raise ValueError when the image side in file `path` has tensors that do not agree or cannot be tried.

    `weights` has the image tower and both necks; other parts may be missing.
    """
    shape = {key: tuple(value.shape) for key, value in weights.items()}
    for key, dimensions in _DIMENSIONS.items():
        if key in shape and (len(shape[key]) != dimensions or 0 in shape[key]):
            raise _refused(path, key, shape[key], f"{dimensions} dimensions, none of them 0")
    patch = shape[f"{TOWER}conv1.weight"]
    if max(patch[2:]) > _LARGEST_PATCH:
        raise _refused(path, f"{TOWER}conv1.weight", patch, f"patches of up to {_LARGEST_PATCH} pixels")
    _check_widths(shape, path)
    layers = count_blocks(shape)
    if not all(layers) or sum(layers) > _MOST_BLOCKS:
        counts = " + ".join(map(str, layers))
        raise ValueError(f"{path} is no re-id checkpoint: {counts} blocks; allowed: 1 to {_MOST_BLOCKS}")
    _check_numbers(weights, path)


def count_blocks(shape: _Shapes) -> tuple[int, ...]:
    """Blocks of a ViT (one number) or of a ResNet's four layers."""
    if f"{TOWER}class_embedding" in shape:
        stages = [rf"{TOWER}transformer\.resblocks\.(\d+)\."]
    else:
        stages = [rf"{TOWER}layer{stage}\.(\d+)\." for stage in range(1, 5)]
    return tuple(len({found[1] for key in shape if (found := re.match(stage, key))}) for stage in stages)


def has_joint_classifier(shape: _Shapes) -> bool:
    """Whether there is one classifier on both features, side by side, as PCL-CLIP has it."""
    if "classifier_proj.weight" in shape or "classifier.weight" not in shape:
        return False
    return shape["classifier.weight"][1] == shape["bottleneck.weight"][0] + shape["bottleneck_proj.weight"][0]


def _check_widths(shape: _Shapes, path: str) -> None:
    feature, projected = shape["bottleneck.weight"][0], shape["bottleneck_proj.weight"][0]
    classes, *_ = shape.get("classifier.weight", (None,))
    widths = {
        "classifier.weight": feature + projected if has_joint_classifier(shape) else feature,
        "classifier_proj.weight": projected,
        "cv_embed": feature,
    }
    for key, width in widths.items():
        if key not in shape:
            continue
        rows = shape[key][0] if key == "cv_embed" or classes is None else classes
        if shape[key] != (rows, width):
            raise _refused(path, key, shape[key], f"{[rows, width]}, as other layers have it")


def _check_numbers(weights: dict[str, Tensor], path: str) -> None:
    """Layers hold finite floats; only the counters of batch norms are integers."""
    for key, value in weights.items():
        counter = key.endswith("num_batches_tracked") and value.dtype == torch.int64
        if not key.startswith(IMAGE_SIDE) or counter:
            continue
        if value.dtype not in _FLOATS:
            kind = str(value.dtype).removeprefix("torch.")
            raise ValueError(f"{path} is no re-id checkpoint: {key} holds {kind}; allowed: floats")
        if not value.isfinite().all():
            raise ValueError(f"{path}: {key} has numbers that are not finite, so no feature would be right")


def _refused(path: str, key: str, shape: tuple[int, ...], allowed: str) -> ValueError:
    return ValueError(f"{path} is no re-id checkpoint: {key} is {list(shape)}; allowed: {allowed}")
