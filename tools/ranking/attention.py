"""Attention maps of the class token of a re-id ViT, drawn over images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from datasets import test_transform
from model import SideInformation, attention_map, load_reid_model
from tools.ranking.report import PaintAttention

PUBLISHED_MEAN = PUBLISHED_STD = (0.5, 0.5, 0.5)  # of the ViT configurations
_OPACITY = (0.25, 0.8)  # of the least and the most attended place


def attention_painter(
    weight: str | Path,
    method: str,
    size: tuple[int, int] | None = None,
    *,
    name: str | None = None,
    sie_coe: float = 1.0,
    mean: Sequence[float] = PUBLISHED_MEAN,
    std: Sequence[float] = PUBLISHED_STD,
    resize: str = "bilinear",
) -> PaintAttention:
    """A function that paints images with the model in a re-id file; `method` is that of `attention_map`.

    `size` (H, W) and `name` are what the model was trained with; None as for `load_reid_model`. `mean` and
    `std` are INPUT.PIXEL_MEAN and INPUT.PIXEL_STD, `resize` is INPUT.TEST_RESIZE, `sie_coe` is MODEL.SIE_COE.
    Raises FileNotFoundError for a missing file, ValueError for one that is no re-id checkpoint or no ViT.
    """
    # The cameras' numbers are unknown here: the mean row stands for all.
    mean_row = SideInformation(cameras=1, views=0, scale=sie_coe)
    model, info = load_reid_model(weight, size, name=name, side_information=mean_row)
    if info.kind != "ViT":
        raise ValueError(f"{weight} holds a {info.kind}, which has no class token; allowed: a ViT")
    transform = test_transform(info.size, mean, std, interpolation=resize)

    def paint(image: Image.Image) -> Image.Image:
        side = None if model.side_information is None else sie_coe * model.cv_embed  # (1, D)
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
