"""Random erasing (Zhong et al., AAAI 2020) with one value instead of noise, as PCL-CLIP draws it.

The aspect ratio is drawn uniformly; libraries draw its logarithm uniformly, which gives other shapes.
"""

import math
import random

from torch import Tensor

_AREA = (0.02, 0.4)  # of the rectangle, as a share of the image
_ASPECT = (0.3, 1 / 0.3)  # its height through its width
_ATTEMPTS = 100


def erase_constant(image: Tensor, rng: random.Random, probability: float, fill: Tensor | float) -> None:
    """Fill a random rectangle of the image (C, H, W) in place; not at all by chance or if none fits.

    `fill` is one value or a tensor (C, 1, 1) on the image's device. All draws are from `rng`.
    """
    if rng.uniform(0, 1) >= probability:
        return
    height, width = image.shape[1:]
    for _ in range(_ATTEMPTS):
        area = rng.uniform(*_AREA) * (height * width)
        aspect = rng.uniform(*_ASPECT)
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if rows < height and columns < width:
            top, left = rng.randint(0, height - rows), rng.randint(0, width - columns)
            image[:, top : top + rows, left : left + columns] = fill
            return
