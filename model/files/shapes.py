"""Whether the shapes of a re-id file agree with each other, looked at before a model of its size is built.

A small file can state any shape; a model of the shapes that pass here is about as large as the file.
"""

import torch
from torch import Tensor

_TOWER = "image_encoder."
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_LARGEST_PATCH, _MOST_BLOCKS = 128, 500
_HEAD_WIDTH = 64  # CLIP's
_DIMENSIONS = {  # of what tells of the architecture
    "bottleneck.weight": 1,
    "bottleneck_proj.weight": 1,
    "classifier.weight": 2,
    "classifier_proj.weight": 2,
    "cv_embed": 2,
    f"{_TOWER}conv1.weight": 4,
    f"{_TOWER}positional_embedding": 2,
    f"{_TOWER}attnpool.positional_embedding": 2,
}


def check_shapes(shape: dict[str, tuple[int, ...]], path: str) -> None:
    """Raise ValueError when shapes have not the dimensions that are read, or are too large to try.

    `shape`: of each tensor of the file `path` by its name; all may be missing.
    """
    for key, dimensions in _DIMENSIONS.items():
        if key in shape and (len(shape[key]) != dimensions or 0 in shape[key]):
            raise _refused(path, key, shape[key], f"{dimensions} dimensions, none of them 0")
    patch = shape.get(f"{_TOWER}conv1.weight", (1, 1))
    if max(patch[2:], default=1) > _LARGEST_PATCH:
        raise _refused(path, f"{_TOWER}conv1.weight", patch, f"patches of up to {_LARGEST_PATCH} pixels")
    classes, *_ = shape.get("classifier.weight", (None,))
    feature, projected = (
        shape.get(key, (None,))[0] for key in ("bottleneck.weight", "bottleneck_proj.weight")
    )
    if feature is None or projected is None:
        return
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


def has_joint_classifier(shape: dict[str, tuple[int, ...]]) -> bool:
    """Whether there is one classifier on both features, side by side, as PCL-CLIP has it."""
    necks = ("bottleneck.weight", "bottleneck_proj.weight")
    if "classifier_proj.weight" in shape or not all(key in shape for key in ("classifier.weight", *necks)):
        return False
    return shape["classifier.weight"][1] == sum(shape[key][0] for key in necks)


def check_blocks(layers: tuple[int, ...], path: str) -> None:
    """Raise ValueError when a stage of the tower has no block, or there are too many to try."""
    if not all(layers) or sum(layers) > _MOST_BLOCKS:
        counts = " + ".join(map(str, layers))
        raise ValueError(f"{path} is no re-id checkpoint: {counts} blocks; allowed: 1 to {_MOST_BLOCKS}")


def check_head_width(width: int, path: str) -> None:
    """Raise ValueError for features of `width` numbers that CLIP's attention heads do not divide.

    Only where no description of the tower says what its heads are like.
    """
    if width % _HEAD_WIDTH:
        raise ValueError(f"{path} has features of {width} numbers; allowed: multiples of {_HEAD_WIDTH}")


def check_numbers(weights: dict[str, Tensor], path: str) -> None:
    """Raise ValueError when the numbers of a layer are not floats; counters of batch norms are integers."""
    for key, value in weights.items():
        counter = key.endswith("num_batches_tracked") and value.dtype == torch.int64
        if value.dtype not in _FLOATS and not counter:
            kind = str(value.dtype).removeprefix("torch.")
            raise ValueError(f"{path} is no re-id checkpoint: {key} holds {kind}; allowed: floats")


def _refused(path: str, key: str, shape: tuple[int, ...], allowed: str) -> ValueError:
    return ValueError(f"{path} is no re-id checkpoint: {key} is {list(shape)}; allowed: {allowed}")
