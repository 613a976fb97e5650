"""The values that travel from the loaders to the engine."""

from typing import NamedTuple

import torch
from torch import Tensor

from datasets.pixels.transforms import PixelTransform
from datasets.records import ImageRecord


class Batch(NamedTuple):
    """B images with their labels: images (B, 3, H, W) float; pids, camids, viewids (B,) int64; B paths."""

    images: Tensor
    pids: Tensor
    camids: Tensor
    viewids: Tensor
    paths: list[str]

    def to(self, device: torch.device | str) -> "Batch":
        """The batch with its tensors on the device; copies from pinned memory do not block."""
        tensors = (tensor.to(device, non_blocking=True) for tensor in self[:4])
        return Batch(*tensors, self.paths)


class LoadedBatch(NamedTuple):
    """A batch as a loader gives it: images (B, 3, H, W) uint8, and `pixels`, which makes floats of them.

    `seeds` are those of the images' draws, for `pixels`; none when nothing was drawn.
    """

    images: Tensor
    pids: Tensor
    camids: Tensor
    viewids: Tensor
    paths: list[str]
    pixels: PixelTransform
    seeds: list[int]

    def to(self, device: torch.device | str) -> Batch:
        """The batch on the device, to which bytes are moved and on which they become floats."""
        batch = Batch(*self[:5]).to(device)
        return batch._replace(images=self.pixels(batch.images, self.seeds))


def collate(items: list[tuple[Tensor, ImageRecord, int | None]], pixels: PixelTransform) -> LoadedBatch:
    """Stack the items of an ImageDataset."""
    images, records, seeds = zip(*items, strict=True)
    paths, *labels = zip(*records, strict=True)
    return LoadedBatch(
        # Channels stay last in memory, as decoders leave them; the device reorders them faster.
        torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2),
        *(torch.tensor(label, dtype=torch.int64) for label in labels),
        list(paths),
        pixels,
        [seed for seed in seeds if seed is not None],
    )
