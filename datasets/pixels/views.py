"""Second views of test images: mirrored, or mirrored, padded and cropped at random (Multimodal-ReID)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from datasets.pixels.transforms import PixelTransform

PADDING = (5, 10)  # pixels above and below, left and right
# Keeps the stream apart from (seed, epoch) of identity batches and (seed, epoch, 1) of training images.
_STREAM = (0, 2)


@dataclass(frozen=True)
class SecondView:
    """Mirrors images (B, 3, H, W) that `pixels` has normalised; the result is contiguous.

    `crops` maps an image's key to the top left corner (row, column) of its crop (H, W) in the mirrored image,
    padded with black by PADDING. Without crops the images are only mirrored.
    """

    pixels: PixelTransform
    crops: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __call__(self, images: Tensor, keys: Sequence[str]) -> Tensor:
        """The second views of images with these B keys. Raises KeyError for a key without a crop."""
        mirrored = images.flip(-1)
        if not self.crops:
            return mirrored
        count, channels, height, width = images.shape
        rows, columns = PADDING
        # The normalised value of black: the published transform pads before it normalises.
        black = self.pixels(images.new_zeros((1, channels, 1, 1), dtype=torch.uint8)).to(images.dtype)
        padded = black.repeat(count, 1, height + 2 * rows, width + 2 * columns)
        padded[:, :, rows : rows + height, columns : columns + width] = mirrored
        corners = [self.crops[key] for key in keys]
        return torch.stack(
            [
                image[:, top : top + height, left : left + width]
                for image, (top, left) in zip(padded, corners, strict=True)
            ]
        )


def draw_crops(keys: Sequence[str], seed: int) -> dict[str, tuple[int, int]]:
    """A corner (row, column) for each key, 0 to twice PADDING, by the seed and the key's place."""
    most = 2 * np.array(PADDING)
    corners = np.random.default_rng((seed, *_STREAM)).integers(0, most, (len(keys), 2), endpoint=True)
    return {key: (top, left) for key, (top, left) in zip(keys, corners.tolist(), strict=True)}
