"""Random flips, crops and erasing of training images, drawn by the sampler and not in the workers."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

# Keeps the stream apart from RandomIdentitySampler's (seed, epoch); a 0 would not, NumPy fills up with zeros.
_STREAM = 1
_SEEDS = 2**63


class Draw(NamedTuple):
    """The index of an image with its flip, its crop (offset in pixels in the padded image) and a seed.

    Its erasing is drawn from `seed`.
    """

    index: int
    flip: bool
    top: int
    left: int
    seed: int


class AugmentedSampler(Sampler[Draw]):
    """A `Draw` for each index of `sampler`, in its order; top and left are 0..2 `padding`, both included.

    The draws depend only on (seed, epoch) and the count of indices before, not on workers or processes. Call
    `set_epoch` before each epoch; it also sets that of `sampler`.
    """

    def __init__(self, sampler: Sampler[int], flip_prob: float, padding: int, seed: int) -> None:
        self.sampler = sampler
        self.flip_prob, self.padding = flip_prob, padding
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of the next pass, and its order."""
        self.epoch = epoch
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng((self.seed, self.epoch, _STREAM))
        places = 2 * self.padding + 1
        for index in self.sampler:
            flip, top, left = rng.random(3).tolist()
            seed = int(rng.integers(_SEEDS))
            yield Draw(index, flip < self.flip_prob, int(top * places), int(left * places), seed)


def augment(image: Tensor, draw: Draw, padding: int) -> Tensor:
    """(3, H, W) mirrored if drawn, then padded with zeros on each side and cropped back to (3, H, W)."""
    if draw.flip:
        image = image.flip(-1)
    if draw.top == draw.left == padding:
        return image
    rows, from_rows = _overlap(image.shape[1], padding - draw.top)
    columns, from_columns = _overlap(image.shape[2], padding - draw.left)
    shifted = torch.zeros_like(image)
    shifted[:, rows, columns] = image[:, from_rows, from_columns]
    return shifted


def _overlap(length: int, shift: int) -> tuple[slice, slice]:
    """Where an axis that is moved by `shift` pixels lands within its `length`, and what lands there."""
    kept = max(length - abs(shift), 0)
    start, source = max(shift, 0), max(-shift, 0)
    return slice(start, start + kept), slice(source, source + kept)
