"""The value that travels from the loaders to the engine."""

from typing import NamedTuple

import torch
from torch import Tensor

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


def collate(items: list[tuple[Tensor, ImageRecord]]) -> Batch:
    """Stack the items of an ImageDataset."""
    images, records = zip(*items, strict=True)
    paths, *labels = zip(*records, strict=True)
    return Batch(
        torch.stack(images), *(torch.tensor(label, dtype=torch.int64) for label in labels), list(paths)
    )
