"""Attention maps of the class token of a re-id ViT, drawn over images."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from datasets import test_transform
from model import attention_map, load_reid_model
from tools.ranking.report import PaintAttention

_logger = logging.getLogger("transreid.tools")
_STRIDE = (16, 16)  # assumed where the features do not say
_MAX_POSITIONS = 2**13  # a map has a number for each pair
_OPACITY = (0.25, 0.8)  # of the least and the most attended place


def attention_painter(
    weight: str | Path,
    method: str,
    made_with: Mapping[str, Any],
    *,
    name: str | None = None,
    sie_scale: float | None = None,
) -> PaintAttention:
    """A function that paints images with the model in a re-id file; `method` is that of `attention_map`.

    `made_with` has the settings of a feature file: `size`, `stride`, `pixel_mean`, `pixel_std`
    and `resize` are used;
    those that are missing, and `name` and `sie_scale` if None, come from the model card as for
    `load_reid_model`. Raises FileNotFoundError for a missing file, ValueError for one that is no re-id
    checkpoint or no ViT.
    """
    keys = {"size": "size", "stride": "stride", "mean": "pixel_mean", "std": "pixel_std", "resize": "resize"}
    stated = {name: made_with[key] for name, key in keys.items() if made_with.get(key) is not None}
    stated = {name: tuple(value) if isinstance(value, list) else value for name, value in stated.items()}
    positions = math.prod(stated.get("size", (1, 1))) // math.prod(stated.get("stride", _STRIDE))
    if positions > _MAX_POSITIONS:
        raise ValueError(
            f"the features' size {stated['size']} has {positions} positions at the stride "
            f"{stated.get('stride', _STRIDE)}; allowed for attention maps: up to {_MAX_POSITIONS}"
        )
    # The cameras of the images are not known: the mean row stands for all.
    model, info = load_reid_model(weight, name=name, sie=(1, 0), sie_scale=sie_scale, **stated)
    if info.kind != "ViT":
        raise ValueError(f"{weight} holds a {info.kind}, which has no class token; allowed: a ViT")
    transform = test_transform(info.size, info.mean, info.std, interpolation=info.resize)
    _logger.info(
        "%s sees images of %d x %d pixels, %s, mean %s, std %s; what the features do not say is %s",
        weight,
        *info.size,
        info.resize,
        info.mean,
        info.std,
        "as published" if info.card is None else "by the model card",
    )

    def paint(image: Image.Image) -> Image.Image:
        side = info.sie_scale * model.cv_embed if info.side_rows else None  # (1, D)
        pixels = transform(image)[None]  # (1, 3, H, W)
        return overlay(image, attention_map(model.image_encoder, pixels, side, method=method)[0])

    return paint


def overlay(image: Image.Image, attention: Tensor) -> Image.Image:
    """The image under the map (h, w), stretched bilinearly: dark where it is low, bright where it is high."""
    from matplotlib import colormaps

    heat = attention - attention.min()
    heat = heat / heat.max().clamp_min(torch.finfo(heat.dtype).tiny)
    heat = F.interpolate(heat[None, None], size=image.size[::-1], mode="bilinear")[0, 0].numpy()  # (H, W)
    low, high = _OPACITY
    opacity = (low + (high - low) * heat)[..., None]
    colours = colormaps["inferno"](heat)[..., :3] * 255
    return Image.fromarray(np.uint8((1 - opacity) * np.asarray(image) + opacity * colours))
