"""Resizing of uint8 tensors: bit-equal to PIL for testing, by torch alone for training."""

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

_LARGEST_NUMERATOR = 1 << 12  # beyond it, torch's weights of 14 binary places are no longer exact

Resize = Callable[[Tensor, tuple[int, int]], Tensor]


def resize_like_pil(image: Tensor, size: tuple[int, int], *, interpolation: str = "bilinear") -> Tensor:
    """uint8 (3, H, W) resized to `size` (H, W), antialiased and bit-equal to PIL.

    `interpolation` is 'bilinear' or 'bicubic'. torch is several times faster and rounds its weights; bilinear
    ones are exact where each axis stays or grows by a ratio whose numerator in lowest terms is a power of two
    (128 → 256, 96 → 128). Elsewhere PIL does it.
    """
    if tuple(image.shape[1:]) == size:
        return image
    if interpolation == "bilinear" and all(map(_has_exact_weights, image.shape[1:], size)):
        return resize_bilinear(image, size)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    return from_pil(picture.resize(size[::-1], Image.Resampling[interpolation.upper()]))


def resize_bicubic(image: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (3, H, W) resized to `size` (H, W), bicubic and antialiased: close to PIL, for training.

    With PIL before version 13, or where the height grows, few pixels differ, by one grey level or rarely two.
    PIL 13 shrinks the height of tall images before their width, which changes edges by more.
    """
    return image if tuple(image.shape[1:]) == size else _interpolate(image, size, "bicubic")


def resize_bilinear(image: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (3, H, W) resized to `size` (H, W), bilinear and antialiased: as `resize_bicubic` is to PIL."""
    return image if tuple(image.shape[1:]) == size else _interpolate(image, size, "bilinear")


# The first two, for testing, are exact.
RESIZES: dict[str, Resize] = {
    "bilinear": resize_like_pil,
    "bicubic": functools.partial(resize_like_pil, interpolation="bicubic"),
    "fast bicubic": resize_bicubic,
}


def from_pil(picture: Image.Image) -> Tensor:
    """An RGB image as uint8 (3, H, W), channels last in memory."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _has_exact_weights(old: int, new: int) -> bool:
    numerator = new // math.gcd(old, new)
    is_power_of_two = numerator & (numerator - 1) == 0
    return old == new or (old < new and is_power_of_two and numerator <= _LARGEST_NUMERATOR)


def _interpolate(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    # `image[None]` has not the strides of a batch with channels last, for which torch is twice as fast.
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)  # (1, 3, H, W)
    return F.interpolate(batch, size, mode=mode, antialias=True)[0]
