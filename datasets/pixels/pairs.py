"""Training pairs of image and caption for text search, each varied as its seed says."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.pixels.images import decode_image
from datasets.pixels.pool import Augmentation
from datasets.pixels.resize import resize_bilinear
from datasets.records import CaptionRecord

_BITS = 63  # of a seed
Mix = Callable[[Tensor, Tensor], Tensor]


class PairDraw(NamedTuple):
    """The index of a pair, the seed of its random numbers, and the pair that is mixed into it, if any."""

    index: int
    seed: int
    mixed: "PairDraw | None" = None


class Pair(NamedTuple):
    """An item: images uint8 (3, H, W), of which those that no loss wants are None, and the varied caption."""

    record: CaptionRecord
    caption: str
    seed: int
    image: Tensor
    second_image: Tensor | None = None
    first_view: Tensor | None = None
    second_view: Tensor | None = None


@dataclass(frozen=True)
class PairDataset(Dataset[Pair]):
    """Records as items by a `PairDraw`; an image is read once, however many pictures are made of it.

    Args:
        records: training captions with their images.
        size: height and width of the resized image, from which `pool` starts.
        pool: augmentation of the main image.
        vary: the caption of a record by a seed.
        second_images: whether `pool` makes a second image.
        view: augmentation that makes two views; None makes none.
        mix: makes the main image of a pair and of the one that is mixed into it.
        upright: whether images are turned as their EXIF orientation says.

    Items raise as `decode_image` does.
    """

    records: Sequence[CaptionRecord]
    size: tuple[int, int]
    pool: Augmentation
    vary: Callable[[CaptionRecord, int], str]
    second_images: bool = False
    view: Augmentation | None = None
    mix: Mix | None = None
    upright: bool = False

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: PairDraw) -> Pair:
        record = self.records[draw.index]
        seeds = _Seeds.of(draw.seed)
        decoded = self._decode(record)
        resized = resize_bilinear(decoded, self.size)
        image, caption = self.pool(resized, seeds.image), self.vary(record, seeds.caption)
        if draw.mixed is not None and self.mix is not None:
            other, others = self.records[draw.mixed.index], _Seeds.of(draw.mixed.seed)
            image = self.mix(image, self.pool(self._decode(other), others.image))
            caption = f"{caption} {self.vary(other, others.caption)}"
        second = self.pool(resized, seeds.second) if self.second_images else None
        views = [None if self.view is None else self.view(decoded, seed) for seed in seeds.views]
        return Pair(record, caption, draw.seed, image, second, *views)

    def _decode(self, record: CaptionRecord) -> Tensor:
        return decode_image(record.path, upright=self.upright)


class _Seeds(NamedTuple):
    """Seeds of what is drawn for a pair, from the pair's own."""

    caption: int
    image: int
    second: int
    views: tuple[int, int]

    @classmethod
    def of(cls, seed: int) -> "_Seeds":
        rng = random.Random(seed)
        caption, image, second, *views = (rng.getrandbits(_BITS) for _ in range(5))
        return cls(caption, image, second, tuple(views))


# ---- MixGen (Hao, Zhu, Appalaraju, Zhang, Zhang, Li, Li, arXiv 2206.08358, 2022)


def average(first: Tensor, second: Tensor) -> Tensor:
    """The mean of two images, uint8 (3, H, W)."""
    return ((first.to(torch.int16) + second + 1) // 2).to(torch.uint8)


def side_by_side(first: Tensor, second: Tensor) -> Tensor:
    """Two images (3, H, W), each resized to half the width, next to each other."""
    height, width = first.shape[1:]
    half = width // 2
    parts = resize_bilinear(first, (height, half)), resize_bilinear(second, (height, width - half))
    return torch.cat(parts, dim=2)


MIXES: dict[str, Mix | None] = {"none": None, "ori": average, "cat": side_by_side}
